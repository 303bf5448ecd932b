"""A study small enough for every test: 4 listeners, 6 pairs of 12-second stimuli, simulated once a session."""

from pathlib import Path

import pytest
import torch

from eeg2speech.data import Store
from eeg2speech.data.studies.simulated import SimulatedStudy

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def small_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("study") / "small"
    small_study().prepare(root)
    return root


@pytest.fixture(scope="session")
def store(small_root: Path) -> Store:
    return Store(small_root)


def small_study(level: str = "clear") -> SimulatedStudy:
    return SimulatedStudy(level, n_subjects=4, n_pairs=6, listeners_per_pair=4, trial_seconds=12.0)
