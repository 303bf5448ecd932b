"""Multiply-accumulates of an answer, by torch's counter of floating-point operations."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def macs(ask: Callable[[], object], network: nn.Module | None = None) -> int:
    """Multiply-accumulates of products of matrices, convolutions and attention in one answer of a system.

    Element-wise work, Fourier transforms and what is not torch are not among them. oneDNN's recurrent layers hide their
    products from the counter: where the ``network`` has such layers, oneDNN is off while it counts, which is slow.
    """
    network = nn.Module() if network is None else network
    recurrent = any(isinstance(module, nn.RNNBase) for module in network.modules())
    with _frozen(network), _without_onednn() if recurrent else nullcontext(), FlopCounterMode(display=False) as counter:
        ask()
    return int(counter.get_total_flops()) // 2


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    """Without gradients: the counter hooks into those of a parameter that a module is given, even where none flow."""
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


@contextmanager
def _without_onednn() -> Iterator[None]:
    with warnings.catch_warnings():
        # To switch it off and on again warns of TF32 on graphics processors that this torch does not know.
        warnings.filterwarnings("ignore", message="TF32 acceleration", category=UserWarning)
        with torch.backends.mkldnn.flags(enabled=False):
            yield
