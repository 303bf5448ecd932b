"""A study small enough for every test: 4 listeners, 6 pairs of 12-second stimuli, simulated once a session."""

import gc
from functools import cache
from pathlib import Path

import pytest
import torch

from eeg2speech.assets import corpus
from eeg2speech.data import Store
from eeg2speech.data.studies.simulated import SimulatedStudy

torch.set_num_threads(1)

# To decode a track takes seconds, and many tests want some of one: a process decodes each once. It is said here, before
# modules of tests take the function by its name.
corpus.load_track = cache(corpus.load_track)


def pytest_collection_finish() -> None:
    """What all modules have loaded stays to the end: to look through it for garbage takes a second each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def small_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("study") / "small"
    small_study().prepare(root)
    return root


@pytest.fixture(scope="session")
def store(small_root: Path) -> Store:
    return Store(small_root)


@pytest.fixture(scope="session")
def confounded(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The same, where who listens decides what is attended."""
    return small_study("confounded").prepare(tmp_path_factory.mktemp("confounded"))


def small_study(level: str = "clear") -> SimulatedStudy:
    return SimulatedStudy(level, n_subjects=4, n_pairs=6, listeners_per_pair=4, trial_seconds=12.0)
