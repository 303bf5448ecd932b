"""Studies: one file each. A study declares its facts and knows how to prepare its store."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from eeg2speech.data.store import Store
from eeg2speech.data.types import StudyFacts


class Study(Protocol):
    """A data set that can be brought into a store."""

    facts: StudyFacts

    def prepare(self, root: Path) -> Store:
        """Write the store into ``root``, or open it if it is there and whole."""
        ...
