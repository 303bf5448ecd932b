"""Speech alone, in random crops: what parts that know no EEG (autoencoder, vocoder) learn from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from eeg2speech.data.mixing import LEVEL
from eeg2speech.errors import BadInput

Audio = dict[str, list[NDArray[np.float32]]]
"""Stretches of speech [samples] by track."""
GAIN_DB = 6.0
SILENCE = 1e-3
"""Root mean square of a crop that is not used."""
MOST_DRAWS = 100
"""For each crop: far more than speech with its pauses needs."""


class Crop(NamedTuple):
    """Samples ``start`` to ``start + size`` of a stretch, at the suite's level times ``gain``."""

    track: str
    stretch: int
    start: int
    size: int
    gain: float


@dataclass(frozen=True)
class WaveBatch:
    """Waves [B, T]."""

    wave: Tensor

    def __len__(self) -> int:
        return len(self.wave)

    def to(self, device: torch.device) -> WaveBatch:
        """The same batch on another device."""
        return WaveBatch(self.wave.to(device))


@dataclass(frozen=True)
class SpeechCrops:
    """A ``Source`` of crops of speech that are not silent: random ones within ``GAIN_DB`` of the suite's level."""

    audio: Audio
    rate: int

    @cached_property
    def key(self) -> str:
        """Hash of the speech."""
        digest = hashlib.sha256(str(self.rate).encode())
        for track, stretches in sorted(self.audio.items()):
            digest.update(track.encode())
            for stretch in stretches:
                digest.update(np.ascontiguousarray(stretch).tobytes())
        return digest.hexdigest()[:16]

    @property
    def audio_key(self) -> str:
        """The same: there is nothing but audio."""
        return self.key

    def random(self, seconds: float, count: int, seed: int, epoch: int) -> list[Crop]:
        """``count`` crops, drawn uniformly over all speech by seed and epoch alone.

        Raises:
            BadInput: no stretch is so long, or nearly all is silence.
        """
        size = round(seconds * self.rate)
        places = self._places(size)
        weights = np.array([len(self.audio[track][k]) - size + 1 for track, k in places], float)
        rng = np.random.default_rng([seed, epoch])
        crops: list[Crop] = []
        for _ in range(MOST_DRAWS * count + 1):
            if len(crops) == count:
                return crops
            track, k = places[int(rng.choice(len(places), p=weights / weights.sum()))]
            start = int(rng.integers(0, len(self.audio[track][k]) - size + 1))
            crop = Crop(track, k, start, size, float(10 ** (rng.uniform(-GAIN_DB, GAIN_DB) / 20)))
            if self._level(crop) > SILENCE:
                crops.append(crop)
        raise BadInput("speech", "level", f"{count} crops above {SILENCE}", f"{len(crops)} in {MOST_DRAWS * count}")

    def fixed(self, seconds: float, limit: int) -> list[Crop]:
        """Side-by-side crops at the suite's level, thinned evenly to at most ``limit``; refusals as of ``random``."""
        size = round(seconds * self.rate)
        tiles = [
            Crop(track, k, start, size, 1.0)
            for track, k in self._places(size)
            for start in range(0, len(self.audio[track][k]) - size + 1, size)
        ]
        heard = [crop for crop in tiles if self._level(crop) > SILENCE]
        if not heard:
            raise BadInput("speech", "level", f"crops above {SILENCE}", f"none among {len(tiles)}")
        return [heard[int(k)] for k in np.unique(np.linspace(0, len(heard) - 1, limit).round())]

    def loader(self, segments: Sequence[Crop], batch: int, workers: int = 0) -> DataLoader[Tensor]:
        """Batches in the crops' order."""
        context = "forkserver" if workers else None
        return DataLoader(
            _Crops(self, segments), batch, collate_fn=_stacked, num_workers=workers, multiprocessing_context=context
        )

    def wave(self, crop: Crop) -> NDArray[np.float32]:
        """[T] at its level."""
        return (self._cut(crop) * np.float32(crop.gain * LEVEL / self._level(crop))).astype(np.float32)

    def _cut(self, crop: Crop) -> NDArray[np.float32]:
        return self.audio[crop.track][crop.stretch][crop.start : crop.start + crop.size]

    def _level(self, crop: Crop) -> float:
        return float(np.sqrt(np.mean(np.square(self._cut(crop), dtype=np.float64))))

    def _places(self, size: int) -> list[tuple[str, int]]:
        places = [
            (track, k) for track, stretches in self.audio.items() for k, x in enumerate(stretches) if len(x) >= size
        ]
        if not places:
            raise BadInput("speech", "stretches", f"at least one of {size / self.rate} s", "none")
        return places


class _Crops(Dataset[Tensor]):
    def __init__(self, source: SpeechCrops, crops: Sequence[Crop]) -> None:
        self.source, self.crops = source, crops

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(self.source.wave(self.crops[index]))


def _stacked(waves: Sequence[Tensor]) -> WaveBatch:
    return WaveBatch(torch.stack(list(waves)))
