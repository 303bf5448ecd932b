"""The words of the report: how metrics, controls and inputs are called, and how to read the tables."""

from __future__ import annotations

from eeg2speech.records.schema import TRUE_EEG, SystemRef
from eeg2speech.records.summary import SELECTION

NOISE_CUE = "noise_cue"
MIXTURE = "mixture"
PAIRS = (("dprnn", "dprnn_blind"), ("neurocodec", "neurocodec_blind"), ("neurocodec", "codec_mixture-unquantised"))
"""Systems that are compared whatever their ranks: with and without EEG, and with what the codec alone does."""

METRIC_LABELS = {
    "si_sdr": "SI-SDR",
    "si_sdri": "SI-SDRi",
    "sdr": "SDR",
    "pesq_wb": "PESQ-WB",
    "pesq_nb": "PESQ-NB",
    "stoi": "STOI",
    "estoi": "ESTOI",
    SELECTION: "selection accuracy",
}
"""Metrics in the order of the columns; others follow by name."""

CONTROL_LABELS = {
    TRUE_EEG: "the EEG as it is",
    NOISE_CUE: "Gaussian noise, each channel's own mean and deviation, per segment",
    "noise_cue_global": "Gaussian noise, one mean and deviation for all, as published",
    "zero": "zeros",
    "time_shift": "EEG of another time of the same trial",
    "other_trial": "EEG of another trial of the same subject",
    "other_subject": "EEG of another subject",
    "phase_randomised": "EEG with random phases, the same spectrum",
    "channel_shuffle": "EEG with its channels in another order",
}
"""Controls in the order of the rows; others follow by name."""

HOW_TO_READ = (
    "Every system was trained and scored under the same split. A number is the mean over all test segments that could "
    "be scored; in brackets is its 95 % interval: a bootstrap over subjects and stimulus pairs, crossed, with 10,000 "
    "resamples. Intervals are not widened for the number of comparisons.",
    "`sees` is the most that a system is given. Only those that see no more of the sound than the mixture are ranked; "
    "rows marked `ref` are floors and ceilings that are given clean speech.",
    "`noise-cue drop` is the mean over segments of the score with the true EEG minus the score with noise in its "
    "place. `uses EEG` says yes when the interval of that drop excludes 0, whatever a system declares. A drop is "
    "necessary and not sufficient: a system may read who listens, or which trial it is, and not the speech; "
    "the other controls tell.",
    "`right` and `wrong` are the segments (how many) in which the estimate is closer to the attended or to the other "
    "talker; ties are in neither.",
    "A score that cannot be computed is counted as failed, with its reason, and never replaced; `*` marks a mean that "
    "lacks such segments. A system without all its controls and segments is incomplete: no mean, no rank.",
)


def metric_label(name: str) -> str:
    """How a metric is called in a table."""
    return METRIC_LABELS.get(name, name.replace("_", " "))


def in_order(names: set[str], known: dict[str, str]) -> tuple[str, ...]:
    """``names`` in the order of ``known``, those that are not known last, by name."""
    places = {name: place for place, name in enumerate(known)}
    return tuple(sorted(names, key=lambda name: (places.get(name, len(places)), name)))


def what_it_sees(system: SystemRef) -> str:
    """The most that a system is given, in words."""
    sound = {"mixture": "mixture", "sources": "clean sources", "target": "the target itself"}[system.sees]
    more = [word for word, given in (("EEG", system.uses_eeg), ("subject", system.uses_subject)) if given]
    only = " only" if system.sees == "mixture" and not more else ""
    return " + ".join([sound, *more]) + only
