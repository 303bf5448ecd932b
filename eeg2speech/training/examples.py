"""What a system learns from: the scenes of one part of a split, in batches of tensors or trial by trial."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from eeg2speech.data.mixing import Mixer, Scene
from eeg2speech.data.store import Store
from eeg2speech.data.types import Segment
from eeg2speech.data.windows import random_segments, tiled_segments
from eeg2speech.errors import BadInput
from eeg2speech.splits.manifest import Span
from eeg2speech.training.view import View, noisy


@dataclass(frozen=True)
class Batch:
    """Scenes stacked: mixture, target, interferer [B, T]; eeg [B, C, N] in microvolt; subject [B], numbers."""

    mixture: Tensor
    target: Tensor
    interferer: Tensor
    eeg: Tensor
    subject: Tensor

    def __len__(self) -> int:
        return len(self.mixture)

    def to(self, device: torch.device) -> Self:
        """The same batch on another device."""
        return type(self)(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


class SceneDataset(Dataset[tuple[Scene, int]]):
    """Segments in the given order; each item is a scene and its subject's number."""

    def __init__(self, mixer: Mixer, segments: Sequence[Segment]) -> None:
        self.mixer, self.segments = mixer, segments
        self.numbers = {subject: k for k, subject in enumerate(mixer.store.subjects)}

    def __len__(self) -> int:
        return len(self.segments)

    def __getitem__(self, index: int) -> tuple[Scene, int]:
        segment = self.segments[index]
        return self.mixer.scene(segment), self.numbers[self.mixer.store.trial(segment.trial).subject]


def collate(items: Sequence[tuple[Scene, int]]) -> Batch:
    """Stack scenes of one length into a batch."""

    def stacked(name: str) -> Tensor:
        return torch.from_numpy(np.stack([getattr(scene, name) for scene, _ in items]))

    numbers = torch.tensor([number for _, number in items])
    return Batch(stacked("mixture"), stacked("target"), stacked("interferer"), stacked("eeg"), numbers)


class Source(Protocol):
    """What a training draws from: ``Examples``, or something that adds to them."""

    @property
    def key(self) -> str:
        """Hash of everything here."""

    @property
    def audio_key(self) -> str:
        """Hash of what is heard here, whatever the EEG."""

    def random(self, seconds: float, count: int, seed: int, epoch: int) -> Sequence[Any]:
        """``count`` items to load, drawn by seed and epoch alone."""

    def fixed(self, seconds: float, limit: int) -> Sequence[Any]:
        """At most ``limit`` items, always the same."""

    def loader(self, segments: Sequence[Any], batch: int, workers: int = 0) -> DataLoader[Any]:
        """Batches of these items, in their order."""


@dataclass(frozen=True)
class Examples:
    """One part of a split, ready to learn from.

    ``window`` is the length of all windows in seconds, whatever is asked for. About ``noise_share`` of the random
    windows, and of the whole spans, have noise in place of their EEG; the store must then be a ``View``.
    """

    store: Store
    spans: tuple[Span, ...]
    mixer: Mixer
    window: float | None = None
    noise_share: float = 0.0

    def __post_init__(self) -> None:
        if self.noise_share and not isinstance(self.store, View):
            raise BadInput("Examples", "noise_share", "0, or a View of the store, which knows noise", self.noise_share)

    def random(self, seconds: float, count: int, seed: int, epoch: int) -> list[Segment]:
        """``count`` random windows; the same for the same seed and epoch, whoever loads them."""
        length, rate = self.window or seconds, self.store.facts.eeg_rate
        return self._noisy(random_segments(self.spans, length, count, (seed, epoch), rate), seed, epoch)

    def fixed(self, seconds: float, limit: int) -> list[Segment]:
        """Side-by-side windows, thinned evenly to at most ``limit``."""
        segments = tiled_segments(self.spans, self.window or seconds, self.store.facts.eeg_rate)
        if len(segments) <= limit:
            return segments
        return [segments[int(k)] for k in np.linspace(0, len(segments) - 1, limit).round()]

    def loader(self, segments: Sequence[Segment], batch: int, workers: int = 0) -> DataLoader[tuple[Scene, int]]:
        """Batches in the segments' order, the same with any number of workers."""
        dataset = SceneDataset(self.mixer, segments)
        context = "forkserver" if workers else None
        return DataLoader(dataset, batch, collate_fn=collate, num_workers=workers, multiprocessing_context=context)

    def scenes(self) -> Iterator[tuple[str, Scene]]:
        """Each span whole, with its subject; for methods that learn from long stretches."""
        whole = [Segment(span.trial, span.start, span.stop - span.start) for span in self.spans]
        for segment in self._noisy(whole, 0, 0):
            yield self.store.trial(segment.trial).subject, self.mixer.scene(segment)

    def _noisy(self, segments: list[Segment], seed: int, epoch: int) -> list[Segment]:
        return noisy(segments, self.noise_share, (seed, epoch)) if self.noise_share else segments

    @cached_property
    def key(self) -> str:
        """Hash of everything here: the study's revision and what is seen of its EEG, the spans, the mixing."""
        seen = f" {self.store.words}, noise {self.noise_share}" if isinstance(self.store, View) else ""
        return hashlib.sha256(f"{self.store.index.revision} {self.audio_key}{seen}".encode()).hexdigest()[:16]

    @cached_property
    def audio_key(self) -> str:
        """Hash of what is heard here and which talker is the target, the same for studies that differ in EEG only."""
        heard = [(self.store.trial(s.trial), s) for s in self.spans]
        text = repr([(t.attended, t.unattended, s.start, s.stop, self.mixer.ratio_db) for t, s in heard])
        # Left out where there is none: networks that were trained before it could be chosen keep their names.
        text += "" if self.window is None else f" in windows of {self.window} s"
        return hashlib.sha256(text.encode()).hexdigest()[:16]
