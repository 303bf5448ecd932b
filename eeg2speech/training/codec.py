"""Training of the embedded codec: a small DAC (Kumar et al. 2023, arXiv 2306.06546) on the embedded corpus.

Three phases. First the autoencoder alone learns to carry a waveform: nothing is quantised. Then the codebooks are set
from what the latents look like (principal components of what is left, for each book in turn; k-means), the encoder is
frozen, and quantiser and decoder learn on, with quantiser dropout. An encoder that learned on would run away from its
codebooks: their error grew from 5 % to all of the latents' power within a thousand steps. A share of every batch still
passes unquantised, so that the decoder knows both kinds of latents. Last, the discriminators come in. Checkpoints are
written by rename, and a run that was killed goes on from the last one: what is drawn depends on seed and step alone.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import DacConfig, DacModel

from eeg2speech.assets.corpus import RATE, corpus_hash
from eeg2speech.assets.pretraining import pretraining_audio
from eeg2speech.data.mixing import LEVEL
from eeg2speech.errors import BadInput
from eeg2speech.models.discriminators import (
    Discriminators,
    adversarial_loss,
    discriminator_loss,
    feature_matching_loss,
)
from eeg2speech.models.masking import negative_si_sdr
from eeg2speech.models.quick import quickened
from eeg2speech.models.spectral import MultiScaleMel
from eeg2speech.training.allocator import keep_freed_memory
from eeg2speech.training.checkpoint import save_weights
from eeg2speech.training.fit import native_bf16
from eeg2speech.training.optimiser import adamw

BOOKS_RATE = 0.1
"""The quantiser's share of the learning rate."""
MOST_SKIPPED = 10
Audio = dict[str, list[NDArray[np.float32]]]


@dataclass(frozen=True)
class CodecSettings:
    """Sizes of the network, as ``transformers.DacConfig`` names them."""

    encoder_hidden_size: int = 16
    downsampling_ratios: tuple[int, ...] = (8, 5, 4, 2)
    decoder_hidden_size: int = 256
    n_codebooks: int = 12
    codebook_size: int = 1024
    codebook_dim: int = 8
    sampling_rate: int = RATE

    def config(self) -> DacConfig:
        """As transformers wants it."""
        about = asdict(self) | {"downsampling_ratios": list(self.downsampling_ratios)}
        return DacConfig(**about, quantizer_dropout=0.5, commitment_loss_weight=0.25, codebook_loss_weight=1.0)


@dataclass(frozen=True)
class CodecPlan:
    """How the codec is trained. ``seconds`` is the length of a crop; phases begin at ``quantise_from`` and
    ``adversarial_from`` (shares of all steps); losses are weighted as named.

    ``mixtures`` is the share of crops with two talkers (the codec has to carry mixtures too), ``unquantised`` the share
    that passes the quantiser by.
    """

    steps: int = 5500
    batch: int = 8
    seconds: float = 0.64
    learning_rate: float = 1e-3
    quantise_from: float = 0.8
    adversarial_from: float = 0.95
    discriminator_width: int = 8
    mixtures: float = 0.3
    unquantised: float = 0.25
    lambda_mel: float = 15.0
    lambda_si_sdr: float = 0.2
    lambda_codebook: float = 1.0
    lambda_adversarial: float = 1.0
    lambda_feature_matching: float = 2.0
    save_every: int = 500


@dataclass
class CodecTraining:
    """What a training of the codec was: steps, seconds, losses on held-out speech by step."""

    steps: int = 0
    seconds: float = 0.0
    curve: list[dict[str, float]] = field(default_factory=list)


def build(settings: CodecSettings, seed: int = 0) -> DacModel:
    """A codec with random weights that keep the variance of what passes through.

    transformers' own initialisation (standard deviation 0.02 everywhere) makes the output vanish: nothing is learned
    for hundreds of steps.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = DacModel(settings.config())
        for name, module in model.named_modules():
            if isinstance(module, nn.Conv1d | nn.ConvTranspose1d):
                _keep_variance(name, module)
    return quickened(model)


def _keep_variance(name: str, layer: nn.Conv1d | nn.ConvTranspose1d) -> None:
    # In a transposed convolution each output sample stands under kernel / stride taps.
    taps = layer.kernel_size[0] / (layer.stride[0] if isinstance(layer, nn.ConvTranspose1d) else 1)
    # Residual branches start small, so that a block starts near the identity; so does the output.
    branch = "res_unit" in name and name.endswith("conv2")
    gain = 0.3 if branch or name == "decoder.conv2" else 1.0
    nn.init.normal_(layer.weight, std=gain / math.sqrt(layer.in_channels * taps))
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)


class CodecTrainer:
    """Trains a codec in ``folder``; call ``run``.

    Args:
        folder: for ``last.pt`` (to resume from) and, at the end, ``codec.safetensors``, which holds the curve too.
        compiled: pass encoder and decoder through ``torch.compile``: half the time a step, a minute to begin with, and
            it wants a C++ compiler on a CPU.
    """

    def __init__(
        self,
        folder: Path,
        settings: CodecSettings | None = None,
        plan: CodecPlan | None = None,
        seed: int = 0,
        device: str = "cpu",
        compiled: bool = False,
        audio: tuple[Audio, Audio] | None = None,
    ) -> None:
        self.folder, self.settings, self.plan = folder, settings or CodecSettings(), plan or CodecPlan()
        self.seed, self.device = seed, torch.device(device)
        heard, kept_out = audio or (pretraining_audio(), pretraining_audio(kept_out=True))
        self.crops, self.kept_out = Crops(heard, self.settings, self.plan, seed), kept_out
        self.model = build(self.settings, seed).to(self.device)  # type: ignore[arg-type]
        self.mel = MultiScaleMel(self.settings.sampling_rate).to(self.device)
        with torch.random.fork_rng():
            torch.manual_seed(seed + 1)
            self.judges = Discriminators(self.plan.discriminator_width).to(self.device)
        self.encode: Callable[[Tensor], Tensor] = torch.compile(self.model.encoder) if compiled else self.model.encoder
        self.decode: Callable[[Tensor], Tensor] = torch.compile(self.model.decoder) if compiled else self.model.decoder
        rate = self.plan.learning_rate
        outer = [*self.model.encoder.parameters(), *self.model.decoder.parameters()]
        self.optimizer = adamw(outer, rate, 1e-4, (0.8, 0.99))
        # Codebooks start from the latents' own shape and have little to learn.
        books = self.model.quantizer.parameters()
        self.books_optimizer = adamw(books, rate, 0.0, (0.8, 0.99))
        self.judges_optimizer = adamw(self.judges.parameters(), rate / 4, betas=(0.8, 0.99))
        self.done, self.skipped = CodecTraining(), 0

    def run(self, say: Callable[[str], None] = print) -> Path:
        """Train to the plan's end, from the last checkpoint where there is one. Returns the weights' file."""
        keep_freed_memory()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._resume()
        began = time.perf_counter() - self.done.seconds
        while self.done.steps < self.plan.steps:
            losses = self._step(self.done.steps)
            self.done.steps += 1
            self.done.seconds = time.perf_counter() - began
            if self.done.steps % self.plan.save_every == 0 or self.done.steps == self.plan.steps:
                self._save(losses, say)
        return self._finish()

    def _step(self, step: int) -> dict[str, float]:
        plan = self.plan
        if step == self._quantise_at:
            self._set_codebooks()
        torch.manual_seed((self.seed << 24) + step)
        rate = plan.learning_rate * _schedule(step, plan.steps)
        for optimizer, factor in ((self.optimizer, 1.0), (self.books_optimizer, BOOKS_RATE)):
            for group in optimizer.param_groups:
                group["lr"] = factor * rate
        wave = self.crops.batch(step).to(self.device)
        self.model.train()
        estimate, book_loss = self._through(wave, step >= self._quantise_at)
        losses = self.losses(wave, estimate) | {"codebook": book_loss}
        total = (
            plan.lambda_mel * losses["mel"]
            + plan.lambda_si_sdr * losses["si_sdr"]
            + plan.lambda_codebook * losses["codebook"]
        )
        if step >= self._adversarial_at:
            total = total + self._judged(wave, estimate, losses)
        self.model.zero_grad(set_to_none=True)
        torch.autograd.backward(total)
        if torch.isfinite(nn.utils.clip_grad_norm_(self.model.parameters(), 10.0)):
            self.optimizer.step()
            self.books_optimizer.step()
            self.skipped = 0
        else:
            # One bad batch is passed over; many in a row are a training that has gone wrong.
            self.skipped += 1
            if self.skipped >= MOST_SKIPPED:
                raise BadInput("train codec", f"gradient at step {step}", "finite numbers", "none for ten steps")
        return {name: float(value.detach()) for name, value in losses.items()}

    def _through(self, wave: Tensor, quantised: bool) -> tuple[Tensor, Tensor]:
        """[B, T] -> reconstruction [B, T] and the loss of codebooks and commitment, relative to the latents' power."""
        with self._cast(), torch.set_grad_enabled(not quantised):
            latents = self.encode(wave.unsqueeze(1))
        latents, loss = latents.float(), wave.new_zeros(())
        if quantised:
            coarse, _, projected, commitment, books = self.model.quantizer(latents)
            config = self.model.config
            # Relative to what the books see in all: the first books, which see most, then count most.
            power = projected.detach().square().mean().clamp_min(1e-4)
            loss = (config.commitment_loss_weight * commitment + config.codebook_loss_weight * books).mean() / power
            loss = loss / self.settings.n_codebooks
            # Quantiser dropout acts on the first half of a batch; those that pass by are at its end.
            count = round(self.plan.unquantised * len(wave))
            latents = torch.cat([coarse[: len(wave) - count], latents[len(wave) - count :]])
        with self._cast():
            estimate = self.decode(latents)
        return _same_length(estimate.float().squeeze(1), wave.shape[-1]), loss

    def losses(self, wave: Tensor, estimate: Tensor) -> dict[str, Tensor]:
        """[B, T] twice -> mel distance and negative SI-SDR (dB)."""
        return {"mel": self.mel(wave, estimate), "si_sdr": negative_si_sdr(wave, estimate).mean()}

    def _judged(self, wave: Tensor, estimate: Tensor, losses: dict[str, Tensor]) -> Tensor:
        """A step of the discriminators, then what they make of the estimate."""
        loud = LEVEL * 4
        real, fake = wave / loud, estimate / loud
        verdicts = discriminator_loss(self.judges(real), self.judges(fake.detach()))
        self.judges_optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(verdicts)
        nn.utils.clip_grad_norm_(self.judges.parameters(), 10.0)
        self.judges_optimizer.step()
        self.judges.requires_grad_(False)
        with torch.no_grad():
            seen = self.judges(real)
        found = self.judges(fake)
        self.judges.requires_grad_(True)
        losses["discriminator"] = verdicts
        losses["adversarial"] = adversarial_loss(found)
        losses["feature_matching"] = feature_matching_loss(seen, found)
        plan = self.plan
        return (
            plan.lambda_adversarial * losses["adversarial"] + plan.lambda_feature_matching * losses["feature_matching"]
        )

    @torch.no_grad()
    def _set_codebooks(self) -> None:
        """Projections from principal components of what the books before have left, entries from random frames."""
        batches = [self.crops.batch(10**6 + k).to(self.device) for k in range(64)]
        latents = torch.cat([self.model.encoder(wave.unsqueeze(1)) for wave in batches])
        rest = latents.transpose(1, 2).flatten(0, 1).float()
        generator = torch.Generator().manual_seed(self.seed)
        for book in self.model.quantizer.quantizers:
            rest = rest - _set_book(book, rest, generator)

    @property
    def _quantise_at(self) -> int:
        return round(self.plan.quantise_from * self.plan.steps)

    @property
    def _adversarial_at(self) -> int:
        return round(self.plan.adversarial_from * self.plan.steps)

    def _cast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=native_bf16(self.device.type))

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Losses on speech that was kept out: unquantised, and through all books."""
        self.model.eval()
        wave = torch.from_numpy(_fixed(self.kept_out, 4 * self.settings.sampling_rate)).to(self.device)
        latents = self.model.encoder(wave.unsqueeze(1))
        plain = _same_length(self.model.decoder(latents).squeeze(1), wave.shape[-1])
        found = {name: float(value) for name, value in self.losses(wave, plain).items()}
        if self.done.steps > self._quantise_at:
            coarse = self.model.decoder(self.model.quantizer(latents)[0]).squeeze(1)
            losses = self.losses(wave, _same_length(coarse, wave.shape[-1]))
            found |= {f"{name}_quantised": float(value) for name, value in losses.items()}
        return found

    def _save(self, losses: dict[str, float], say: Callable[[str], None]) -> None:
        valid = self.validate()
        self.done.curve.append({"step": self.done.steps} | losses | {f"valid_{k}": v for k, v in valid.items()})
        words = ", ".join(f"{name} {value:.3f}" for name, value in self.done.curve[-1].items())
        say(f"{self.done.seconds:.0f} s: {words}")
        state = {
            "identity": self._identity,
            "model": self.model.state_dict(),
            "judges": self.judges.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "books_optimizer": self.books_optimizer.state_dict(),
            "judges_optimizer": self.judges_optimizer.state_dict(),
            "done": asdict(self.done),
        }
        partial = self.folder / f"last.{os.getpid()}.tmp"
        torch.save(state, partial)
        partial.replace(self.folder / "last.pt")

    @property
    def _identity(self) -> dict[str, Any]:
        about = {"settings": asdict(self.settings), "plan": asdict(self.plan), "seed": self.seed}
        plain: dict[str, Any] = json.loads(json.dumps(about | {"corpus": corpus_hash()}))
        return plain

    def _resume(self) -> None:
        last = self.folder / "last.pt"
        if not last.exists():
            return
        state = torch.load(last, self.device, weights_only=True)
        for name, value in self._identity.items():
            if state["identity"].get(name) != value:
                raise BadInput(last, name, f"{value} (or another folder)", state["identity"].get(name))
        self.model.load_state_dict(state["model"])
        self.judges.load_state_dict(state["judges"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.books_optimizer.load_state_dict(state["books_optimizer"])
        self.judges_optimizer.load_state_dict(state["judges_optimizer"])
        self.done = CodecTraining(**state["done"])

    def _finish(self) -> Path:
        state = self.model.eval().state_dict()
        about = {
            "codec": asdict(self.settings) | {"downsampling_ratios": list(self.settings.downsampling_ratios)},
            "training": self._identity | asdict(self.done),
            "heard": "utterances of the embedded corpus that assets/speech/pretraining.json does not hold out",
        }
        path = self.folder / "codec.safetensors"
        save_weights(path, state, about, half=True)
        return path


@dataclass(frozen=True)
class Crops:
    """Random crops of speech at about the level of the suite's talkers, some with a second talker."""

    audio: Audio
    settings: CodecSettings
    plan: CodecPlan
    seed: int

    def batch(self, step: int) -> Tensor:
        """[B, T]; the same for the same step."""
        rng = np.random.default_rng([self.seed, step])
        return torch.from_numpy(np.stack([self._item(rng) for _ in range(self.plan.batch)]))

    def _item(self, rng: np.random.Generator) -> NDArray[np.float32]:
        wave = self._talker(rng)
        if rng.random() < self.plan.mixtures:
            wave = wave + self._talker(rng)
        return wave

    def _talker(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """A crop that is not silence, at the suite's level give or take 6 dB."""
        size = round(self.plan.seconds * self.settings.sampling_rate)
        stretches = [x for part in self.audio.values() for x in part if len(x) >= size]
        weights = np.array([len(x) for x in stretches], float)
        while True:
            stretch = stretches[int(rng.choice(len(stretches), p=weights / weights.sum()))]
            start = int(rng.integers(0, len(stretch) - size + 1))
            wave = stretch[start : start + size]
            level = float(np.sqrt(np.mean(np.square(wave, dtype=np.float64))))
            if level > 1e-3:
                return (wave * np.float32(LEVEL / level * 10 ** (rng.uniform(-6, 6) / 20))).astype(np.float32)


def _fixed(audio: Audio, size: int, count: int = 16) -> NDArray[np.float32]:
    """``count`` stretches of ``size`` samples, spread over all of ``audio``, at the suite's level [count, size]."""
    tiles = [x[k : k + size] for part in audio.values() for x in part for k in range(0, len(x) - size + 1, size)]
    loud = [tile for tile in tiles if np.sqrt(np.mean(tile**2)) > 1e-3]
    chosen = [loud[int(k)] for k in np.linspace(0, len(loud) - 1, count)]
    return np.stack([tile * np.float32(LEVEL / np.sqrt(np.mean(tile**2))) for tile in chosen])


def _set_book(book: Any, rest: Tensor, generator: torch.Generator) -> Tensor:
    """Set one codebook from frames [M, D] and return what it makes of them, [M, D].

    An entry is looked up by its direction alone, so that lengths would be lost. One of the dimensions therefore starts
    as a constant: seen from there, a length is a direction too, and the look-up is nearly that of the nearest entry.
    """
    mean = rest.mean(0)
    _, _, basis = torch.linalg.svd(rest - mean, full_matrices=False)
    basis = basis[: book.codebook_dim - 1]
    projected = (rest - mean) @ basis.T
    constant = 2 * projected.square().sum(1).mean().sqrt()
    book.in_proj.weight.copy_(F.pad(basis, (0, 0, 0, 1)).unsqueeze(-1))
    book.in_proj.bias.copy_(torch.cat([-(basis @ mean), constant.unsqueeze(0)]))
    book.out_proj.weight.copy_(F.pad(basis.T, (0, 1)).unsqueeze(-1))
    book.out_proj.bias.copy_(mean)
    entries = _centres(projected, len(book.codebook.weight), generator)
    book.codebook.weight.copy_(torch.cat([entries, constant.expand(len(entries), 1)], 1))
    return _look_up(book, rest)


def _centres(points: Tensor, count: int, generator: torch.Generator, rounds: int = 10) -> Tensor:
    """k-means: [M, E] -> [count, E]. A centre that loses all its points stays where it is."""
    centres = points[torch.randperm(len(points), generator=generator)][torch.arange(count) % len(points)].clone()
    for _ in range(rounds):
        nearest = torch.cdist(points, centres).argmin(1)
        sums = torch.zeros_like(centres).index_add_(0, nearest, points)
        sizes = torch.bincount(nearest, minlength=count).unsqueeze(1)
        centres = torch.where(sizes > 0, sums / sizes.clamp_min(1), centres)
    return centres


def _look_up(book: Any, rest: Tensor) -> Tensor:
    found: Tensor = book(rest.T.unsqueeze(0))[0]
    return found.squeeze(0).T


def _schedule(step: int, steps: int) -> float:
    """Linear over the first 2 %, then a cosine down to a fiftieth."""
    warm = max(1, round(0.02 * steps))
    if step < warm:
        return (step + 1) / warm
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _same_length(wave: Tensor, samples: int) -> Tensor:
    """Odd strides give a few samples less than went in."""
    return F.pad(wave, (0, max(0, samples - wave.shape[-1])))[..., :samples]
