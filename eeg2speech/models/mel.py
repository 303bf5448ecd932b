"""AudioLDM's mel spectrogram, in torch: 64 bands to 8 kHz, a frame every 10 ms, natural logarithm.

Frames as HiFi-GAN (Kong et al. 2020) and AudioLDM (Liu et al. 2023, arXiv 2301.12503) cut them: reflected at both ends,
so that T samples give T // 160 frames. ``eeg2speech.metrics.mel`` has the same in numpy; a test holds them together.
"""

from __future__ import annotations

import torch
import torchaudio
from torch import Tensor, nn
from torch.nn import functional as F

from eeg2speech.errors import BadInput

RATE, WINDOW, HOP, BANDS = 16_000, 1024, 160, 64
HIGHEST = 8_000.0
FLOOR = 1e-5
FRAME_RATE = RATE / HOP
PAD = (WINDOW - HOP) // 2
LOUDNESS_OF_SILENCE = -11.512925
"""log(FLOOR): what a band without sound shows."""


class LogMel(nn.Module):
    """Waveform [B, T] at 16 kHz -> natural logarithm of the mel spectrogram [B, 64, T // 160].

    It has what ``training.features.SpeechFeatures`` asks for, so that it can be kept like features of a network.
    """

    name, dimension, rate = "mel", BANDS, FRAME_RATE
    fingerprint = "audioldm-mel-1"
    """To be changed with anything that changes a value."""

    def __init__(self) -> None:
        super().__init__()
        bank = torchaudio.functional.melscale_fbanks(
            WINDOW // 2 + 1, 0.0, HIGHEST, BANDS, RATE, norm="slaney", mel_scale="slaney"
        )
        self.register_buffer("bank", bank.T.contiguous(), persistent=False)
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)

    def frames(self, samples: int) -> int:
        """How many frames a wave of so many samples gives."""
        return samples // HOP

    def forward(self, wave: Tensor) -> Tensor:
        """[B, T] -> [B, 64, T // 160]; NaN stays.

        Raises:
            BadInput: not floats [B, T], or shorter than 433 samples (what is reflected at either end, and one).
        """
        if wave.ndim != 2 or not wave.is_floating_point() or wave.shape[1] <= PAD:
            expected = f"floats [B, T] of at least {PAD + 1} samples"
            raise BadInput("LogMel", "wave", expected, f"{wave.dtype} {list(wave.shape)}")
        # In full precision, also under autocast: bfloat16 would leave a band two digits.
        with torch.autocast(wave.device.type, enabled=False):
            return self._bands(wave.float())

    def _bands(self, wave: Tensor) -> Tensor:
        padded = F.pad(wave.unsqueeze(1), (PAD, PAD), mode="reflect").squeeze(1)
        window, bank = self.get_buffer("window"), self.get_buffer("bank")
        spectrum = torch.stft(padded, WINDOW, HOP, window=window, center=False, return_complex=True)
        # The square root has no slope at zero; what lies under this floor is lost in the logarithm's own.
        magnitude = torch.view_as_real(spectrum).square().sum(-1).clamp_min(1e-12).sqrt()
        return (bank @ magnitude).clamp_min(FLOOR).log()
