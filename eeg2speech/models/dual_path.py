"""Dual-path processing (Luo, Chen and Yoshioka 2020, "Dual-path RNN", ICASSP): segmentation, blocks, overlap-add.

A long sequence [B, D, L] is cut into S chunks of K frames with 50 % overlap, [B, D, K, S]. An intra-chunk RNN runs
along K, an inter-chunk RNN along S; after the last block the chunks are added back to [B, D, L].
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


def segment(x: Tensor, chunk: int) -> tuple[Tensor, int]:
    """Cut [B, D, L] into chunks [B, D, K, S] with 50 % overlap. Returns the chunks and L, which ``overlap_add`` needs.

    One hop is padded at the front and enough at the end for every frame to stand in exactly two chunks.
    """
    hop = chunk // 2
    length = x.shape[-1]
    padded = F.pad(x, (hop, hop + (-length) % hop))
    return padded.unfold(-1, chunk, hop).transpose(-1, -2), length


def overlap_add(chunks: Tensor, length: int) -> Tensor:
    """Inverse of ``segment``: [B, D, K, S] to [B, D, L], the mean of the two chunks a frame stands in."""
    batch, width, chunk, count = chunks.shape
    hop = chunk // 2
    first, second = chunks[:, :, :hop], chunks[:, :, hop:]
    # Chunk s covers hops s and s + 1: hop h is the second half of chunk h - 1 and the first half of chunk h.
    joined = (first[..., 1:] + second[..., :-1]) / 2
    return joined.transpose(-1, -2).reshape(batch, width, (count - 1) * hop)[..., :length]


class GlobalLayerNorm(nn.Module):
    """Normalises over all but the batch axis, with one gain and bias a channel (Luo and Mesgarani 2019, gLN)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, width, eps=1e-8)

    def forward(self, x: Tensor) -> Tensor:
        """[B, D, ...] -> [B, D, ...]."""
        normalised: Tensor = self.norm(x)
        return normalised


class Path(nn.Module):
    """One half of a dual-path block: RNN along one axis, projection, normalisation, residual."""

    def __init__(self, width: int, hidden: int, bidirectional: bool = True) -> None:
        super().__init__()
        self.rnn = nn.LSTM(width, hidden, batch_first=True, bidirectional=bidirectional)
        self.project = nn.Linear(hidden * (2 if bidirectional else 1), width)
        self.norm = GlobalLayerNorm(width)
        # A small gain lets the residual stream carry the input through all blocks at first: learning starts sooner.
        nn.init.constant_(self.norm.norm.weight, 0.2)

    def forward(self, x: Tensor) -> Tensor:
        """[B, D, time, other] -> same shape; the RNN runs along ``time``."""
        batch, width, time, other = x.shape
        rows = x.permute(0, 3, 2, 1).reshape(batch * other, time, width)
        rows = self.project(self.rnn(rows)[0])
        update: Tensor = self.norm(rows.reshape(batch, other, time, width).permute(0, 3, 2, 1).to(x.dtype))
        return x + update


class DualPathBlock(nn.Module):
    """Intra-chunk then inter-chunk path: [B, D, K, S] -> [B, D, K, S]."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.intra = Path(width, hidden)
        self.inter = Path(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """[B, D, K, S] -> [B, D, K, S]."""
        along_chunk: Tensor = self.intra(x)
        along_time: Tensor = self.inter(along_chunk.transpose(2, 3))
        return along_time.transpose(2, 3)


def resample_frames(x: Tensor, length: int) -> Tensor:
    """Along the last axis, [B, D, N] -> [B, D, length], both spanning the same time.

    Linear interpolation, or, to less than half of the frames, means: most would else be passed over.
    """
    if 2 * length < x.shape[-1]:
        return F.adaptive_avg_pool1d(x, length)
    return F.interpolate(x, size=length, mode="linear", align_corners=False)


class Film(nn.Module):
    """Feature-wise linear modulation (Perez et al. 2018): x * (1 + gamma(condition)) + beta(condition).

    Starts as the identity, so that a network begins where it would without its condition.
    """

    def __init__(self, width: int, condition: int, kernel: int = 1) -> None:
        super().__init__()
        self.affine = nn.Conv1d(condition, 2 * width, kernel, padding="same")
        _zero(self.affine)

    def forward(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        """[B, E, L] -> gamma and beta, each [B, D, L]."""
        gamma, beta = self.affine(condition).chunk(2, dim=1)
        return gamma, beta


class CovarianceFilm(nn.Module):
    """Modulation by what goes with a cue: which channels of x rise and fall with it over the whole segment.

    The correlation of every channel of x [B, D, K, S] with the cue [B, 1, K, S] tells which talker's activity the cue
    follows; a small network turns these D numbers into one gain and one offset a channel. A modulation frame by frame
    (``Film``) has to gather the same evidence in recurrent states. Starts as the identity.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.affine = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, 2 * width))
        _zero(self.affine[-1])

    def forward(self, x: Tensor, cue: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, D, K, S], cue [B, 1, K, S] -> gamma and beta, each [B, D, 1, 1]."""
        frames = x.shape[2] * x.shape[3]
        correlation = (_unit(x) * _unit(cue)).sum((2, 3)) / frames
        # A chance correlation is about one over the square root of the independent samples; this brings it near one.
        gamma, beta = self.affine(10 * correlation)[:, :, None, None].chunk(2, dim=1)
        return gamma, beta


def _unit(x: Tensor) -> Tensor:
    """Zero mean and unit deviation over chunks and frames, [B, D, K, S] -> same, in float32."""
    x = x.float()
    x = x - x.mean((2, 3), keepdim=True)
    return x / x.square().mean((2, 3), keepdim=True).add(1e-6).sqrt()


def _zero(layer: nn.Module) -> None:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


def modulate(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """Apply what ``Film`` or ``CovarianceFilm`` computed; gamma and beta broadcast over x."""
    return x + x * gamma + beta
