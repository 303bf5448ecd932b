"""The Mamba block (Gu and Dao 2023, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", figure 3).

Weights are interchangeable with ``mamba_ssm.Mamba`` and with ``MambaMixer`` of transformers: same names, same shapes.
Unlike those, this one takes a sequence in chunks of any sizes and gives what the whole sequence would have given.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eeg2speech.errors import BadInput
from eeg2speech.models.selective_scan import require_shape, selective_scan

SHORTEST_STEP = 1e-3
LONGEST_STEP = 0.1


class MambaState(NamedTuple):
    """What one chunk leaves to the next: the last inputs of the convolution and the state of the scan."""

    conv: Tensor
    """[B, inner, conv - 1]."""
    ssm: Tensor
    """[B, inner, N]."""

    def detach(self) -> MambaState:
        """The same values, through which no gradient flows back into earlier chunks."""
        return MambaState(self.conv.detach(), self.ssm.detach())


class Mamba(nn.Module):
    """Causal mixing along time, linear in its length: [B, L, width] -> [B, L, width].

    ``state`` numbers (N) for each of ``expand * width`` inner channels, a depthwise convolution over the last ``conv``
    steps, and a time step that is made from ``rank`` numbers (default: width / 16, rounded up). No normalisation and no
    residual path. Raises ``BadInput`` when a size is not at least 1.
    """

    def __init__(self, width: int, state: int = 16, conv: int = 4, expand: int = 2, rank: int | None = None) -> None:
        super().__init__()
        rank = math.ceil(width / 16) if rank is None else rank
        for field, size in {"width": width, "state": state, "conv": conv, "expand": expand, "rank": rank}.items():
            if size < 1:
                raise BadInput("Mamba", field, "at least 1", size)
        inner = expand * width
        self.width, self.state, self.conv, self.inner, self.rank = width, state, conv, inner, rank
        self.in_proj = nn.Linear(width, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, conv, groups=inner)
        self.x_proj = nn.Linear(inner, rank + 2 * state, bias=False)
        self.dt_proj = nn.Linear(rank, inner)
        self.A_log = nn.Parameter(torch.arange(1.0, state + 1).log().repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, width, bias=False)
        self._initialise_steps()

    def forward(self, x: Tensor, carried: MambaState | None = None) -> tuple[Tensor, MambaState]:
        """[B, L, width] and what the chunk before left (None: the start) -> [B, L, width] and what this one leaves.

        L is at least 1. Where the scan runs in ``mamba_ssm``, no gradient flows from the ``ssm`` that is left (see
        ``selective_scan``). Raises ``BadInput`` when shapes do not fit.
        """
        self._check(x, carried)
        # Time first from here on, because the scan wants it so; here the turn is cheapest, at the smallest width.
        u, gate = self.in_proj(x.transpose(0, 1)).chunk(2, dim=-1)
        u, tail = self._convolve(u, None if carried is None else carried.conv)
        y, last = self._scan(u, None if carried is None else carried.ssm)
        mixed: Tensor = self.out_proj(y * F.silu(gate))
        return mixed.transpose(0, 1).contiguous(), MambaState(tail, last)

    def _initialise_steps(self) -> None:
        """Time steps log-uniform between the shortest and the longest: the bias is their inverse softplus."""
        nn.init.uniform_(self.dt_proj.weight, -(self.rank**-0.5), self.rank**-0.5)
        steps = torch.empty(self.inner).uniform_(math.log(SHORTEST_STEP), math.log(LONGEST_STEP)).exp()
        with torch.no_grad():
            self.dt_proj.bias.copy_(steps + torch.log(-torch.expm1(-steps)))

    def _check(self, x: Tensor, carried: MambaState | None) -> None:
        if x.dim() != 3 or x.shape[1] < 1 or x.shape[2] != self.width:
            raise BadInput("Mamba", "x", f"[B, L, {self.width}] with L at least 1", list(x.shape))
        if carried is not None:
            batch, conv, ssm = len(x), carried.conv, carried.ssm
            require_shape("Mamba", "carried.conv", conv, (batch, self.inner, self.conv - 1), "B as x, inner, conv - 1")
            require_shape("Mamba", "carried.ssm", ssm, (batch, self.inner, self.state), "B as x, inner, N")

    def _convolve(self, u: Tensor, tail: Tensor | None) -> tuple[Tensor, Tensor]:
        """[L, B, inner] and the inputs before [B, inner, conv - 1] -> activations [L, B, inner] and the last inputs."""
        length, batch, inner = u.shape
        before = u.new_zeros(self.conv - 1, batch, inner) if tail is None else tail.permute(2, 0, 1)
        padded = torch.cat([before, u])
        # A sum of shifted sequences: with time first it is faster than a depthwise convolution, which wants time last.
        taps = self.conv1d.weight.squeeze(1).unbind(1)
        total = self.conv1d.get_parameter("bias") + padded[:length] * taps[0]
        for shift, tap in enumerate(taps[1:], start=1):
            total = torch.addcmul(total, padded[shift : shift + length], tap)
        return F.silu(total), padded[length:].permute(1, 2, 0).contiguous()

    def _scan(self, u: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """[L, B, inner] and the state before [B, inner, N] -> [L, B, inner] and the state after."""
        step, B, C = self.x_proj(u).split([self.rank, self.state, self.state], dim=-1)
        # Under autocast the product is in half precision, in which a bias of some -7 would swallow small differences.
        delta = F.softplus(F.linear(step, self.dt_proj.weight).to(self.dt_proj.bias.dtype) + self.dt_proj.bias)
        u, delta, B, C = (tensor.permute(1, 2, 0) for tensor in (u, delta, B, C))
        y, last = selective_scan(u, delta, -self.A_log.exp(), B, C, self.D, state)
        return y.permute(2, 0, 1), last
