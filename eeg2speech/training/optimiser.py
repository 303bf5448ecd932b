"""The optimiser of every training: AdamW (Loshchilov and Hutter 2019) whose step is one call for all parameters."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

FUSED = ("cpu", "cuda")
"""Devices for which torch has the step as one kernel."""


def adamw(
    parameters: Iterable[nn.Parameter],
    learning_rate: float,
    weight_decay: float = 0.01,
    betas: tuple[float, float] = (0.9, 0.999),
) -> torch.optim.AdamW:
    """AdamW, fused where the device has it: a step is then some nanoseconds a number, whatever the number of tensors.

    In a loop over tensors, torch's default on a CPU, a network of 300 small ones waits longer for Python than for its
    arithmetic. Both round alike to float32: weights differ by some 1e-7 of a step. A training that was begun in a loop
    goes on in one, for torch takes this choice up from the checkpoint with the moments.
    """
    learned = list(parameters)
    fused = all(parameter.device.type in FUSED and parameter.is_floating_point() for parameter in learned)
    return torch.optim.AdamW(learned, learning_rate, betas, weight_decay=weight_decay, fused=fused or None)
