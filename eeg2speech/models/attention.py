"""Attention of audio frames to EEG samples, by time in seconds."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LONGEST = 10.0
"""Seconds of the slowest rotation; the fastest is 50 ms, so that single EEG samples differ."""
SHORTEST = 0.05


class Turns(NamedTuple):
    """Cosine and sine of the angles at some times, each [L, E / 2] float64."""

    cosine: Tensor
    sine: Tensor

    @classmethod
    def at(cls, seconds: Tensor, size: int) -> Turns:
        """For times [L] and vectors of an even ``size`` E."""
        steps = torch.linspace(0, 1, size // 2, device=seconds.device, dtype=torch.float64)
        turns = 1 / (SHORTEST * (LONGEST / SHORTEST) ** steps)
        # After minutes the angle is thousands of turns: fewer digits would lose the part of a turn.
        angle = 2 * math.pi * seconds.to(torch.float64).unsqueeze(-1) * turns
        return cls(angle.cos(), angle.sin())


def rotate(x: Tensor, turns: Turns) -> Tensor:
    """Rotary positions (Su et al. 2021) in seconds: x [B, H, L, E], E even, turns of its L times -> same shape.

    What two rotated vectors say to each other depends on their distance in time alone, whatever the rates they come at.
    """
    cosine, sine = turns.cosine.to(x.dtype), turns.sine.to(x.dtype)
    one, other = x.chunk(2, dim=-1)
    return torch.cat([one * cosine - other * sine, one * sine + other * cosine], dim=-1)


class Memory(NamedTuple):
    """Keys, turned, and values of EEG samples, each [B, H, N, E], from number ``first`` on: what attention looks at."""

    key: Tensor
    value: Tensor
    first: int

    @property
    def end(self) -> int:
        """Number of the first sample that is not remembered yet."""
        return self.first + self.key.shape[2]

    def after(self, before: Memory | None, first: int) -> Memory:
        """These samples after those ``before``, without any that come before number ``first``."""
        if before is None:
            return self
        gone = first - before.first
        key = torch.cat([before.key[:, :, gone:], self.key], 2)
        return Memory(key, torch.cat([before.value[:, :, gone:], self.value], 2), first)


class CrossAttention(nn.Module):
    """Multi-head attention with queries from audio frames, keys and values from EEG samples.

    Args:
        width: audio channels. source: EEG channels. heads: divide ``width`` into even parts.
    """

    def __init__(self, width: int, source: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(source, 2 * width, bias=False)
        self.out = nn.Linear(width, width)
        # Starts by adding nothing: what attends at random would only disturb both sides while they learn to hear.
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def turns(self, times: Tensor) -> Turns:
        """Turns of times [L] in seconds: the same for all attentions of as many channels and heads."""
        return Turns.at(times, self.query.out_features // self.heads)

    def remember(self, source: Tensor, turns: Turns, first: int = 0) -> Memory:
        """Source [B, N, E] from sample number ``first`` on, and the turns of its times.

        Each sample is remembered by itself, so that it need be done once.
        """
        key, value = self.key_value(source).chunk(2, dim=-1)
        return Memory(rotate(self._split(key), turns), self._split(value), first)

    def forward(self, x: Tensor, memory: Memory, turns: Turns, seen: Tensor | None) -> Tensor:
        """x [B, L, W] and the turns of its times, N remembered samples -> [B, L, W].

        ``seen`` [L, N] is True where a frame may look at a sample; None lets it look at all. A frame that may look at
        nothing finds zeros, so that only the bias of ``out`` is left: the same for any EEG.
        """
        query = rotate(self._split(self.query(x)), turns)
        found = F.scaled_dot_product_attention(query, memory.key, memory.value, attn_mask=seen)
        if seen is not None:
            found = torch.where(seen.any(-1)[:, None], found, 0.0)
        joined: Tensor = self.out(found.transpose(1, 2).flatten(2))
        return joined

    def _split(self, x: Tensor) -> Tensor:
        """[B, L, W] -> [B, heads, L, W / heads]."""
        return torch.unflatten(x, -1, (self.heads, -1)).transpose(1, 2)
