"""What is heard of a test's segments, whatever the EEG: the same under every control, so made once and kept.

Kept are the scenes, and what the system made of their mixtures before any EEG came in (``System.hear``): latents of a
codec, talkers of a blind separator. All lies in main memory, an accelerator's is needed for other things.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from eeg2speech.data.mixing import Scene
from eeg2speech.data.store import Store
from eeg2speech.data.types import Segment, sides
from eeg2speech.systems.interface import System

LIMIT = 512 * 2**20
"""Bytes that are kept of a test at most: some 400 segments of 4 s at 16 kHz of a system that keeps two talkers."""


@dataclass(frozen=True)
class Heard:
    """Some segments of a test: their scenes, and, of each window that is asked about, what the system made of it."""

    scenes: tuple[Scene, ...]
    made: tuple[Tensor | None, ...] = ()

    def mixture(self, device: torch.device) -> Tensor:
        """What is heard, [B, T]."""
        return torch.from_numpy(np.stack([scene.mixture for scene in self.scenes])).to(device)

    def sources(self, system: System, store: Store, device: torch.device) -> Tensor:
        """The talkers [B, 2, T], in the order in which a system may know them."""
        return torch.from_numpy(np.stack([sources_of(system, store, scene) for scene in self.scenes])).to(device)

    def known(self, window: int, device: torch.device) -> Tensor | None:
        """What the system made of a window before any EEG."""
        made = self.made[window]
        return None if made is None else made.to(device)

    def with_known(self, made: Sequence[Tensor | None]) -> Heard:
        """The same, knowing what the system made of each window."""
        return replace(self, made=tuple(None if each is None else each.cpu() for each in made))

    @property
    def size(self) -> int:
        """Bytes."""
        arrays = (array for s in self.scenes for array in (s.mixture, s.target, s.interferer, s.eeg))
        known = (each.untyped_storage().nbytes() for each in self.made if each is not None)
        return sum(array.nbytes for array in arrays) + sum(known)


class Kept:
    """Keeps what ``listen`` gives for batches of segments, until ``limit`` bytes are kept.

    What comes then is made anew each time. Nothing is dropped for it: each control goes through all segments in the
    same order, so that to keep the latest would be to keep none that comes again.
    """

    def __init__(self, listen: Callable[[Sequence[Segment]], Heard], limit: int = LIMIT) -> None:
        self.listen, self.limit, self.size = listen, limit, 0
        self._kept: dict[tuple[Segment, ...], Heard] = {}

    def of(self, segments: Sequence[Segment]) -> Heard:
        """These segments as they are heard."""
        key = tuple(segments)
        if key in self._kept:
            return self._kept[key]
        heard = self.listen(segments)
        if self.size + heard.size <= self.limit:
            self._kept[key] = heard
            self.size += heard.size
        return heard


def sources_of(system: System, store: Store, scene: Scene) -> np.ndarray:
    """[2, T]: target first for those that may know it, else in canonical order."""
    first, trial = (scene.target, scene.interferer), store.trial(scene.segment.trial)
    if system.facts.sees == "target" or sides(trial, store.speakers)[0] == trial.attended:
        return np.stack(first)
    return np.stack(first[::-1])
