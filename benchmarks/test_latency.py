"""How long does each system take for its answer, beside a yardstick of known work on the same machine?

    pytest benchmarks/test_latency.py --benchmark-enable

One segment of 4 s on one thread. ``eeg2speech profile`` measures much more, and writes records. The yardstick is made
of what the systems are made of: a convolution, a recurrent layer, and a function of many numbers. It and the answer
take turns, and ``yardstick_cost`` is the median of what an answer took over what the yardsticks beside it did: much the
same on other machines, and whatever else this one does meanwhile, it shows what an edit made slower.
"""

from __future__ import annotations

import os
import time
from statistics import median

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import nn

from eeg2speech.profiling.clock import host_clock
from eeg2speech.profiling.ready import ready, task_of
from eeg2speech.profiling.workload import Way, question_of
from eeg2speech.systems.network import NetworkSystem
from eeg2speech.systems.registry import declare, system_class, system_names

CPU = torch.device("cpu")
NAMES = tuple(name for name in system_names() if issubclass(system_class(name), NetworkSystem))
SECONDS, LEAST, WARM = float(os.environ.get("LATENCY_SECONDS", "4")), 5, 2
"""For how long they take turns, how many there are at least, and turns that do not count."""


class Yardstick:
    """Work that no edit of ours changes: some 50 ms on one core of a few years ago."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.convolution, self.layer = nn.Conv1d(64, 128, 9, padding=4).eval(), nn.LSTM(128, 128, batch_first=True)
        self.frames, self.samples = torch.randn(4, 64, 400), torch.randn(16, 64000)

    @torch.inference_mode()
    def __call__(self) -> None:
        """A convolution over 4 s of frames, then the layer; and 4 s of 16 channels, which no cache holds."""
        self.layer(self.convolution(self.frames).transpose(1, 2))
        (self.samples + self.samples.sin().square()).sum()


@pytest.mark.parametrize("name", NAMES)
def test_an_answer(benchmark: BenchmarkFixture, name: str, one_thread: None) -> None:
    """Seconds an answer, over the yardstick's of the same moment."""
    made, yardstick = ready(declare(name)), Yardstick()
    task = task_of(type(made.system))
    question = question_of(made.system, task, Way(threads=1), CPU)
    answers, beside = [], [host_clock(yardstick)]
    end = time.perf_counter() + SECONDS
    while len(answers) < LEAST + WARM or time.perf_counter() < end:
        answers.append(host_clock(question(len(answers))))
        beside.append(host_clock(yardstick))
    around = [(before + after) / 2 for before, after in zip(beside, beside[1:], strict=False)]
    cost = median(answer / length for answer, length in zip(answers[WARM:], around[WARM:], strict=True))
    benchmark.group = "an answer to 4 s, one thread"
    benchmark.extra_info.update(
        system=name,
        task=task,
        real_time_factor=round(median(answers[WARM:]) / 4, 4),
        yardstick_ms=round(1000 * median(beside[WARM:]), 2),
        yardstick_cost=round(cost, 3),
        turns=len(answers) - WARM,
        parameters=made.system.parameters,
        load=round(os.getloadavg()[0], 1),
    )
    print(f"{name}: {1000 * median(answers[WARM:]):.1f} ms, {cost:.2f} yardsticks")
    benchmark.pedantic(question(len(answers)), rounds=1)
    assert 0 < cost < float("inf") and 0 < median(beside) < 1
