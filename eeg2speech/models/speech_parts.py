"""Autoencoder and vocoder of AudioLDM (Liu et al. 2023, arXiv 2301.12503), around the classes that load its weights.

Mel spectrograms are [B, 64, F] here, a frame every 10 ms; diffusers has time before frequency, and so do the latents,
[B, 8, F / 4, 16].
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eeg2speech.models.fingerprint import state_hash
from eeg2speech.models.mel import BANDS, HOP

if TYPE_CHECKING:
    from diffusers import AutoencoderKL
    from transformers import SpeechT5HifiGan


class MelAutoencoder(nn.Module):
    """``diffusers.AutoencoderKL`` on log mel spectrograms.

    ``mean`` and ``deviation`` bring mels to what the network was trained on, ``latent_scale`` brings latents to unit
    variance; published weights have 0, 1 and their configuration's ``scaling_factor``.
    """

    def __init__(self, model: AutoencoderKL) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("deviation", torch.ones(()))
        self.register_buffer("latent_scale", torch.tensor(float(model.config.scaling_factor)))

    @property
    def channels(self) -> int:
        """Channels of the latents."""
        return int(self.model.config.latent_channels)

    @property
    def factor(self) -> int:
        """By how much a mel is longer, and has more bands, than its latents."""
        return int(2 ** (len(self.model.config.block_out_channels) - 1))

    @property
    def fingerprint(self) -> str:
        """Hash of the weights."""
        return state_hash(self.state_dict())

    def latent_shape(self, frames: int) -> tuple[int, int, int]:
        """Shape of the latents of ``frames`` frames: channels, time, frequency."""
        return self.channels, -(-frames // self.factor), BANDS // self.factor

    def encode(self, mel: Tensor) -> Tensor:
        """Mel [B, 64, F] -> latents of about unit variance, the mean of their distribution [B, D, F / 4, 16].

        A length that is no multiple of the factor is filled up with copies of the last frame.
        """
        return self.posterior(mel)[0] * self.get_buffer("latent_scale")

    def decode(self, latents: Tensor, frames: int) -> Tensor:
        """Latents -> mel [B, 64, frames]."""
        decoded = self.model.decode(latents / self.get_buffer("latent_scale")).sample
        return self._mel(decoded)[..., :frames]

    def posterior(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """Mel [B, 64, F] -> mean and log-variance of the latents, as the network has them."""
        normal = (mel - self.get_buffer("mean")) / self.get_buffer("deviation")
        padded = F.pad(normal, (0, -mel.shape[-1] % self.factor), mode="replicate")
        distribution = self.model.encode(padded.transpose(1, 2).unsqueeze(1)).latent_dist
        return distribution.mean, distribution.logvar

    def reconstruct(self, mean: Tensor, log_variance: Tensor, frames: int) -> Tensor:
        """One draw from a posterior, decoded: mel [B, 64, frames]. For training."""
        drawn = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        return self._mel(self.model.decode(drawn).sample)[..., :frames]

    def _mel(self, decoded: Tensor) -> Tensor:
        normal = decoded.squeeze(1).transpose(1, 2)
        return normal * self.get_buffer("deviation") + self.get_buffer("mean")


class Vocoder(nn.Module):
    """``transformers.SpeechT5HifiGan``, the HiFi-GAN of AudioLDM: log mel spectrogram to waveform."""

    def __init__(self, model: SpeechT5HifiGan) -> None:
        super().__init__()
        self.model = model

    @property
    def rate(self) -> int:
        """Sampling rate of what comes out, in Hz."""
        return int(self.model.config.sampling_rate)

    @property
    def fingerprint(self) -> str:
        """Hash of the weights."""
        return state_hash(self.state_dict())

    def forward(self, mel: Tensor) -> Tensor:
        """Mel [B, 64, F] -> waveform [B, 160 F]."""
        wave: Tensor = self.model(mel.transpose(1, 2))
        # Odd strides with even kernels give some samples more.
        return wave[..., : HOP * mel.shape[-1]]
