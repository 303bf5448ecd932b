"""Layers that act on each frame alone, quick for the few frames of a chunk of a stream."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

FEW = 64
"""Frames up to which a product of matrices with time first is up to five times as fast as a convolution on a CPU: with
so few columns oneDNN waits for the weights (4 frames, 1024 to 256 channels: 434 us, and 79 to 136)."""


class FrameConv(nn.Conv1d):
    """``nn.Conv1d`` with a kernel of one frame: [B, D, L] -> [B, D', L]. Weights are named and drawn as there."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """[B, D, L] -> [B, D', L]; few frames and many differ by rounding."""
        if x.shape[-1] > FEW or x.is_cuda:
            return super().forward(x)
        return F.linear(x.transpose(1, 2), self.weight.squeeze(-1), self.bias).transpose(1, 2)
