"""Objective measures of an extracted or generated speech signal: pure functions on numpy arrays.

Conventions, everywhere in this room
    reference first, estimate second; signals are [T] floating-point arrays in full scale (1.0);
    rates in hertz; a measure either returns a finite float or raises ``Unscorable`` with a short, stable reason;
    arrays of the wrong shape are a mistake of the caller and raise ``BadInput``: nothing is trimmed or padded.

``METRICS`` is the one place that knows unit, direction and needs; ``Scorer`` scores many segments in processes.
The plain function for SDR is ``eeg2speech.metrics.sdr.sdr`` (not exported here, where ``sdr`` is the module).
"""

from __future__ import annotations

from eeg2speech.metrics.aggregate import Summary, split_by_selection, summarise
from eeg2speech.metrics.checks import Unscorable, check_pair
from eeg2speech.metrics.perceptual import estoi, pesq_nb, pesq_wb, stoi
from eeg2speech.metrics.scoring import Score, Scorer, score, score_many
from eeg2speech.metrics.sdr import si_sdr, si_sdr_improvement
from eeg2speech.metrics.selection import target_selected
from eeg2speech.metrics.signals import Signals
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
    "estoi",
    "metric",
    "pesq_nb",
    "pesq_wb",
    "score",
    "score_many",
    "si_sdr",
    "si_sdr_improvement",
    "split_by_selection",
    "stoi",
    "summarise",
    "target_selected",
]
