"""How long does each system take for its answer, beside a yardstick of known work on the same machine?

    pytest benchmarks/test_latency.py --benchmark-enable

One segment of 4 s on two threads, as the standard case of ``eeg2speech profile`` has it, which measures much more and
writes records. The yardstick is a convolution and a recurrent layer, timed in between: ``yardstick_cost``, the
time of an answer over the yardstick's, is much the same on other machines, and shows what an edit made slower.
"""

from __future__ import annotations

import os

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import nn

from eeg2speech.profiling.ready import ready, task_of
from eeg2speech.profiling.rounds import Effort, timed
from eeg2speech.profiling.workload import Way, question_of
from eeg2speech.systems.network import NetworkSystem
from eeg2speech.systems.registry import declare, system_class, system_names

CPU = torch.device("cpu")
NAMES = tuple(name for name in system_names() if issubclass(system_class(name), NetworkSystem))
SECONDS = float(os.environ.get("LATENCY_SECONDS", "1.5"))
"""Of rounds, each time."""


class Yardstick:
    """Work that no edit of ours changes: some 50 ms on one core of a few years ago."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.convolution, self.layer = nn.Conv1d(64, 128, 9, padding=4).eval(), nn.LSTM(128, 128, batch_first=True)

    @torch.inference_mode()
    def __call__(self) -> None:
        """A convolution over 4 s of frames, then the layer."""
        self.layer(self.convolution(torch.zeros(8, 64, 400)).transpose(1, 2))


@pytest.mark.parametrize("name", NAMES)
def test_an_answer(benchmark: BenchmarkFixture, name: str, threads: int) -> None:
    """Median seconds an answer, over the yardstick's of the same seconds."""
    made, yardstick = ready(declare(name)), Yardstick()
    task = task_of(type(made.system))
    question = question_of(made.system, task, Way(threads=threads), CPU)
    # In turns, so that what else the machine does is in both.
    turns = [
        (timed(question, CPU, Effort(SECONDS / 3)), timed(lambda _: yardstick, CPU, Effort(SECONDS / 6, most=1000)))
        for _ in range(3)
    ]
    ours, theirs = (min(rounds.median for rounds in found) for found in zip(*turns, strict=True))
    benchmark.group = "an answer to 4 s"
    benchmark.extra_info.update(
        system=name,
        task=task,
        real_time_factor=round(ours / 4, 4),
        yardstick_ms=round(1000 * theirs, 2),
        yardstick_cost=round(ours / theirs, 3),
        parameters=made.system.parameters,
        threads=threads,
        load=round(os.getloadavg()[0], 1),
    )
    print(f"{name}: {1000 * ours:.1f} ms, {ours / theirs:.2f} yardsticks")
    benchmark.pedantic(question(-1), rounds=1)
    assert 0 < ours < float("inf") and 0 < theirs < 1
