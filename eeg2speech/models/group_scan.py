"""Selective scans over images, a group of channels in each direction (Shaker et al. 2024, "GroupMamba", after Liu et
al. 2024, "VMamba"), in the narrow form that M3ANet uses: one channel a group, one state.

An image of H x W is read as a sequence of H * W steps: along its rows, along its columns, and both backwards. Channel k
is read in direction k (modulo 4), so that together they see every position from all sides. Images have any size of at
least two positions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eeg2speech.errors import BadInput
from eeg2speech.models.mamba import LONGEST_STEP, SHORTEST_STEP
from eeg2speech.models.recurrence import linear_recurrence

DIRECTIONS = 4


def unrolled(images: Tensor) -> Tensor:
    """Images [B, S, H, W] -> sequences [B, S, H * W]: rows, columns, rows backwards, columns backwards, in turn."""
    turned = [_turned(images[:, k], k).flatten(1) for k in range(images.shape[1])]
    return torch.stack([_reversed(sequence, k) for k, sequence in enumerate(turned)], dim=1)


def rolled(sequences: Tensor, height: int, width: int) -> Tensor:
    """Inverse of ``unrolled``: [B, S, H * W] -> [B, S, H, W]."""
    images = []
    for k in range(sequences.shape[1]):
        shape = (width, height) if k % 2 else (height, width)
        images.append(_turned(torch.unflatten(_reversed(sequences[:, k], k), 1, shape), k))
    return torch.stack(images, dim=1)


def _turned(image: Tensor, k: int) -> Tensor:
    return image.transpose(1, 2) if k % 2 else image


def _reversed(sequence: Tensor, k: int) -> Tensor:
    return sequence.flip(-1) if k % DIRECTIONS >= 2 else sequence


class DirectionalScan(nn.Module):
    """SS2D of width 1 and state 1 for each of S images, each with weights and a direction of its own.

    Projection to signal and gate, depthwise convolution 3 x 3, SiLU, selective scan, norm, gate, projection:
    [B, S, H, W] -> [B, S, H, W]. The norm is over the positions of an image. The published code has a layer norm over
    channels here, of which there is one: the difference of a number to its own mean is 0, and what was scanned is lost.

    Raises:
        BadInput: no image.
    """

    def __init__(self, scales: int) -> None:
        super().__init__()
        if scales < 1:
            raise BadInput("DirectionalScan", "scales", "at least 1", scales)
        # Matrices of one row or column are vectors here, one value an image. They start as such matrices do.
        self.enter, self.gate, self.leave = (_weights(scales) for _ in range(3))
        self.conv = nn.Conv2d(scales, scales, 3, padding=1, groups=scales)
        self.to_step, self.to_B, self.to_C, self.step_weight = (_weights(scales) for _ in range(4))
        steps = torch.empty(scales).uniform_(math.log(SHORTEST_STEP), math.log(LONGEST_STEP)).exp()
        self.step_bias = nn.Parameter(steps + torch.log(-torch.expm1(-steps)))
        self.A_log = nn.Parameter(torch.zeros(scales))
        self.D = nn.Parameter(torch.ones(scales))
        self.norm = nn.GroupNorm(scales, scales)

    def forward(self, x: Tensor) -> Tensor:
        """[B, S, H, W] -> [B, S, H, W]."""
        u = F.silu(self.conv(x * self.enter[:, None, None]))
        y = rolled(self.scan(unrolled(u)), *x.shape[2:])
        normal: Tensor = self.norm(y)
        return normal * F.silu(x * self.gate[:, None, None]) * self.leave[:, None, None]

    def scan(self, u: Tensor) -> Tensor:
        """The selective scan, [B, S, L] -> [B, S, L]: what ``selective_scan`` computes, image by image."""
        delta = F.softplus(u * (self.to_step * self.step_weight).unsqueeze(1) + self.step_bias.unsqueeze(1))
        inputs = delta * u.square() * self.to_B.unsqueeze(1)
        states = linear_recurrence(torch.exp(-delta * self.A_log.exp().unsqueeze(1)), inputs)
        return u * (states * self.to_C.unsqueeze(1) + self.D.unsqueeze(1))


def _weights(count: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(count).uniform_(-1, 1))


class ScaleNorm(nn.Module):
    """Layer norm over the S images at each position: [B, S, H, W] -> [B, S, H, W]."""

    def __init__(self, scales: int, gain: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((scales, 1, 1), gain))
        self.bias = nn.Parameter(torch.zeros(scales, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """[B, S, H, W] -> same."""
        # By hand, because layer_norm wants S last, and is slow where S is as small as here.
        centred = x - x.mean(1, keepdim=True)
        deviation = (centred.square().mean(1, keepdim=True) + 1e-5).rsqrt()
        return centred * deviation * self.weight + self.bias


class GroupScan(nn.Module):
    """Layers of directional scans over S images with channel affinity, each followed by a small convolutional network.

    Every layer: x + norm(scan(x) * affinity(x)), then x + FFN(norm(x)). All layers share their weights, as published.
    In float32 also inside autocast: with so few channels there is nothing to gain from less.

    Args:
        scales: images S. layers: how often. expand: width of the FFN over S.
    """

    def __init__(self, scales: int = DIRECTIONS, layers: int = 2, expand: int = 4) -> None:
        super().__init__()
        self.layers = layers
        self.scan = DirectionalScan(scales)
        self.affinity = nn.Sequential(
            nn.Linear(scales, max(1, scales // 4)), nn.ReLU(), nn.Linear(max(1, scales // 4), scales), nn.Sigmoid()
        )
        # Among so few rectified units all may start dead, and stay so.
        nn.init.ones_(self.affinity[0].get_parameter("bias"))
        # A small gain: at first the layers add little to what they are given.
        self.norm, self.inner_norm = ScaleNorm(scales, gain=0.2), ScaleNorm(scales)
        hidden = expand * scales
        self.mix = nn.Sequential(
            nn.Conv2d(scales, hidden, 1),
            nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden),
            nn.GELU(),
            nn.Conv2d(hidden, scales, 1),
        )

    def forward(self, images: Tensor) -> Tensor:
        """[B, S, H, W] -> [B, S, H, W]."""
        x = images.to(self.norm.weight.dtype)
        with torch.autocast(x.device.type, enabled=False):
            for _ in range(self.layers):
                affinity = self.affinity(x.mean((2, 3)))[:, :, None, None]
                x = x + self.norm(self.scan(x) * affinity)
                x = x + self.mix(self.inner_norm(x))
        return x
