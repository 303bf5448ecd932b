"""EEG encoder of NeuroCodec: electrodes as a graph, then convolutions along time, at the EEG's own rate."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from eeg2speech.models.activations import Activation, activation
from eeg2speech.models.eeg import standardise
from eeg2speech.models.graph import ChebyshevGraph
from eeg2speech.models.streaming import Chain, Conv, Residual, Stream, stream_of

CLAMP = 8.0
"""Deviations at which blinks and jumps are cut off."""


class ElectrodeNorm(nn.Module):
    """Every electrode to zero mean and unit deviation, by figures learned from training (no statistics over time).

    [B, C, N] microvolt -> [B, C, N]. A dead electrode gives zeros.
    """

    pointwise = True

    def __init__(self, sensors: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(sensors, affine=False)

    def forward(self, eeg: Tensor) -> Tensor:
        """[B, C, N] -> [B, C, N]."""
        normalised: Tensor = self.norm(eeg)
        return normalised.clamp(-CLAMP, CLAMP)


class SegmentNorm(nn.Module):
    """The same from the segment itself, which looks at all of it: not causal."""

    def forward(self, eeg: Tensor) -> Tensor:
        """[B, C, N] -> [B, C, N]."""
        return standardise(eeg, CLAMP)


class ChannelNorm(nn.Module):
    """Layer norm over channels, at each moment by itself: [B, D, N] -> [B, D, N]."""

    pointwise = True

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, D, N] -> [B, D, N]."""
        normalised: Tensor = self.norm(x.transpose(1, 2))
        return normalised.transpose(1, 2)


class TimeConv(nn.Conv1d):
    """Dilated convolution of the same length: left-padded when causal, else centred."""

    def __init__(self, width: int, kernel: int, dilation: int, causal: bool) -> None:
        super().__init__(width, width, kernel, dilation=dilation)
        span = dilation * (kernel - 1)
        self.left = span if causal else span // 2
        self.right = span - self.left

    def forward(self, x: Tensor) -> Tensor:
        """[B, D, N] -> [B, D, N]."""
        return super().forward(F.pad(x, (self.left, self.right)))

    def stream(self) -> Stream:
        """Carries the last inputs."""
        return Conv(self, self.left, self.right)


class TimeBlock(nn.Module):
    """Pre-norm residual block: x + dropout(activation(convolution(norm(x))))."""

    def __init__(self, width: int, kernel: int, dilation: int, causal: bool, act: Activation, dropout: float) -> None:
        super().__init__()
        conv = TimeConv(width, kernel, dilation, causal)
        self.body = nn.Sequential(ChannelNorm(width), conv, activation(act, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """[B, D, N] -> [B, D, N]."""
        update: Tensor = self.dropout(self.body(x))
        return x + update

    def stream(self) -> Stream:
        """Without the dropout, which answers only in training."""
        return Residual(stream_of(self.body))


class GraphEegEncoder(nn.Module):
    """[B, C, N] microvolt -> features [B, E, N] and a reading of the attended envelope [B, N].

    Any number of electrodes, any length. Four blocks of kernel 9 and dilations 1, 2, 4, 8 see 0.94 s at 128 Hz: all of
    it before, when causal. The reading can then only be about sound that came before; how long before is the choice of
    whoever aligns it (``look_ahead``).

    Args:
        sensors: electrodes C. width: channels E. maps: features an electrode. order: of the Chebyshev polynomials.
    """

    def __init__(
        self,
        sensors: int,
        width: int,
        causal: bool,
        act: Activation = "snake",
        maps: int = 4,
        order: int = 2,
        kernel: int = 9,
        dilations: tuple[int, ...] = (1, 2, 4, 8),
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.body = nn.Sequential(
            ElectrodeNorm(sensors) if causal else SegmentNorm(),
            # Linear up to here: what all electrodes share cancels only while nothing has bent it.
            ChebyshevGraph(sensors, maps, order),
            nn.Conv1d(maps * sensors, width, 1),
            *(TimeBlock(width, kernel, dilation, causal, act, dropout) for dilation in dilations),
            ChannelNorm(width),
        )
        self.envelope = nn.Conv1d(width, 1, 1)

    def forward(self, eeg: Tensor) -> Tensor:
        """[B, C, N] -> features [B, E, N]."""
        return cast(Tensor, self.body(eeg))

    def read(self, features: Tensor) -> Tensor:
        """Features [B, E, L] of any moments -> envelope [B, L]."""
        return cast(Tensor, self.envelope(features)).squeeze(1)

    def stream(self) -> Stream:
        """Features chunk by chunk; only for the causal form, whose normalisation keeps no statistics over time."""
        return Chain(stream_of(layer) for layer in self.body)
