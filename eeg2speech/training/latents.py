"""Latents of a frozen codec, computed once and kept: what a training on latents draws from.

A codec that does not learn gives the same latents every time. Those of every span's target, interferer and mixture
are computed whole, kept under ``<cache>/latents/<codec>/<content>.npy`` by the hash of what was heard, and read as
windows from then on.

Random mixtures cost nothing: latents of a codec that carries mixtures well nearly add up (with the embedded codec the
error is 17 dB under the mixture), so that a share ``remix`` of the windows to learn from is mixed anew, in latents,
with what another window's listener attends to, of another speaker, both at random gains (within ``GAIN_DB``). Both
draws are alike, so that nothing but the EEG tells which is the target. What is validated and tested on was encoded as
a mixture.

Frames begin on the codec's grid, EEG windows on EEG samples: a window's audio is that of the nearest frame, at most
half a frame (10 ms at 50 frames a second) away from its EEG; a window that ends with a span which stops within a frame
may be a whole frame early.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from eeg2speech.data.studies.registry import cache_folder
from eeg2speech.data.types import Samples, Segment, content_hash
from eeg2speech.models.codec import Codec
from eeg2speech.splits.manifest import Span
from eeg2speech.training.examples import Batch, Examples

GAIN_DB = 3.0
SILENT_FRAMES = 200
Half = NDArray[np.float16]


@dataclass(frozen=True)
class LatentBatch(Batch):
    """A batch with the latents of mixture, target and interferer, [B, 3, D, L]; waves are exactly L frames long."""

    latents: Tensor


class Item(NamedTuple):
    """A window of a trial; in place of its interferer, what is attended in an ``other`` window, if that is given.

    ``gains`` are those of target and interferer, factors.
    """

    segment: Segment
    other: Segment | None = None
    gains: tuple[float, float] = (1.0, 1.0)


class Heard(NamedTuple):
    """A whole span: mixture, target and interferer as waves [3, T], and their latents, each [D, L]."""

    waves: tuple[Samples, Samples, Samples]
    latents: tuple[Half, Half, Half]


class LatentCache:
    """Latents by content, on disk. Written by rename: a file that is there is whole."""

    def __init__(self, codec: Codec, root: Path | None = None) -> None:
        self.codec = codec
        self.folder = (cache_folder() / "latents" if root is None else root) / codec.fingerprint

    def latents(self, wave: Samples) -> Half:
        """Latents [D, L] of a wave [T], in half precision, computed where they are not kept yet."""
        path = self.folder / f"{content_hash(wave)}.npy"
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            device = next(self.codec.parameters()).device
            found = self.codec.encode(torch.from_numpy(wave).to(device).unsqueeze(0))[0].half().cpu().numpy()
            partial = path.with_suffix(f".{os.getpid()}.tmp")
            with partial.open("wb") as file:
                np.save(file, found)
            partial.replace(path)
        kept: Half = np.load(path, mmap_mode="r")
        return kept


@dataclass(frozen=True)
class LatentExamples:
    """``Examples`` with the latents of what is heard; a share ``remix`` of the random windows is mixed anew."""

    examples: Examples
    codec: Codec
    remix: float = 0.0

    @property
    def key(self) -> str:
        """Hash of everything here."""
        return self._named(self.examples.key)

    @property
    def audio_key(self) -> str:
        """Hash of what is heard here, whatever the EEG."""
        return self._named(self.examples.audio_key)

    def _named(self, key: str) -> str:
        return f"{key}-{self.codec.fingerprint}-{self.remix}"

    def random(self, seconds: float, count: int, seed: int, epoch: int) -> list[Item]:
        """``count`` random windows, some of them mixed anew, by seed and epoch alone."""
        segments = self.examples.random(seconds, count, seed, epoch)
        rng = np.random.default_rng([seed, epoch, 1])
        return [self._mixed_anew(s, segments, rng) if rng.random() < self.remix else Item(s) for s in segments]

    def fixed(self, seconds: float, limit: int) -> list[Item]:
        """Side-by-side windows of the study's own mixtures, thinned evenly."""
        return [Item(segment) for segment in self.examples.fixed(seconds, limit)]

    def _mixed_anew(self, segment: Segment, others: Sequence[Segment], rng: np.random.Generator) -> Item:
        """With the next of ``others``, from a random one on, whose attended speaker is another; else as it is."""
        first = int(rng.integers(len(others)))
        gains = 10 ** (rng.uniform(-GAIN_DB, GAIN_DB, 2) / 20)
        for other in (*others[first:], *others[:first]):
            if self._speaker(other) != self._speaker(segment):
                return Item(segment, other, (float(gains[0]), float(gains[1])))
        return Item(segment)

    def _speaker(self, segment: Segment) -> str:
        store = self.examples.store
        return store.speakers[store.trial(segment.trial).attended]

    def loader(self, segments: Sequence[Item], batch: int, workers: int = 0) -> DataLoader[dict[str, Tensor]]:
        """Batches in the items' order, the same with any number of workers."""
        if any(item.other is not None for item in segments):
            self._silence  # noqa: B018 (encoded here, before workers ask for it)
        for item in segments:
            for window in filter(None, (item.segment, item.other)):
                self.heard(self._span(window))
        context = "forkserver" if workers else None
        data = _LatentData(self, segments)
        return DataLoader(data, batch, collate_fn=_stacked, num_workers=workers, multiprocessing_context=context)

    def item(self, item: Item) -> dict[str, Tensor]:
        """One window: waves [T], EEG [C, N], subject, latents [3, D, L]."""
        store, segment = self.examples.store, item.segment
        waves, latents = self._window(segment)
        if item.other is not None:
            other_waves, other_latents = self._window(item.other)
            waves = _mixture(item.gains, waves[1], other_waves[1])
            latents = _mixture(item.gains, latents[1], other_latents[1], self._silence)
        subject = store.subjects.index(store.trial(segment.trial).subject)
        return dict(zip(("mixture", "target", "interferer"), map(torch.from_numpy, waves), strict=True)) | {
            "eeg": torch.from_numpy(store.cut_eeg(segment)),
            "subject": torch.tensor(subject),
            "latents": torch.from_numpy(latents),
        }

    def _window(self, segment: Segment) -> tuple[Samples, Samples]:
        """Mixture, target and interferer: waves [3, T] and latents [3, D, L]."""
        span = self._span(segment)
        heard, hop = self.heard(span), self.codec.hop
        count = int(segment.duration * self.codec.frame_rate + 1e-6)
        # Nearest frame; a span's last frame may be padded, and belongs to no window.
        first = round((segment.start - span.start) * self.codec.frame_rate)
        first = min(first, len(heard.waves[0]) // hop - count)
        waves = np.stack([wave[first * hop : (first + count) * hop] for wave in heard.waves])
        return waves, np.stack([part[:, first : first + count] for part in heard.latents]).astype(np.float32)

    @cached_property
    def _silence(self) -> Samples:
        """Latents of silence [D, 1], far from either end: what is left of latents at a gain of 0."""
        latents = self._cache.latents(np.zeros(SILENT_FRAMES * self.codec.hop, np.float32))
        return latents[:, SILENT_FRAMES // 2, None].astype(np.float32)

    def heard(self, span: Span) -> Heard:
        """A span as the study mixes it, kept in memory (waves) and on disk (latents)."""
        trial = self.examples.store.trial(span.trial)
        name = (trial.attended, trial.unattended, span.start, span.stop)
        if name not in self._memory:
            rate = self.examples.store.facts.audio_rate
            talkers = self.examples.mixer.both(span.trial, round(span.start * rate), round(span.stop * rate))
            waves = (talkers[0] + talkers[1], *talkers)
            found = tuple(self._cache.latents(wave) for wave in waves)
            self._memory[name] = Heard(waves, found)  # type: ignore[arg-type]
        return self._memory[name]

    @cached_property
    def _memory(self) -> dict[tuple[object, ...], Heard]:
        return {}

    @cached_property
    def _cache(self) -> LatentCache:
        return LatentCache(self.codec)

    @cached_property
    def _spans(self) -> dict[str, list[Span]]:
        spans: dict[str, list[Span]] = {}
        for span in self.examples.spans:
            spans.setdefault(span.trial, []).append(span)
        return spans

    def _span(self, segment: Segment) -> Span:
        end = segment.start + segment.duration
        return next(s for s in self._spans[segment.trial] if s.start - 1e-6 <= segment.start and end <= s.stop + 1e-6)


class _LatentData(Dataset[dict[str, Tensor]]):
    def __init__(self, source: LatentExamples, items: Sequence[Item]) -> None:
        self.source, self.items = source, items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return self.source.item(self.items[index])


def _stacked(items: Sequence[dict[str, Tensor]]) -> LatentBatch:
    return LatentBatch(**{name: torch.stack([item[name] for item in items]) for name in items[0]})


def _mixture(gains: tuple[float, float], target: Samples, other: Samples, silence: Samples | float = 0.0) -> Samples:
    """Mixture, target and interferer, [3, ...], each louder or softer by its gain, counted from ``silence``."""
    loud = [np.float32(gain) * (part - silence) for gain, part in zip(gains, (target, other), strict=True)]
    return np.asarray(np.stack([loud[0] + loud[1], *loud]) + silence, np.float32)
