"""Latent diffusion conditioned on an embedding: AudioLDM's (Liu et al. 2023, arXiv 2301.12503), with EEG for text.

A U-Net learns to say which noise was added to the latents of a mel spectrogram [B, D, L, K]; sampling begins with noise
and takes it away in a few steps of a solver. The embedding [B, D', F] comes in by one of three ways:

``film``
    its mean over time, projected and joined to the embedding of the step, as AudioLDM does with CLAP's embedding.
``sequence``
    as tokens by cross-attention. Latents and tokens both carry a clock, so that attention can find what is of its time.
``aligned``
    projected, brought to the latents' frames and given to the U-Net as more channels: time cannot be lost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional as F

from eeg2speech.errors import BadInput, unknown_name

Way = Literal["film", "sequence", "aligned"]
WAYS: tuple[Way, ...] = ("film", "sequence", "aligned")
SOLVERS = ("dpm", "ddim")
CLOCK = 16
"""Numbers that tell the time: sines and cosines of periods from ``SHORTEST`` to ``LONGEST`` seconds."""
SHORTEST, LONGEST = 0.25, 16.0
TOKEN_RATE = 16.0
"""Tokens a second, of an embedding that is given as a sequence."""
ALIGNED = 16
"""Channels of an embedding that is given frame by frame."""
NOISE: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.0015,
    "beta_end": 0.0195,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
"""AudioLDM's, as diffusers names it."""
MOST_STEPS = 500
"""Of a solver: DDIM takes whole steps of the 1000, and beyond half of them begins with less noise than is drawn."""


@dataclass(frozen=True)
class UnetSize:
    """Channels of each resolution, residual blocks in each, heads of attention, and groups of a group norm."""

    channels: tuple[int, ...]
    blocks: int
    head: int
    groups: int
    attention: tuple[bool, ...]

    def __post_init__(self) -> None:
        if len(self.channels) != len(self.attention):
            raise BadInput("UnetSize", "attention", f"one for each of {len(self.channels)} levels", self.attention)


SIZES = {
    "demo": UnetSize((32, 64, 64), 1, 4, 8, (False, True, True)),
    "paper": UnetSize((128, 256, 384, 640), 2, 8, 32, (False, True, True, True)),
}
"""``paper`` is AudioLDM-S."""


def new_unet(size: UnetSize, way: Way, channels: int, width: int) -> UNet2DConditionModel:
    """A U-Net at random for latents of so many channels and a condition of ``width`` numbers."""
    down = ["CrossAttnDownBlock2D" if attention else "DownBlock2D" for attention in size.attention]
    up = ["CrossAttnUpBlock2D" if attention else "UpBlock2D" for attention in reversed(size.attention)]
    extra = {"film": 0, "sequence": CLOCK, "aligned": ALIGNED}[way]
    film = {
        "class_embed_type": "simple_projection",
        "projection_class_embeddings_input_dim": width,
        "class_embeddings_concat": True,
    }
    return UNet2DConditionModel(
        in_channels=channels + extra,
        out_channels=channels,
        down_block_types=down,
        up_block_types=up,
        block_out_channels=size.channels,
        layers_per_block=size.blocks,
        # Without tokens attention is to the latents themselves, which have each level's own width.
        cross_attention_dim=width if way == "sequence" else size.channels,
        attention_head_dim=size.head,
        norm_num_groups=size.groups,
        **(film if way == "film" else {}),
    )


class LatentDiffusion(nn.Module):
    """A U-Net with its condition, and a learned one for none.

    Args:
        unet: from ``new_unet``, or a published one (``film``).
        dimension: D' of the embedding.
        frame_rate: latents a second.
    """

    def __init__(self, unet: UNet2DConditionModel, way: Way, dimension: int, frame_rate: float) -> None:
        super().__init__()
        if way not in WAYS:
            raise unknown_name("LatentDiffusion", "conditioning", way, WAYS)
        self.unet, self.way, self.dimension, self.frame_rate = unet, way, dimension, frame_rate
        config = unet.config
        width = {
            "film": config.projection_class_embeddings_input_dim,
            "sequence": config.cross_attention_dim,
            "aligned": ALIGNED,
        }[way]
        if not isinstance(width, int):
            raise BadInput("LatentDiffusion", "unet", f"one that is conditioned by {way}", f"a width of {width}")
        self.adapter = nn.Linear(dimension + (CLOCK if way == "sequence" else 0), width)
        self.null = nn.Parameter(torch.zeros(width))

    def condition(self, embedding: Tensor, rate: float) -> Tensor:
        """Embedding [B, D', F] at ``rate`` frames a second -> condition [B, N, W]; N is 1 for ``film``.

        Raises BadInput for an embedding of another size.
        """
        if embedding.ndim != 3 or embedding.shape[1] != self.dimension:
            raise BadInput("LatentDiffusion", "embedding", f"[batch, {self.dimension}, frames]", list(embedding.shape))
        normal = normalised(embedding)
        if self.way == "film":
            return self._adapted(normal.mean(-1, keepdim=True))
        if self.way == "sequence":
            tokens = max(1, round(embedding.shape[-1] * TOKEN_RATE / rate))
            pooled = F.adaptive_avg_pool1d(normal, tokens)
            time = clock(tokens, tokens * rate / embedding.shape[-1], pooled)
            return self._adapted(torch.cat([pooled, time.expand(len(pooled), -1, -1)], 1))
        # Frames of the latents' rate, as many as the embedding lasts: it ends 150 ms before a window does.
        return self._adapted(F.interpolate(normal, scale_factor=self.frame_rate / rate, mode="linear"))

    def nothing(self, condition: Tensor) -> Tensor:
        """The learned condition for none, in the shape of another."""
        return self.null.expand_as(condition)

    def forward(self, latents: Tensor, step: Tensor, condition: Tensor) -> Tensor:
        """Noisy latents [B, D, L, K], steps [B], condition [B, N, W] -> the noise in them."""
        # Levels halve the latents; what they cannot halve is filled up.
        factor = 2 ** (len(self.unet.config.block_out_channels) - 1)
        length = latents.shape[2]
        x = F.pad(latents, (0, 0, 0, -length % factor))
        tokens, classes = None, None
        if self.way == "film":
            classes = condition[:, 0]
        elif self.way == "sequence":
            tokens = condition
            time = clock(x.shape[2], self.frame_rate, x).unsqueeze(-1)
            x = torch.cat([x, time.expand(len(x), -1, -1, x.shape[3])], 1)
        else:
            x = torch.cat([x, self._beside(condition, x)], 1)
        noise: Tensor = self.unet(x, step, encoder_hidden_states=tokens, class_labels=classes).sample
        return noise[:, :, :length]

    def _beside(self, condition: Tensor, x: Tensor) -> Tensor:
        """Condition [B, N, W] as channels [B, W, L, K] beside latents; its last frame stands for what lasts longer."""
        frames = condition.transpose(1, 2)[..., : x.shape[2]]
        padded = F.pad(frames, (0, x.shape[2] - frames.shape[-1]), mode="replicate")
        return padded.unsqueeze(-1).expand(-1, -1, -1, x.shape[3])

    def _adapted(self, embedding: Tensor) -> Tensor:
        found: Tensor = self.adapter(embedding.transpose(1, 2))
        return found


def normalised(embedding: Tensor) -> Tensor:
    """Root mean square 1 over all numbers of an embedding: those of EEG and of speech differ in size.

    An embedding of zeros stays.
    """
    power = embedding.float().square().mean((1, 2), keepdim=True)
    return embedding.float() / power.sqrt().clamp_min(1e-6)


def clock(frames: int, rate: float, like: Tensor) -> Tensor:
    """The time of each frame as sines and cosines, [1, CLOCK, frames]."""
    seconds = torch.arange(frames, device=like.device, dtype=like.dtype) / rate
    periods = SHORTEST * (LONGEST / SHORTEST) ** torch.linspace(0, 1, CLOCK // 2, device=like.device)
    phase = 2 * math.pi * seconds / periods.unsqueeze(-1).to(like.dtype)
    return torch.cat([phase.sin(), phase.cos()]).unsqueeze(0)


def noisy(latents: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Latents with noise of random steps, the noise, and the steps [B]: what a training asks about."""
    scheduler = DDIMScheduler(**NOISE)
    count = scheduler.config.num_train_timesteps
    # On the CPU, where generators are, whatever the device.
    noise = torch.randn(latents.shape, generator=generator).to(latents)
    # Spread evenly over the batch: the loss depends on the step more than on anything else.
    offset = (torch.arange(len(latents)) + torch.rand(len(latents), generator=generator)) / len(latents)
    step = (offset * count).long().clamp_max(count - 1).to(latents.device)
    return scheduler.add_noise(latents, noise, step), noise, step


@torch.no_grad()
def sample(
    network: LatentDiffusion,
    condition: Tensor,
    shape: Sequence[int],
    generators: Sequence[torch.Generator],
    steps: int,
    guidance: float,
    solver: str = "dpm",
) -> Tensor:
    """Latents [B, *shape] from noise that each row's own generator draws.

    Args:
        condition: [B, N, W]. steps: of the solver, ``dpm`` (multistep) or ``ddim``; neither adds noise.
        guidance: 1 follows the condition; more goes beyond it, away from none (Ho and Salimans 2022).

    Raises:
        BadInput: an unknown solver, steps below 1 or above ``MOST_STEPS``, or not one generator for each row.
    """
    if solver not in SOLVERS:
        raise unknown_name("sample", "solver", solver, SOLVERS)
    if not 1 <= steps <= MOST_STEPS:
        raise BadInput("sample", "steps", f"1 to {MOST_STEPS}", steps)
    if len(generators) != len(condition):
        raise BadInput("sample", "generators", f"one for each of {len(condition)} rows", len(generators))
    scheduler = _solver(solver)
    scheduler.set_timesteps(steps)
    drawn = [torch.randn(tuple(shape), generator=generator) for generator in generators]
    latents = torch.stack(drawn).to(condition.device, torch.float32)
    both = torch.cat([condition, network.nothing(condition)])
    for step in scheduler.timesteps:
        if guidance == 1:
            noise = network(latents, step.expand(len(latents)).to(latents.device), condition)
        else:
            twice = torch.cat([latents, latents])
            found, blind = network(twice, step.expand(len(twice)).to(latents.device), both).float().chunk(2)
            noise = blind + guidance * (found - blind)
        latents = scheduler.step(noise.float(), step, latents).prev_sample
    return latents


def _solver(name: str) -> Any:
    if name == "ddim":
        return DDIMScheduler(**NOISE)
    shared = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "steps_offset")
    return DPMSolverMultistepScheduler(**{key: NOISE[key] for key in shared})
