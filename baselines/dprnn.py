"""Dual-path RNN masking network with and without EEG, and as a blind separator.

The network is that of Luo, Chen and Yoshioka 2020 ("Dual-path RNN: efficient long sequence modeling for time-domain
single-channel speech separation", ICASSP): learned encoder, segmentation with 50 % overlap, intra- and inter-chunk
bidirectional LSTMs, global layer norm, mask, overlap-add. Decided here: the EEG branch (spatial mixing and dilated
convolutions at the EEG's own rate), its fusion by FiLM, in every block unless told, and the training (``masking``).
Written from the paper; no code was taken over.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from torch import nn

from eeg2speech.models.masking import DualPathMasker
from eeg2speech.systems.interface import Facts

from .masking import Extractor, ExtractorSettings, MaskingSystem, Separator

Fusion = Literal["every", "first", "middle", "last"]

# ``paper``: its best window is 2 samples at 8 kHz, 4 samples (0.25 ms) at 16 kHz, with K = 250,
# 64 filters, 128 hidden units a direction and 6 blocks. ``demo`` has 20 ms windows and a filter bank that starts as a
# Fourier transform: 80 times fewer frames, so that it learns in minutes on a CPU.
SIZES: dict[str, dict[str, Any]] = {
    "demo": {
        "bank": "paired",
        "filters": 320,
        "kernel": 320,
        "stride": 160,
        "width": 80,
        "hidden": 64,
        "blocks": 4,
        "chunk": 40,
        "eeg_width": 24,
    },
    "paper": {
        "bank": "free",
        "filters": 64,
        "kernel": 4,
        "stride": 2,
        "width": 64,
        "hidden": 128,
        "blocks": 6,
        "chunk": 250,
        "eeg_width": 64,
        "frugal": True,
    },
}

SOURCE = "Luo, Chen, Yoshioka 2020, doi:10.1109/ICASSP40776.2020.9054266"


class ExtractionSettings(ExtractorSettings):
    """Settings of the form that hears EEG."""

    # Left out of what is written where it is as it always was: results from before it could be chosen stay valid.
    fusion: Fusion = Field(
        default="every", description="blocks before which the EEG comes in", exclude_if=lambda value: value == "every"
    )


class _Dprnn(MaskingSystem):
    """What all of them share."""

    def compose(self, sensors: int, talkers: int, rate: int) -> nn.Module:
        """The network, its windows in samples at the rate inside."""
        size = SIZES[self.settings.size]
        return DualPathMasker(sensors, talkers, fused=self.fused_blocks(size["blocks"]), **size)

    def fused_blocks(self, blocks: int) -> list[int]:
        """Numbers of the blocks before which the EEG comes in."""
        return list(range(blocks))


class DprnnSeparator(_Dprnn, Separator):
    """Blind separation into two talkers; ``mtrf_select`` chooses between both."""

    facts = Facts(title="DPRNN, blind separation, first output", licence="MIT", source=SOURCE, uses_eeg=False)


class DprnnBlind(_Dprnn, Extractor):
    """The extractor's network and loss without EEG: what the audio alone gives."""

    facts = Facts(title="DPRNN without EEG", licence="MIT", source=SOURCE, uses_eeg=False)
    separator = DprnnSeparator


class Dprnn(_Dprnn, Extractor):
    """Extraction with EEG."""

    facts = Facts(title="DPRNN with EEG (FiLM)", licence="MIT", source=SOURCE)
    Settings = ExtractionSettings
    settings: ExtractionSettings
    separator = DprnnSeparator

    def fused_blocks(self, blocks: int) -> list[int]:
        """As the settings say."""
        one = {"first": 0, "middle": blocks // 2, "last": blocks - 1}
        return list(range(blocks)) if self.settings.fusion == "every" else [one[self.settings.fusion]]
