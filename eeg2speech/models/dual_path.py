"""Dual-path processing (Luo, Chen and Yoshioka 2020, "Dual-path RNN", ICASSP): segmentation, blocks, overlap-add.

A long sequence [B, D, L] is cut into S chunks of K frames with 50 % overlap, [B, D, K, S]. An intra-chunk RNN runs
along K, an inter-chunk RNN along S; after the last block the chunks are added back to [B, D, L].
"""

from __future__ import annotations

import torch
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
    """Linear interpolation along the last axis, [B, D, N] -> [B, D, length], both spanning the same time."""
    return F.interpolate(x, size=length, mode="linear", align_corners=False)


class Film(nn.Module):
    """Feature-wise linear modulation (Perez et al. 2018): x * (1 + gamma(condition)) + beta(condition).

    Starts as the identity, so that a network begins where it would without its condition.
    """

    def __init__(self, width: int, condition: int) -> None:
        super().__init__()
        self.affine = nn.Conv1d(condition, 2 * width, 1)
        nn.init.zeros_(self.affine.weight)
        bias = self.affine.bias
        assert bias is not None
        nn.init.zeros_(bias)

    def forward(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        """[B, E, L] -> gamma and beta, each [B, D, L]."""
        gamma, beta = self.affine(condition).chunk(2, dim=1)
        return gamma, beta


def modulate(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """Apply what ``Film`` computed; all three have one shape."""
    return torch.addcmul(x + beta, x, gamma)
