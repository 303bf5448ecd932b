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
        protocol, split = f"{self.protocol}-{self.protocol_version}", f"{self.split}-s{self.split_seed}"
        return PurePosixPath(protocol, self.study, split, f"{self.system}-s{self.seed}")

    @property
    def record_path(self) -> PurePosixPath:
        """Path of the record, relative to the store's root."""
        return self.folder / f"{self.control}.json"

    @property
    def scores_path(self) -> PurePosixPath:
        """Path of the scores, beside the record."""
        return self.folder / f"{self.control}.parquet"
