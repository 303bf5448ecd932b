"""Networks at a sample rate of their own: what they hear and say is resampled, with an anti-aliasing filter."""

from __future__ import annotations

from math import gcd

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchaudio.functional import resample

from eeg2speech.models.masking import Extraction


def resampled_audio(wave: Tensor, rate: int, to: int, samples: int | None = None) -> Tensor:
    """[..., T] at ``rate`` Hz -> [..., T'] at ``to`` Hz, cut or zero-padded to ``samples`` where they are given.

    Windowed sinc (Kaiser, 64 zero crossings, cut-off 0.948 of the lower Nyquist frequency: librosa's "kaiser_best").
    """
    if rate == to:
        found = wave
    else:
        # In float32 also under autocast: the filter's stop band lies far below the resolution of bfloat16.
        with torch.autocast(wave.device.type, enabled=False):
            found = resample(
                wave.float(),
                rate // gcd(rate, to),
                to // gcd(rate, to),
                lowpass_filter_width=64,
                rolloff=0.9475937167399596,
                resampling_method="sinc_interp_kaiser",
                beta=14.769656459379492,
            )
    if samples is None or found.shape[-1] == samples:
        return found
    return F.pad(found, (0, samples - found.shape[-1]))


class AtRate(nn.Module):
    """A masking network (mixture, EEG -> ``Extraction``) that works at ``inner`` Hz inside a system at ``outer`` Hz."""

    def __init__(self, network: nn.Module, outer: int, inner: int) -> None:
        super().__init__()
        self.network, self.outer, self.inner = network, outer, inner

    def forward(self, mixture: Tensor, eeg: Tensor | None = None) -> Extraction:
        """Mixture [B, T] and estimates [B, K, T] at ``outer`` Hz; EEG [B, C, N] and all else as the network has it."""
        answer: Extraction = self.network(resampled_audio(mixture, self.outer, self.inner), eeg)
        return answer._replace(waves=resampled_audio(answer.waves, self.inner, self.outer, mixture.shape[-1]))
