"""Signals that are read a block at a time, so that a long one never lies in memory whole."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from eeg2speech.errors import BadInput

Array = NDArray[np.floating]


class Blocks(Protocol):
    """A signal [C, N] at ``rate`` Hz: EEG in microvolt, sound in [-1, 1], or features."""

    @property
    def rate(self) -> float:
        """Samples a second."""

    @property
    def channels(self) -> int:
        """C."""

    @property
    def samples(self) -> int:
        """N."""

    def read(self, begin: int, end: int) -> Array:
        """[C, end - begin], of samples that are there."""


@dataclass(frozen=True)
class ArrayBlocks:
    """A signal [C, N] that is in memory, or mapped into it. ``scale`` is applied as blocks are read.

    Raises BadInput for another number of axes, an empty signal, or a rate that is none.
    """

    array: NDArray[np.generic]
    rate: float
    where: object = "signal"
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.array.ndim != 2 or 0 in self.array.shape or self.array.dtype.kind not in "iuf":
            found = f"{self.array.dtype} {list(self.array.shape)}"
            raise BadInput(self.where, "shape", "numbers [channels, samples]", found)
        require_rate(self.rate, self.where)

    @property
    def channels(self) -> int:
        """C."""
        return int(self.array.shape[0])

    @property
    def samples(self) -> int:
        """N."""
        return int(self.array.shape[1])

    def read(self, begin: int, end: int) -> Array:
        """[C, end - begin], scaled; integers become float64."""
        block = self.array[:, begin:end]
        wide = np.asarray(block, block.dtype if block.dtype.kind == "f" and block.dtype.itemsize >= 4 else np.float64)
        scaled: Array = wide if self.scale == 1.0 else wide * self.scale
        return scaled


class SoundBlocks:
    """A sound file that soundfile reads (WAV, FLAC, OGG); of several channels their mean, or ``channel`` (0 left).

    Raises BadInput: no such file, one that is no sound, an empty one, a channel that it does not have.
    """

    channels = 1

    def __init__(self, path: Path, channel: int | None = None) -> None:
        import soundfile

        if not path.is_file():
            raise BadInput(path, "file", "a sound file", "no such file")
        try:
            about = soundfile.info(path)
        except (soundfile.SoundFileError, ValueError) as error:
            raise BadInput(path, "content", "a sound file", str(error).strip()) from error
        if about.frames < 1:
            raise BadInput(path, "length", "at least one sample", about.frames)
        if channel is not None and not 0 <= channel < about.channels:
            raise BadInput(path, "channels", f"at least {channel + 1}", about.channels)
        self.path, self.channel = path, channel
        self.rate, self.samples = float(about.samplerate), int(about.frames)
        require_rate(self.rate, path)

    def read(self, begin: int, end: int) -> Array:
        """[1, end - begin]."""
        import soundfile

        try:
            block, _ = soundfile.read(self.path, start=begin, stop=end, dtype="float32", always_2d=True)
        except (soundfile.SoundFileError, ValueError, RuntimeError) as error:
            raise BadInput(self.path, "content", "a sound file", str(error).strip()) from error
        if len(block) != end - begin:
            raise BadInput(self.path, "length", f"{self.samples} samples, as its header says", begin + len(block))
        heard: Array = block.mean(axis=1) if self.channel is None else block[:, self.channel]
        return heard[None]


def require_rate(rate: float, where: object) -> None:
    """Refuse a rate that is none: 1 to 1,000,000 Hz."""
    if not 1 <= rate <= 1e6:
        raise BadInput(where, "rate", "1 to 1,000,000 Hz", rate)
