"""The one table of metrics: name, unit, direction, needs. No other room states a direction or a unit."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points

from eeg2speech.errors import BadInput, unknown_name
from eeg2speech.metrics import dnsmos, perceptual, pitch, published, sdr, speaker, spectral
from eeg2speech.metrics.checks import Unscorable, Wave, check_audible, check_pair, check_shapes
from eeg2speech.metrics.selection import target_selected
from eeg2speech.metrics.signals import EXTRAS, Signals

ENTRY_POINTS = "eeg2speech.metrics"
SDR_SECONDS = 0.25
"""Shortest segment for the SDR family: about 8 samples a tap for SDR at 16 kHz, and one syllable."""


@dataclass(frozen=True)
class Metric:
    """A measure of one segment and all that a table must know to print it.

    Args:
        name: as in records and on the command line.
        function: (signals, rate in hertz) -> float; may raise ``Unscorable``. Importable, so that processes can use it.
        unit: "dB", "MOS-LQO", ...; empty for a plain number.
        higher_is_better: the direction.
        needs: which of "mixture" and "interferer" the function reads.
        source: paper or standard.
        minimum_seconds: shortest segment that has a score.
        decimals: digits after the point in a table.
    """

    name: str
    function: Callable[[Signals, int], float]
    unit: str
    higher_is_better: bool
    needs: tuple[str, ...] = ()
    source: str = ""
    minimum_seconds: float = 0.25
    decimals: int = 2

    def __post_init__(self) -> None:
        for need in self.needs:
            if need not in EXTRAS:
                raise unknown_name(f"metric {self.name}", "needs", need, EXTRAS)

    def __call__(self, signals: Signals, rate: int) -> float:
        """Check the signals, then compute: a finite float, or ``Unscorable``, or ``BadInput``."""
        check_pair(signals.reference, signals.estimate, rate, self.minimum_seconds)
        for need in self.needs:
            extra = _needed(signals, need)
            check_shapes(signals.reference, **{need: extra})
            check_audible(need, extra)
        value = float(self.function(signals, rate))
        if not math.isfinite(value):
            raise Unscorable("undefined score")
        return value


def metric(name: str) -> Metric:
    """The metric of that name: of this table, else of an installed package (entry points ``eeg2speech.metrics``).

    Raises:
        BadInput: nobody knows the name (the message holds the nearest one), or the entry point is not a ``Metric``.
    """
    if name in METRICS:
        return METRICS[name]
    found = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if name not in found:
        raise unknown_name("metrics", "name", name, {*METRICS, *found})
    loaded = found[name].load()
    if not isinstance(loaded, Metric) or loaded.name != name:
        raise BadInput(f"entry point {name} of {ENTRY_POINTS}", "object", f"a Metric named {name!r}", repr(loaded))
    return loaded


def _needed(signals: Signals, need: str) -> Wave:
    extra: Wave | None = getattr(signals, need)
    if extra is None:
        raise Unscorable(f"no {need}")
    return extra


def _si_sdr(signals: Signals, rate: int) -> float:
    return sdr.si_sdr(signals.reference, signals.estimate)


def _si_sdri(signals: Signals, rate: int) -> float:
    return sdr.si_sdr_improvement(signals.reference, signals.estimate, _needed(signals, "mixture"))


def _sdr(signals: Signals, rate: int) -> float:
    return sdr.sdr(signals.reference, signals.estimate)


def _si_sdr_voiced(signals: Signals, rate: int) -> float:
    return published.si_sdr_voiced(signals.reference, signals.estimate)


def _sdr_voiced(signals: Signals, rate: int) -> float:
    return published.sdr_voiced(signals.reference, signals.estimate)


def _si_sdr_decimated(signals: Signals, rate: int) -> float:
    return published.si_sdr_decimated(signals.reference, signals.estimate)


def _pesq_nb_8k(signals: Signals, rate: int) -> float:
    return published.pesq_nb_8k(signals.reference, signals.estimate, rate)


def _pesq_nb(signals: Signals, rate: int) -> float:
    return perceptual.pesq_nb(signals.reference, signals.estimate, rate)


def _pesq_wb(signals: Signals, rate: int) -> float:
    return perceptual.pesq_wb(signals.reference, signals.estimate, rate)


def _stoi(signals: Signals, rate: int) -> float:
    return perceptual.stoi(signals.reference, signals.estimate, rate)


def _estoi(signals: Signals, rate: int) -> float:
    return perceptual.estoi(signals.reference, signals.estimate, rate)


def _selected(signals: Signals, rate: int) -> float:
    return target_selected(signals.reference, signals.estimate, _needed(signals, "interferer"))


def _mel_correlation(signals: Signals, rate: int) -> float:
    return spectral.mel_correlation(signals.reference, signals.estimate, rate)


def _envelope_correlation(signals: Signals, rate: int) -> float:
    return spectral.envelope_correlation(signals.reference, signals.estimate, rate)


def _log_spectral_distance(signals: Signals, rate: int) -> float:
    return spectral.log_spectral_distance(signals.reference, signals.estimate, rate)


def _mcd(signals: Signals, rate: int) -> float:
    return spectral.mel_cepstral_distortion(signals.reference, signals.estimate, rate)


def _f0_correlation(signals: Signals, rate: int) -> float:
    return pitch.f0_correlation(signals.reference, signals.estimate, rate)


def _speaker_similarity(signals: Signals, rate: int) -> float:
    return speaker.speaker_similarity(signals.reference, signals.estimate, rate)


def _dnsmos(signals: Signals, rate: int) -> float:
    return dnsmos.dnsmos_overall(signals.estimate, rate)


BASEN = "the code of Zhang et al. 2023 (BASEN)"
_ALL = (
    Metric("si_sdr", _si_sdr, "dB", True, (), "Le Roux et al. 2019", SDR_SECONDS, 2),
    Metric("si_sdri", _si_sdri, "dB", True, ("mixture",), "Le Roux et al. 2019", SDR_SECONDS, 2),
    Metric("sdr", _sdr, "dB", True, (), "Vincent et al. 2006; Scheibler 2022", SDR_SECONDS, 2),
    Metric("pesq_nb", _pesq_nb, "MOS-LQO", True, (), "ITU-T P.862, P.862.1", perceptual.PESQ_SECONDS, 2),
    Metric("pesq_wb", _pesq_wb, "MOS-LQO", True, (), "ITU-T P.862.2", perceptual.PESQ_SECONDS, 2),
    Metric("stoi", _stoi, "", True, (), "Taal et al. 2011", perceptual.STOI_SECONDS, 3),
    Metric("estoi", _estoi, "", True, (), "Jensen and Taal 2016", perceptual.STOI_SECONDS, 3),
    Metric("selection_accuracy", _selected, "fraction", True, ("interferer",), "this suite", SDR_SECONDS, 3),
    Metric("mel_correlation", _mel_correlation, "", True, (), "this suite", spectral.MEL_SECONDS, 3),
    Metric("envelope_correlation", _envelope_correlation, "", True, (), "this suite", spectral.ENVELOPE_SECONDS, 3),
    Metric(
        "log_spectral_distance", _log_spectral_distance, "dB", False, (), "Gray, Markel 1976", spectral.MEL_SECONDS, 2
    ),
    Metric("mcd", _mcd, "dB", False, (), "Kubichek 1993; Morise 2015", spectral.MCD_SECONDS, 2),
    Metric("f0_correlation", _f0_correlation, "", True, (), "Morise et al. 2016", pitch.F0_SECONDS, 3),
    Metric("speaker_similarity", _speaker_similarity, "", True, (), "Wan et al. 2018", speaker.SPEAKER_SECONDS, 3),
    Metric("si_sdr_voiced", _si_sdr_voiced, "dB", True, (), BASEN, SDR_SECONDS, 2),
    Metric("sdr_voiced", _sdr_voiced, "dB", True, (), BASEN, SDR_SECONDS, 2),
    Metric("si_sdr_decimated", _si_sdr_decimated, "dB", True, (), BASEN, SDR_SECONDS, 2),
    Metric("pesq_nb_8k", _pesq_nb_8k, "MOS-LQO", True, (), BASEN, perceptual.PESQ_SECONDS, 2),
    Metric("dnsmos", _dnsmos, "MOS", True, (), "Reddy et al. 2022", dnsmos.DNSMOS_SECONDS, 2),
)
METRICS: dict[str, Metric] = {entry.name: entry for entry in _ALL}
