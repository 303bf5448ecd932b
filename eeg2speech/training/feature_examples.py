"""EEG with fixed features of the speech that was attended to: what retrieval and generation learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from eeg2speech.data.types import Samples, Segment
from eeg2speech.training.examples import Examples
from eeg2speech.training.features import FeatureCache, GivenFeatures, Half

GRID = 0.5
"""Seconds: where features are computed inside a window, random windows begin on it, so that kept ones are met again."""


@dataclass(frozen=True)
class FeatureBatch:
    """EEG [B, C, N] in microvolt, subject numbers [B], features of the attended speech [B, D, F]."""

    eeg: Tensor
    subject: Tensor
    features: Tensor

    def __len__(self) -> int:
        return len(self.eeg)

    def to(self, device: torch.device) -> Self:
        """The same batch on another device."""
        return type(self)(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class FeatureExamples:
    """A ``Source`` of EEG with features of the target: cut out of the ``whole`` trial's, or the window's own."""

    examples: Examples
    cache: FeatureCache | GivenFeatures
    whole: bool

    @property
    def key(self) -> str:
        """Hash of everything here."""
        return f"{self.examples.key}-{self.cache.features.fingerprint}-{self.whole}"

    @property
    def audio_key(self) -> str:
        """Hash of what is heard here, whatever the EEG."""
        return f"{self.examples.audio_key}-{self.cache.features.fingerprint}-{self.whole}"

    def random(self, seconds: float, count: int, seed: int, epoch: int) -> list[Segment]:
        """``count`` random windows, by seed and epoch alone."""
        windows = self.examples.random(seconds, count, seed, epoch)
        return windows if self.whole else [replace(window, start=self._on_grid(window)) for window in windows]

    def fixed(self, seconds: float, limit: int) -> list[Segment]:
        """Side-by-side windows, thinned evenly, in a fixed order that leaves neighbours and listeners of one stimulus
        apart: in a batch, they would be told from each other."""
        windows = self.examples.fixed(seconds, limit)
        return [windows[k] for k in np.random.default_rng(0).permutation(len(windows))]

    def loader(self, segments: Sequence[Segment], batch: int, workers: int = 0) -> DataLoader[Any]:
        """Batches in the segments' order."""
        context = "forkserver" if workers else None
        data = _FeatureData(self, segments)
        return DataLoader(data, batch, collate_fn=_stacked, num_workers=workers, multiprocessing_context=context)

    def item(self, segment: Segment) -> dict[str, Tensor]:
        """One window: EEG [C, N], subject, features [D, F]."""
        store = self.examples.store
        subject = store.subjects.index(store.trial(segment.trial).subject)
        return {
            "eeg": torch.from_numpy(store.cut_eeg(segment)),
            "subject": torch.tensor(subject),
            "features": torch.from_numpy(np.array(self._features(segment), np.float32)),
        }

    def _features(self, segment: Segment) -> Half | Samples:
        mixer, rate = self.examples.mixer, self.examples.store.facts.audio_rate
        first = round(segment.start * rate)
        count = self.cache.features.frames(round(segment.duration * rate))
        if not self.whole:
            return self.cache.of(mixer.talkers(segment.trial, first, first + round(segment.duration * rate))[0])
        features = self._trial(segment.trial)
        nearest = min(round(segment.start * self.cache.features.rate), features.shape[1] - count)
        return features[:, nearest : nearest + count]

    def _trial(self, name: str) -> Half | Samples:
        """Features of what is attended to in a trial, found once: to name a minute of sound by content takes time."""
        trial = self.examples.store.trial(name)
        heard = (trial.attended, trial.duration)
        if heard not in self._known:
            last = round(trial.duration * self.examples.store.facts.audio_rate)
            wave: Samples = self.examples.mixer.talkers(name, 0, last)[0]
            self._known[heard] = self.cache.of(wave)
        return self._known[heard]

    @cached_property
    def _known(self) -> dict[tuple[str, float], Half | Samples]:
        return {}

    def _on_grid(self, window: Segment) -> float:
        """The last place of the grid before a window's start, within its span."""
        spans = (span for span in self.examples.spans if span.trial == window.trial)
        begin = next(span.start for span in spans if span.start <= window.start + 1e-6 < span.stop)
        return begin + GRID * int((window.start - begin) / GRID + 1e-6)


class _FeatureData(Dataset[dict[str, Tensor]]):
    def __init__(self, source: FeatureExamples, segments: Sequence[Segment]) -> None:
        self.source, self.segments = source, segments

    def __len__(self) -> int:
        return len(self.segments)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return self.source.item(self.segments[index])


def _stacked(items: Sequence[dict[str, Tensor]]) -> FeatureBatch:
    return FeatureBatch(**{name: torch.stack([item[name] for item in items]) for name in items[0]})
