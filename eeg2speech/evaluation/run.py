"""Evaluation of trained systems into records, and the two entry points: ``evaluate`` and ``run_suite``."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from eeg2speech.data.mixing import Mixer
from eeg2speech.data.store import Store
from eeg2speech.data.studies.registry import prepare
from eeg2speech.evaluation.examples import keep_examples, kept
from eeg2speech.evaluation.protocol import Protocol, protocol
from eeg2speech.evaluation.scoring import scores_under
from eeg2speech.evaluation.suite import Machine, Suite, Work, options, split_of, train_all, works
from eeg2speech.evaluation.trained import Trained, train
from eeg2speech.metrics import METRICS, Scorer, metric
from eeg2speech.records import (
    BudgetRef,
    ProtocolRef,
    Record,
    RecordStore,
    SplitRef,
    StudyRef,
    SystemRef,
    Unit,
    code_reference,
    machine_facts,
    package_versions,
    summarise,
)
from eeg2speech.records.store import EXAMPLES
from eeg2speech.splits.manifest import Split
from eeg2speech.training.budget import Budget

PACKAGES = ("numpy", "scipy", "torch", "lightning", "pesq", "pystoi", "mne", "pandas", "soundfile")
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Bench:
    """What all evaluations on one study and split share."""

    store: Store
    split: Split
    protocol: Protocol
    scorer: Scorer

    def scores(self, trained: Trained, control: str) -> pd.DataFrame:
        """Per-segment scores of a system under a control."""
        segments = self.protocol.test_segments(self.store, self.split)
        mixer = Mixer(self.store, self.protocol.target_to_interferer_db)
        return scores_under(
            trained.system, self.store, segments, mixer, control, self.protocol.evaluation_seed, self.scorer
        )

    def record(
        self,
        trained: Trained,
        declaration: dict[str, Any],
        label: str,
        seed: int,
        control: str,
        scores: pd.DataFrame,
        seconds: float,
    ) -> Record:
        """The record of one evaluation."""
        chosen, store, facts, training = self.protocol, self.store, trained.system.facts, trained.training
        return Record(
            protocol=ProtocolRef(name=chosen.name, version=chosen.version),
            task="extraction",
            study=StudyRef(name=store.facts.name, revision=store.index.revision, data_note=store.facts.note),
            split=SplitRef(kind=self.split.kind, seed=self.split.seed, manifest_hash=self.split.hash),
            system=SystemRef(
                name=label,
                declaration=declaration,
                uses_eeg=facts.uses_eeg,
                uses_subject=facts.uses_subject,
                causal=facts.causal,
                sees=facts.sees,
                parameters=trained.system.parameters,
                checkpoint_hash=trained.checkpoint_hash,
                licence=facts.licence,
                source=facts.source,
            ),
            control=control,
            budget=BudgetRef(
                name=training.budget.replace(" ", "_"),
                steps=training.steps,
                seconds=training.seconds,
                device=training.device,
            ),
            seed=seed,
            evaluation_seed=chosen.evaluation_seed,
            code=code_reference(),
            packages=package_versions(PACKAGES),
            machine=machine_facts(),
            n_segments_expected=len(chosen.test_segments(store, self.split)),
            metrics=summarise(scores, [metric(name) for name in chosen.metrics]),
            timings={"evaluation": round(seconds, 3)},
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )


def run_suite(suite: Suite, out: Path, machine: Machine | None = None, tell: Tell = print) -> RecordStore:
    """Do what is missing of a suite: train, evaluate, write records under ``out/records``.

    Raises:
        BadInput: a record that is there answers another request (other data, split, settings or seed).
    """
    machine = machine or Machine()
    records = RecordStore(out / "records")
    pending = [work for work in works(suite) if _missing(work, suite, records)]
    tell(f"{len(works(suite)) - len(pending)} of {len(works(suite))} systems are done; {len(pending)} to go")
    for work, seconds in train_all(pending, out, machine):
        tell(f"trained {work.title} ({seconds:.0f} s)")
    chosen = protocol(suite.protocol)
    with Scorer(chosen.metrics, chosen.audio_rate, machine.jobs) as scorer:
        for work in pending:
            store = prepare(work.study)
            bench = Bench(store, split_of(work, store), chosen, scorer)
            _evaluate_work(work, suite, bench, records, out, machine, tell)
    return records


def _missing(work: Work, suite: Suite, records: RecordStore) -> list[str]:
    return [control for control in suite.control_names if not records.done(unit_of(work, control))]


def unit_of(work: Work, control: str) -> Unit:
    """The unit of work of one control."""
    chosen = protocol(work.protocol)
    names = (chosen.name, chosen.version, work.study_name, work.split, chosen.split_seed)
    return Unit(*names, work.declaration.label, work.seed, control)


def _evaluate_work(
    work: Work, suite: Suite, bench: Bench, records: RecordStore, out: Path, machine: Machine, tell: Tell
) -> None:
    trained = train(
        work.declaration, bench.store, bench.split, bench.protocol, Budget(work.budget), options(work, out, machine)
    )
    began = time.perf_counter()
    last: pd.DataFrame | None = None
    for control in _missing(work, suite, records):
        start = time.perf_counter()
        # Without EEG the answer is the same under every control; it is computed once and stored under each.
        scores = last if last is not None and not trained.system.facts.uses_eeg else bench.scores(trained, control)
        last = scores
        seconds = time.perf_counter() - start
        declaration = work.declaration.as_dict()
        record = bench.record(trained, declaration, work.declaration.label, work.seed, control, scores, seconds)
        records.write(record, scores)
    folder = records.root / EXAMPLES / work.study_name / f"{work.split}-s{bench.split.seed}"
    if work.seed == suite.seeds[0] and not kept(folder, work.declaration.label, suite.examples):
        label = work.declaration.label
        keep_examples(folder, label, trained.system, bench.store, bench.split, bench.protocol, suite.examples)
    tell(f"evaluated {work.title} ({time.perf_counter() - began:.0f} s)")


def headline(records: Sequence[Record], name: str = "si_sdr") -> pd.DataFrame:
    """A small frame for a terminal or a notebook: system, control and one metric with its interval."""
    known = METRICS.get(name) or metric(name)
    rows = [
        {
            "system": record.system.name,
            "control": record.control,
            f"{known.name} [{known.unit}]": record.metrics[name].mean,
            "low": record.metrics[name].low,
            "high": record.metrics[name].high,
            "n": record.metrics[name].n,
            "failed": record.metrics[name].n_failed,
        }
        for record in records
    ]
    return pd.DataFrame(rows)
