"""Activations by name, one learned parameter set a channel where they learn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

Activation = Literal["snake", "prelu", "relu"]


class Snake(nn.Module):
    """x + sin²(αx) / α with α learned for each channel (Ziyin, Hartwig and Ueda 2020; DAC, Kumar et al. 2023).

    [B, D, L] -> [B, D, L]. Named as in ``transformers.DacModel``: ``alpha`` is [1, D, 1].
    """

    pointwise = True

    def __init__(self, width: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        """[B, D, L] -> [B, D, L]."""
        return x + torch.sin(self.alpha * x).square() / (self.alpha + 1e-9)


def activation(name: Activation, width: int) -> nn.Module:
    """An activation for ``width`` channels, acting on [B, D, L] sample by sample."""
    makers: dict[Activation, Callable[[], nn.Module]] = {
        "snake": lambda: Snake(width),
        "prelu": lambda: nn.PReLU(width),
        "relu": nn.ReLU,
    }
    return makers[name]()
