"""The signals that one segment is scored on."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from eeg2speech.metrics.checks import Wave
from eeg2speech.metrics.sharing import Named

EXTRAS = ("mixture", "interferer")
ROLES = ("reference", "estimate", *EXTRAS)


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
        return ":".join(self.digests().values())

    def digests(self) -> dict[str, str]:
        """The name by content of each signal, by role: equal for equal arrays in whatever role; "none" for none."""
        return {role: "none" if wave is None else _digest(wave) for role, wave in self.by_role().items()}

    def by_role(self) -> dict[str, Wave | None]:
        """The four signals."""
        return {role: getattr(self, role) for role in ROLES}

    def named(self, names: Mapping[str, Hashable]) -> Iterator[Named]:
        """The signals for a ``Memory``, called ``names`` by role; all but the estimate may come again."""
        for role, wave in self.by_role().items():
            if wave is not None:
                yield Named(wave, names[role], role != "estimate")


def _digest(wave: Wave) -> str:
    content = hashlib.blake2b(f"{wave.shape}{wave.dtype.str}".encode(), digest_size=16)
    content.update(np.ascontiguousarray(wave).data)
    return content.hexdigest()
