"""Which channels of a sequence go with a cue: a running correlation, and the modulation that follows from it."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor, nn

BLOCK = 128
PRIOR = 2.5
"""Sum of squares that cue and channels are taken to have had before, without relation: 25 frames of variance 0.1."""


def decaying_sum(x: Tensor, decay: float, before: Tensor | None = None) -> Tensor:
    """y[t] = decay * y[t - 1] + x[t] along axis 1: [B, L, D] -> [B, L, D]; ``before`` [B, D] is y[-1].

    In blocks, each one a product with a triangular matrix: exact, and without a loop over frames.
    """
    weights, fade = _decays(decay, min(BLOCK, x.shape[1]), x.device, x.dtype)
    done = []
    for part in torch.split(x, BLOCK, dim=1):
        size = part.shape[1]
        y = weights[:size, :size] @ part
        if before is not None:
            y = y + fade[:size] * before.unsqueeze(1)
        before = y[:, -1]
        done.append(y)
    return torch.cat(done, dim=1)


@lru_cache(maxsize=64)
def _decays(decay: float, size: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Powers of the decay: what each frame keeps of those before it [size, size], and of the block before [size, 1].

    Kept, as a stream asks for the same with every chunk.
    """
    with torch.inference_mode(False):
        exponent = torch.arange(size, device=device)
        weights = (decay ** (exponent[:, None] - exponent).clamp_min(0)).tril().to(dtype)
        return weights, (decay ** (exponent + 1)).to(dtype).unsqueeze(-1)


class RunningMatch(nn.Module):
    """Modulation by the running correlation of every channel with a cue: whose activity does the cue follow?

    Sums with an exponential memory give each channel's correlation with the cue so far; a small network turns these
    numbers into one gain and one offset a channel and frame. Frame t sees nothing after t; with ``memory`` None it
    sees the whole segment instead. The evidence could be gathered in a recurrent layer's state too, but that takes far
    longer to be learned. Starts as the identity.

    Args:
        width: channels D. hidden: units of the small network. rate: frames a second. memory: seconds, or None.
    """

    def __init__(self, width: int, hidden: int, rate: float, memory: float | None) -> None:
        super().__init__()
        self.decay = None if memory is None else math.exp(-1 / (memory * rate))
        last = nn.Linear(hidden, 2 * width)
        self.affine = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), last)
        for parameter in last.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, cue: Tensor, before: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x [B, L, D], cue [B, L] -> x modulated, and the sums [B, 3 D + 3] to go on from."""
        with torch.autocast(x.device.type, enabled=False):
            sums = self._sums(x.float(), cue.float().unsqueeze(-1), before)
            correlation = _correlation(sums, x.shape[-1])
        # A chance correlation is about one over the root of the independent samples; this brings it near one.
        change = self.affine(10 * correlation).to(x.dtype)
        gain, offset = change.chunk(2, dim=-1)
        return x * (1 + gain) + offset, sums[:, -1]

    def _sums(self, x: Tensor, cue: Tensor, before: Tensor | None) -> Tensor:
        """Sums so far [B, L, 3 D + 3], in float32: a correlation is a small difference of large sums."""
        moments = torch.cat([torch.ones_like(cue), cue, cue.square(), x, x.square(), x * cue], dim=-1)
        return moments.sum(1, keepdim=True) if self.decay is None else decaying_sum(moments, self.decay, before)


def _correlation(sums: Tensor, width: int) -> Tensor:
    """Sums [B, L, 3 + 3 D] -> correlations [B, L, D], shrunk where there were few frames or little movement."""
    parts = torch.split(sums, [1, 1, 1, width, width, width], dim=-1)
    count, cue, cue_power, x, x_power, product = parts
    covariance = product - cue * x / count
    moved = (cue_power - cue.square() / count).clamp_min(0), (x_power - x.square() / count).clamp_min(0)
    # Without a prior the first frames, which hardly move, would have gradients that drown all others.
    return covariance / ((moved[0] + PRIOR) * (moved[1] + PRIOR)).sqrt()
