"""What the benchmarks of speed share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from eeg2speech.training.allocator import keep_freed_memory


@pytest.fixture
def threads() -> Iterator[int]:
    """The number of torch's threads while a benchmark that asks for it runs: two."""
    from eeg2speech.profiling.cases import threads as torch_threads

    with torch_threads(2):
        yield 2


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Threads that wait for each other would count as the processor's time."""
    from eeg2speech.profiling.cases import threads as torch_threads

    with torch_threads(1):
        yield


# How much of a time goes to memory that malloc gives back and takes again differs from process to process.
keep_freed_memory()

FAILED: list[str] = []
"""Benchmarks of this run that missed a bound of their own, or broke down."""


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep what failed."""
    if report.failed and report.nodeid not in FAILED:
        FAILED.append(report.nodeid)


def pytest_benchmark_update_json(output_json: dict[str, Any]) -> None:
    """The file of the benchmarks says which failed, for ``compare.py``: it has numbers of those as well."""
    output_json["failed"] = FAILED
