"""Ceilings: what a perfect choice of talker would give."""

from __future__ import annotations

import torch
from torch import Tensor

from eeg2speech.systems.interface import Facts, System


class OracleTarget(System):
    """The attended speech itself. Its scores are the metrics' own ceilings."""

    facts = Facts(title="Attended speech itself", licence="MIT", source="this suite", uses_eeg=False, sees="target")

    def extract_from(self, mixture: Tensor, eeg: Tensor, subject: Tensor, sources: Tensor) -> Tensor:
        """[B, 2, T], target first -> [B, T]."""
        return sources[:, 0].clone()


class OracleMask(System):
    """Ideal ratio mask on the magnitude spectrum (Srinivasan, Roman and Wang 2006; Wang, Narayanan and Wang 2014):
    mask = sqrt(S^2 / (S^2 + N^2)), 32 ms Hann windows, hop 8 ms, phase of the mixture."""

    facts = Facts(
        title="Ideal ratio mask",
        licence="MIT",
        source="Wang, Narayanan, Wang 2014, doi:10.1109/TASLP.2014.2352935",
        uses_eeg=False,
        sees="target",
    )

    def extract_from(self, mixture: Tensor, eeg: Tensor, subject: Tensor, sources: Tensor) -> Tensor:
        """[B, 2, T], target first -> [B, T]."""
        size = 2 * round(0.016 * self.context.audio_rate)
        window = torch.hann_window(size, device=mixture.device)

        def spectrum(x: Tensor) -> Tensor:
            return torch.stft(x, size, size // 4, window=window, return_complex=True)

        speech, noise = (spectrum(sources[:, k]).abs().square() for k in (0, 1))
        mask = (speech / (speech + noise).clamp_min(1e-12)).sqrt()
        return torch.istft(spectrum(mixture) * mask, size, size // 4, window=window, length=mixture.shape[-1])
