"""Discriminators for adversarial training of waveforms, and the losses that go with them.

Three views, as in DAC (Kumar et al. 2023, arXiv 2306.06546): the waveform folded at prime periods (HiFi-GAN, Kong et
al. 2020), the waveform at several rates (MelGAN, Kumar et al. 2019), and bands of the complex spectrogram at several
resolutions (Encodec, Défossez et al. 2022). Least-squares losses (Mao et al. 2017).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Features = list[Tensor]
"""Activations of one discriminator, the last of them its verdict."""
PERIODS = (2, 3, 5, 7, 11)
RATES = (1, 2, 4)
WINDOWS = (2048, 1024, 512)
BANDS = ((0.0, 0.1), (0.1, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.0))
SLOPE = 0.1


class _Tower(nn.Module):
    """Convolutions with leaky rectifiers, then a verdict; gives all activations."""

    def __init__(self, layers: Sequence[nn.Module], verdict: nn.Module) -> None:
        super().__init__()
        self.layers, self.verdict = nn.ModuleList(map(_normed, layers)), _normed(verdict)

    def forward(self, x: Tensor) -> Features:
        features = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), SLOPE)
            features.append(x)
        return [*features, self.verdict(x)]


class PeriodDiscriminator(nn.Module):
    """Waveform [B, T] folded into rows of ``period`` samples, convolved along time only."""

    def __init__(self, period: int, width: int) -> None:
        super().__init__()
        self.period = period
        sizes = [1, width, 2 * width, 4 * width, 8 * width]
        layers = [nn.Conv2d(a, b, (5, 1), (3, 1), (2, 0)) for a, b in zip(sizes, sizes[1:], strict=False)]
        self.tower = _Tower(layers, nn.Conv2d(sizes[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, wave: Tensor) -> Features:
        """[B, T] -> activations."""
        padded = F.pad(wave.unsqueeze(1), (0, -wave.shape[-1] % self.period), mode="reflect")
        return cast(Features, self.tower(torch.unflatten(padded, -1, (-1, self.period))))


class ScaleDiscriminator(nn.Module):
    """Waveform [B, T], averaged down ``factor`` times, under grouped convolutions."""

    def __init__(self, factor: int, width: int) -> None:
        super().__init__()
        self.factor = factor
        layers = [
            nn.Conv1d(1, width, 15, padding=7),
            nn.Conv1d(width, 2 * width, 41, 4, groups=4, padding=20),
            nn.Conv1d(2 * width, 4 * width, 41, 4, groups=8, padding=20),
            nn.Conv1d(4 * width, 8 * width, 41, 4, groups=16, padding=20),
            nn.Conv1d(8 * width, 8 * width, 5, padding=2),
        ]
        self.tower = _Tower(layers, nn.Conv1d(8 * width, 1, 3, padding=1))

    def forward(self, wave: Tensor) -> Features:
        """[B, T] -> activations."""
        wave = wave.unsqueeze(1)
        return cast(Features, self.tower(F.avg_pool1d(wave, self.factor) if self.factor > 1 else wave))


class BandDiscriminator(nn.Module):
    """Complex spectrogram of [B, T] cut into bands, a stack of convolutions for each, one verdict over all."""

    def __init__(self, window: int, width: int) -> None:
        super().__init__()
        self.window = window
        self.register_buffer("hann", torch.hann_window(window), persistent=False)
        bins = window // 2 + 1
        self.edges = [(round(low * bins), round(high * bins)) for low, high in BANDS]
        self.bands = nn.ModuleList(_band_layers(width) for _ in BANDS)
        self.verdict = _normed(nn.Conv2d(width, 1, (3, 3), padding=1))

    def forward(self, wave: Tensor) -> Features:
        """[B, T] -> activations of all bands, then the verdict."""
        hann = cast(Tensor, self.hann)
        spectrum = torch.stft(wave, self.window, self.window // 4, window=hann, return_complex=True)
        image = torch.view_as_real(spectrum).permute(0, 3, 2, 1)
        features, ends = [], []
        for (low, high), layers in zip(self.edges, self.bands, strict=True):
            x = image[..., low:high]
            for layer in cast(nn.ModuleList, layers):
                x = F.leaky_relu(layer(x), SLOPE)
                features.append(x)
            ends.append(x)
        return [*features, self.verdict(torch.cat(ends, -1))]


class Discriminators(nn.Module):
    """All views at once: [B, T] -> activations of each.

    Args:
        width: channels of the first layers; 32 is about what is published, 8 trains on a CPU.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.views = nn.ModuleList(
            [
                *(PeriodDiscriminator(period, width) for period in PERIODS),
                *(ScaleDiscriminator(factor, width) for factor in RATES),
                *(BandDiscriminator(window, width) for window in WINDOWS),
            ]
        )

    def forward(self, wave: Tensor) -> list[Features]:
        """[B, T], T at least as long as the longest window -> a list of activations for each view."""
        return [view(wave) for view in self.views]


def discriminator_loss(real: list[Features], fake: list[Features]) -> Tensor:
    """Least squares: 1 for real speech, 0 for what was generated; mean over views."""
    each = [(1 - r[-1]).square().mean() + f[-1].square().mean() for r, f in zip(real, fake, strict=True)]
    return torch.stack(each).mean()


def adversarial_loss(fake: list[Features]) -> Tensor:
    """What the generator minimises: its speech should be taken for real; mean over views."""
    return torch.stack([(1 - f[-1]).square().mean() for f in fake]).mean()


def feature_matching_loss(real: list[Features], fake: list[Features]) -> Tensor:
    """Mean absolute difference of activations, relative to those of real speech so that every layer counts alike."""
    pairs = [
        (r.detach(), f)
        for one, other in zip(real, fake, strict=True)
        for r, f in zip(one[:-1], other[:-1], strict=True)
    ]
    return torch.stack([(r - f).abs().mean() / r.abs().mean().clamp_min(1e-4) for r, f in pairs]).mean()


def _band_layers(width: int) -> nn.ModuleList:
    strided = [nn.Conv2d(width, width, (3, 9), (1, 2), padding=(1, 4)) for _ in range(3)]
    layers = [nn.Conv2d(2, width, (3, 9), padding=(1, 4)), *strided, nn.Conv2d(width, width, (3, 3), padding=1)]
    return nn.ModuleList(map(_normed, layers))


def _normed(layer: nn.Module) -> nn.Module:
    normed: nn.Module = nn.utils.parametrizations.weight_norm(layer)
    return normed
