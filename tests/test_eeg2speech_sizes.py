"""Published sizes of what generates: they are built, learn a step, and answer."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig, Wav2Vec2Config, Wav2Vec2Model

from eeg2speech.data import Store
from eeg2speech.models.speech_parts import MelAutoencoder, Vocoder
from eeg2speech.systems.brain_encoder import BrainEncoderSystem
from eeg2speech.systems.interface import Context, embedded, generated
from eeg2speech.systems.registry import build, declare
from eeg2speech.training.feature_examples import FeatureBatch

pytestmark = pytest.mark.slow
Record = Callable[[str, object], None]

AUTOENCODER: dict[str, Any] = {
    "in_channels": 1,
    "out_channels": 1,
    "down_block_types": ["DownEncoderBlock2D"] * 3,
    "up_block_types": ["UpDecoderBlock2D"] * 3,
    "block_out_channels": [128, 256, 512],
    "layers_per_block": 2,
    "latent_channels": 8,
    "scaling_factor": 0.9227914214134216,
}
VOCODER: dict[str, Any] = {
    "model_in_dim": 64,
    "sampling_rate": 16_000,
    "upsample_initial_channel": 1024,
    "upsample_rates": [5, 4, 2, 2, 2],
    "upsample_kernel_sizes": [16, 16, 8, 4, 4],
    "normalize_before": False,
}
"""Both as cvssp/audioldm-s-full-v2 has them."""
SAMPLES, WINDOW = 328, 41_000
"""2.56 s of EEG at 128 Hz, to the next sample, and of sound at 16 kHz."""


def count(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def told(record: Record, name: str, module: nn.Module) -> None:
    """Into the report, and to be read with ``-s``."""
    record(f"parameters of {name}", count(module))
    print(f"{name}: {count(module):,} parameters")


def step(module: nn.Module, loss: Tensor) -> None:
    """One of AdamW, in which something learns."""
    learning = [weight for weight in module.parameters() if weight.requires_grad]
    before = [weight.detach().sum() for weight in learning]
    optimiser = torch.optim.AdamW(learning, 1e-4)
    assert bool(loss.isfinite())
    loss.backward()
    optimiser.step()
    moved = sum(bool(weight.sum() != old) for weight, old in zip(learning, before, strict=True))
    assert moved > len(learning) // 2


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_published_autoencoder(record_property: Record) -> None:
    part, mel = MelAutoencoder(AutoencoderKL(**AUTOENCODER)), noise(1, 64, 256) - 5
    told(record_property, "autoencoder, AudioLDM", part)
    assert part.latent_shape(256) == (8, 64, 16) and float(part.get_buffer("latent_scale")) == pytest.approx(
        0.92279, abs=1e-4
    )
    mean, log_variance = part.posterior(mel)
    assert mean.shape == (1, 8, 64, 16)
    step(part, F.l1_loss(part.reconstruct(mean, log_variance, 256), mel))
    with torch.no_grad():
        assert part.decode(part.encode(mel), 256).shape == mel.shape


def test_the_published_vocoder(record_property: Record) -> None:
    """Odd strides with even kernels give more samples than a hop a frame, and these are cut."""
    part, mel = Vocoder(SpeechT5HifiGan(SpeechT5HifiGanConfig(**VOCODER))), noise(1, 64, 256) - 5
    told(record_property, "vocoder, AudioLDM", part)
    wave = part(mel)
    assert wave.shape == (1, 160 * 256) and part.model(mel.transpose(1, 2)).shape[-1] > 160 * 256
    step(part, F.mse_loss(wave, 0.05 * noise(1, 160 * 256)))


def test_the_published_brain_encoder_on_features_of_the_width_of_wav2vec2(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Record
) -> None:
    monkeypatch.setenv("EEG2SPEECH_CACHE", str(tmp_path / "cache"))
    sizes: dict[str, Any] = {"hidden_size": 1024, "num_hidden_layers": 4, "intermediate_size": 64}
    convolutions: dict[str, Any] = {"conv_dim": (32,) * 7, "num_conv_pos_embeddings": 16}
    Wav2Vec2Model(Wav2Vec2Config(**sizes, **convolutions, num_attention_heads=16)).save_pretrained(tmp_path / "wide")
    for speech, model in (("wav2vec2", {"speech_model": str(tmp_path / "wide")}), ("deep_mel", {})):
        declaration = {"system": "brain_encoder", "settings": {"size": "paper", "speech": speech} | model}
        system: Any = build(declare(declaration), Context.of(store, 3.0))
        assert isinstance(system, BrainEncoderSystem) and system.dimension == 1024
        told(record_property, f"brain encoder, paper, {speech}", system.network)
        system.network.brain.mark_known(range(4))
        eeg, subject = 10 * noise(2, len(store.index.sensors), 384), torch.arange(2)
        features = system.features(0.05 * noise(2, 48_000))
        step(system.network, system.loss(FeatureBatch(eeg, subject, features))["loss"])
        with torch.inference_mode():
            heard = system.embed_speech(0.05 * noise(2, 48_000))
        assert embedded(system, eeg, subject).shape == heard.shape == (2, 1024, 342)


@pytest.mark.parametrize("conditioning", ["film", "sequence"])
def test_the_published_size_generates_with_published_parts(
    store: Store, tmp_path: Path, conditioning: str, record_property: Record
) -> None:
    AutoencoderKL(**AUTOENCODER).save_pretrained(tmp_path / "vae")
    SpeechT5HifiGan(SpeechT5HifiGanConfig(**VOCODER)).save_pretrained(tmp_path / "vocoder")
    parts = {"autoencoder": str(tmp_path), "vocoder": str(tmp_path), "size": "paper", "steps": 2}
    settings = parts | {"conditioning": conditioning, "encoder": {"size": "paper"}}
    context = replace(Context.of(store, 4.0), segment_seconds=2.56)
    system: Any = build(declare({"system": "eeg2speech", "settings": settings}), context)
    told(record_property, f"U-Net, paper, {conditioning}", system.network.diffusion.unet)
    told(record_property, f"EEG2Speech, paper, {conditioning}, with its brain encoder", system.network)
    system.network.encoder.brain.mark_known(range(4))
    eeg, subject = 10 * noise(1, len(store.index.sensors), SAMPLES), torch.zeros(1, dtype=torch.long)
    features = system.latents(0.05 * noise(1, WINDOW))
    assert features.shape == (1, 8 * 16 + 4 * 64, 64)
    system.network.train()
    step(system.network.diffusion, system.loss(FeatureBatch(eeg, subject, features))["loss"])
    system.network.zero_grad(set_to_none=True)
    found = generated(system, eeg, subject, [torch.Generator().manual_seed(0)], torch.zeros(1, WINDOW))
    assert found.shape == (1, WINDOW) and bool(found.isfinite().all())
