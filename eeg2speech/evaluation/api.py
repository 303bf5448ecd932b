"""``evaluate``: score a system, or any callable, on a study and a split, in Python."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from eeg2speech.controls import TRUE_EEG, control
from eeg2speech.data.store import Store
from eeg2speech.data.studies.registry import prepare
from eeg2speech.errors import BadInput, unknown_name
from eeg2speech.evaluation.protocol import Protocol, protocol, protocol_for
from eeg2speech.evaluation.run import Bench, headline, scorer_of
from eeg2speech.evaluation.scoring import device_named, place
from eeg2speech.evaluation.suite import Machine
from eeg2speech.evaluation.trained import Trained, taken_up
from eeg2speech.records import Interval, Record, paired_difference
from eeg2speech.report.words import HEADLINES
from eeg2speech.splits import make_split
from eeg2speech.splits.manifest import Split
from eeg2speech.systems.interface import Context, Facts, NoSettings, System
from eeg2speech.systems.registry import recorded, system_class
from eeg2speech.training.budget import Training

Model = Callable[..., Tensor]
"""For extraction (mixture [B, T], EEG [B, C, N] in microvolt, subject numbers [B]) -> attended speech [B, T]; for
generation (EEG, subject numbers) -> speech as long as the EEG. Retrieval needs two embeddings and so a ``System``."""


class CallableSystem(System):
    """Any callable as a system that uses EEG and subject number. It is taken as it is: nothing is trained.

    A callable that is a torch module is a network: it is asked on its own device.
    """

    facts = Facts(
        title="a callable",
        licence="unknown",
        source="given by the caller",
        tasks=frozenset({"extraction", "generation"}),
        uses_subject=True,
    )

    def __init__(self, context: Context, model: Model) -> None:
        super().__init__(context, NoSettings())
        self.model = model
        self.network = model if isinstance(model, nn.Module) else None

    def extract(self, mixture: Tensor, eeg: Tensor, subject: Tensor) -> Tensor:
        """Ask the callable."""
        return self.model(mixture, eeg, subject)

    def generate(self, eeg: Tensor, subject: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Ask the callable."""
        return self.model(eeg, subject)


@dataclass(frozen=True)
class Result:
    """Records and per-segment scores of one system, by control."""

    records: dict[str, Record]
    scores: dict[str, pd.DataFrame]

    @property
    def headline(self) -> str:
        """Name of the metric by which the task ranks."""
        return HEADLINES[next(iter(self.records.values())).task]

    def table(self, metric: str | None = None) -> pd.DataFrame:
        """One row a control: mean, 95 % interval, counts; of the task's headline metric unless told otherwise."""
        return headline(list(self.records.values()), metric or self.headline)

    def drop(self, control: str = "noise_cue", metric: str | None = None) -> Interval:
        """How much worse the system is under a control than with the true EEG, paired by segment."""
        metric = metric or self.headline
        for name in (TRUE_EEG, control):
            if name not in self.scores:
                raise unknown_name("result", "control", name, self.scores)
        if metric not in self.records[control].metrics:
            raise unknown_name("result", "metric", metric, self.records[control].metrics)
        return paired_difference(self.scores[TRUE_EEG], self.scores[control], metric)


def evaluate(
    system: str | System | Model,
    study: str | Store = "simulated-clear",
    split: str = "stimulus",
    controls: Sequence[str] = (TRUE_EEG, "noise_cue"),
    protocol_name: str | None = None,
    checkpoint: Path | str | None = None,
    jobs: int = 1,
    metrics: Iterable[str] = (),
    device: str | None = None,
    allow_other_split: bool = False,
) -> Result:
    """Score a system on the test part of a split.

    Args:
        system: a registered name (with ``checkpoint``, else with the weights that come with the package), a trained
            ``System``, or any callable of ``Model``'s form.
        study: a study's name, prepared in the cache when it is not there yet, or an open store.
        split: ``within_trial``, ``trial``, ``stimulus`` or ``subject``.
        controls: what to do to the EEG; ``true_eeg`` is nothing.
        protocol_name: task, windows, mixing and metrics: ``demo-1``, ``demo-retrieval-1`` or ``demo-generation-1``. If
            None, the first of them that the system answers.
        checkpoint: a safetensors file from ``eeg2speech train``; settings, conditions and seed are taken from it.
        jobs: processes that compute metrics. With more than one, a script needs ``if __name__ == "__main__":``.
        metrics: more metrics than the protocol's, of the package or of another (entry points ``eeg2speech.metrics``).
        device: where networks answer: ``cpu``, ``cuda``, ``mps`` or ``auto``. None leaves them where they are, which is
            the CPU for weights from a file.
        allow_other_split: score weights that were trained on other data or on another split, whose training may have
            held the very trials that are scored.

    Raises:
        BadInput: an unknown name (with the nearest), a checkpoint of another system, data or split, or a bad answer.
    """
    Machine(jobs, device or "auto")
    if device is not None:
        device_named(device)
    for name in controls:
        control(name)
    tasks = (system_class(system) if isinstance(system, str) else _facts(system)).facts.tasks
    chosen = protocol(protocol_name or protocol_for(tasks)).adding(metrics)
    store = prepare(study) if isinstance(study, str) else study
    made = make_split(store.index, split, chosen.split_seed)
    subject = _subject(system, store, made, chosen, checkpoint, allow_other_split)
    if device is not None:
        place(subject.trained.system, device)
    with scorer_of(chosen, jobs) as scorer:
        return _result(subject, Bench(store, made, chosen, scorer), controls)


@dataclass(frozen=True)
class _Subject:
    """Who is evaluated, and what its records say of it."""

    trained: Trained
    label: str
    declaration: dict[str, Any]
    seed: int = 0


def _facts(system: System | Model) -> type[System] | System:
    return system if isinstance(system, System) else CallableSystem


def _result(subject: _Subject, bench: Bench, controls: Sequence[str]) -> Result:
    records, scores, test = {}, {}, bench.test(subject.trained)
    for name in controls:
        start = time.perf_counter()
        scores[name] = test.scores(name, bench.protocol.metrics_under(name))
        seconds = time.perf_counter() - start
        about = (subject.declaration, subject.label, subject.seed, name, controls)
        records[name] = bench.record(subject.trained, *about, scores[name], seconds, test)
    return Result(records, scores)


def _subject(
    system: str | System | Model,
    store: Store,
    split: Split,
    chosen: Protocol,
    checkpoint: Path | str | None,
    any_split: bool,
) -> _Subject:
    if isinstance(system, str):
        return _named(system, store, split, chosen, checkpoint, any_split)
    if checkpoint is not None:
        raise BadInput("evaluate", "checkpoint", "None with a system that is given as an object", checkpoint)
    context = Context.of(store, chosen.segment_seconds)
    given = system if isinstance(system, System) else CallableSystem(context, system)
    name = getattr(system, "__name__", type(system).__name__)
    declaration = {"system": name, "settings": given.settings.model_dump(mode="json")}
    return _Subject(Trained(given, Training.none(), None), _safe(name), declaration)


def _named(
    name: str, store: Store, split: Split, chosen: Protocol, checkpoint: Path | str | None, any_split: bool
) -> _Subject:
    """A registered system: built where it has nothing to learn, else with the checkpoint's settings and weights."""
    found = taken_up(name, store, split, chosen, checkpoint, any_split)
    return _Subject(found.trained, name, recorded(found.declaration, found.budget), found.seed)


def _safe(label: str) -> str:
    """A label that can be the name of a record, from any Python name, such as ``<lambda>``."""
    return re.sub(r"[^A-Za-z0-9_.+-]", "_", label).lstrip("_.+-") or "model"
