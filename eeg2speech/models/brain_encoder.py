"""The brain encoder of Defossez et al. 2023: EEG of any listener and any sensors to the features of the speech heard.

Source: "Decoding speech perception from non-invasive brain recordings", Nature Machine Intelligence 5:1097. Sizes and
order of the layers are those of the paper; where the authors' settings say more or otherwise, a comment tells.

    encoder = BrainEncoder(positions, eeg_rate=128, subjects=20, dimension=1024, size=SIZES["paper"])
    encoder.mark_known(range(16))                    # whom it will be trained on; others get the mean of their layers
    features = encoder(eeg, subject)                 # [B, 64, 384] and [B] -> [B, 1024, 342], 120 frames a second
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torchaudio.functional import resample

from eeg2speech.errors import BadInput

DELAY = 0.15
"""Seconds by which the brain's answer follows the sound: so much of the EEG's beginning is dropped."""
SHORTEST = 0.5
"""Seconds of EEG that the encoder needs."""
MARGIN = 0.1
"""Room around the map of the sensors (the map's width is 1), as harmonics repeat. The authors' code has 0.2."""
FLAT = 1e-6
"""Spread, as a share of the largest deviation, up to which a channel counts as flat: what rounding leaves."""


def _at_least_one(where: str, field: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise BadInput(where, field, "a whole number of 1 or more", value)


@dataclass(frozen=True)
class BrainSize:
    """Sizes and ablations.

    Attributes:
        rate: frames a second inside and of the output, in Hz.
        channels: outputs of the spatial attention and width of the subject layer.
        harmonics: of the attention's weights, an axis.
        hidden: width of the convolutions. blocks: of three convolutions each.
        clamp: in interquartile ranges; None does not clamp.
        spatial_dropout: radius around a random point within which sensors are left out in training; 0 for none.
        subject_layer: a matrix for each subject. subject_start: with what the matrices begin. The authors' are random;
            from the identity, a matrix that is the mean of others is of use sooner.
        final: the two convolutions of width 1 at the end; without, the last block itself ends at the output's width.
        dropout: share of features left out after each convolution in training.
    """

    rate: int
    channels: int
    harmonics: int
    hidden: int
    blocks: int = 5
    clamp: float | None = 20.0
    spatial_dropout: float = 0.2
    subject_layer: bool = True
    subject_start: Literal["random", "identity"] = "random"
    final: bool = True
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for field in ("rate", "channels", "harmonics", "hidden", "blocks"):
            _at_least_one("BrainSize", field, getattr(self, field))
        if self.clamp is not None and not self.clamp > 0:
            raise BadInput("BrainSize", "clamp", "more than 0, or None", self.clamp)
        if not self.spatial_dropout >= 0:
            raise BadInput("BrainSize", "spatial_dropout", "0 or more", self.spatial_dropout)
        if not 0 <= self.dropout < 1:
            raise BadInput("BrainSize", "dropout", "from 0 to less than 1", self.dropout)
        if self.subject_start not in ("random", "identity"):
            raise BadInput("BrainSize", "subject_start", "random or identity", repr(self.subject_start))


# With three blocks at 64 Hz an output looks 0.55 s to either side, as far as with the paper's five at 120 Hz.
SIZES = {
    "demo": BrainSize(rate=64, channels=64, harmonics=8, hidden=64, blocks=3, subject_start="identity"),
    "paper": BrainSize(rate=120, channels=270, harmonics=32, hidden=320),
}


def robust_scale(eeg: Tensor, clamp: float | None = 20.0) -> Tensor:
    """Median 0 and interquartile range 1 per channel over the window, clamped: [B, C, N] in any unit -> [B, C, N].

    A flat channel gives zeros. The paper takes the range from the whole recording and the mean of the window's first
    0.5 s as its baseline; the window's own median and range need no statistics of a study, and no order of windows.
    """
    ordered = eeg.sort(-1).values
    centred = eeg - _quantile(ordered, 0.5)
    spread = _quantile(ordered, 0.75) - _quantile(ordered, 0.25)
    flat = spread <= FLAT * centred.abs().amax(-1, keepdim=True)
    scaled = (centred / spread.masked_fill(flat, 1)).masked_fill(flat, 0)
    return scaled if clamp is None else scaled.clamp(-clamp, clamp)


def _quantile(ordered: Tensor, share: float) -> Tensor:
    """[..., N] in rising order -> [..., 1]; torch.quantile would sort anew for each, and refuses large tensors."""
    place = share * (ordered.shape[-1] - 1)
    below, above = math.floor(place), math.ceil(place)
    low, high = ordered[..., below : below + 1], ordered[..., above : above + 1]
    return low + (place - below) * (high - low)


def flat_map(positions: Tensor) -> Tensor:
    """Azimuthal equidistant map of the head: [C, 3] metres (x right, y nose, z up) -> [C, 2] radian (right, nose).

    A sensor lies as far from the middle as its direction is from straight up, as on a topographic map.
    """
    sideways = torch.linalg.vector_norm(positions[:, :2], dim=-1, keepdim=True)
    angle = torch.atan2(sideways, positions[:, 2:])
    plane: Tensor = angle * positions[:, :2] / sideways.clamp_min(1e-9)
    return plane


class SpatialAttention(nn.Module):
    """Each output is a mean of the sensors with learned weights that are a function of the place on the head.

    The function is a two-dimensional Fourier series, so that it can be asked for any place: networks are trained on one
    set of sensors and used with another. Harmonics are 0 to K - 1 an axis, as in the authors' code: the formula in the
    paper, 1 to K, would have none that changes along one axis alone.

    Args:
        positions: [C, 3] metres; they span the map, on which others are then placed.
    """

    def __init__(self, positions: Tensor, outputs: int, harmonics: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.heads = nn.Parameter(torch.randn(outputs, 2 * harmonics**2) / (2 * harmonics**2) ** 0.5)
        order = 2 * math.pi / (1 + 2 * MARGIN) * torch.arange(harmonics)
        self.register_buffer("waves", torch.cartesian_prod(order, order), persistent=False)
        plane = flat_map(positions)
        low, width = plane.amin(0), plane.amax(0) - plane.amin(0)
        # Kept with the weights, which mean nothing on another map. Sensors in one line have no width across it.
        self.register_buffer("corner", low)
        self.register_buffer("width", torch.where(width > 1e-6, width, torch.ones_like(width)))

    def places(self, positions: Tensor) -> Tensor:
        """[C, 3] metres -> [C, 2] from 0 to 1; beyond the edge of the map, no further than its margin."""
        place = (flat_map(positions) - cast(Tensor, self.corner)) / cast(Tensor, self.width)
        return place.clamp(-MARGIN, 1 + MARGIN)

    def weights(self, positions: Tensor) -> Tensor:
        """[C, 3] metres -> [O, C]; each row is positive and its sum is 1."""
        places = self.places(positions)
        phase = (places + MARGIN) @ cast(Tensor, self.waves).T
        scores: Tensor = self.heads @ torch.cat([phase.cos(), phase.sin()], dim=-1).T
        return scores.masked_fill(self._left_out(places), -torch.inf).softmax(-1)

    def _left_out(self, places: Tensor) -> Tensor:
        """[C] bool: sensors near a random point, the same for the whole batch. Never all of them."""
        if not self.training or self.dropout == 0:
            return torch.zeros(len(places), dtype=torch.bool, device=places.device)
        near: Tensor = torch.linalg.vector_norm(places - torch.rand_like(places[:1]), dim=-1) <= self.dropout
        return near & ~near.all()

    def forward(self, eeg: Tensor, positions: Tensor) -> Tensor:
        """EEG [B, C, N] and positions [C, 3] metres -> [B, O, N]."""
        return self.weights(positions) @ eeg


class SubjectLayer(nn.Module):
    """A matrix [C, C] for each subject; for one who is not known, the mean of the known subjects' matrices."""

    known: Tensor

    def __init__(self, subjects: int, channels: int, start: Literal["random", "identity"]) -> None:
        super().__init__()
        matrices = torch.randn(subjects, channels, channels) / channels**0.5
        if start == "identity":
            matrices = torch.eye(channels).repeat(subjects, 1, 1)
        self.matrices = nn.Parameter(matrices)
        self.register_buffer("known", torch.zeros(subjects, dtype=torch.bool))

    def forward(self, x: Tensor, subject: Tensor) -> Tensor:
        """x [B, C, N] and subject numbers [B], -1 for a stranger -> [B, C, N]."""
        stranger = len(self.matrices)
        known = (subject >= 0) & self.known[subject.clamp_min(0)]
        mean = self.known.to(x.dtype) @ self.matrices.flatten(1) / self.known.sum()
        table = torch.cat([self.matrices, mean.view(1, *self.matrices.shape[1:])])
        return table[torch.where(known, subject, stranger)] @ x


class ConvLayer(nn.Module):
    """Convolution of kernel 3, batch norm and GELU, added to the input where widths agree: [B, I, F] -> [B, O, F].

    A ``bare`` one is the convolution alone.
    """

    def __init__(self, inputs: int, outputs: int, dilation: int, dropout: float, bare: bool = False) -> None:
        super().__init__()
        self.skip = inputs == outputs
        self.conv = nn.Conv1d(inputs, outputs, 3, padding=dilation, dilation=dilation)
        self.act = nn.Sequential(*(() if bare else (nn.BatchNorm1d(outputs), nn.GELU(), nn.Dropout(dropout))))

    def forward(self, x: Tensor) -> Tensor:
        """[B, I, F] -> [B, O, F]."""
        y: Tensor = self.act(self.conv(x))
        return x + y if self.skip else y


class ConvBlock(nn.Module):
    """Two dilated layers, then a convolution to twice the width that gates itself: [B, I, F] -> [B, O, F].

    ``outputs`` None keeps to ``hidden``; otherwise the second layer leads to them, and is bare.
    """

    def __init__(
        self, inputs: int, hidden: int, dilations: tuple[int, int], dropout: float = 0.0, outputs: int | None = None
    ) -> None:
        super().__init__()
        width = outputs or hidden
        self.first = ConvLayer(inputs, hidden, dilations[0], dropout)
        self.second = ConvLayer(hidden, width, dilations[1], dropout, bare=outputs is not None)
        self.gate = nn.Sequential(nn.Conv1d(width, 2 * width, 3, padding=1), nn.GLU(dim=1))

    def forward(self, x: Tensor) -> Tensor:
        """[B, I, F] -> [B, O, F]."""
        y: Tensor = self.gate(self.second(self.first(x)))
        return y


def dilations(block: int) -> tuple[int, int]:
    """Of the block's two dilated convolutions: powers of 2, which begin anew after five convolutions."""
    return 2 ** ((2 * block) % 5), 2 ** ((2 * block + 1) % 5)


def reach(blocks: int) -> int:
    """Frames to either side of its own that an output of so many blocks depends on."""
    return sum(sum(dilations(block)) + 1 for block in range(blocks))


def conv_blocks(
    inputs: int, hidden: int, blocks: int, dropout: float = 0.0, outputs: int | None = None
) -> nn.Sequential:
    """Blocks one after the other: [B, I, F] -> [B, hidden, F], or [B, outputs, F] where these are given."""
    widths = [inputs] + [hidden] * (blocks - 1)
    ends = [None] * (blocks - 1) + [outputs]
    parts = zip(widths, ends, strict=True)
    return nn.Sequential(
        *(ConvBlock(width, hidden, dilations(k), dropout, end) for k, (width, end) in enumerate(parts))
    )


class BrainEncoder(nn.Module):
    """EEG [B, C, N] in microvolt -> features [B, D, F]; frame t stands for the speech at t / ``size.rate`` seconds.

    Args:
        positions: [C, 3] metres, x to the right, y to the nose, z up. They span the map of the head.
        eeg_rate: samples a second of the EEG, in Hz.
        subjects: how many; ``mark_known`` tells whom it learns from.
        dimension: width D of the features.

    Raises:
        BadInput: sizes under 1, positions of another shape, or a sensor without position.
    """

    positions: Tensor

    def __init__(self, positions: Tensor, eeg_rate: int, subjects: int, dimension: int, size: BrainSize) -> None:
        super().__init__()
        for field, value in (("eeg_rate", eeg_rate), ("subjects", subjects), ("dimension", dimension)):
            _at_least_one("BrainEncoder", field, value)
        _check_positions(positions)
        self.eeg_rate, self.subjects, self.size = eeg_rate, subjects, size
        self.register_buffer("positions", positions.float(), persistent=False)
        self.spatial = SpatialAttention(self.positions, size.channels, size.harmonics, size.spatial_dropout)
        self.mix = nn.Conv1d(size.channels, size.channels, 1)
        layer = SubjectLayer(subjects, size.channels, size.subject_start) if size.subject_layer else None
        self.subject: SubjectLayer | None = layer
        ends = None if size.final else dimension
        self.blocks = conv_blocks(size.channels, size.hidden, size.blocks, size.dropout, ends)
        self.final = _final(size.hidden, dimension) if size.final else nn.Identity()

    @property
    def delay(self) -> int:
        """Frames of EEG that are dropped, the whole number nearest to 150 ms: 18 at 120 Hz, 10 at 64 Hz."""
        return round(DELAY * self.size.rate)

    def frames(self, seconds: float) -> int:
        """Frames F of the answer to so many seconds of EEG: those of the speech whose response is in it."""
        self._check_length(round(seconds * self.eeg_rate))
        return -(-round(seconds * self.eeg_rate) * self.size.rate // self.eeg_rate) - self.delay

    def mark_known(self, subjects: Iterable[int]) -> None:
        """Tell whom the network is trained on, in place of whom it knew before. Does nothing without subject layer."""
        numbers = torch.tensor(sorted(set(subjects)), dtype=torch.long)
        if not len(numbers) or numbers[0] < 0 or numbers[-1] >= self.subjects:
            raise BadInput(
                "BrainEncoder", "known subjects", f"one or more of 0 to {self.subjects - 1}", numbers.tolist()
            )
        if self.subject is not None:
            self.subject.known.zero_()[numbers.to(self.subject.known.device)] = True

    def forward(self, eeg: Tensor, subject: Tensor, positions: Tensor | None = None) -> Tensor:
        """EEG [B, C, N] microvolt, subject numbers [B] (-1: a stranger) -> [B, D, F].

        Args:
            positions: [C, 3] metres, of other sensors than those the network was built with.

        Raises:
            BadInput: EEG with NaN or infinity, of another number of channels than positions, or shorter than 0.5 s;
                a subject number outside -1 to S - 1; a sensor without position; nobody marked as known.
        """
        if positions is not None:
            _check_positions(positions)
        positions = self.positions if positions is None else positions.to(self.positions)
        self._check_eeg(eeg, len(positions))
        self._check_subject(subject, len(eeg))
        x = self.mix(self.spatial(self.prepare(eeg), positions))
        if self.subject is not None:
            x = self.subject(x, subject)
        features: Tensor = self.final(self.blocks(x))
        return features

    def prepare(self, eeg: Tensor) -> Tensor:
        """[B, C, N] microvolt -> [B, C, F]: at the network's rate, without its first 150 ms, scaled and clamped."""
        # In full precision, also under autocast: drifts are a thousand times the EEG.
        with torch.autocast(eeg.device.type, enabled=False):
            x = eeg.to(self.positions.dtype)
            # The resampler takes what lies outside the window for zeros. A rough level will do: scaling comes after.
            x = x - _quantile(x[..., ::4].sort(-1).values, 0.5)
            x = resample(x, self.eeg_rate, self.size.rate)
            return robust_scale(x[..., self.delay :], self.size.clamp)

    def _check_eeg(self, eeg: Tensor, sensors: int) -> None:
        if eeg.ndim != 3 or eeg.shape[1] != sensors:
            raise BadInput("BrainEncoder", "eeg", f"shape [batch, {sensors}, samples]", list(eeg.shape))
        self._check_length(eeg.shape[-1])
        if not eeg.isfinite().all():
            raise BadInput("BrainEncoder", "eeg", "finite values", f"{int((~eeg.isfinite()).sum())} that are not")

    def _check_length(self, samples: int) -> None:
        if samples < SHORTEST * self.eeg_rate:
            raise BadInput("BrainEncoder", "eeg", f"at least {SHORTEST} s", f"{samples / self.eeg_rate:.3f} s")

    def _check_subject(self, subject: Tensor, batch: int) -> None:
        if subject.shape != (batch,) or subject.dtype != torch.long:
            raise BadInput("BrainEncoder", "subject", f"shape [{batch}], int64", (list(subject.shape), subject.dtype))
        if bool(((subject < -1) | (subject >= self.subjects)).any()):
            raise BadInput("BrainEncoder", "subject", f"numbers from -1 to {self.subjects - 1}", subject.tolist())
        if self.subject is not None and not self.subject.known.any():
            raise BadInput("BrainEncoder", "known subjects", "at least one, told by mark_known", "none")


def _final(hidden: int, dimension: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv1d(hidden, 2 * hidden, 1), nn.GELU(), nn.Conv1d(2 * hidden, dimension, 1))


def _check_positions(positions: Tensor) -> None:
    """The origin, which is inside the head, stands for "unknown" in many files."""
    if positions.ndim != 2 or positions.shape[1] != 3 or not len(positions):
        raise BadInput("BrainEncoder", "positions", "shape [sensors, 3], in metres", list(positions.shape))
    missing = ~positions.isfinite().all(-1) | (positions == 0).all(-1)
    if missing.any():
        numbers = ", ".join(map(str, missing.nonzero().flatten().tolist()))
        raise BadInput("BrainEncoder", "positions", "a place on the head", f"sensor without position: number {numbers}")
