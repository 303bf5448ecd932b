"""What the benchmarks of speed share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from eeg2speech.profiling.cases import threads as _threads


@pytest.fixture
def threads() -> Iterator[int]:
    """The number of torch's threads while a benchmark that asks for it runs: two."""
    with _threads(2):
        yield 2


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Threads that wait for each other would count as the processor's time."""
    with _threads(1):
        yield
