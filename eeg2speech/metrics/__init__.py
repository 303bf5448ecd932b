"""Objective measures of an extracted or generated speech signal: pure functions on numpy arrays.

Conventions, everywhere in this room
    reference first, estimate second; signals are [T] floating-point arrays in full scale (1.0);
    rates in hertz; a measure either returns a finite float or raises ``Unscorable`` with a short, stable reason;
    arrays of the wrong shape are a mistake of the caller and raise ``BadInput``: nothing is trimmed or padded.

``METRICS`` is the one place that knows unit, direction and needs; ``Scorer`` scores many segments in processes.
The measures of the task ``generation`` load pyworld, resemblyzer or onnxruntime at their first use, not before.
The plain function for SDR is ``eeg2speech.metrics.sdr.sdr`` (not exported here, where ``sdr`` is the module).
"""

from __future__ import annotations

from eeg2speech.metrics.aggregate import Summary, split_by_selection, summarise
from eeg2speech.metrics.checks import Unscorable, check_pair
from eeg2speech.metrics.dnsmos import dnsmos_overall
from eeg2speech.metrics.mel import log_mel, mel_filterbank
from eeg2speech.metrics.perceptual import estoi, pesq_nb, pesq_wb, stoi
from eeg2speech.metrics.pitch import f0_correlation
from eeg2speech.metrics.scoring import Score, Scorer, score, score_many
from eeg2speech.metrics.sdr import si_sdr, si_sdr_improvement
from eeg2speech.metrics.selection import target_selected
from eeg2speech.metrics.signals import Signals
from eeg2speech.metrics.speaker import frechet_distance, frechet_resemblyzer, partial_embeddings, speaker_similarity
from eeg2speech.metrics.spectral import (
    envelope_correlation,
    log_spectral_distance,
    mel_cepstral_distortion,
    mel_correlation,
)
from eeg2speech.metrics.table import METRICS, Metric, metric

__all__ = [
    "METRICS",
    "Metric",
    "Score",
    "Scorer",
    "Signals",
    "Summary",
    "Unscorable",
    "check_pair",
    "dnsmos_overall",
    "envelope_correlation",
    "estoi",
    "f0_correlation",
    "frechet_distance",
    "frechet_resemblyzer",
    "log_mel",
    "log_spectral_distance",
    "mel_cepstral_distortion",
    "mel_correlation",
    "mel_filterbank",
    "metric",
    "partial_embeddings",
    "pesq_nb",
    "pesq_wb",
    "score",
    "score_many",
    "si_sdr",
    "si_sdr_improvement",
    "speaker_similarity",
    "split_by_selection",
    "stoi",
    "summarise",
    "target_selected",
]
