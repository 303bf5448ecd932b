"""A system's answers under a control, scored segment by segment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from eeg2speech.controls import controlled_eeg
from eeg2speech.data.mixing import Mixer, Scene
from eeg2speech.data.store import Store
from eeg2speech.data.types import Segment
from eeg2speech.errors import BadInput
from eeg2speech.evaluation.listening import Heard, Kept
from eeg2speech.metrics import Score, Scorer, Signals
from eeg2speech.records import SetMetric
from eeg2speech.systems.interface import System, answer, heard_by

BATCH = 8
"""Segments a call of a system; an answer must not depend on it."""


def device_named(name: str) -> torch.device:
    """``cpu``, ``cuda`` or ``mps``; ``auto`` is the accelerator if there is one. Refuses what this machine has not."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    best = torch.device("cpu") if found is None else found
    if name not in ("auto", "cpu", best.type):
        raise BadInput("machine", "device", " or ".join(dict.fromkeys(("auto", "cpu", best.type))), repr(name))
    return torch.device("cpu") if name == "cpu" else best


def place(system: System, device: str) -> None:
    """Bring a system that is a network (``system.network``) to a device. Others stay on the CPU."""
    network = getattr(system, "network", None)
    if isinstance(network, nn.Module):
        network.to(device_named(device))


def device_of(system: System) -> torch.device:
    """Where a system wants its input: where its network's parameters are, else the CPU."""
    network = getattr(system, "network", None)
    parameter = next(network.parameters(), None) if isinstance(network, nn.Module) else None
    return torch.device("cpu") if parameter is None else parameter.device


class ExtractionTest:
    """One system on one set of segments: its answers, scored segment by segment."""

    def __init__(self, system: System, segments: Sequence[Segment], mixer: Mixer, scorer: Scorer, seed: int) -> None:
        self.system, self.segments, self.mixer, self.scorer, self.seed = system, segments, mixer, scorer, seed
        self.heard = Kept(self.listen)
        self.set_metrics: dict[str, SetMetric] = {}

    def scores(self, control: str, metrics: Sequence[str]) -> pd.DataFrame:
        """Per-segment scores under a control, a row a segment, in the segments' order.

        Columns: segment, subject, trial, pair, attended, unattended, start, duration, then each metric and its
        ``<metric>_reason`` (null where it could be scored).
        """
        return frame_of(self.mixer.store, self.segments, self.scorer.score(self.signals(control), metrics))

    def signals(self, control: str) -> Iterator[Signals]:
        """What is scored, in the segments' order."""
        found = estimates(self.system, self.mixer.store, self.segments, self.mixer, control, self.seed, self.heard)
        for scene, estimate in found:
            yield Signals(scene.target, estimate, scene.mixture, scene.interferer)

    def listen(self, segments: Sequence[Segment]) -> Heard:
        """Some segments as they are heard, whatever the EEG."""
        return listen(self.system, self.mixer, segments)

    def chances(self, metrics: Sequence[str]) -> dict[str, float]:
        """None is known: what guessing earns depends on the mixtures."""
        return {}


def frame_of(store: Store, segments: Sequence[Segment], scores: Sequence[dict[str, Score]]) -> pd.DataFrame:
    """A row a segment: what it is, then each score and its reason."""
    rows = [_row(k, store, segment, found) for k, (segment, found) in enumerate(zip(segments, scores, strict=True))]
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Asked:
    """Some segments of a test, as a system is asked about them: EEG [B, C, N] under a control, subject numbers [B]."""

    segments: Sequence[Segment]
    eeg: Tensor
    subject: Tensor


def asked(store: Store, segments: Sequence[Segment], control: str, seed: int, device: torch.device) -> Iterator[Asked]:
    """The segments in batches, in their order, with the EEG that a control gives."""
    numbers = {subject: k for k, subject in enumerate(store.subjects)}
    for begin in range(0, len(segments), BATCH):
        batch = segments[begin : begin + BATCH]
        eeg = [controlled_eeg(control, store.cut_eeg(segment), store, segment, seed) for segment in batch]
        subject = torch.tensor([numbers[store.trial(segment.trial).subject] for segment in batch])
        yield Asked(batch, torch.from_numpy(np.stack(eeg)).to(device), subject.to(device))


def estimates(
    system: System,
    store: Store,
    segments: Sequence[Segment],
    mixer: Mixer,
    control: str,
    seed: int,
    kept: Kept | None = None,
) -> Iterator[tuple[Scene, np.ndarray]]:
    """Scenes and the system's answers [T] float32, in the segments' order. It is asked on its own device.

    ``kept`` holds what was heard of these segments under controls before this one.
    """
    device = device_of(system)
    for batch in asked(store, segments, control, seed, device):
        heard = listen(system, mixer, batch.segments) if kept is None else kept.of(batch.segments)
        mixture, sources = heard.mixture(device), heard.sources(system, store, device)
        found = answer(system, mixture, batch.eeg, batch.subject, sources, heard.known(0, device))
        yield from zip(heard.scenes, found.cpu().numpy(), strict=True)


def listen(system: System, mixer: Mixer, segments: Sequence[Segment]) -> Heard:
    """Mix segments, and ask a system what it makes of them before any EEG."""
    heard = Heard(tuple(mixer.scene(segment) for segment in segments))
    return heard.with_known([heard_by(system, heard.mixture(device_of(system)))])


def _row(number: int, store: Store, segment: Segment, found: dict[str, Score]) -> dict[str, Any]:
    trial = store.trial(segment.trial)
    row: dict[str, Any] = {
        "segment": number,
        "subject": trial.subject,
        "trial": trial.id,
        "pair": trial.pair,
        "attended": trial.attended,
        "unattended": trial.unattended,
        "start": segment.start,
        "duration": segment.duration,
    }
    for name, score in found.items():
        row |= {name: score.value, f"{name}_reason": score.reason}
    return row
