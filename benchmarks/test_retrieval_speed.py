"""How long does retrieval among ten thousand segments take, and how much memory, with the candidates on disk?

    pytest benchmarks/test_retrieval_speed.py --benchmark-enable

A thousand queries; embeddings as the brain encoder of the size ``demo`` gives them for 3 s, 64 x 182 numbers;
candidates in half precision in a memory map, 233 MB. Numbers may be random: they cost the same. The memory is what is
allocated at most beyond what there was; pages of the map are the system's to drop. Threads are those of the BLAS
library, as many as there are cores. Best on an idle machine.
"""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture

from eeg2speech.metrics.retrieval import Place, places
from eeg2speech.profiling.clock import host_clock

CANDIDATES, QUERIES, WIDTH, ROUNDS = 10_000, 1_000, 64 * 182, 3
AT_MOST_SECONDS, AT_MOST_MEGABYTES = 5.0, 300.0


@pytest.fixture(scope="module")
def candidates(tmp_path_factory: pytest.TempPathFactory) -> NDArray[np.float16]:
    """[N, K], on disk."""
    path = tmp_path_factory.mktemp("retrieval") / "candidates.npy"
    kept = np.lib.format.open_memmap(path, "w+", np.float16, (CANDIDATES, WIDTH))
    rng = np.random.default_rng(0)
    for begin in range(0, CANDIDATES, 500):
        kept[begin : begin + 500] = rng.standard_normal((500, WIDTH), dtype=np.float32)
    kept.flush()
    del kept
    found: NDArray[np.float16] = np.load(path, mmap_mode="r")
    return found


def test_a_thousand_queries_among_ten_thousand(benchmark: BenchmarkFixture, candidates: NDArray[np.float16]) -> None:
    """Seconds, the best of some rounds, and megabytes; every query is a candidate with noise, and found."""
    rows = np.random.default_rng(1).integers(0, CANDIDATES, QUERIES)
    noise = np.random.default_rng(2).standard_normal((QUERIES, WIDTH), dtype=np.float32)
    queries = candidates[rows].astype(np.float32) + 3 * noise
    del noise

    def search() -> list[Place | None]:
        return places(queries, candidates, rows)

    found, megabytes = peak_megabytes(search)
    assert all(place is not None and place.better == 0 for place in found)
    seconds, load = min(host_clock(search) for _ in range(ROUNDS)), os.getloadavg()[0]
    benchmark.group = "Retrieval"
    benchmark.extra_info.update(
        candidates=CANDIDATES,
        queries=QUERIES,
        numbers=WIDTH,
        seconds=round(seconds, 3),
        megabytes=round(megabytes, 1),
        load=round(load, 1),
    )
    result = f"{seconds:.2f} s, {megabytes:.0f} MB beyond what there was, load {load:.1f}"
    print(result)
    benchmark.pedantic(search, rounds=1)
    assert seconds <= AT_MOST_SECONDS and megabytes <= AT_MOST_MEGABYTES, result


def peak_megabytes(ask: Callable[[], list[Place | None]]) -> tuple[list[Place | None], float]:
    """What a call gives, and the most that it allocates at a time beyond what there was."""
    tracemalloc.start()
    try:
        found = ask()
        return found, tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()
