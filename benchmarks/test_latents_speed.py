"""What do cached latents save? A training step of NeuroCodec with them, against the same step with the codec inside it.

    pytest benchmarks/test_latents_speed.py --benchmark-enable

A step is loss, backward and optimiser step on a batch of 8 windows of 4 s. With the codec inside, it begins by encoding
the mixture, target and interferer of every window; else their latents are there, in half precision, as the cache keeps
them (reading them from disk is not in it). Both have the same losses: on latents, and on the envelope from the EEG. A
loss on sound would decode in either. Weights and sound may be random: they cost the same. Best on an idle machine.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from eeg2speech.data.types import Sensors
from eeg2speech.models.codec import Codec, DacCodec
from eeg2speech.systems import neurocodec
from eeg2speech.systems.codecs import load_codec
from eeg2speech.systems.interface import Context
from eeg2speech.training.codec import CodecSettings, build
from eeg2speech.training.latents import LatentBatch

BATCH, SECONDS, SENSORS, RATE, EEG_RATE, ROUNDS = 8, 4, 64, 16_000, 128, 3
AT_LEAST = 5.0
PUBLISHED = CodecSettings(64, (2, 4, 5, 8), 1536, 12)
"""Sizes of the published codec of 16 kHz."""


@pytest.mark.parametrize("name", ["demo", "published"])
def test_a_step_without_the_codec(
    benchmark: BenchmarkFixture, monkeypatch: pytest.MonkeyPatch, name: str, threads: int
) -> None:
    """Seconds a step, the best of some rounds in which the two take turns; the demo codec is only reported."""
    codec = load_codec("demo") if name == "demo" else DacCodec(build(PUBLISHED))
    monkeypatch.setattr(neurocodec, "load_codec", lambda _: codec)
    system = _system()
    optimiser = torch.optim.AdamW(system.network.parameters(), lr=1e-4)
    batch = _batch(codec)
    kept = batch.latents.half()

    def step(latents: Tensor) -> None:
        optimiser.zero_grad()
        system.loss(LatentBatch(**{**vars(batch), "latents": latents.float()}))["loss"].backward()
        optimiser.step()

    def cached() -> None:
        step(kept)

    def inside() -> None:
        step(_encoded(codec, batch))

    cached()
    seconds, seconds_inside = _best(cached, inside)
    ratio, load = seconds_inside / seconds, os.getloadavg()[0]
    benchmark.group = "NeuroCodec, training step with cached latents"
    benchmark.extra_info.update(
        codec=name,
        seconds=round(seconds, 4),
        seconds_with_codec=round(seconds_inside, 4),
        ratio=round(ratio, 2),
        threads=threads,
        load=round(load, 1),
    )
    found = f"{name}: {seconds:.3f} s, with codec {seconds_inside:.3f} s, ratio {ratio:.1f}, load {load:.1f}"
    print(found)
    benchmark.pedantic(cached, rounds=1)
    assert name == "demo" or ratio >= AT_LEAST, found


def _system() -> neurocodec.NeuroCodec:
    sensors = Sensors(tuple(f"E{n}" for n in range(SENSORS)), ((0.0, 0.0, 0.1),) * SENSORS)
    context = Context(RATE, EEG_RATE, sensors, ("S1",), float(SECONDS))
    silent = {"lambda_mel": 0.0, "lambda_si_sdr": 0.0, "lambda_adv": 0.0}
    torch.manual_seed(0)
    return neurocodec.NeuroCodec(context, neurocodec.NeuroCodecSettings(**silent))


def _batch(codec: Codec) -> LatentBatch:
    target, interferer = 0.05 * torch.randn(2, BATCH, SECONDS * RATE)
    eeg = 10 * torch.randn(BATCH, SENSORS, SECONDS * EEG_RATE)
    frames = SECONDS * RATE // codec.hop
    subject = torch.zeros(BATCH, dtype=torch.long)
    latents = torch.randn(BATCH, 3, codec.width, frames)
    return LatentBatch(target + interferer, target, interferer, eeg, subject, latents)


def _encoded(codec: Codec, batch: LatentBatch) -> Tensor:
    """Latents of mixture, target and interferer, [B, 3, D, L]; one after the other, which needs less memory."""
    return torch.stack([codec.encode(wave) for wave in (batch.mixture, batch.target, batch.interferer)], dim=1)


def _best(*steps: Callable[[], None]) -> list[float]:
    best = [float("inf")] * len(steps)
    for _ in range(ROUNDS):
        best = [min(seconds, _seconds(step)) for seconds, step in zip(best, steps, strict=True)]
    return best


def _seconds(step: Callable[[], None]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start
