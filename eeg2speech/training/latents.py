"""Latents of a frozen codec, computed once and kept: what a training on latents draws from.

A codec that does not learn gives the same latents every time. Those of every span's target, interferer and mixture
are computed whole, kept under ``<cache>/latents/<codec>/<content>.npy`` by the hash of what was heard, and read as
windows from then on. A mixture at another gain or offset has latents of its own, so remixing is done in advance:
``remix`` further versions of every target, each with another talker of the same part of the split, at an offset and a
gain (within ``GAIN_DB``) of its own, are mixed, encoded and kept like the rest, and drawn as often.

Frames begin on the codec's grid, EEG windows on EEG samples: a window's audio is that of the nearest frame, at most
half a frame (10 ms at 50 frames a second) away from its EEG; a window that ends with a span which stops within a frame
may be a whole frame early.
"""

from __future__ import annotations

import hashlib
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
Half = NDArray[np.float16]


@dataclass(frozen=True)
class LatentBatch(Batch):
    """A batch with the latents of mixture, target and interferer, [B, 3, D, L]; waves are exactly L frames long."""

    latents: Tensor


class Item(NamedTuple):
    """A window of a trial, and which of the span's mixtures is heard in it (0 is the study's own)."""

    segment: Segment
    version: int


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
    """``Examples`` with the latents of what is heard, and ``remix`` further mixtures of every target."""

    examples: Examples
    codec: Codec
    remix: int = 0

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
        """``count`` random windows in random mixtures, by seed and epoch alone."""
        segments = self.examples.random(seconds, count, seed, epoch)
        versions = np.random.default_rng([seed, epoch, 1]).integers(0, self.remix + 1, count)
        return [Item(segment, int(version)) for segment, version in zip(segments, versions, strict=True)]

    def fixed(self, seconds: float, limit: int) -> list[Item]:
        """Side-by-side windows of the study's own mixtures, thinned evenly."""
        return [Item(segment, 0) for segment in self.examples.fixed(seconds, limit)]

    def loader(self, segments: Sequence[Item], batch: int, workers: int = 0) -> DataLoader[dict[str, Tensor]]:
        """Batches in the items' order, the same with any number of workers."""
        for item in segments:
            self.heard(self._span(item.segment), item.version)
        context = "forkserver" if workers else None
        data = _LatentData(self, segments)
        return DataLoader(data, batch, collate_fn=_stacked, num_workers=workers, multiprocessing_context=context)

    def item(self, item: Item) -> dict[str, Tensor]:
        """One window: waves [T], EEG [C, N], subject, latents [3, D, L]."""
        examples, segment = self.examples, item.segment
        span = self._span(segment)
        heard = self.heard(span, item.version)
        count = int(segment.duration * self.codec.frame_rate + 1e-6)
        # Nearest frame; a span's last frame may be padded, and belongs to no window.
        first = round((segment.start - span.start) * self.codec.frame_rate)
        first = min(first, len(heard.waves[0]) // self.codec.hop - count)
        hop = self.codec.hop
        waves = (torch.from_numpy(wave[first * hop : (first + count) * hop].copy()) for wave in heard.waves)
        latents = np.stack([part[:, first : first + count] for part in heard.latents]).astype(np.float32)
        subject = examples.store.subjects.index(examples.store.trial(segment.trial).subject)
        return dict(zip(("mixture", "target", "interferer"), waves, strict=True)) | {
            "eeg": torch.from_numpy(examples.store.cut_eeg(segment)),
            "subject": torch.tensor(subject),
            "latents": torch.from_numpy(latents),
        }

    def heard(self, span: Span, version: int) -> Heard:
        """A span in one of its mixtures, kept in memory (waves) and on disk (latents)."""
        trial = self.examples.store.trial(span.trial)
        name = (trial.attended, trial.unattended, span.start, span.stop, version)
        if name not in self._memory:
            target, interferer = self._talkers(span, version)
            waves = (target + interferer, target, interferer)
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

    def _talkers(self, span: Span, version: int) -> tuple[Samples, Samples]:
        """Target and interferer [T] of a whole span, in one of its mixtures."""
        rate = self.examples.store.facts.audio_rate
        begin, end = round(span.start * rate), round(span.stop * rate)
        target, interferer = self.examples.mixer.talkers(span.trial, begin, end)
        if version == 0:
            return target, interferer
        trial = self.examples.store.trial(span.trial)
        rng = np.random.default_rng(_seed(trial.attended, version))
        other = str(rng.choice(self._others(trial.attended)))
        # Trials may differ in length: what is taken of another talker is what its own span holds, repeated as needed.
        own = next(s for s in self.examples.spans if other in self._stimuli(s))
        seconds = self.examples.store.trial(own.trial).duration
        wave = self.examples.mixer.alone(other, seconds, float(rng.uniform(-GAIN_DB, GAIN_DB)))
        wave = np.resize(wave[round(own.start * rate) : round(own.stop * rate)], end - begin)
        return target, np.roll(wave, int(rng.integers(len(wave)))).astype(np.float32)

    def _others(self, stimulus: str) -> list[str]:
        """Stimuli of this part of the split by other speakers."""
        speakers = self.examples.store.speakers
        names = {name for span in self.examples.spans for name in self._stimuli(span)}
        return sorted(name for name in names if speakers[name] != speakers[stimulus])

    def _stimuli(self, span: Span) -> list[str]:
        trial = self.examples.store.trial(span.trial)
        return [name for name in (trial.attended, trial.unattended) if name is not None]


class _LatentData(Dataset[dict[str, Tensor]]):
    def __init__(self, source: LatentExamples, items: Sequence[Item]) -> None:
        self.source, self.items = source, items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return self.source.item(self.items[index])


def _stacked(items: Sequence[dict[str, Tensor]]) -> LatentBatch:
    return LatentBatch(**{name: torch.stack([item[name] for item in items]) for name in items[0]})


def _seed(name: str, version: int) -> int:
    return int(hashlib.sha256(f"{name} {version}".encode()).hexdigest()[:15], 16)
