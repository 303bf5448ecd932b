"""What makes another library's codec faster on a CPU. Same weights, same names, same answers to rounding."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eeg2speech.models.activations import Snake

Network = TypeVar("Network", bound=nn.Module)
WIDE = 7
"""Taps from which on a dilated convolution is faster with channels last; of three taps it is slower."""
DAC_SNAKE = "transformers.models.dac.modeling_dac.Snake1d"
"""Known by name, as transformers is optional and slow to import."""


class DilatedConv1d(nn.Conv1d):
    """``nn.Conv1d`` that, on a CPU, runs as a convolution over images of one row with channels last.

    [B, D, L] -> [B, E, L']. With time last oneDNN has no good kernel for taps that lie apart; with channels last it
    is up to twice as fast where there are thousands of samples, both copies included. What is not dilated, or has few
    taps or groups, runs as it is, and so does everything on a GPU, where cuDNN chooses, and under ``torch.compile``,
    which orders memory itself.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[B, D, L] -> [B, E, L']."""
        if x.device.type != "cpu" or not suits(self) or torch.compiler.is_compiling():
            return super().forward(x)
        image = x.unsqueeze(2).contiguous(memory_format=torch.channels_last)
        padding = self.padding if isinstance(self.padding, str) else (0, self.padding[0])
        strides, apart = (1, self.stride[0]), (1, self.dilation[0])
        y = F.conv2d(image, self.weight.unsqueeze(2), self.bias, strides, padding, apart)
        return y.squeeze(2).contiguous()


def suits(conv: nn.Conv1d) -> bool:
    """Whether a convolution is one of those that gain: dilated, of seven taps or more, all channels to all."""
    plain = conv.groups == 1 and conv.padding_mode == "zeros"
    return plain and conv.dilation[0] > 1 and conv.kernel_size[0] >= WIDE


def quickened(network: Network) -> Network:
    """Another library's network with its Snakes and wide dilated convolutions replaced by this package's, in place.

    They hold the same parameters under the same names. Layers with hooks (weight norm of the old kind) or of a class of
    their own stay.
    """
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            new = _quick(child)
            if new is not None:
                parent.add_module(name, new.train(child.training))
    return network


def _quick(layer: nn.Module) -> nn.Module | None:
    if layer._forward_pre_hooks or layer._forward_hooks:
        return None
    if type(layer) is nn.Conv1d and suits(layer):
        return _dilated(layer)
    if f"{type(layer).__module__}.{type(layer).__qualname__}" == DAC_SNAKE:
        snake = Snake(1)
        snake.alpha = layer.get_parameter("alpha")
        return snake
    return None


def _dilated(conv: nn.Conv1d) -> DilatedConv1d:
    with torch.device("meta"):
        new = DilatedConv1d(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size[0],
            padding=conv.padding if isinstance(conv.padding, str) else conv.padding[0],
            stride=conv.stride[0],
            dilation=conv.dilation[0],
            bias=conv.bias is not None,
        )
    new.weight, new.bias = conv.weight, conv.bias
    return new
