"""The unit of work: one system x study x split x seed x control, and the path at which its record lies."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import NamedTuple


class Unit(NamedTuple):
    """What one record is about. Two runs with the same unit are the same piece of work.

    A tuple: thousands of records are sorted by it, and tuples are compared without a step of Python each.
    """

    protocol: str
    protocol_version: int
    study: str
    split: str
    split_seed: int
    system: str
    seed: int
    control: str

    @property
    def folder(self) -> PurePosixPath:
        """Folder of all controls of this system and seed, relative to the store's root."""
        return self.record_path.parent

    @property
    def place(self) -> str:
        """Path of the record, relative to the store's root, as text: a path object takes longer than to look there."""
        protocol, split = f"{self.protocol}-{self.protocol_version}", f"{self.split}-s{self.split_seed}"
        return f"{protocol}/{self.study}/{split}/{self.system}-s{self.seed}/{self.control}.json"

    @property
    def record_path(self) -> PurePosixPath:
        """The same as a path."""
        return PurePosixPath(self.place)

    @property
    def scores_path(self) -> PurePosixPath:
        """Path of the scores, beside the record."""
        return self.folder / f"{self.control}.parquet"
