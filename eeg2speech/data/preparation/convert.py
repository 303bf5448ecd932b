"""From a source to a store: item by item, side by side, each noted when it is done, so that nothing is done twice.

::

    STORE/preparing/settings.json        what is being made; made otherwise, the folder is begun anew
    STORE/preparing/items/<item>.json    an item that is done: its recording, trials, stimuli and files
    STORE/preparing/sound/<key>.json     a stimulus that is done
    STORE/provenance.json                hashes of all source files, versions, what was found bad, worst misalignment

Signals are written where the store has them; the index comes last, and ``preparing`` goes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.lib.format import write_array_header_1_0

from eeg2speech.data.preparation.blocks import Blocks
from eeg2speech.data.preparation.cleaning import Cleaned, cleaned, margin
from eeg2speech.data.preparation.resampling import resampled, resampled_length
from eeg2speech.data.preparation.source import Item, Speech, Take
from eeg2speech.data.preparation.steps import Steps
from eeg2speech.data.store import NAME, StoreWriter
from eeg2speech.data.types import Recording, Samples, Sensors, Stimulus, StudyFacts, Trial
from eeg2speech.errors import BadInput

WORK, ELSEWHERE = "preparing", "elsewhere/"


@dataclass
class Done:
    """What an item became. ``misalignment`` is the worst of its takes, in seconds: how far the first EEG sample lies
    from the onset of the speech, and how far a rate taken to 1/1000 Hz drifts by the take's end."""

    recording: dict[str, Any]
    trials: list[dict[str, Any]]
    stimuli: list[dict[str, Any]]
    files: dict[str, str]
    bad: dict[str, list[str]] = field(default_factory=dict)
    misalignment: float = 0.0


@dataclass(frozen=True)
class Plan:
    """What decides the bytes of an item beside its files."""

    root: Path
    raw: Path
    facts: StudyFacts
    sensors: Sensors
    references: int
    steps: Steps

    @property
    def work(self) -> Path:
        """The folder of what is done so far."""
        return self.root / WORK

    def done(self, item: str) -> Done | None:
        """What an item became, if it is done."""
        path = self.work / "items" / f"{item}.json"
        return Done(**json.loads(path.read_text())) if path.exists() else None

    def has(self, item: Item) -> bool:
        """Whether an item is done, from the very files that are there now, those of its sounds among them."""
        done = self.done(item.id)
        if done is None or not {relative(path, self.raw) for path in item.files} <= {*done.files}:
            return False
        # Of a file that lies elsewhere, the name tells the content.
        inside = {self.raw / name: digest for name, digest in done.files.items() if not name.startswith(ELSEWHERE)}
        return all(path.is_file() and file_hash(path) == digest for path, digest in inside.items())


def convert(plan: Plan, item: Item) -> None:
    """Bring an item into the store. Raises BadInput for what cannot be used."""
    writer = StoreWriter(plan.root, plan.facts, plan.sensors, {})
    with tempfile.TemporaryFile(dir=plan.work) as scratch:
        joined = _Joined(scratch, len(plan.sensors))
        done = Done({}, [], [], {})
        for take in item.takes():
            _add_take(plan, writer, joined, item, take, done)
        if not done.trials:
            raise BadInput(plan.raw, f"recording {item.id!r}", "at least one trial", "none")
        done.recording = asdict(joined.save(plan.root, item, plan.steps.eeg_rate))
    done.files |= {relative(path, plan.raw): file_hash(path) for path in item.files}
    _write_json(plan.work / "items" / f"{item.id}.json", asdict(done))


def parts_of(done: Done) -> tuple[Recording, list[Stimulus], list[Trial]]:
    """What a store keeps of an item."""
    return Recording(**done.recording), [Stimulus(**s) for s in done.stimuli], [Trial(**t) for t in done.trials]


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    about = path.stat()
    return _hash(path, about.st_size, about.st_mtime_ns)


# Recordings may share a file of gigabytes.
@lru_cache(maxsize=4096)
def _hash(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def relative(path: Path, root: Path) -> str:
    """A file's path as provenance has it: without the folder in which a user keeps the data. One that lies elsewhere is
    told from others of its name by its content."""
    if path.is_relative_to(root):
        return path.relative_to(root).as_posix()
    return f"{ELSEWHERE}{file_hash(path)[:12]}/{path.name}"


def _add_take(plan: Plan, writer: StoreWriter, joined: _Joined, item: Item, take: Take, done: Done) -> None:
    where = f"{plan.facts.name}: trial {take.id!r}"
    sounds = [speech for speech in (take.attended, take.unattended) if speech is not None]
    stimuli = [_stimulus(plan, writer, speech, done) for speech in sounds]
    origin = round(take.start * take.eeg.rate)
    if not 0 <= origin < take.eeg.samples:
        expected = f"within the recording's {take.eeg.samples / take.eeg.rate:.3f} s"
        raise BadInput(where, "start of the speech", expected, f"{take.start:.3f} s")
    count = _length(plan.steps.eeg_rate, take, origin, stimuli, where)
    eeg = _eeg(plan, take, origin, count, where)
    start = joined.samples / plan.steps.eeg_rate
    joined.add(eeg.eeg)
    trial = Trial(
        *(take.id, item.id, item.subject, start, count / plan.steps.eeg_rate),
        *(stimuli[0].id, stimuli[1].id if len(stimuli) > 1 else None, take.ear, take.part),
    )
    done.trials.append(asdict(trial))
    done.stimuli += [asdict(stimulus) for stimulus in stimuli]
    done.misalignment = max(done.misalignment, _misalignment(take, origin, count / plan.steps.eeg_rate))
    if eeg.bad:
        done.bad[take.id] = list(eeg.bad)


def _length(rate: int, take: Take, origin: int, stimuli: Sequence[Stimulus], where: str) -> int:
    """EEG samples of the trial: as long as EEG and all sounds last."""
    seconds = [stimulus.seconds for stimulus in stimuli] + ([take.seconds] if take.seconds is not None else [])
    # 1e-6: that 0.3 s at 10 Hz are three samples.
    count = min(resampled_length(take.eeg, rate, origin), *(int(s * rate + 1e-6) for s in seconds))
    if count < 1:
        raise BadInput(where, "duration", "at least one sample of EEG and sound", f"{min(seconds):.3f} s of sound")
    return count


def _eeg(plan: Plan, take: Take, origin: int, count: int, where: str) -> Cleaned:
    rows = len(plan.sensors) + plan.references
    if take.eeg.channels != rows:
        raise BadInput(where, "EEG", f"{rows} channels", take.eeg.channels)
    rate, steps = plan.steps.eeg_rate, plan.steps
    wide = margin(steps)
    before = min(wide, int(origin * rate / take.eeg.rate))
    after = min(wide, resampled_length(take.eeg, rate, origin) - count)
    eeg = resampled(take.eeg, rate, origin, -before, before + count + after)
    if not np.isfinite(eeg).all():
        raise BadInput(where, "EEG", "finite samples", "NaN or infinite ones")
    return cleaned(eeg, before, count, steps, plan.sensors, take.bad, where)


def _stimulus(plan: Plan, writer: StoreWriter, speech: Speech, done: Done) -> Stimulus:
    """The stimulus of a sound, converted unless it is there."""
    name = hashlib.sha256(speech.key.encode()).hexdigest()[:16]
    path = plan.work / "sound" / f"{name}.json"
    files = {relative(each, plan.raw): file_hash(each) for each in speech.files if each.is_file()}
    known = json.loads(path.read_text()) if path.exists() else {}
    if not known or known["files"] != files:
        made = _signal(plan, speech.open(), speech)
        about = (speech.speaker, speech.language, speech.title or speech.key, speech.story)
        identity = writer.add_stimulus(made, plan.steps.audio_rate, *about)
        known = {"stimulus": asdict(writer.stimuli[identity]), "files": files}
        _write_json(path, known)
    done.files |= files
    return Stimulus(**known["stimulus"])


def _signal(plan: Plan, blocks: Blocks, speech: Speech) -> Samples:
    sound = plan.facts.stimuli == "audio"
    if sound and blocks.channels != 1:
        raise BadInput(f"{plan.facts.name}: stimulus {speech.key!r}", "channels", 1, blocks.channels)
    made = resampled(blocks, plan.steps.audio_rate)
    if not made.size:
        raise BadInput(f"{plan.facts.name}: stimulus {speech.key!r}", "length", "at least one sample", 0)
    return made[0] if sound else made


def _misalignment(take: Take, origin: int, seconds: float) -> float:
    rate = take.eeg.rate
    drift = seconds * abs(rate - round(rate, 3)) / rate
    return abs(take.start - origin / rate) + drift


class _Joined:
    """EEG of several takes, laid end to end on disk, so that a recording need not fit into memory twice."""

    def __init__(self, scratch: Any, channels: int) -> None:
        self.scratch, self.channels, self.lengths = scratch, channels, list[int]()

    @property
    def samples(self) -> int:
        """Of what there is so far."""
        return sum(self.lengths)

    def add(self, eeg: Samples) -> None:
        """Append [C, N]."""
        self.scratch.write(np.ascontiguousarray(eeg, np.float32).data)
        self.lengths.append(eeg.shape[1])

    def save(self, root: Path, item: Item, rate: int) -> Recording:
        """Write the recording [C, N], row by row, and name its content as ``content_hash`` would."""
        if not NAME.fullmatch(item.id):
            raise BadInput(f"recording {item.id!r}", "id", "a name that can be a file's", item.id)
        shape = (self.channels, self.samples)
        digest = hashlib.sha256(f"{shape}{np.dtype(np.float32).str}".encode())
        path = root / "eeg" / f"{item.id}.npy"
        partial = path.with_suffix(f".{os.getpid()}.tmp")
        with partial.open("wb") as file:
            header = {"descr": np.dtype(np.float32).str, "fortran_order": False, "shape": shape}
            write_array_header_1_0(file, header)
            for row in self._rows():
                digest.update(row.data)
                file.write(row.data)
        partial.replace(path)
        return Recording(item.id, item.subject, self.samples, rate, digest.hexdigest()[:16])

    def _rows(self) -> Iterator[Samples]:
        self.scratch.flush()
        flat = np.memmap(self.scratch, np.float32, "r")
        begins = np.concatenate([[0], np.cumsum(self.lengths)[:-1]]) * self.channels
        takes = [
            flat[begin : begin + self.channels * length].reshape(self.channels, length)
            for begin, length in zip(begins, self.lengths, strict=True)
        ]
        for channel in range(self.channels):
            yield np.concatenate([take[channel] for take in takes])


def begin(plan: Plan, settings: dict[str, object], told: Callable[[str], None]) -> None:
    """Make the folder of the work, or find the one that was left; one of other settings is taken away."""
    path = plan.work / "settings.json"
    if plan.work.exists() and (not path.exists() or json.loads(path.read_text()) != settings):
        told("an interrupted preparation with other settings is begun anew")
        shutil.rmtree(plan.work)
    for name in ("items", "sound"):
        (plan.work / name).mkdir(parents=True, exist_ok=True)
    _write_json(path, cast("dict[str, Any]", settings))


def _write_json(path: Path, body: dict[str, Any]) -> None:
    partial = path.with_suffix(f".{os.getpid()}.tmp")
    partial.write_text(json.dumps(body))
    partial.replace(path)
