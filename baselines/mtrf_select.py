"""Linear decoding, then selection: the envelope that the EEG says was attended picks the talker that fits it best.

The classical pipeline of cognitive hearing aids (O'Sullivan et al. 2015; Van Eyndhoven, Francart and Bertrand
2017), with two kinds of talkers to pick from: the true ones, which is a ceiling on any separator, and those of
a blind separator.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from eeg2speech.systems.interface import Facts

from .dprnn import SOURCE as DPRNN_SOURCE
from .ridge_speech import ENVELOPE_SOURCE as SOURCE
from .ridge_speech import LinearDecoder
from .two_step import TwoStep, picked


class _MtrfSelect(LinearDecoder):
    """What the two share: a backward model for each subject of the training data, a pooled one for strangers."""

    def select(self, eeg: Tensor, subject: Tensor, talkers: Tensor) -> Tensor:
        """Of talkers [B, K, T] the one whose envelope fits the EEG best, [B, T]."""
        chosen = [self._best(*row) for row in zip(eeg, subject, talkers, strict=True)]
        return picked(talkers, torch.tensor(chosen, device=talkers.device))

    def _best(self, eeg: Tensor, subject: Tensor, talkers: Tensor) -> int:
        model, heard = self.model_of(subject), self.prepared(eeg)
        fits = [model.correlate(heard, self.aspect_of(wave)) for wave in talkers.cpu().numpy()]
        return int(np.argmax(fits))


class MtrfSelectTrueSources(_MtrfSelect):
    """Picks among the true, clean talkers."""

    facts = Facts(
        title="Linear decoder picks a true source", licence="MIT", source=SOURCE, uses_subject=True, sees="sources"
    )

    def extract_from(self, mixture: Tensor, eeg: Tensor, subject: Tensor, sources: Tensor) -> Tensor:
        """[B, 2, T] -> [B, T]."""
        return self.select(eeg, subject, sources)


class MtrfSelectSeparated(TwoStep, _MtrfSelect):
    """Picks among the two outputs of a blind separator (``dprnn_separator``, unless told)."""

    facts = Facts(
        title="Linear decoder picks a separated source",
        licence="MIT",
        source=f"{SOURCE}; separator: {DPRNN_SOURCE}",
        uses_subject=True,
    )

    def extract_heard(self, heard: Tensor, mixture: Tensor, eeg: Tensor, subject: Tensor) -> Tensor:
        """Of talkers [B, 2, T] -> [B, T]."""
        return self.select(eeg, subject, heard)
