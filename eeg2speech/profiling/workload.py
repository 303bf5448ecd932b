"""What a system is asked when it is timed: sound and EEG of a given length and number, drawn at random, never twice.

Noise costs a network what speech costs it. Levels are those of the simulated studies.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from eeg2speech.data.mixing import LEVEL
from eeg2speech.systems.interface import Context, System, Task, answer, embedded, generated

Precision = Literal["float32", "bfloat16"]
EEG_LEVEL = 10.0
"""Microvolt."""
CANDIDATES = 2
"""In retrieval, a segment comes with so many candidates unless told: the attended and the competing talker."""
STIMULUS_SECONDS = 30.0
"""Length of the whole stimulus of systems that see what lies around a candidate."""


@dataclass(frozen=True)
class Way:
    """How a system is asked. ``seconds`` is the length of a segment, ``candidates`` are those of each in retrieval."""

    batch: int = 1
    seconds: float = 4.0
    precision: Precision = "float32"
    compiled: bool = False
    threads: int = 1
    candidates: int = CANDIDATES


@dataclass(frozen=True)
class Input:
    """What one question is about: mixture [B, T], EEG [B, C, N], subject numbers [B], talkers [B, 2, T]."""

    mixture: Tensor
    eeg: Tensor
    subject: Tensor
    sources: Tensor

    @classmethod
    def of(cls, context: Context, way: Way, device: torch.device, number: int) -> Input:
        """Input of a way to ask; another for every number."""
        generator = torch.Generator().manual_seed(number)
        samples, length = (round(way.seconds * rate) for rate in (context.audio_rate, context.eeg_rate))
        sources = LEVEL * torch.randn(way.batch, 2, samples, generator=generator)
        eeg = EEG_LEVEL * torch.randn(way.batch, len(context.sensors), max(1, length), generator=generator)
        subject = torch.arange(way.batch) % len(context.subjects)
        given = (sources.sum(1), eeg, subject, sources)
        return cls(*(tensor.to(device) for tensor in given))


def question_of(
    system: System, task: Task, way: Way, device: torch.device, seed: int = 0
) -> Callable[[int], Callable[[], object]]:
    """Questions by number, as ``rounds.timed`` asks them; each has input of its own, on the device."""
    asked = {"extraction": _extraction, "retrieval": _retrieval, "generation": _generation}[task]

    def question(number: int) -> Callable[[], object]:
        given = Input.of(system.context, way, device, seed * 1_000_003 + number)
        ask = asked(system, given, way)

        def answered() -> object:
            with _autocast(way, device):
                return ask()

        return answered

    return question


def _autocast(way: Way, device: torch.device) -> AbstractContextManager[object]:
    return torch.autocast(device.type, torch.bfloat16, enabled=way.precision == "bfloat16")


def _extraction(system: System, given: Input, way: Way) -> Callable[[], object]:
    return lambda: answer(system, given.mixture, given.eeg, given.subject, given.sources)


def _generation(system: System, given: Input, way: Way) -> Callable[[], object]:
    generators = [torch.Generator().manual_seed(k) for k in range(way.batch)]
    return lambda: generated(system, given.eeg, given.subject, generators, given.mixture)


def _retrieval(system: System, given: Input, way: Way) -> Callable[[], object]:
    """Embeddings of the EEG and of all candidates, and how well they fit."""
    samples = given.mixture.shape[-1]
    count = way.candidates * way.batch
    rounds = -(-count // (2 * way.batch))
    talkers = torch.cat([given.sources.flatten(0, 1) * (1 + 0.01 * k) for k in range(rounds)])[:count]
    stimulus = talkers.flatten()[: round(STIMULUS_SECONDS * system.context.audio_rate)]

    def ask() -> object:
        read = embedded(system, given.eeg, given.subject).flatten(1)
        with torch.inference_mode():
            if system.facts.sees == "stimuli":
                heard = torch.stack([system.embed_speech_in(stimulus, 0, samples) for _ in range(count)]).flatten(1)
            else:
                heard = system.embed_speech(talkers).flatten(1)
            norms = read.norm(dim=1, keepdim=True) * heard.norm(dim=1)
            return read @ heard.T / norms.clamp_min(1e-12)

    return ask
