"""``evaluate``: score a system, or any callable, on a study and a split, in Python."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from torch import Tensor

from eeg2speech.controls import TRUE_EEG, control
from eeg2speech.data.store import Store
from eeg2speech.data.studies.registry import prepare
from eeg2speech.errors import BadInput
from eeg2speech.evaluation.protocol import protocol
from eeg2speech.evaluation.run import Bench, headline
from eeg2speech.evaluation.trained import Trained, load, shipped
from eeg2speech.metrics import Scorer
from eeg2speech.records import Interval, Record, paired_difference
from eeg2speech.splits import make_split
from eeg2speech.systems.interface import Context, Facts, NoSettings, System
from eeg2speech.systems.registry import declare, system_class
from eeg2speech.training.budget import Training

Model = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(mixture [B, T], EEG [B, C, N] in microvolt, subject numbers [B]) -> attended speech [B, T]."""


class CallableSystem(System):
    """Any callable as a system that uses EEG and subject number. It is taken as it is: nothing is trained."""

    facts = Facts(title="a callable", licence="unknown", source="given by the caller", uses_subject=True)

    def __init__(self, context: Context, model: Model) -> None:
        super().__init__(context, NoSettings())
        self.model = model

    def extract(self, mixture: Tensor, eeg: Tensor, subject: Tensor) -> Tensor:
        """Ask the callable."""
        return self.model(mixture, eeg, subject)


@dataclass(frozen=True)
class Result:
    """Records and per-segment scores of one system, by control."""

    records: dict[str, Record]
    scores: dict[str, pd.DataFrame]

    def table(self, metric: str = "si_sdr") -> pd.DataFrame:
        """One row a control: mean, 95 % interval, counts."""
        return headline(list(self.records.values()), metric)

    def drop(self, control: str = "noise_cue", metric: str = "si_sdr") -> Interval:
        """How much worse the system is under a control than with the true EEG, paired by segment."""
        return paired_difference(self.scores[TRUE_EEG], self.scores[control], metric)


def evaluate(
    system: str | System | Model,
    study: str | Store = "simulated-clear",
    split: str = "stimulus",
    controls: Sequence[str] = (TRUE_EEG, "noise_cue"),
    protocol_name: str = "demo-1",
    checkpoint: Path | str | None = None,
    jobs: int | None = None,
) -> Result:
    """Score a system on the test part of a split.

    Args:
        system: a registered name (with ``checkpoint``, else with the weights that come with the package), a trained
            ``System``, or any callable of ``Model``'s form.
        study: a study's name, prepared in the cache when it is not there yet, or an open store.
        split: ``within_trial``, ``trial``, ``stimulus`` or ``subject``.
        controls: what to do to the EEG; ``true_eeg`` is nothing.
        protocol_name: windows, mixing and metrics.
        checkpoint: a safetensors file from ``eeg2speech train``.
        jobs: processes that compute metrics; all cores unless told.

    Raises:
        BadInput: an unknown name (with the nearest), a checkpoint of another system, or a bad answer.
    """
    for name in controls:
        control(name)
    store = prepare(study) if isinstance(study, str) else study
    chosen = protocol(protocol_name)
    made = make_split(store.index, split, chosen.split_seed)
    label = system if isinstance(system, str) else getattr(system, "__name__", type(system).__name__)
    trained = _trained(system, store, split, protocol_name, checkpoint)
    records, scores = {}, {}
    with Scorer(chosen.metrics, chosen.audio_rate, jobs or len(os.sched_getaffinity(0))) as scorer:
        bench = Bench(store, made, chosen, scorer)
        for name in controls:
            start = time.perf_counter()
            scores[name] = bench.scores(trained, name)
            seconds = time.perf_counter() - start
            records[name] = bench.record(trained, {"system": label}, _safe(label), 0, name, scores[name], seconds)
    return Result(records, scores)


def _trained(
    system: str | System | Model, store: Store, split: str, protocol_name: str, checkpoint: Path | str | None
) -> Trained:
    context = Context.of(store, protocol(protocol_name).segment_seconds)
    if isinstance(system, str):
        cls, declaration = system_class(system), declare(system)
        if checkpoint is None and cls.fit is System.fit:
            return Trained(cls(context, cls.Settings()), Training.none(), None)
        path = Path(checkpoint) if checkpoint else shipped(system, store.facts.name, split)
        return load(path, declaration, store, protocol(protocol_name))
    if checkpoint is not None:
        raise BadInput("evaluate", "checkpoint", "None with a system that is given as an object", checkpoint)
    return Trained(system if isinstance(system, System) else CallableSystem(context, system), Training.none(), None)


def _safe(label: str) -> str:
    return "".join(c if c.isalnum() or c in "_.+-" else "_" for c in label).lstrip("_.+-") or "model"
