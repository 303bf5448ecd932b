"""Spectral losses on waveforms.

Sources: Kumar et al. 2023 (arXiv 2306.06546) for the scales, Yamamoto et al. 2020 before it.
"""

from __future__ import annotations

import torch
import torchaudio
from torch import Tensor, nn

WINDOWS_SECONDS = (0.004, 0.008, 0.016, 0.032, 0.064, 0.128)
MELS = (5, 10, 20, 40, 80, 160)
FLOOR = 1e-4
"""Magnitudes below it count as silence: some 40 dB under speech at the suite's level."""


class MultiScaleMel(nn.Module):
    """Mean absolute difference of log mel spectra, and of the mel spectra themselves, over several window lengths.

    Args:
        rate: sampling rate in Hz; windows are given in seconds and rounded to even numbers of samples.
    """

    def __init__(self, rate: int) -> None:
        super().__init__()
        self.scales = nn.ModuleList(
            _mel(rate, 2 * round(rate * w / 2), n) for w, n in zip(WINDOWS_SECONDS, MELS, strict=True)
        )

    def forward(self, reference: Tensor, estimate: Tensor) -> Tensor:
        """[B, T] twice -> scalar; a mean over scales, so that its size does not depend on their number."""
        pair = torch.cat([reference, estimate]).float()
        return torch.stack([self._distance(scale(pair)) for scale in self.scales]).mean()

    def _distance(self, mels: Tensor) -> Tensor:
        clean, found = mels.chunk(2)
        logs = (clean.clamp_min(FLOOR).log10() - found.clamp_min(FLOOR).log10()).abs().mean()
        return logs + (clean - found).abs().mean()


def _mel(rate: int, window: int, mels: int) -> nn.Module:
    scale: nn.Module = torchaudio.transforms.MelSpectrogram(
        rate, n_fft=window, hop_length=window // 4, n_mels=mels, power=1.0, normalized="window", norm=None
    )
    return scale
