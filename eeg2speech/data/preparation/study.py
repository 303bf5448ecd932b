"""A study that is prepared from raw files: facts, settings, and the adapter that finds the files."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from importlib import metadata
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Generic, cast

from eeg2speech.data.preparation.archives import unpacked
from eeg2speech.data.preparation.convert import Done, Plan, begin, convert, parts_of
from eeg2speech.data.preparation.source import Item, Source
from eeg2speech.data.preparation.steps import S, Steps, settled
from eeg2speech.data.store import Store, StoreWriter
from eeg2speech.data.types import StudyFacts
from eeg2speech.errors import BadInput
from eeg2speech.processes import cores, end_with_parent, threads_of_children

Progress = Callable[[int, int, str], None]
"""Called with how many items are done, of how many, and the last one's name."""
PACKAGES = ("numpy", "scipy", "mne", "h5py", "soundfile", "eeg2speech")
"""Those whose versions provenance tells."""
PROVENANCE = "provenance.json"
SMALL = 1 << 26
"""Bytes of files below which a second process costs more than it saves."""


class RawStudy(Generic[S]):
    """A data set that its users download themselves.

    Args:
        facts: of the study; its rates are replaced by those of the settings.
        kind: class of its settings.
        adapter: finds the files in a folder, under settings; raises BadInput for a folder that is not the study. It is
            called again in each process, and has to find the same.
        version: to be raised when the same files and settings give other bytes.
        at_a_time: recordings that may be prepared side by side, where one needs more than half of the memory that
            all may; as many as there are cores if None.

    ``raw`` is the folder of the files (or an archive), where the environment variable ``EEG2SPEECH_<NAME>`` says if
    None; ``given`` are settings that are not as usual; ``jobs`` is how many items are prepared at a time.
    """

    def __init__(
        self,
        facts: StudyFacts,
        kind: type[S],
        adapter: Callable[[Path, S], Source],
        version: int = 1,
        at_a_time: int | None = None,
    ) -> None:
        self.kind, self.adapter, self.version = kind, adapter, version
        self.raw: Path | None = None
        self.given: Mapping[str, Any] = {}
        self.jobs = at_a_time or cores()
        self.progress: Progress = lambda done, total, name: None
        self._facts = facts

    @property
    def facts(self) -> StudyFacts:
        """The study's facts, with the rates of the settings."""
        steps = self.steps
        return replace(self._facts, audio_rate=steps.audio_rate, eeg_rate=steps.eeg_rate)

    @property
    def steps(self) -> S:
        """The settings."""
        return settled(self.kind, self.given, self._facts.name)

    @property
    def variable(self) -> str:
        """The environment variable that names the folder of the raw files."""
        return "EEG2SPEECH_" + self._facts.name.upper().replace("-", "_")

    def prepare(self, root: Path) -> Store:
        """Open the store in ``root``, or make it there, or go on where an interrupted preparation was.

        What is missing in the raw files is told (a warning, and ``missing`` in the store's settings).

        Raises:
            BadInput: ``root`` holds another study, or this one under other settings than given; no raw files are named;
                one of them cannot be used.
        """
        root = Path(root)
        if (root / "index.json").exists():
            return self._open(root)
        steps, raw = self.steps, self._raw_folder(root)
        source = self.adapter(raw, steps)
        _require_distinct(source, raw)
        for text in (*source.missing, *source.notes):
            warnings.warn(f"{self._facts.name}: {text}", stacklevel=2)
        plan = Plan(root, raw, self.facts, source.sensors, len(source.references), steps)
        begin(plan, self._making(plan), lambda text: warnings.warn(text, stacklevel=4))
        done = self._converted(plan, source)
        return self._closed(plan, source, done)

    def _open(self, root: Path) -> Store:
        store = Store(root)
        expected = {"study": self._facts.name, "version": self.version}
        expected |= {name: value for name, value in _plain(self.steps).items() if name in self.given}
        made = store.index.settings
        found: dict[str, object] = {"study": store.facts.name, "version": made.get("version")}
        found |= cast("dict[str, object]", made.get("steps", {}))
        for key, value in expected.items():
            if found.get(key) != value:
                hint = f"{found.get(key)!r} (delete the folder and prepare it again, or name another with --out)"
                raise BadInput(root / "index.json", f"settings: {key}", repr(value), hint)
        return store

    def _raw_folder(self, root: Path) -> Path:
        given = str(self.raw or os.environ.get(self.variable, ""))
        if not given:
            expected = f"the folder of the raw files: --root FOLDER, or {self.variable}. {self._facts.how_to_get}"
            raise BadInput(self._facts.name, "raw files", expected, "none named")
        if not Path(given).exists():
            raise BadInput(given, "raw files", "a folder, or the study's archive", "nothing of that name")
        return unpacked(Path(given).resolve(), root.parent / f"{root.name}.unpacked")

    def _making(self, plan: Plan) -> dict[str, object]:
        """What is being made, of which files: a preparation that was interrupted goes on only with the same."""
        return {"study": self._facts.name, "version": self.version, "steps": _plain(plan.steps), "raw": str(plan.raw)}

    def _converted(self, plan: Plan, source: Source) -> list[Done]:
        """All items, in their order."""
        waiting = [item for item in source.items if not plan.has(item)]
        finished = len(source.items) - len(waiting)
        for name in self._each(plan, self.steps, waiting):
            finished += 1
            self.progress(finished, len(source.items), name)
        found = [plan.done(item.id) for item in source.items]
        return [done for done in found if done is not None]

    def _each(self, plan: Plan, steps: S, waiting: Sequence[Item]) -> Iterator[str]:
        """Convert what is waiting, several at a time where there is enough of it; names as they are done."""
        jobs = min(self.jobs, len(waiting))
        if jobs < 2 or sum(path.stat().st_size for item in waiting for path in item.files) < SMALL:
            for item in waiting:
                convert(plan, item)
                yield item.id
            return
        with _pool(jobs, partial(self.adapter, plan.raw, steps), plan) as pool:
            yield from pool.map(_convert_named, [item.id for item in waiting])

    def _closed(self, plan: Plan, source: Source, done: Sequence[Done]) -> Store:
        files = {name: digest for each in done for name, digest in sorted(each.files.items())}
        settings: dict[str, object] = {
            "version": self.version,
            "steps": _plain(plan.steps),
            "sources": files,
            "missing": list(source.missing),
            "notes": list(source.notes),
        }
        writer = StoreWriter(plan.root, plan.facts, plan.sensors, settings)
        for each in done:
            recording, stimuli, trials = parts_of(each)
            writer.adopt(recording, stimuli)
            for trial in trials:
                writer.add_trial(trial)
        (plan.root / PROVENANCE).write_text(json.dumps(self._provenance(settings, done), indent=1))
        # By settings and files: another processor rounds some samples otherwise, and the data is the same.
        named = json.dumps({"study": self._facts.name, **settings}, sort_keys=True)
        store = writer.close(hashlib.sha256(named.encode()).hexdigest()[:16])
        shutil.rmtree(plan.work)
        return store

    def _provenance(self, settings: dict[str, object], done: Sequence[Done]) -> dict[str, object]:
        return {
            "study": self._facts.name,
            **settings,
            "bad_sensors": {trial: bad for each in done for trial, bad in each.bad.items()},
            "worst_misalignment_ms": round(1000 * max(each.misalignment for each in done), 6),
            "versions": {name: metadata.version(name) for name in PACKAGES} | {"python": sys.version.split()[0]},
        }


def provenance(root: Path) -> dict[str, Any]:
    """Where a store's data comes from; empty for a study that is not made from raw files."""
    path = root / PROVENANCE
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def _require_distinct(source: Source, raw: Path) -> None:
    if not source.items:
        raise BadInput(raw, "recordings", "at least one", "none")
    names = [item.id for item in source.items]
    for name in names:
        if names.count(name) > 1:
            raise BadInput(raw, f"recording {name!r}", "a name used once", f"{names.count(name)} of that name")


def _plain(steps: Steps) -> dict[str, Any]:
    """Settings as JSON gives them back."""
    found: dict[str, Any] = json.loads(json.dumps(asdict(steps)))
    return found


_worker: tuple[Plan, dict[str, Item]] | None = None


@contextmanager
def _pool(jobs: int, find: Callable[[], Source], plan: Plan) -> Iterator[ProcessPoolExecutor]:
    """Processes that know the items: what reads them cannot be sent, so each finds them again."""
    with (
        threads_of_children(1),
        ProcessPoolExecutor(jobs, get_context("spawn"), _start, (os.getpid(), find, plan)) as pool,
    ):
        try:
            yield pool
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _start(parent: int, find: Callable[[], Source], plan: Plan) -> None:
    global _worker
    end_with_parent(parent)
    _worker = plan, {item.id: item for item in find().items}


def _convert_named(name: str) -> str:
    assert _worker is not None, "_start has run in this process"
    plan, items = _worker
    convert(plan, items[name])
    return name
