"""Latents of a frozen autoencoder with the mel spectrogram they stand for, as features that are kept."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from eeg2speech.errors import BadInput
from eeg2speech.models.mel import BANDS, FRAME_RATE, HOP, LogMel
from eeg2speech.models.speech_parts import MelAutoencoder


class MelLatents:
    """A ``SpeechFeatures``: for each frame of latents, its D x K numbers, then the mel frames beneath it."""

    name = "latents of a mel autoencoder"

    def __init__(self, autoencoder: MelAutoencoder) -> None:
        self.autoencoder, self.log_mel = autoencoder, LogMel()
        self.factor = autoencoder.factor
        self.channels, _, self.rows = autoencoder.latent_shape(self.factor)
        self.dimension = self.channels * self.rows + self.factor * BANDS
        self.rate = FRAME_RATE / self.factor

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all that decides what is computed."""
        return f"{self.autoencoder.fingerprint}-{self.log_mel.fingerprint}"

    def frames(self, samples: int) -> int:
        """How many frames of latents a wave of so many samples gives; what is left at its end is not used."""
        return samples // (HOP * self.factor)

    def __call__(self, wave: Tensor) -> Tensor:
        """Wave [B, T] -> [B, D K + 4 x 64, L]."""
        self.autoencoder.to(wave.device)
        with torch.no_grad():
            mel = self.log_mel.to(wave.device)(wave)[..., : self.frames(wave.shape[-1]) * self.factor]
            latents = self.autoencoder.encode(mel)
        beneath = torch.unflatten(mel, -1, (-1, self.factor)).permute(0, 3, 1, 2).flatten(1, 2)
        return torch.cat([latents.permute(0, 1, 3, 2).flatten(1, 2), beneath], 1)

    def split(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """What a call gave -> latents [B, D, L, K] and mel [B, 64, 4 L]. Raises BadInput for another size."""
        if features.shape[1] != self.dimension:
            raise BadInput("MelLatents", "features", f"[batch, {self.dimension}, frames]", list(features.shape))
        wide = self.channels * self.rows
        flat, beneath = features[:, :wide], features[:, wide:]
        latents = torch.unflatten(flat, 1, (self.channels, self.rows)).transpose(2, 3)
        return latents, torch.unflatten(beneath, 1, (self.factor, BANDS)).permute(0, 2, 3, 1).flatten(2)
