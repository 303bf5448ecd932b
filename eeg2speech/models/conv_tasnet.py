"""Convolutional blocks of Conv-TasNet (Luo and Mesgarani 2019, doi:10.1109/TASLP.2019.2915167, figure 1 C)."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from eeg2speech.models.dual_path import GlobalLayerNorm


class DepthwiseBlock(nn.Module):
    """1x1 convolution, depthwise dilated convolution, each with PReLU and norm: [B, D, L] -> residual and skip path.

    Args:
        width: channels D in and out. hidden: channels between. kernel: odd. dilation: in frames.
        skip: whether there is a second output; without it, the block answers None in its place.
    """

    def __init__(self, width: int, hidden: int, kernel: int = 3, dilation: int = 1, skip: bool = True) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(width, hidden, 1),
            nn.PReLU(),
            GlobalLayerNorm(hidden),
            nn.Conv1d(hidden, hidden, kernel, dilation=dilation, groups=hidden, padding="same"),
            nn.PReLU(),
            GlobalLayerNorm(hidden),
        )
        self.residual = nn.Conv1d(hidden, width, 1)
        self.skip = nn.Conv1d(hidden, width, 1) if skip else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """[B, D, L] -> what is to be added to x, and what goes to the output past all later blocks."""
        hidden = self.body(x)
        return self.residual(hidden), None if self.skip is None else self.skip(hidden)


def dilated_stack(width: int, hidden: int, kernel: int, layers: int, skip: bool = True) -> Iterator[DepthwiseBlock]:
    """Blocks with dilations 1, 2, 4 and so on."""
    for layer in range(layers):
        yield DepthwiseBlock(width, hidden, kernel, 2**layer, skip)
