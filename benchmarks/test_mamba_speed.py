"""How fast is the Mamba block without a GPU? Against mambapy, in one run, so that both meet the same machine.

    pytest benchmarks/test_mamba_speed.py --benchmark-enable

A pass is forward and backward of the whole mixer, with gradients to its input and weights. Both hold the same weights.
Best on an idle machine: two threads beside another process on the same cores wait for each other.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest
import torch
from mambapy.mamba import MambaBlock, MambaConfig  # type: ignore[import-untyped]
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from eeg2speech.models.mamba import Mamba

BATCH, WIDTH, STATE, EXPAND, ROUNDS = 4, 256, 16, 2, 3
AT_LEAST = 3.0


@pytest.mark.parametrize("length", [400, 1000])
def test_mixer_is_three_times_as_fast_as_mambapy(benchmark: BenchmarkFixture, length: int, threads: int) -> None:
    """Tokens a second, forward and backward: the best of some rounds, in which the two take turns."""
    torch.manual_seed(0)
    ours = Mamba(WIDTH, state=STATE, expand=EXPAND)
    theirs = MambaBlock(MambaConfig(d_model=WIDTH, n_layers=1, d_state=STATE, expand_factor=EXPAND))
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(BATCH, length, WIDTH, requires_grad=True)
    assert torch.allclose(ours(x)[0], theirs(x), atol=1e-5)

    tokens, tokens_mambapy = _tokens_per_second(x, lambda: ours(x)[0], lambda: theirs(x))
    benchmark.group = f"Mamba, length {length}"
    benchmark.extra_info.update(
        tokens_per_second=round(tokens), mambapy_tokens_per_second=round(tokens_mambapy), threads=threads
    )
    benchmark.pedantic(lambda: ours(x)[0].sum().backward(), rounds=ROUNDS)
    found = f"{tokens:.0f} tokens/s, mambapy {tokens_mambapy:.0f}, load of the machine {os.getloadavg()[0]:.1f}"
    assert tokens >= AT_LEAST * tokens_mambapy, found


def _tokens_per_second(x: Tensor, *mixers: Callable[[], Tensor]) -> list[float]:
    best = [float("inf")] * len(mixers)
    for _ in range(ROUNDS):
        best = [min(seconds, _seconds(mixer)) for seconds, mixer in zip(best, mixers, strict=True)]
    return [x.shape[0] * x.shape[1] / seconds for seconds in best]


def _seconds(mixer: Callable[[], Tensor]) -> float:
    start = time.perf_counter()
    mixer().sum().backward()
    return time.perf_counter() - start
