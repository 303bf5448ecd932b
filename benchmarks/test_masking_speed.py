"""How long is a training step of the masking networks at their published sizes, and how much memory does it take?

    pytest benchmarks/test_masking_speed.py --benchmark-enable

A step is loss, backward and optimiser step on a batch of 8 scenes of 2 s at 16 kHz with 64 electrodes at 128 Hz. Each
network is trained as its size is by default. On a CPU in float32; where there is a GPU, there too, and in bfloat16.
``MASKING_BATCH``, ``MASKING_SECONDS`` and ``MASKING_SIZE`` make it smaller: on a CPU a step may take minutes.
Peak memory is what the device's tensors need at most (GPU), or by how much the process grew at most, from before the
network was built (CPU). Weights and sound may be random: they cost the same. Best on an idle machine.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from eeg2speech.data.types import Sensors
from eeg2speech.profiling.memory import Peak
from eeg2speech.systems.interface import Context
from eeg2speech.systems.network import NetworkSystem
from eeg2speech.systems.registry import build, declare
from eeg2speech.training.examples import Batch

BATCH, SECONDS = int(os.environ.get("MASKING_BATCH", "8")), float(os.environ.get("MASKING_SECONDS", "2"))
SIZE = os.environ.get("MASKING_SIZE", "paper")
RATE, EEG_RATE, SENSORS = 16_000, 128, 64
ROUNDS = {"cpu": 1, "cuda": 10}
SYSTEMS = ("dprnn", "basen", "ubesd", "m3anet", "tfgridnet")
ON_GPU = (("cuda", "float32"), ("cuda", "bfloat16"))
WHERE = (("cpu", "float32"), *(ON_GPU if torch.cuda.is_available() else ()))
"""What this machine can measure: what it cannot is not among the tests."""


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize(("device", "precision"), WHERE)
def test_a_training_step(benchmark: BenchmarkFixture, name: str, device: str, precision: str, threads: int) -> None:
    """Seconds a step, the best of some rounds, peak memory and number of parameters; a step has to move the weights."""
    with Peak(device) as peak:
        step = _step(name, device, precision)
        before = _weights(step.system)
        # Not timed: the first step chooses kernels and makes the optimiser's state.
        step()
        benchmark.group = f"Masking networks, training step, {SIZE}, {BATCH} x {SECONDS:g} s, {device} {precision}"
        benchmark.pedantic(_settled(step, device), rounds=ROUNDS[device])
    moved = (_weights(step.system) - before).abs().max().item()
    benchmark.extra_info.update(
        system=name,
        device=device if device == "cpu" else torch.cuda.get_device_name(),
        precision=precision,
        parameters=step.system.parameters,
        peak_megabytes=round(peak.megabytes or 0),
        threads=threads,
        load=round(os.getloadavg()[0], 1),
    )
    print(f"{name}, {device}, {precision}: {step.system.parameters} parameters, {peak.megabytes or 0:.0f} MB")
    assert 0 < moved < float("inf") and (peak.megabytes or 0) > 0


@dataclass
class Step:
    """One training step of a system, on a batch that stays."""

    system: NetworkSystem
    optimiser: torch.optim.Optimizer
    batch: Batch
    device: str
    precision: str

    def __call__(self) -> None:
        """Loss, backward, optimiser."""
        self.optimiser.zero_grad()
        with torch.autocast(self.device, torch.bfloat16, enabled=self.precision == "bfloat16"):
            loss = self.system.loss(self.batch)["loss"]
        loss.backward()
        self.optimiser.step()


def _step(name: str, device: str, precision: str) -> Step:
    torch.manual_seed(0)
    sensors = Sensors(tuple(f"E{n}" for n in range(SENSORS)), tuple((0.0, 0.001 * n, 0.1) for n in range(SENSORS)))
    context = Context(RATE, EEG_RATE, sensors, ("S1",), SECONDS)
    system = build(declare({"system": name, "settings": {"size": SIZE}}), context)
    assert isinstance(system, NetworkSystem)
    system.network.to(device).train()
    optimiser = torch.optim.AdamW(system.network.parameters(), lr=1e-4)
    return Step(system, optimiser, _batch().to(torch.device(device)), device, precision)


def _batch() -> Batch:
    target, interferer = 0.05 * torch.randn(2, BATCH, round(SECONDS * RATE))
    eeg = 10 * torch.randn(BATCH, SENSORS, round(SECONDS * EEG_RATE))
    return Batch(target + interferer, target, interferer, eeg, torch.zeros(BATCH, dtype=torch.long))


def _settled(step: Callable[[], None], device: str) -> Callable[[], None]:
    """The step, until the device has done it."""

    def settled() -> None:
        step()
        if device == "cuda":
            torch.cuda.synchronize()

    return settled


def _weights(system: NetworkSystem) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten().cpu() for parameter in system.network.parameters()])
