"""Training of the embedded autoencoder and vocoder, on the part of the embedded corpus that is free for it.

Both are trained by ``fit_network`` like any system: checkpoints, resume, the best epoch on held-out speech, a log.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

from eeg2speech.assets.corpus import RATE, corpus_hash
from eeg2speech.assets.pretraining import pretraining_audio
from eeg2speech.data.mixing import LEVEL
from eeg2speech.models.discriminators import Discriminators
from eeg2speech.models.mel import BANDS, LogMel
from eeg2speech.models.spectral import MultiScaleMel
from eeg2speech.models.speech_parts import MelAutoencoder, Vocoder
from eeg2speech.training.adversary import Adversary
from eeg2speech.training.budget import Budget, RunOptions
from eeg2speech.training.checkpoint import save_weights
from eeg2speech.training.fit import Plan, fit_network
from eeg2speech.training.speech import Audio, SpeechCrops, WaveBatch

PartName = Literal["autoencoder", "vocoder"]
KL_WEIGHT = 1e-3
"""Of the mean over latents, in nats: enough to keep them near unit variance."""
ADVERSARY_FROM, JUDGES_WIDTH = 0.6, 8
MEL_WEIGHT, LOG_MEL_WEIGHT, FEATURE_WEIGHT = 15.0, 5.0, 2.0
CALIBRATION_CROPS = 64

AUTOENCODER: dict[str, Any] = {
    "in_channels": 1,
    "out_channels": 1,
    "down_block_types": ["DownEncoderBlock2D"] * 3,
    "up_block_types": ["UpDecoderBlock2D"] * 3,
    "block_out_channels": [32, 64, 64],
    "layers_per_block": 1,
    "latent_channels": 8,
    "norm_num_groups": 8,
    "mid_block_add_attention": False,
    "scaling_factor": 1.0,
}
"""The embedded autoencoder, as ``AutoencoderKL`` names it: AudioLDM's, narrower and without attention."""
VOCODER: dict[str, Any] = {
    "model_in_dim": BANDS,
    "sampling_rate": RATE,
    "upsample_initial_channel": 192,
    "upsample_rates": [5, 4, 2, 2, 2],
    "upsample_kernel_sizes": [15, 8, 4, 4, 4],
    "resblock_kernel_sizes": [3, 7],
    "resblock_dilation_sizes": [[1, 3], [1, 3]],
    "normalize_before": True,
}
"""The embedded vocoder, as ``SpeechT5HifiGanConfig`` names it."""
PLANS: dict[str, Plan] = {
    "autoencoder": Plan(
        steps={"demo": 200, "hour": 2_000, "full": 100_000}, batch=4, segment_seconds=1.28, weight_decay=0.0,
        patience=1000, valid_segments=32, epoch_steps=100,
    ),
    "vocoder": Plan(
        steps={"demo": 200, "hour": 9_000, "full": 400_000}, batch=8, segment_seconds=0.64, weight_decay=0.0,
        patience=1000, valid_segments=32, epoch_steps=250, clip=50.0,
    ),
}  # fmt: skip


def new_autoencoder() -> MelAutoencoder:
    """The embedded autoencoder's network, at random."""
    return MelAutoencoder(AutoencoderKL(**AUTOENCODER))


def new_vocoder() -> Vocoder:
    """The embedded vocoder's network, at random."""
    return Vocoder(SpeechT5HifiGan(SpeechT5HifiGanConfig(**VOCODER)))


@dataclass(frozen=True)
class PartTrainer:
    """Trains one part in ``folder``.

    Args:
        name: which. folder: for checkpoints and, at the end, ``<name>.safetensors``.
        audio: speech to learn from and speech that watches; the embedded corpus' partition if None.
    """

    name: PartName
    folder: Path
    audio: tuple[Audio, Audio] | None = None

    def run(self, budget: Budget, seed: int = 0, device: str = "auto", progress: bool = True) -> Path:
        """Train to the budget's end, from the last checkpoint where there is one. Returns the weights' file."""
        heard, kept_out = self.audio or (pretraining_audio(), pretraining_audio(kept_out=True))
        train, valid = SpeechCrops(heard, RATE), SpeechCrops(kept_out, RATE)
        plan = PLANS[self.name]
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = new_autoencoder() if self.name == "autoencoder" else new_vocoder()
        task = (_AutoencoderTask if self.name == "autoencoder" else _VocoderTask)(network)  # type: ignore[arg-type]
        task.calibrate(_crops(train, plan.segment_seconds))
        steps = plan.steps_for(budget)
        judges = task.adversary(steps)
        identity = self._about(steps, seed) | {"data": [train.key, valid.key]}
        options = RunOptions(self.folder, None, seed, device, progress=progress)
        training = fit_network(network, task.loss, train, valid, plan, budget, options, identity, judges)
        task.finish(_crops(train, plan.segment_seconds))
        path = self.folder / f"{self.name}.safetensors"
        about = {self.name: CONFIGURATIONS[self.name], "training": identity | training.as_dict(), "heard": HEARD}
        save_weights(path, network.state_dict(), about, half=True)
        return path

    def _about(self, steps: int, seed: int) -> dict[str, Any]:
        plan = asdict(PLANS[self.name]) | {"steps": steps}
        return {"part": self.name, "settings": CONFIGURATIONS[self.name], "plan": plan, "seed": seed,
                "corpus": corpus_hash()}  # fmt: skip


CONFIGURATIONS = {"autoencoder": AUTOENCODER, "vocoder": VOCODER}
HEARD = "utterances of the embedded corpus that assets/speech/pretraining.json does not hold out"


class _AutoencoderTask:
    """Mean absolute error of the mel spectrogram, in deviations, and the divergence from a normal distribution."""

    def __init__(self, network: MelAutoencoder) -> None:
        self.network, self.mel = network, LogMel()

    def calibrate(self, wave: Tensor) -> None:
        """Mean and deviation of mels."""
        mel = self.mel(wave)
        self.network.get_buffer("mean").copy_(mel.mean())
        self.network.get_buffer("deviation").copy_(mel.std())

    def adversary(self, steps: int) -> Adversary | None:
        """None."""
        return None

    def loss(self, batch: WaveBatch) -> dict[str, Tensor]:
        """Named losses."""
        with torch.no_grad():
            mel = self.mel.to(batch.wave.device)(batch.wave)
        mean, log_variance = self.network.posterior(mel)
        found = self.network.reconstruct(mean, log_variance, mel.shape[-1])
        distance = (found.float() - mel).abs().mean() / self.network.get_buffer("deviation")
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).float().mean()
        return {"loss": distance + KL_WEIGHT * kl, "mel": distance, "kl": kl}

    @torch.no_grad()
    def finish(self, wave: Tensor) -> None:
        """Set the scale that gives latents unit variance."""
        mean, _ = self.network.cpu().eval().posterior(self.mel.cpu()(wave))
        self.network.get_buffer("latent_scale").copy_(1 / mean.std())


class _VocoderTask:
    """Mel distances at several scales, and late in training discriminators. Its phases are its own business."""

    def __init__(self, network: Vocoder) -> None:
        self.network, self.mel, self.scales = network, LogMel(), MultiScaleMel(RATE)
        self.judges: Adversary | None = None

    def calibrate(self, wave: Tensor) -> None:
        """Mean and deviation of each band."""
        mel = self.mel(wave)
        self.network.model.mean.copy_(mel.mean((0, 2)))
        self.network.model.scale.copy_(mel.std((0, 2)))

    def adversary(self, steps: int) -> Adversary | None:
        """Discriminators, heard in the last part of the training."""
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.judges = Adversary(Discriminators(JUDGES_WIDTH), round(ADVERSARY_FROM * steps))
        return self.judges

    def loss(self, batch: WaveBatch) -> dict[str, Tensor]:
        """Named losses; without discriminators in validation, so that its epochs can be compared."""
        real, device = batch.wave, batch.wave.device
        with torch.no_grad():
            mel = self.mel.to(device)(real)
        fake = self.network(mel).float()
        losses = {"mel": self.scales.to(device)(real, fake), "log_mel": (self.mel(fake) - mel).abs().mean()}
        total = MEL_WEIGHT * losses["mel"] + LOG_MEL_WEIGHT * losses["log_mel"]
        if self.judges is not None and self.judges.heard and self.network.training:
            loud = LEVEL * 4
            losses |= self.judges.losses(real / loud, fake / loud)
            total = total + losses["adversarial"] + FEATURE_WEIGHT * losses["feature_matching"]
        return {"loss": total} | losses

    def finish(self, wave: Tensor) -> None:
        """Nothing is left to do."""


def _crops(source: SpeechCrops, seconds: float) -> Tensor:
    """[K, T], for what is set from a look at the speech."""
    drawn = source.random(seconds, CALIBRATION_CROPS, 0, 10**6)
    return torch.stack([torch.from_numpy(source.wave(crop)) for crop in drawn])
