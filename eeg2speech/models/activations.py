"""Activations by name, one learned parameter set a channel where they learn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Activation = Literal["snake", "prelu", "relu"]


TINY = 1e-9
"""Added to alpha where it divides, as in DAC."""


class Snake(nn.Module):
    """x + sin²(αx) / α with α learned for each channel (Ziyin, Hartwig and Ueda 2020; DAC, Kumar et al. 2023).

    [B, D, L] -> [B, D, L]. Named as in ``transformers.DacModel``: ``alpha`` is [1, D, 1]. Differentiable once.
    """

    pointwise = True

    def __init__(self, width: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        """[B, D, L] -> [B, D, L]."""
        if torch.compiler.is_compiling():
            # The compiler makes one loop of the formula by itself.
            return snake(x, self.alpha)
        y: Tensor = _Snake.apply(x, self.alpha)  # type: ignore[no-untyped-call]
        return y


def snake(x: Tensor, alpha: Tensor) -> Tensor:
    """Its formula."""
    return x + torch.sin(alpha * x).square() / (alpha + TINY)


class _Snake(torch.autograd.Function):
    """Snake of x [B, D, L] by alpha [1, D, 1], in the memory of its answer.

    As a formula of tensors it takes five pieces of memory as large as x and keeps four for the backward pass: where
    they do not fit in the cache, that is most of its time.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: Tensor) -> Tensor:
        y = torch.mul(x, alpha).sin_().square_().div_(alpha + TINY).add_(x)
        ctx.save_for_backward(x, alpha, y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """By x: 1 + sin(2αx). By alpha: (x sin(2αx) - sin²(αx) / α) / α, in which the latter is y - x."""
        x, alpha, y = ctx.saved_tensors
        by_x = by_alpha = None
        sines = torch.mul(x, 2 * alpha).sin_()
        if ctx.needs_input_grad[0]:
            by_x = torch.addcmul(grad, grad, sines).to(x.dtype)
        if ctx.needs_input_grad[1]:
            slopes = sines.mul_(x).add_(x).sub_(y)
            by_alpha = slopes.mul_(grad).sum((0, 2)).view_as(alpha) / (alpha + TINY)
        return by_x, by_alpha


def activation(name: Activation, width: int) -> nn.Module:
    """An activation for ``width`` channels, acting on [B, D, L] sample by sample."""
    makers: dict[Activation, Callable[[], nn.Module]] = {
        "snake": lambda: Snake(width),
        "prelu": lambda: nn.PReLU(width),
        "relu": nn.ReLU,
    }
    return makers[name]()
