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
from eeg2speech.data.types import Segment, sides
from eeg2speech.errors import BadInput
from eeg2speech.metrics import Score, Scorer, Signals
from eeg2speech.records import SetMetric
from eeg2speech.systems.interface import System, answer

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
        self.set_metrics: dict[str, SetMetric] = {}

    def scores(self, control: str, metrics: Sequence[str]) -> pd.DataFrame:
        """Per-segment scores under a control, a row a segment, in the segments' order.

        Columns: segment, subject, trial, pair, attended, unattended, start, duration, then each metric and its
        ``<metric>_reason`` (null where it could be scored).
        """
        return frame_of(self.mixer.store, self.segments, self.scorer.score(self.signals(control), metrics))

    def signals(self, control: str) -> Iterator[Signals]:
        """What is scored, in the segments' order."""
        found = estimates(self.system, self.mixer.store, self.segments, self.mixer, control, self.seed)
        for scene, estimate in found:
            yield Signals(scene.target, estimate, scene.mixture, scene.interferer)

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
    system: System, store: Store, segments: Sequence[Segment], mixer: Mixer, control: str, seed: int
) -> Iterator[tuple[Scene, np.ndarray]]:
    """Scenes and the system's answers [T] float32, in the segments' order. It is asked on its own device."""
    device = device_of(system)
    for batch in asked(store, segments, control, seed, device):
        scenes = [mixer.scene(segment) for segment in batch.segments]
        mixture = torch.from_numpy(np.stack([scene.mixture for scene in scenes])).to(device)
        sources = torch.from_numpy(np.stack([sources_of(system, store, scene) for scene in scenes])).to(device)
        found = answer(system, mixture, batch.eeg, batch.subject, sources)
        yield from zip(scenes, found.cpu().numpy(), strict=True)


def sources_of(system: System, store: Store, scene: Scene) -> np.ndarray:
    """[2, T]: target first for those that may know it, else in canonical order."""
    first, trial = (scene.target, scene.interferer), store.trial(scene.segment.trial)
    if system.facts.sees == "target" or sides(trial, store.speakers)[0] == trial.attended:
        return np.stack(first)
    return np.stack(first[::-1])


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
