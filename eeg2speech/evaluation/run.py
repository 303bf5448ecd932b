"""Evaluation of trained systems into records: one by one (``Bench``), and all that is missing of a suite."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
from pydantic import BaseModel

from eeg2speech.controls import TRUE_EEG
from eeg2speech.data.mixing import Mixer
from eeg2speech.data.store import Store
from eeg2speech.data.studies.registry import prepare
from eeg2speech.data.types import Segment
from eeg2speech.errors import BadInput, unknown_name
from eeg2speech.evaluation import protocol as protocols
from eeg2speech.evaluation.audit import audit_split, keep
from eeg2speech.evaluation.candidates import Candidates
from eeg2speech.evaluation.conditions import view_of
from eeg2speech.evaluation.examples import Clips
from eeg2speech.evaluation.generation import GenerationTest
from eeg2speech.evaluation.protocol import measure, protocol
from eeg2speech.evaluation.retrieval import RetrievalTest
from eeg2speech.evaluation.scoring import ExtractionTest, device_of, place
from eeg2speech.evaluation.suite import Machine, Suite, Work, options, split_of, train_all, works
from eeg2speech.evaluation.trained import Trained, train
from eeg2speech.evaluation.windowed import WindowedTest, Windows
from eeg2speech.metrics import Scorer
from eeg2speech.metrics.retrieval import ATTENTION, RANK_METRICS, SPOKEN
from eeg2speech.records import (
    BudgetRef,
    ProtocolRef,
    Record,
    RecordStore,
    SetMetric,
    SplitRef,
    StudyRef,
    SystemRef,
    Unit,
    code_reference,
    machine_facts,
    package_versions,
    summarise,
)
from eeg2speech.records.audits import Audit
from eeg2speech.records.intervals import METHOD
from eeg2speech.records.store import EXAMPLES
from eeg2speech.splits.manifest import Split
from eeg2speech.systems.conditions import Conditions
from eeg2speech.systems.interface import System, require_task, seen
from eeg2speech.systems.registry import recorded
from eeg2speech.training.budget import Budget

PACKAGES = (
    "numpy",
    "scipy",
    "torch",
    "transformers",
    "diffusers",
    "mamba-ssm",
    "lightning",
    "pesq",
    "pystoi",
    "pyworld",
    "resemblyzer",
    "speechmos",
    "onnxruntime",
    "mne",
    "pandas",
    "soundfile",
)
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Bench:
    """What all evaluations on one study and split share."""

    store: Store
    split: Split
    protocol: protocols.Protocol
    scorer: Scorer

    def test(self, trained: Trained) -> Test:
        """A system's test, to be asked control by control."""
        chosen, system, given = self.protocol, trained.system, trained.conditions
        require_task(system.facts, chosen.task, type(system).__name__)
        given.require_task(chosen.task, type(system).__name__)
        mixer = self._mixer_under(given)
        if chosen.task == "extraction":
            return self._extraction(system, given, mixer)
        candidates = self.candidates if mixer is self.mixer else replace(self.candidates, mixer=mixer)
        if chosen.task == "retrieval":
            return RetrievalTest(system, candidates, chosen.evaluation_seed)
        return GenerationTest(system, candidates, self.scorer, chosen.evaluation_seed)

    def _extraction(self, system: System, given: Conditions, mixer: Mixer) -> ExtractionTest:
        about = (system, self.segments, mixer, self.scorer, self.protocol.evaluation_seed)
        if given.window is None:
            return ExtractionTest(*about)
        facts = self.store.facts
        return WindowedTest(*about, Windows.of(given.window, self.split, facts.eeg_rate, facts.audio_rate))

    def _mixer_under(self, given: Conditions) -> Mixer:
        """Who mixes segments as they are seen under conditions."""
        view = view_of(given, self.store)
        return self.mixer if view is self.store else Mixer(view, self.protocol.target_to_interferer_db)

    @cached_property
    def segments(self) -> list[Segment]:
        """The segments that are scored."""
        return self.protocol.test_segments(self.store, self.split)

    @cached_property
    def mixer(self) -> Mixer:
        """Who mixes them."""
        return Mixer(self.store, self.protocol.target_to_interferer_db)

    @cached_property
    def audit(self) -> Audit:
        """What the score could owe to something other than the EEG."""
        return audit_split(self.store, self.split)

    @cached_property
    def candidates(self) -> Candidates:
        """The distinct speech in them."""
        return Candidates.of(self.store, self.segments, self.mixer)

    def about(self, control: str, seed: int) -> dict[str, Any]:
        """The fields of a record that are known before the run, but for the system."""
        chosen, store, split = self.protocol, self.store, self.split
        return {
            "protocol": ProtocolRef(name=chosen.name, version=chosen.version),
            "task": chosen.task,
            "study": StudyRef(name=store.facts.name, revision=store.index.revision, data_note=store.facts.note),
            "split": SplitRef(kind=split.kind, seed=split.seed, manifest_hash=split.hash),
            "control": control,
            "seed": seed,
            "evaluation_seed": chosen.evaluation_seed,
        }

    def _pretrained(self, system: System) -> dict[str, Any]:
        """What a record says of a system's pretrained parts: nothing of those that have no part in the task."""
        if self.protocol.task not in system.uses_parts_in:
            return {}
        heard = segments_heard(system, self.store, self.segments)
        return {"segments_heard": heard, "parts": system.parts or None}

    def request(self, declaration: dict[str, Any], control: str, seed: int) -> dict[str, Any]:
        """What is asked for, in the form of ``Record.request``. What the budget allows is part of ``declaration``."""
        fields = self.about(control, seed) | {"system": declaration}
        return {
            name: part.model_dump(mode="json") if isinstance(part, BaseModel) else part for name, part in fields.items()
        }

    def record(
        self,
        trained: Trained,
        declaration: dict[str, Any],
        label: str,
        seed: int,
        control: str,
        controls: Sequence[str],
        scores: pd.DataFrame,
        seconds: float,
        test: Test,
    ) -> Record:
        """The record of one evaluation; ``controls`` are all those that are asked for."""
        facts, training, metrics = trained.system.facts, trained.training, self.protocol.metrics_under(control)
        return Record(
            **self.about(control, seed),
            controls=tuple(controls),
            system=SystemRef(
                name=label,
                declaration=declaration,
                uses_eeg=facts.uses_eeg,
                uses_subject=facts.uses_subject,
                causal=facts.causal,
                sees=seen(facts, self.protocol.task),
                parameters=trained.system.parameters,
                checkpoint_hash=trained.checkpoint_hash,
                licence=facts.licence,
                source=facts.source,
                **self._pretrained(trained.system),
            ),
            budget=BudgetRef(
                name=training.budget.replace(" ", "_"),
                steps=training.steps,
                seconds=training.seconds,
                device=training.device,
            ),
            code=code_reference(),
            packages=package_versions(PACKAGES),
            machine=machine_facts() | {"evaluated on": device_of(trained.system).type},
            n_segments_expected=len(self.segments),
            audit=self.audit.verdict,
            interval_method=METHOD,
            candidates=None if self.protocol.task == "extraction" else self.candidates.reference,
            metrics=summarise(scores, [measure(name) for name in metrics], chances=test.chances(metrics)),
            set_metrics=test.set_metrics,
            timings={"evaluation": round(seconds, 3)},
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )


class Test(Protocol):
    """One system on the test segments of one task."""

    set_metrics: dict[str, SetMetric]

    def scores(self, control: str, metrics: Sequence[str]) -> pd.DataFrame:
        """Per-segment scores under a control."""

    def chances(self, metrics: Sequence[str]) -> dict[str, float]:
        """What guessing earns, by metric, where that is known."""


def segments_heard(system: System, store: Store, segments: Sequence[Segment]) -> int | None:
    """Of how many segments a pretrained part of the system may have heard target or interferer; None without one."""
    verdicts = {stimulus.id: system.heard_before(stimulus, store.facts) for stimulus in store.index.stimuli}
    if all(verdict is None for verdict in verdicts.values()):
        return None
    trials = [store.trial(segment.trial) for segment in segments]
    return sum(any(verdicts.get(name) for name in (trial.attended, trial.unattended) if name) for trial in trials)


def run_suite(
    suite: Suite, out: Path, machine: Machine | None = None, tell: Tell = print, root: Path | None = None
) -> RecordStore:
    """Do what is missing of a suite: train, evaluate, write records under ``root`` and clips beside them.

    Trainings are kept under ``out``; ``root`` is ``out/records`` unless told.

    Raises:
        BadInput: a record that is there answers another request (other data, split, settings, budget or seed), or comes
            from other weights than those that answer what is missing.
    """
    machine = machine or Machine()
    records = RecordStore(out / "records" if root is None else root)
    chosen = protocol(suite.protocol).adding(suite.metrics)
    with scorer_of(chosen, machine.jobs) as scorer:
        run = _Run(suite, out, machine, records, chosen, scorer)
        everything = works(suite)
        pending = [work for work in everything if run.pending(work)]
        tell(f"{len(everything) - len(pending)} of {len(everything)} systems are done; {len(pending)} to go")
        for told in run.audited(pending):
            tell(told)
        for work, seconds in train_all(pending, out, machine):
            tell(f"trained {work.title} ({seconds:.0f} s)")
        for work in pending:
            began = time.perf_counter()
            run.evaluate(work)
            tell(f"evaluated {work.title} ({time.perf_counter() - began:.0f} s)")
    return records


def scorer_of(chosen: protocols.Protocol, jobs: int) -> Scorer:
    """A scorer of those metrics of a protocol that are of signals; those of ranks are the tests' own business."""
    ranks = (*RANK_METRICS, ATTENTION.name, *SPOKEN)
    return Scorer([name for name in chosen.metrics if name not in ranks], chosen.audio_rate, jobs)


def unit_of(work: Work, control: str) -> Unit:
    """The unit of work of one control."""
    chosen = protocol(work.protocol)
    names = (chosen.name, chosen.version, work.study_name, work.split, chosen.split_seed)
    return Unit(*names, work.declaration.label, work.seed, control)


@dataclass(frozen=True)
class _Run:
    """A suite on its way into a folder."""

    suite: Suite
    out: Path
    machine: Machine
    records: RecordStore
    protocol: protocols.Protocol
    scorer: Scorer
    benches: dict[tuple[str, str], Bench] = field(default_factory=dict)

    def bench(self, work: Work) -> Bench:
        """The study and split of a piece of work, opened once."""
        place = (work.study, work.split)
        if place not in self.benches:
            store = prepare(work.study)
            self.protocol.require_possible(store)
            self.benches[place] = Bench(store, split_of(work, store), self.protocol, self.scorer)
        return self.benches[place]

    def audited(self, pending: Sequence[Work]) -> Iterator[str]:
        """Audit every study and split before anything is trained on it; what it found lies beside the records."""
        for work in {(work.study, work.split): work for work in pending}.values():
            bench = self.bench(work)
            keep(bench.audit, bench.split, self.records.root)
            yield f"audit of {work.study_name}, split {work.split}: {bench.audit.verdict}"

    def pending(self, work: Work) -> bool:
        """Whether a record or a clip is missing, or a clip is of other weights than the records."""
        if self.missing(work):
            return True
        return not self.clips(work).kept(work.declaration.label, self.record(work, TRUE_EEG).system.checkpoint_hash)

    def missing(self, work: Work) -> list[str]:
        """Controls without a record. Raises BadInput for a record of another request."""
        declaration = recorded(work.declaration, work.budget)
        return [control for control in self.suite.control_names if not self.done(work, declaration, control)]

    def done(self, work: Work, declaration: dict[str, Any], control: str) -> bool:
        """Whether there is a record of this very request, with all metrics."""
        unit = unit_of(work, control)
        if not self.records.done(unit, self.bench(work).request(declaration, control, work.seed)):
            return False
        wanted = {*self.protocol.metrics_under(control)}
        lacking = set(self.suite.metrics) and wanted - {*self.record(work, control).metrics}
        if lacking:
            expected = f"{', '.join(sorted(lacking))} too (or remove the record)"
            raise BadInput(self.records.path(unit), "metrics", expected, "a record without")
        return True

    def record(self, work: Work, control: str) -> Record:
        """The record that is there."""
        return self.records.read(self.records.path(unit_of(work, control)))

    def clips(self, work: Work) -> Clips:
        """The clips of a piece of work; none for seeds but the first."""
        bench = self.bench(work)
        task = "" if bench.protocol.task == "extraction" else f"-{bench.protocol.task}"
        folder = self.records.root / EXAMPLES / work.study_name / f"{work.split}-s{bench.split.seed}{task}"
        sounds = bench.protocol.task != "retrieval" and work.seed == self.suite.seeds[0]
        count = self.suite.examples if sounds else 0
        store = view_of(work.declaration.conditions, bench.store)
        return Clips(folder, store, bench.split, bench.protocol, count)

    def evaluate(self, work: Work) -> None:
        """Take up a trained system; write the records and the clips that are missing of it."""
        bench, label = self.bench(work), work.declaration.label
        chosen = options(work, self.out, self.machine)
        trained = train(work.declaration, bench.store, bench.split, bench.protocol, Budget(work.budget), chosen)
        place(trained.system, self.machine.device)
        missing = self.missing(work)
        self._require_same_weights(work, trained, missing)
        self._write_records(work, trained, missing)
        clips = self.clips(work)
        if not clips.kept(label, trained.checkpoint_hash):
            clips.keep(label, trained.system, trained.checkpoint_hash)

    def _write_records(self, work: Work, trained: Trained, missing: Sequence[str]) -> None:
        bench, label = self.bench(work), work.declaration.label
        declaration = recorded(work.declaration, work.budget)
        test = bench.test(trained)
        known: dict[object, pd.DataFrame] = {}
        for control in missing:
            start = time.perf_counter()
            metrics = bench.protocol.metrics_under(control)
            # Without EEG the answer is the same under every control; it is computed once and stored under each.
            asked = (metrics, None if not trained.system.facts.uses_eeg else control)
            scores = known[asked] if asked in known else test.scores(control, metrics)
            known = {asked: scores}
            seconds = time.perf_counter() - start
            about = (declaration, label, work.seed, control, self.suite.control_names)
            self.records.write(bench.record(trained, *about, scores, seconds, test), scores)

    def _require_same_weights(self, work: Work, trained: Trained, missing: Sequence[str]) -> None:
        """Controls are compared with each other: they must be those of one network."""
        for control in self.suite.control_names:
            if control not in missing:
                found = self.record(work, control).system.checkpoint_hash
                if found != trained.checkpoint_hash:
                    path = self.records.path(unit_of(work, control))
                    raise BadInput(path, "checkpoint_hash", f"{trained.checkpoint_hash} (or remove the record)", found)


def headline(records: Sequence[Record], name: str) -> pd.DataFrame:
    """A small frame for a terminal or a notebook: system, control and one metric with its interval.

    Raises:
        BadInput: a metric that the records do not have (with the nearest that they have).
    """
    return pd.DataFrame([_headline_row(record, name) for record in records])


def _headline_row(record: Record, name: str) -> dict[str, Any]:
    if name not in record.metrics:
        raise unknown_name("record", "metric", name, record.metrics)
    result = record.metrics[name]
    return {
        "system": record.system.name,
        "control": record.control,
        f"{name} [{result.unit}]": result.mean,
        "low": result.low,
        "high": result.high,
        "n": result.n,
        "failed": result.n_failed,
    }
