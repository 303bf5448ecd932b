"""Convolutional multi-layer cross attention (CMCA) between speech and EEG (Zhang et al. 2023, BASEN, Interspeech).

Queries, keys and values are made by depthwise convolutions along time. Attention is among channels: the score of two
channels is the product of their courses over the whole segment, so that a channel of one side finds those of the other
that rise and fall with it. The published code fixes the length of a segment here; this one takes any.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eeg2speech.models.conv_tasnet import DepthwiseBlock
from eeg2speech.models.dual_path import GlobalLayerNorm


class ChannelCrossAttention(nn.Module):
    """Channels of ``asked`` mixed by how they go with those of ``asking``; residual, normalised: [B, D, L] -> same."""

    def __init__(self, width: int, kernel: int = 3, dropout: float = 0.1) -> None:
        super().__init__()
        self.query, self.key, self.value = (
            DepthwiseBlock(width, 2 * width, kernel, dilation=1, skip=False) for _ in range(3)
        )
        self.dropout = dropout
        self.norm = GlobalLayerNorm(width)

    def forward(self, asking: Tensor, asked: Tensor) -> Tensor:
        """Two [B, D, L] of one length -> [B, D, L]."""
        query, key, value = self.query(asking)[0], self.key(asked)[0], self.value(asked)[0]
        # Scaled by the square root of the length, which stands where a model's width stands in attention along time.
        found = F.scaled_dot_product_attention(query, key, value, dropout_p=self.dropout if self.training else 0.0)
        mixed: Tensor = self.norm(F.dropout(found, self.dropout, self.training) + asked)
        return mixed


class CrossModalAttention(nn.Module):
    """CMCA: ``layers`` of attention both ways, with residual and skip paths, fused into one [B, D, L].

    Args:
        width: channels D of both sides. layers: 3 in the paper. kernel: of all convolutions, in frames.
        gated: adds the fused features to the speech's, little at first, instead of putting them in their place. Weights
            that were learned without EEG hold on then.
    """

    def __init__(self, width: int, layers: int = 3, kernel: int = 3, gated: bool = False) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.full((width, 1), 0.1)) if gated else None
        self.to_speech, self.to_eeg = (
            nn.ModuleList(ChannelCrossAttention(width, kernel) for _ in range(layers)) for _ in range(2)
        )
        self.speech_norms, self.eeg_norms = (
            nn.ModuleList(GlobalLayerNorm(width) for _ in range(layers)) for _ in range(2)
        )
        self.fuse = nn.Sequential(nn.Conv1d(4 * width, width, kernel, padding="same"), GlobalLayerNorm(width))

    def forward(self, speech: Tensor, eeg: Tensor) -> Tensor:
        """Speech and EEG features [B, D, L] -> fused features [B, D, L]."""
        heard, felt, passed = speech, eeg, torch.zeros_like(speech)
        layers = zip(self.to_speech, self.to_eeg, self.speech_norms, self.eeg_norms, strict=True)
        for to_speech, to_eeg, speech_norm, eeg_norm in layers:
            guided = to_speech(felt, heard)
            felt = eeg_norm(to_eeg(guided, felt) + felt)
            heard = speech_norm(guided + heard)
            passed = passed + heard
        fused: Tensor = self.fuse(torch.cat([passed, speech, felt, eeg], dim=1))
        return fused if self.gate is None else speech + self.gate * fused
