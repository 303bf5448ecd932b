"""A training step and an answer of every system that learns, with random weights and random sound: they cost the same.

    python benchmarks/workloads.py [NAME ...]          # where the time of each goes

A step is loss, backward, clipping and optimiser on 8 windows of 2 s (codec and vocoder: 0.64 s, as they are trained).
An answer is one window of 4 s: from mixture and EEG to sound, from EEG to an embedding (``brain_encoder``) or to sound
(``eeg2speech``, ten steps), through the codec and back, or from mel spectrogram to sound (``vocoder``). 64 electrodes
at 128 Hz, sound at 16 kHz; a name that ends in ``-paper`` is of that size, all others are of size ``demo``.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from eeg2speech.data.types import Sensors
from eeg2speech.models.mel import LogMel
from eeg2speech.systems.brain_encoder import BrainEncoderSystem
from eeg2speech.systems.eeg2speech import EEG2Speech
from eeg2speech.systems.interface import Context, generated
from eeg2speech.systems.network import NetworkSystem
from eeg2speech.systems.neurocodec import NeuroCodec
from eeg2speech.systems.registry import build, declare
from eeg2speech.training import parts
from eeg2speech.training.codec import CodecTrainer
from eeg2speech.training.examples import Batch
from eeg2speech.training.feature_examples import FeatureBatch
from eeg2speech.training.latents import LatentBatch
from eeg2speech.training.speech import WaveBatch

BATCH, STEP_SECONDS, CROP_SECONDS, ANSWER_SECONDS = 8, 2.0, 0.64, 4.0
RATE, EEG_RATE, SENSORS = 16_000, 128, 64
MASKING = ("dprnn", "basen", "ubesd", "m3anet", "tfgridnet")
SYSTEMS = (*MASKING, "neurocodec", "neurocodec-paper", "brain_encoder", "eeg2speech")
NAMES = (*SYSTEMS, "codec", "vocoder")


@dataclass
class Workload:
    """What is measured of one system. ``network`` is what its ``step`` trains."""

    name: str
    network: nn.Module
    step: Callable[[], Any]
    answer: Callable[[], Any]


def workload(name: str, optimiser: Callable[..., torch.optim.Optimizer] = torch.optim.AdamW) -> Workload:
    """By name, with an optimiser of that kind (``codec``: its own)."""
    torch.manual_seed(0)
    if name == "codec":
        return _codec()
    if name == "vocoder":
        return _vocoder(optimiser)
    system = _system(name)
    network = system.network
    batch = _batch(system)
    return Workload(name, network, _Step(network, lambda: system.loss(batch), optimiser), lambda: _answer(system))


class _Step:
    """Loss, backward, clipping, optimiser."""

    def __init__(
        self, network: nn.Module, loss: Callable[[], dict[str, Tensor]], optimiser: Callable[..., torch.optim.Optimizer]
    ) -> None:
        self.network, self.loss = network, loss
        self.learned = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.optimiser = optimiser(self.learned, lr=1e-5)

    def __call__(self) -> Tensor:
        self.network.train()
        self.optimiser.zero_grad()
        loss = self.loss()["loss"]
        loss.backward()
        nn.utils.clip_grad_norm_(self.learned, 5.0)
        self.optimiser.step()
        return loss.detach()


def _system(name: str) -> NetworkSystem:
    system, _, size = name.partition("-")
    sensors = Sensors(tuple(f"E{n}" for n in range(SENSORS)), tuple((0.01 * n, 0.0, 0.1) for n in range(SENSORS)))
    context = Context(RATE, EEG_RATE, sensors, ("S1",), ANSWER_SECONDS)
    built = build(declare({"system": system, "settings": {"size": size or "demo"}}), context)
    assert isinstance(built, NetworkSystem)
    if isinstance(built, BrainEncoderSystem):
        built.network.brain.mark_known([0])
    if isinstance(built, EEG2Speech):
        built.encoder.network.brain.mark_known([0])
    return built


def _batch(system: NetworkSystem) -> Any:
    target, interferer = 0.05 * torch.randn(2, BATCH, round(STEP_SECONDS * RATE))
    eeg, subject = _eeg(BATCH, STEP_SECONDS), torch.zeros(BATCH, dtype=torch.long)
    if isinstance(system, NeuroCodec):
        waves = target + interferer, target, interferer
        return LatentBatch(*waves, eeg, subject, torch.stack([system.codec.encode(wave) for wave in waves], 1))
    if isinstance(system, EEG2Speech):
        return FeatureBatch(eeg, subject, system.latents(target))
    if isinstance(system, BrainEncoderSystem):
        return FeatureBatch(eeg, subject, system.features(target))
    return Batch(target + interferer, target, interferer, eeg, subject)


def _answer(system: NetworkSystem) -> Tensor:
    wave, eeg = 0.05 * torch.randn(1, round(ANSWER_SECONDS * RATE)), _eeg(1, ANSWER_SECONDS)
    subject = torch.zeros(1, dtype=torch.long)
    with torch.inference_mode():
        if isinstance(system, EEG2Speech):
            return generated(system, eeg, subject, [torch.Generator().manual_seed(0)], wave)
        if isinstance(system, BrainEncoderSystem):
            return system.embed_eeg(eeg, subject)
        return system.extract(wave, eeg, subject)


def _eeg(count: int, seconds: float) -> Tensor:
    return 10 * torch.randn(count, SENSORS, round(seconds * EEG_RATE))


def _codec(compiled: bool = False) -> Workload:
    """A step of the first phase, which is four fifths of the training."""
    sound = {"noise": [0.05 * torch.randn(RATE * 4).numpy()]}
    trainer = CodecTrainer(Path(tempfile.mkdtemp()), audio=(sound, sound), compiled=compiled)
    wave = 0.05 * torch.randn(1, 1, round(ANSWER_SECONDS * RATE))

    def answer() -> Tensor:
        trainer.model.eval()
        with torch.inference_mode():
            found: Tensor = trainer.model.decoder(trainer.model.quantizer(trainer.model.encoder(wave))[0])
        return found

    return Workload("codec", trainer.model, lambda: trainer._step(0), answer)


def _vocoder(optimiser: Callable[..., torch.optim.Optimizer]) -> Workload:
    network, batch = parts.new_vocoder(), WaveBatch(0.05 * torch.randn(BATCH, round(CROP_SECONDS * RATE)))
    task = parts._VocoderTask(network)
    mel = LogMel()(0.05 * torch.randn(1, round(ANSWER_SECONDS * RATE)))

    def answer() -> Tensor:
        network.eval()
        with torch.inference_mode():
            found: Tensor = network(mel)
        return found

    return Workload("vocoder", network, _Step(network, lambda: task.loss(batch), optimiser), answer)


@dataclass(frozen=True)
class Cost:
    """Of one call: milliseconds on the clock and on the processor, those of the latter that the kernel took, and pages
    of memory that it had to bring."""

    clock: float
    processor: float
    kernel: float
    faults: int


def cost(call: Callable[[], Any], rounds: int = 5) -> Cost:
    """The median, by processor time, of some rounds; one before them is not counted.

    Other processes on the same cores lengthen the clock's time many times, the processor's by some tenths.
    """
    call()
    return sorted((_cost(call) for _ in range(rounds)), key=lambda one: one.processor)[rounds // 2]


def _cost(call: Callable[[], Any]) -> Cost:
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    call()
    took, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
    kernel = after.ru_stime - before.ru_stime
    processor = kernel + after.ru_utime - before.ru_utime
    return Cost(1e3 * took, 1e3 * processor, 1e3 * kernel, after.ru_minflt - before.ru_minflt)


def shares(call: Callable[[], Any], most: int = 8) -> list[tuple[str, float, int]]:
    """The operations that take most of the time: name, share of the whole, calls."""
    call()
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        call()
    rows = sorted(seen.key_averages(), key=lambda row: -row.self_cpu_time_total)
    whole = sum(row.self_cpu_time_total for row in rows)
    return [(row.key, row.self_cpu_time_total / whole, row.count) for row in rows[:most]]


def main(names: list[str]) -> None:
    """Print the cost of each system's step and answer, and where it comes from."""
    for name in names or NAMES:
        work = workload(name)
        for kind, call in (("step", work.step), ("answer", work.answer)):
            found = cost(call)
            print(f"{name} {kind}: {found.clock:.0f} ms, {found.processor:.0f} on the processor, of these "
                  f"{found.kernel:.0f} in the kernel, {found.faults} page faults")  # fmt: skip
            print("   " + ", ".join(f"{op.removeprefix('aten::')} {share:.0%} ({n})" for op, share, n in shares(call)))


if __name__ == "__main__":
    main(sys.argv[1:])
