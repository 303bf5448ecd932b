"""The decoder of NeuroCodec: from a mixture's codec latents, guided by EEG, to the attended talker's.

Each block lets audio frames attend to EEG samples, modulates them by the EEG of their moment and by how they go with
the envelope that was read from it, and passes on through a selective state-space layer and a position-wise layer; all
pre-norm and residual. Frames and samples meet by their times in seconds, so any two rates line up.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import ceil, log2
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from eeg2speech.errors import BadInput
from eeg2speech.models.activations import Activation, activation
from eeg2speech.models.attention import CrossAttention, Memory, Turns
from eeg2speech.models.codec import Codec
from eeg2speech.models.eeg_graph import ChannelNorm, GraphEegEncoder
from eeg2speech.models.frames import FrameConv
from eeg2speech.models.mamba import Mamba, MambaState
from eeg2speech.models.match import RunningMatch

FAINT = 1e-2
"""Power, as a share of a direction's mean power, under which a direction of the latents counts as noise."""
Output = Literal["latent", "latent_mse", "direction", "codes"]


@dataclass(frozen=True)
class Clock:
    """How frames and samples lie in time: frames of ``hop`` / ``rate`` s, EEG samples of 1 / ``eeg_rate`` s.

    Frame l covers the time from l to l + 1 frames and may use EEG up to ``look_ahead`` s beyond its end, and no more
    than ``memory`` s before that (None: all there is, before and after).
    """

    hop: int
    rate: int
    eeg_rate: int
    look_ahead: float
    memory: float | None

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        return self.rate / self.hop

    def newest(self, frame: int) -> int:
        """Number of the last EEG sample that a frame may use."""
        ahead = self._ahead
        # In whole numbers: exact as fractions are, and a training step asks for hundreds of frames.
        bound = ((frame + 1) * self.hop * ahead.denominator + self.rate * ahead.numerator) * self.eeg_rate
        return -(-bound // (self.rate * ahead.denominator)) - 1

    @cached_property
    def _ahead(self) -> Fraction:
        return Fraction(self.look_ahead).limit_denominator(10**6)

    def oldest(self, frame: int) -> int:
        """Number of the first EEG sample that a frame may use."""
        if self.memory is None:
            return 0
        return max(0, self.newest(frame) - max(1, round(self.memory * self.eeg_rate)) + 1)


class Span(NamedTuple):
    """EEG features [B, E, n] whose first sample has the number ``first``."""

    features: Tensor
    first: int


class BlockState(NamedTuple):
    """What a block leaves to the next chunk."""

    mamba: MambaState
    sums: Tensor | None
    memory: Memory | None


class Prediction(NamedTuple):
    """Talkers [B, 2, D, L], attended first, in the network's own units, or logits of codes [B, K, entries, L]; the
    envelope that was read from the EEG [B, L]; what is left to the next chunk."""

    talkers: Tensor | None
    hidden: Tensor
    envelope: Tensor | None
    state: list[BlockState]


@dataclass(frozen=True)
class Sizes:
    """Sizes of the network. ``state`` is Mamba's, ``eeg_width`` the EEG encoder's, ``maps`` features an electrode."""

    width: int = 128
    blocks: int = 3
    heads: int = 4
    state: int = 16
    eeg_width: int = 48
    maps: int = 4
    dropout: float = 0.0


class GuidedBlock(nn.Module):
    """Attention to EEG, match with the read envelope, Mamba, position-wise layer: [B, L, W] -> [B, L, W]."""

    def __init__(self, sizes: Sizes, guided: bool, act: Activation, rate: float, memory: float | None) -> None:
        super().__init__()
        width = sizes.width
        if guided:
            self.attention_norm = nn.LayerNorm(width)
            self.attention = CrossAttention(width, sizes.eeg_width, sizes.heads)
            self.match = RunningMatch(width, sizes.eeg_width, rate, memory)
            self.film = nn.Linear(sizes.eeg_width + 1, 2 * width)
            nn.init.zeros_(self.film.weight)
            nn.init.zeros_(self.film.bias)
        self.mamba_norm = nn.LayerNorm(width)
        self.mamba = Mamba(width, sizes.state)
        self.feed = nn.Sequential(
            ChannelNorm(width),
            FrameConv(width, 4 * width),
            activation(act, 4 * width),
            FrameConv(4 * width, width),
        )
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(self, x: Tensor, guide: _Guide | None, before: BlockState | None) -> tuple[Tensor, BlockState]:
        """x [B, L, W] -> [B, L, W], and what is left to the next chunk."""
        sums = memory = None
        if guide is not None:
            fresh = self.attention.remember(guide.fresh.features, guide.turns[1], guide.fresh.first)
            memory = fresh.after(None if before is None else before.memory, guide.first)
            x = x + self.dropout(self.attention(self.attention_norm(x), memory, guide.turns[0], guide.seen))
            gain, offset = self.film(guide.now).chunk(2, dim=-1)
            x = x * (1 + gain) + offset
            # The envelope is learned from speech alone: what the match makes of it would only blur it.
            x, sums = self.match(x, guide.envelope.detach(), None if before is None else before.sums)
        y, state = self.mamba(self.mamba_norm(x), None if before is None else before.mamba)
        x = x + self.dropout(y)
        x = x + self.dropout(self.feed(x.transpose(1, 2)).transpose(1, 2))
        return x, BlockState(state, sums, memory)


class _Guide(NamedTuple):
    """What the blocks of one call share: EEG features [B, n, E] of samples that they do not remember yet, the number of
    the first sample that they may look at, turns of frames and of those new samples, who may see what, the envelope
    [B, L], and each frame's newest features with the envelope [B, L, E + 1]."""

    fresh: Span
    first: int
    turns: tuple[Turns, Turns]
    seen: Tensor | None
    envelope: Tensor
    now: Tensor


class NeuroCodecNetwork(nn.Module):
    """Mixture latents [B, D, L] and EEG [B, C, N] -> latents (or codes) of the attended talker.

    Args:
        codec: whose latents these are; only its sizes and name are kept here, not its weights.
        sensors: electrodes; 0 builds the same network without an EEG branch, a blind separator.
        clock: rates, look-ahead and memory; ``memory`` None goes with ``causal`` False.
        output: ``latent`` or ``latent_mse`` (their values, two ways to learn them), ``direction`` (of length one; the
            length is the mixture's), or ``codes``.
        causal: whether no frame may see what lies beyond its look-ahead.
    """

    def __init__(
        self,
        codec: Codec,
        sensors: int,
        clock: Clock,
        sizes: Sizes,
        output: Output = "latent",
        act: Activation = "snake",
        causal: bool = True,
        match_memory: float = 8.0,
    ) -> None:
        super().__init__()
        self.clock, self.output, self.causal, self.books = clock, output, causal, codec.books
        self.sensors = sensors
        width, latents = sizes.width, codec.width
        self.register_buffer("codec", torch.tensor(list(bytes.fromhex(codec.fingerprint)), dtype=torch.uint8))
        self.register_buffer("mean", torch.zeros(latents, 1))
        self.register_buffer("whiten", torch.eye(latents))
        self.register_buffer("colour", torch.eye(latents))
        self.window = 2 ** ceil(log2(3.2 * clock.hop))
        bins = self.window // 2
        self.spread = FrameConv(latents, 2 * bins, bias=False)
        self.gather = FrameConv(2 * bins, latents, bias=False)
        nn.init.orthogonal_(self.spread.weight)
        self.register_buffer("lens", _lens(self.spread.weight))
        self.gather.weight.data = self.spread.weight.data.transpose(0, 1).clone()
        self.register_buffer("level", torch.zeros(latents + bins, 1))
        self.register_buffer("deviation", torch.ones(latents + bins, 1))
        self.enter = nn.Sequential(FrameConv(latents + bins, width), activation(act, width), FrameConv(width, width))
        self.eeg = (
            GraphEegEncoder(sensors, sizes.eeg_width, causal, act, sizes.maps, dropout=sizes.dropout)
            if sensors
            else None
        )
        memory = match_memory if causal else None
        rate = clock.frame_rate
        self.blocks = nn.ModuleList(GuidedBlock(sizes, bool(sensors), act, rate, memory) for _ in range(sizes.blocks))
        self.leave = nn.LayerNorm(width)
        if output == "codes":
            self.heads = nn.ModuleList(nn.Linear(width, codec.book_size) for _ in range(codec.books))
            self.feedback = nn.ModuleList(nn.Linear(latents, width, bias=False) for _ in range(codec.books))
        else:
            self.masks = nn.Linear(width, 2 * bins)
            self.own = nn.Linear(width, 2 * latents)
            nn.init.zeros_(self.own.weight)
            nn.init.zeros_(self.own.bias)

    def forward(self, latents: Tensor, eeg: Tensor | None = None) -> Prediction:
        """Mixture latents [B, D, L], EEG [B, C, N] in microvolt -> prediction for all frames."""
        if self.eeg is None:
            return self.advance(latents, None, 0, None)
        if eeg is None:
            raise BadInput("NeuroCodecNetwork", "eeg", "EEG [B, C, N]: this network has an EEG branch", None)
        return self.advance(latents, Span(self.eeg(eeg), 0), 0, None)

    def advance(self, latents: Tensor, span: Span | None, first: int, state: list[BlockState] | None) -> Prediction:
        """Frames [B, D, L] from number ``first`` on, with the EEG features that they may use, after ``state``."""
        normal = self.normalise(latents)
        wide = self.spread(normal)
        x = self.enter(self._features(normal, wide)).transpose(1, 2)
        guide = None if span is None else self._guide(span, first, latents.shape[-1], state)
        left = []
        for number, block in enumerate(self.blocks):
            x, after = block(x, guide, None if state is None else state[number])
            left.append(after)
        hidden = self.leave(x)
        talkers = None if self.output == "codes" else self._talkers(hidden, normal, wide)
        return Prediction(talkers, hidden, None if guide is None else guide.envelope, left)

    def normalise(self, latents: Tensor) -> Tensor:
        """The codec's latents [..., D, L] in the network's units: zero mean, every direction of about unit deviation.

        The codec spends most of its latents' power on what is loudest, the voices' fundamentals; without this a
        network would learn, and be asked, little else.
        """
        return _exactly(self.whiten, latents.float() - cast(Tensor, self.mean))

    def heard(self, normal: Tensor) -> Tensor:
        """Latents in the network's units [..., D, L] -> [..., min(D, 2 * bins), L], each frame as long as its spectrum.

        By the wide form's map as it was when it was set: it does not learn, and only its lengths and distances are
        kept, which needs fewer numbers. Errors of latents are weighed here as they are heard. In the latents themselves
        an ideal mask, which is worth 9 dB of SI-SDR once it is decoded, is only 1 dB better than half of the mixture.
        """
        return _exactly(self.lens, normal)

    def restore(self, normal: Tensor) -> Tensor:
        """Inverse of ``normalise``."""
        return _exactly(self.colour, normal) + cast(Tensor, self.mean)

    def logits(self, hidden: Tensor, number: int, so_far: Tensor | None) -> Tensor:
        """Logits [B, L, entries] of one codebook, given the latents [B, D, L] that the books before it make."""
        if so_far is not None:
            hidden = hidden + self.feedback[number](self.normalise(so_far).transpose(1, 2))
        scores: Tensor = self.heads[number](hidden)
        return scores

    def choose(self, prediction: Prediction, mixture: Tensor, codec: Codec) -> Tensor:
        """The attended talker's latents [B, D, L], ready for the codec's decoder; ``mixture`` are the mixture's."""
        if self.output == "codes":
            return self._most_likely(prediction.hidden, codec)
        assert prediction.talkers is not None
        return self.choose_from(prediction.talkers[:, 0], mixture)

    def choose_from(self, talker: Tensor, mixture: Tensor) -> Tensor:
        """A talker as the network says it [B, D, L] -> latents for the codec's decoder."""
        return self.restore(self._lengthen(talker.float(), mixture))

    def _most_likely(self, hidden: Tensor, codec: Codec) -> Tensor:
        """Book by book, each with the most likely entry, fed back through the codec's embeddings."""
        codes: list[Tensor] = []
        so_far = None
        for number in range(self.books):
            codes.append(self.logits(hidden, number, so_far).argmax(-1))
            so_far = codec.from_codes(torch.stack(codes, dim=1))
        assert so_far is not None
        return so_far

    def _lengthen(self, normal: Tensor, mixture: Tensor) -> Tensor:
        """Directions get the length of the mixture's latents, frame by frame; values stay."""
        if self.output != "direction":
            return normal
        length = torch.linalg.vector_norm(self.normalise(mixture), dim=-2, keepdim=True)
        return cast(Tensor, nn.functional.normalize(normal, dim=-2) * length)

    @torch.no_grad()
    def calibrate(self, latents: Tensor, waves: Tensor) -> None:
        """Set units and the wide form from examples: latents [M, D, L] and their waves [M, L * hop].

        The wide form starts as what a linear map of a frame's latents tells of its Fourier transform (Hann window of
        some 3 frames), cosines, then sines; ``gather`` as the best way back. Speech is sparse there, so that masks
        can part two talkers; in the latents themselves every dimension holds all frequencies, and nothing separates
        for hundreds of steps.
        """
        cast(Tensor, self.mean).copy_(latents.mean((0, 2)).unsqueeze(-1))
        centred = (latents - cast(Tensor, self.mean)).transpose(0, 1).flatten(1).double()
        powers, directions = torch.linalg.eigh(centred @ centred.T / centred.shape[1])
        # Directions that hardly ever move are not blown up.
        deviation = (powers.clamp_min(0) + FAINT * powers.mean()).sqrt()
        cast(Tensor, self.whiten).copy_(directions @ torch.diag(1 / deviation) @ directions.T)
        cast(Tensor, self.colour).copy_(directions @ torch.diag(deviation) @ directions.T)
        normal = self.normalise(latents)
        frames = normal.transpose(1, 2).flatten(0, 1).double()
        spectra = self._spectra(waves)[:, : latents.shape[-1]].flatten(0, 1).double()
        spectra = spectra / spectra.square().mean().sqrt()
        to_spectra = _ridge(frames, spectra)
        self.spread.weight.copy_(to_spectra.T.unsqueeze(-1))
        cast(Tensor, self.lens).copy_(_lens(self.spread.weight))
        self.gather.weight.copy_(_ridge(frames @ to_spectra, frames).T.unsqueeze(-1))
        cast(Tensor, self.level).zero_()
        cast(Tensor, self.deviation).fill_(1.0)
        features = self._features(normal, self.spread(normal)).transpose(0, 1).flatten(1)
        cast(Tensor, self.level).copy_(features.mean(1, keepdim=True))
        cast(Tensor, self.deviation).copy_(features.std(1, keepdim=True).clamp_min(1e-3))

    def _spectra(self, waves: Tensor) -> Tensor:
        """[M, T] -> cosine, then sine parts around the middle of every frame, [M, L, 2 * bins]."""
        hop, window = self.clock.hop, self.window
        before = (window - hop) // 2
        padded = nn.functional.pad(waves, (before, window - hop - before))
        hann = torch.hann_window(window, device=waves.device)
        spectrum = torch.fft.rfft(padded.unfold(-1, window, hop) * hann)[..., 1:]
        return torch.cat([spectrum.real, spectrum.imag], dim=-1)

    def _features(self, normal: Tensor, wide: Tensor) -> Tensor:
        """Latents, and the logarithm of the magnitudes of their wide form, each to zero mean: [B, D + bins, L].

        A talker's activity shows in magnitudes; a linear layer alone would have to learn to take them.
        """
        cosine, sine = wide.float().chunk(2, dim=1)
        magnitude = (cosine.square() + sine.square() + 1e-6).sqrt()
        features = torch.cat([normal.float(), torch.log(magnitude + 1e-2)], dim=1)
        return (features - cast(Tensor, self.level)) / cast(Tensor, self.deviation)

    def _talkers(self, hidden: Tensor, normal: Tensor, wide: Tensor) -> Tensor:
        """Masks on the wide form, one for cosine and sine, and something of its own, for each talker: [B, 2, D, L].

        Latents of a codec that carries mixtures well nearly add up, so that to mask them is a good beginning. What the
        wide form does not hold is shared.
        """
        masks = torch.unflatten(torch.sigmoid(self.masks(hidden)).transpose(1, 2), 1, (2, -1)).repeat(1, 1, 2, 1)
        own = self.own(hidden).transpose(1, 2).unflatten(1, (2, -1))
        kept = torch.unflatten(self.gather((masks * wide.unsqueeze(1)).flatten(0, 1)), 0, (-1, 2))
        rest = (normal - self.gather(wide)) / 2
        return cast(Tensor, kept + rest.unsqueeze(1) + own)

    def _guide(self, span: Span, first: int, count: int, state: list[BlockState] | None) -> _Guide:
        assert self.eeg is not None
        (features, begin), clock, device = span, self.clock, span.features.device
        end = begin + features.shape[-1]
        frames = range(first, first + count)
        # At the end of a recording the last sample stands for those that would have come.
        newest = torch.tensor([min(clock.newest(frame), end - 1) - begin for frame in frames], device=device)
        seen = None
        if self.causal:
            oldest = torch.tensor([clock.oldest(frame) - begin for frame in frames], device=device)
            samples = torch.arange(end - begin, device=device)
            seen = (samples <= newest[:, None]) & (samples >= oldest[:, None])
        memory = None if state is None else state[0].memory
        known = begin if memory is None else max(begin, memory.end)
        # Counted from the start of the signal, in double precision: a sample is turned once, whoever looks at it later.
        at = (torch.arange(first, first + count, device=device, dtype=torch.float64) + 0.5) * clock.hop / clock.rate
        heard = torch.arange(known, end, device=device, dtype=torch.float64) / clock.eeg_rate
        newest_features = features[..., newest]
        envelope = self.eeg.read(newest_features)
        now = torch.cat([newest_features.transpose(1, 2), envelope.unsqueeze(-1)], dim=-1)
        attention = cast(GuidedBlock, self.blocks[0]).attention
        turns = attention.turns(at), attention.turns(heard)
        fresh = Span(features[..., known - begin :].transpose(1, 2), known)
        return _Guide(fresh, begin, turns, seen, envelope, now)


def _exactly(matrix: Tensor | nn.Module, x: Tensor) -> Tensor:
    """[E, D] @ [..., D, L] in float32, also under autocast: half precision would lose the faint directions."""
    with torch.autocast(x.device.type, enabled=False):
        return cast(Tensor, matrix) @ x.float()


def _lens(spread: Tensor) -> Tensor:
    """The fewest rows [min(D, E), D] that give what passes the same lengths as the map [E, D, 1]."""
    factor: Tensor = torch.linalg.qr(spread.detach().squeeze(-1).double(), mode="r").R
    return factor.float()


def _ridge(inputs: Tensor, outputs: Tensor, share: float = 1e-2) -> Tensor:
    """Linear map [D, E] from [M, D] to [M, E] with the least squared error, and a little regularisation."""
    gram = inputs.T @ inputs
    gram.diagonal().add_(share * gram.diagonal().mean())
    return cast(Tensor, torch.linalg.solve(gram, inputs.T @ outputs))
