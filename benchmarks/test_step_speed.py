"""What do a training's allocator and its fused optimiser save, for every system that learns, and the codec's layers?

    pytest benchmarks/test_step_speed.py --benchmark-enable

A step is as ``workloads`` has it: forward, loss, backward, clipping and optimiser, on one thread. Memory that is freed
stays with a process, or does not, from its first call on, so that each way has a process of its own; they take turns,
one step each, so that what else the machine does is in both. ``STEP_SYSTEMS`` names fewer systems. Ratios above 1 are
gains; no system may lose more than a tenth, and TF-GridNet, with many tensors freed and taken again, has to gain.
DPRNN's gain was 1.07 to 1.46, by what else the machine did: nothing to set a bound by. The codec is asked with Snake
and dilated convolutions of this package and with those of tensors.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from statistics import median

import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from workloads import workload

from eeg2speech.models import quick
from eeg2speech.models.activations import Snake, snake
from eeg2speech.profiling.clock import host_clock

HERE = Path(__file__).parent
SYSTEMS = tuple(
    os.environ.get("STEP_SYSTEMS", "dprnn,basen,ubesd,m3anet,tfgridnet,neurocodec,brain_encoder,eeg2speech").split(",")
)
ROUNDS, LEAST = 7, 0.9
GAINS = {"tfgridnet": 1.05}
"""Least gains of both together, where they are sure: half of what was measured."""
CODEC_GAIN = 1.05
WORKER = """
import sys, time
import torch
from workloads import workload
from eeg2speech.training.allocator import keep_freed_memory
from eeg2speech.training.optimiser import adamw
torch.set_num_threads(1)
name, kept, fused = sys.argv[1], sys.argv[2] == "kept", sys.argv[3] == "fused"
if kept:
    keep_freed_memory()
work = workload(name, (lambda learned, lr: adamw(learned, lr)) if fused else torch.optim.AdamW)
work.step()
work.step()
print("ready", flush=True)
for _ in sys.stdin:
    start = time.process_time()
    work.step()
    print(time.process_time() - start, flush=True)
"""
WAYS = {"plain": ("plain", "loop"), "kept": ("kept", "loop"), "fused": ("plain", "fused"), "both": ("kept", "fused")}


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_step(benchmark: BenchmarkFixture, name: str) -> None:
    """Processor seconds a step in four ways, and how many times as fast each is as the plain one."""
    workers = {way: _worker(name, *switches) for way, switches in WAYS.items()}
    try:
        seconds = {way: [] for way in WAYS}  # type: dict[str, list[float]]
        for _ in range(ROUNDS):
            for way, worker in workers.items():
                seconds[way].append(_asked(worker))
    finally:
        for worker in workers.values():
            worker.kill()
            worker.wait()
    found = {way: median(each) for way, each in seconds.items()}
    # What is judged is both together: of the two apart, each depends on what the plain process happened to do.
    names = {"kept": "kept_gain", "fused": "fused_gain", "both": "both_ratio"}
    ratios = {name: round(found["plain"] / found[way], 3) for way, name in names.items()}
    benchmark.group = "A training step, one thread"
    benchmark.extra_info.update(system=name, step_ms=round(1e3 * found["both"], 1), load=os.getloadavg()[0], **ratios)
    print(f"{name}: {1e3 * found['plain']:.0f} ms of the processor; {ratios}")
    benchmark.pedantic(lambda: None, rounds=1)
    assert found["plain"] / found["both"] >= GAINS.get(name, LEAST), ratios


@pytest.mark.parametrize("kind", ["answer", "step"])
def test_the_codec(benchmark: BenchmarkFixture, monkeypatch: pytest.MonkeyPatch, kind: str, one_thread: None) -> None:
    """Seconds with the layers as they are and with plain ones, of the same weights, in turns."""
    call = getattr(workload("codec"), kind)
    ours, plain = [], []
    for _ in range(ROUNDS + 1):
        ours.append(host_clock(call))
        with monkeypatch.context() as patched:
            patched.setattr(quick, "WIDE", sys.maxsize)
            patched.setattr(Snake, "forward", lambda layer, x: snake(x, layer.alpha))
            plain.append(host_clock(call))
    ratio, load = median(plain[1:]) / median(ours[1:]), os.getloadavg()[0]
    benchmark.group = "The codec's layers, one thread"
    benchmark.extra_info.update(kind=kind, ms=round(1e3 * median(ours[1:])), layers_ratio=round(ratio, 3), load=load)
    print(f"codec, {kind}: {1e3 * median(plain[1:]):.0f} ms with plain layers, {ratio:.2f} times as fast")
    benchmark.pedantic(call, rounds=1)
    assert ratio >= CODEC_GAIN, ratio


def _worker(name: str, *switches: str) -> subprocess.Popen[str]:
    """A process that makes a step whenever a line comes, and says how long it took."""
    command = [sys.executable, "-W", "ignore", "-c", WORKER, name, *switches]
    environment = os.environ | {"PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"}
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    assert worker.stdout is not None
    while (line := worker.stdout.readline()) != "ready\n":
        if not line:
            raise RuntimeError(f"{name}: the process ended with {worker.wait()}")
    return worker


def _asked(worker: subprocess.Popen[str]) -> float:
    assert worker.stdin is not None and worker.stdout is not None
    worker.stdin.write("\n")
    worker.stdin.flush()
    return float(worker.stdout.readline())
