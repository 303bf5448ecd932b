"""Neural audio codecs as frozen parts of a system: waveform to latents, latents to codes, and back.

The interface, and its implementation over ``transformers.DacModel``, a port of the Descript Audio Codec (Kumar et al.
2023, "High-fidelity audio compression with improved RVQGAN", arXiv 2306.06546). This module opens no file: weights are
loaded in ``eeg2speech.systems.codecs``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eeg2speech.errors import BadInput
from eeg2speech.models.fingerprint import state_hash
from eeg2speech.models.quick import quickened
from eeg2speech.models.streaming import stream_of

if TYPE_CHECKING:
    from transformers import DacModel

PIECE_FRAMES = 200
"""Frames that are encoded at a time. A whole minute at once takes twice as long: nothing of it stays in the cache."""


@dataclass(frozen=True)
class Quantised:
    """What the codebooks make of latents: ``latents`` [B, D, L] and the ``codes`` [B, K, L] (int64) they stand for."""

    latents: Tensor
    codes: Tensor


class Codec(nn.Module):
    """A pretrained codec that is never trained: no parameter wants a gradient, and it stays in eval mode.

    Waves are [B, T] at ``rate``, in the range -1 to 1, taken as they are: loudness is left to the caller. Latents are
    [B, D, L], one frame every ``hop`` samples; codes are [B, K, L]. Everything is computed in float32, also under
    autocast, because codes and cached latents must not depend on the precision in which the system around it is
    trained.

    Args:
        model: the network of another library (``encoder``, ``quantizer``, ``decoder``), which is frozen here.
        rate: of the wave, in Hz. hop: samples a frame. width: D. books: K, codebooks. book_size: entries of each.
    """

    model: Any

    def __init__(self, model: nn.Module, rate: int, hop: int, width: int, books: int, book_size: int) -> None:
        super().__init__()
        self.model = quickened(model.requires_grad_(False).eval())
        self.rate, self.hop, self.width = rate, hop, width
        self.books, self.book_size = books, book_size
        self.eval()

    @property
    def frame_rate(self) -> float:
        """Latent frames a second, in Hz."""
        return self.rate / self.hop

    @cached_property
    def fingerprint(self) -> str:
        """Name of the weights: the ``state_hash`` of ``weights()``, so both implementations give the same."""
        return state_hash(self.weights())

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode: in training mode the quantiser drops codebooks at random."""
        return super().train(False)

    def encode(self, wave: Tensor) -> Tensor:
        """Wave [B, T] -> latents before quantisation [B, D, L], L = ceil(T / hop), without a gradient.

        The end is padded with zeros up to a whole frame.

        Raises:
            BadInput: not [B, T] with at least one sample, or not in floating point.
        """
        if wave.ndim != 2 or not wave.numel() or not wave.is_floating_point():
            raise BadInput("Codec.encode", "wave", "floats [B, T], not empty", _described(wave))
        padded = F.pad(wave.float(), (0, -wave.shape[-1] % self.hop))
        with torch.no_grad(), _float32(wave):
            return self._encode(padded.unsqueeze(1))

    def quantise(self, latents: Tensor, books: int | None = None) -> Quantised:
        """Latents [B, D, L] -> the nearest that the first ``books`` codebooks (default: all) can say.

        The result is exactly ``from_codes`` of its codes. Gradients go straight through to ``latents``.

        Raises:
            BadInput: not [B, D, L] with the codec's D, or a number of codebooks that it does not have.
        """
        self._require_latents(latents, "Codec.quantise")
        books = self.books if books is None else books
        if not 1 <= books <= self.books:
            raise BadInput("Codec.quantise", "books", f"1 to {self.books}", books)
        with _float32(latents):
            through, codes = self._quantise(latents.float(), books)
            exact = self._from_codes(codes)
        # The library rounds when it makes its result differentiable; adding a zero keeps the gradient alone.
        return Quantised(exact + (through - through.detach()) if through.requires_grad else exact, codes)

    def from_codes(self, codes: Tensor) -> Tensor:
        """Codes [B, K', L] of the first K' <= K codebooks -> latents [B, D, L].

        Raises:
            BadInput: another shape, more codebooks than there are, no integers, or entries that no codebook has.
        """
        if codes.ndim != 3 or not codes.numel() or codes.shape[1] > self.books or not _whole(codes):
            expected = f"integers [B, 1 to {self.books}, L], not empty"
            raise BadInput("Codec.from_codes", "codes", expected, _described(codes))
        # On a GPU an index out of range ends the process, so this is worth the wait for the device.
        low, high = int(codes.min()), int(codes.max())
        if low < 0 or high >= self.book_size:
            raise BadInput("Codec.from_codes", "codes", f"0 to {self.book_size - 1}", f"{low} to {high}")
        with _float32(codes):
            return self._from_codes(codes.long())

    def decode(self, latents: Tensor, samples: int | None = None) -> Tensor:
        """Latents [B, D, L] -> wave [B, samples], by default L * hop samples. Gradients reach the latents.

        The end is cropped or padded with zeros to that length: a decoder with an odd stride gives a few samples less.

        Raises:
            BadInput: not [B, D, L] with the codec's D, or fewer than 0 samples.
        """
        self._require_latents(latents, "Codec.decode")
        samples = latents.shape[-1] * self.hop if samples is None else samples
        if samples < 0:
            raise BadInput("Codec.decode", "samples", "0 or more", samples)
        with _float32(latents):
            wave = self._decode(latents.float())
        return F.pad(wave, (0, samples - wave.shape[-1]))

    def weights(self) -> dict[str, Tensor]:
        """The tensors by the names of ``DacModel.state_dict()``, whichever library computes."""
        return dict(self.model.state_dict())

    def _require_latents(self, latents: Tensor, where: str) -> None:
        right = latents.ndim == 3 and latents.shape[1] == self.width
        if not right or not latents.numel() or not latents.is_floating_point():
            raise BadInput(where, "latents", f"floats [B, {self.width}, L], not empty", _described(latents))

    def round_trip(self, wave: Tensor, books: int | None = None) -> Tensor:
        """Wave [B, T] -> what the first ``books`` codebooks make of it (all if None, none if 0), [B, T]."""
        latents = self.encode(wave)
        if books != 0:
            latents = self.quantise(latents, books).latents
        return self.decode(latents, wave.shape[-1])

    def _encode(self, wave: Tensor) -> Tensor:
        """Wave [B, 1, L * hop] -> latents [B, D, L]."""
        latents: Tensor = self.model.encoder(wave)
        return latents

    def _quantise(self, latents: Tensor, books: int) -> tuple[Tensor, Tensor]:
        """Latents [B, D, L] -> quantised latents with a straight-through gradient, codes [B, books, L]."""
        quantised, codes, *_ = self.model.quantizer(latents, books)
        return quantised, codes

    def _from_codes(self, codes: Tensor) -> Tensor:
        """Codes [B, K', L] -> latents [B, D, L]."""
        latents: Tensor = self.model.quantizer.from_codes(codes)[0]
        return latents

    def _decode(self, latents: Tensor) -> Tensor:
        """Latents [B, D, L] -> wave [B, about L * hop]."""
        wave: Tensor = self.model.decoder(latents).squeeze(1)
        return wave


class DacCodec(Codec):
    """The Descript Audio Codec as transformers computes it."""

    model: DacModel

    def __init__(self, model: DacModel) -> None:
        config = model.config
        super().__init__(
            model,
            rate=config.sampling_rate,
            hop=config.hop_length,
            width=config.hidden_size,
            books=config.n_codebooks,
            book_size=config.codebook_size,
        )

    def _encode(self, wave: Tensor) -> Tensor:
        """Long waves piece by piece, with the state carried: the same latents."""
        pieces = torch.split(wave, PIECE_FRAMES * self.hop, dim=-1)
        if len(pieces) == 1:
            return super()._encode(wave)
        stream = stream_of(self.model.encoder)
        return torch.cat([stream.push(piece, last=piece is pieces[-1]) for piece in pieces], dim=-1)


def _float32(tensor: Tensor) -> torch.autocast:
    return torch.autocast(tensor.device.type, enabled=False)


def _whole(tensor: Tensor) -> bool:
    return not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)


def _described(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
