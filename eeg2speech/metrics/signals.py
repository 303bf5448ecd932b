"""The signals that one segment is scored on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from eeg2speech.metrics.checks import Wave

EXTRAS = ("mixture", "interferer")


@dataclass(frozen=True, eq=False)
class Signals:
    """Four signals of one segment, each [T], float32, full scale 1.0.

    ``reference`` is the attended speech and ``estimate`` what a system made of it; ``mixture`` is what the system was
    given and ``interferer`` the unattended speech: None where the task has none and no metric asks for it.
    """

    reference: Wave
    estimate: Wave
    mixture: Wave | None = None
    interferer: Wave | None = None

    def digest(self) -> str:
        """Name by content: equal for equal arrays in equal roles, whatever object holds them."""
        content = hashlib.blake2b(digest_size=16)
        for array in (self.reference, self.estimate, self.mixture, self.interferer):
            if array is None:
                content.update(b"none")
            else:
                content.update(f"{array.shape}{array.dtype.str}".encode())
                content.update(np.ascontiguousarray(array).data)
        return content.hexdigest()
