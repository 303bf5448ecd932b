"""A system's answers under a control, scored segment by segment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from eeg2speech.controls import controlled_eeg
from eeg2speech.data.mixing import Mixer, Scene
from eeg2speech.data.store import Store
from eeg2speech.data.types import Segment, Trial, sides
from eeg2speech.errors import BadInput
from eeg2speech.metrics import Score, Scorer, Signals
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


def scores_under(
    system: System, store: Store, segments: Sequence[Segment], mixer: Mixer, control: str, seed: int, scorer: Scorer
) -> pd.DataFrame:
    """Per-segment scores of a system under a control, a row a segment, in the segments' order.

    Columns: segment, subject, trial, pair, attended, unattended, start, duration, then each metric and its
    ``<metric>_reason`` (null where it could be scored).
    """
    scores = scorer.score(_signals(system, store, segments, mixer, control, seed))
    rows = [_row(k, store, segment, found) for k, (segment, found) in enumerate(zip(segments, scores, strict=True))]
    return pd.DataFrame(rows)


def estimates(
    system: System, store: Store, segments: Sequence[Segment], mixer: Mixer, control: str, seed: int
) -> Iterator[tuple[Scene, np.ndarray]]:
    """Scenes and the system's answers [T] float32, in the segments' order. It is asked on its own device."""
    device = device_of(system)
    numbers = {subject: k for k, subject in enumerate(store.subjects)}
    for begin in range(0, len(segments), BATCH):
        batch = segments[begin : begin + BATCH]
        scenes = [mixer.scene(segment) for segment in batch]
        eeg = [controlled_eeg(control, scene.eeg, store, scene.segment, seed) for scene in scenes]
        trials = [store.trial(segment.trial) for segment in batch]
        sources = [_sources(system, store, *pair) for pair in zip(scenes, trials, strict=True)]
        inputs = (
            torch.from_numpy(np.stack([scene.mixture for scene in scenes])),
            torch.from_numpy(np.stack(eeg)),
            torch.tensor([numbers[trial.subject] for trial in trials]),
            torch.from_numpy(np.stack(sources)),
        )
        found = answer(system, *(tensor.to(device) for tensor in inputs))
        yield from zip(scenes, found.float().cpu().numpy(), strict=True)


def _signals(
    system: System, store: Store, segments: Sequence[Segment], mixer: Mixer, control: str, seed: int
) -> Iterator[Signals]:
    for scene, estimate in estimates(system, store, segments, mixer, control, seed):
        yield Signals(scene.target, estimate, scene.mixture, scene.interferer)


def _sources(system: System, store: Store, scene: Scene, trial: Trial) -> np.ndarray:
    """[2, T]: target first for those that may know it, else in canonical order."""
    first = scene.target, scene.interferer
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
