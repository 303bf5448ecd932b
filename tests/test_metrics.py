"""Properties of the metrics on real speech: agreement with the reference packages, invariances, refusals."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import fast_bss_eval  # type: ignore[import-untyped]
import numpy as np
import pytest
import torch
from pesq import pesq  # type: ignore[import-untyped]
from pystoi import stoi as pystoi  # type: ignore[import-untyped]
from scipy.signal import lfilter, resample_poly
from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio, signal_distortion_ratio

from eeg2speech.assets.corpus import RATE, load_track, tracks
from eeg2speech.errors import BadInput
from eeg2speech.metrics import METRICS, Metric, Signals, Unscorable, check_pair, metric, perceptual, table
from eeg2speech.metrics.sdr import CEILING_DB, sdr, si_sdr, si_sdr_improvement
from eeg2speech.metrics.selection import target_selected

Pair = tuple[np.ndarray, np.ndarray]
NAMES = sorted(METRICS)
# Two do not fall as the other talker rises: he has a melody of his own, and DNSMOS hears clean speech either way.
FALLING = [name for name in NAMES if name not in ("f0_correlation", "dnsmos")]


@pytest.fixture(scope="module")
def talkers() -> Pair:
    """Four seconds of two different speakers at equal RMS, [64000] float32 each."""
    by_speaker = {track.speaker: track for track in tracks()}
    first, second = list(by_speaker.values())[:2]
    return _stretch(load_track(first)), _stretch(load_track(second))


def _stretch(track: np.ndarray) -> np.ndarray:
    part = track[60 * RATE : 64 * RATE]
    return np.asarray(0.05 * part / part.std(), dtype=np.float32)


def _mix(speech: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    return (speech + noise * 10 ** (-snr_db / 20)).astype(np.float32)


def _segment(talkers: Pair, snr_db: float = 10.0) -> Signals:
    speech, other = talkers
    return Signals(speech, _mix(speech, other, snr_db), _mix(speech, other, 0.0), other)


# SI-SDR


@pytest.mark.parametrize("snr_db", [-30, -10, 0, 10, 30, 50])
def test_si_sdr_agrees_with_two_reference_packages(talkers: Pair, snr_db: int) -> None:
    speech, estimate = talkers[0], _mix(*talkers, snr_db)
    ours = si_sdr(speech, estimate)
    theirs = scale_invariant_signal_distortion_ratio(torch.from_numpy(estimate), torch.from_numpy(speech), True)
    assert ours == pytest.approx(theirs.item(), abs=1e-3)
    other = fast_bss_eval.si_sdr(speech[None].astype(float), estimate[None].astype(float), zero_mean=True)
    assert ours == pytest.approx(other.item(), abs=1e-3)


@pytest.mark.parametrize("snr_db", [-90.0, -3.0, 0.0, 20.0, 90.0])
def test_noise_orthogonal_to_the_speech_gives_its_snr(talkers: Pair, snr_db: float) -> None:
    speech, noise = (signal - signal.mean() for signal in (x.astype(float) for x in talkers))
    noise -= np.dot(noise, speech) / np.dot(speech, speech) * speech
    noise *= np.linalg.norm(speech) / np.linalg.norm(noise) * 10 ** (-snr_db / 20)
    assert si_sdr(speech, speech + noise) == pytest.approx(snr_db, abs=1e-5)


@pytest.mark.parametrize("function", [si_sdr, sdr])
@pytest.mark.parametrize("gain", [-1.0, 1e-3, 40.0, -1e6])
def test_ratios_are_blind_to_scale_and_polarity(talkers: Pair, function: Any, gain: float) -> None:
    speech, estimate = (x.astype(float) for x in (talkers[0], _mix(*talkers, 5.0)))
    assert function(speech, gain * estimate) == pytest.approx(function(speech, estimate), abs=1e-8)
    assert function(gain * speech, estimate) == pytest.approx(function(speech, estimate), abs=1e-8)


def test_si_sdr_ignores_an_offset(talkers: Pair) -> None:
    speech, estimate = (x.astype(float) for x in (talkers[0], _mix(*talkers, 5.0)))
    assert si_sdr(speech + 0.3, estimate - 0.7) == pytest.approx(si_sdr(speech, estimate), abs=1e-9)


def test_perfect_and_orthogonal_estimates_reach_the_stated_limits(talkers: Pair) -> None:
    speech = talkers[0]
    for estimate in (speech, -speech, speech * np.float32(0.3)):
        assert si_sdr(speech, estimate) == sdr(speech, estimate) == CEILING_DB
    turns = 2 * np.pi * 100 * np.arange(RATE) / RATE
    assert si_sdr(np.sin(turns), np.cos(turns)) == -CEILING_DB


def test_improvement_is_measured_from_the_mixture(talkers: Pair) -> None:
    segment = _segment(talkers)
    assert segment.mixture is not None
    assert si_sdr_improvement(segment.reference, segment.mixture, segment.mixture) == 0.0
    gain = si_sdr_improvement(segment.reference, segment.estimate, segment.mixture)
    expected = si_sdr(segment.reference, segment.estimate) - si_sdr(segment.reference, segment.mixture)
    assert gain == expected == pytest.approx(10.0, abs=0.5)


# SDR


@pytest.mark.parametrize("snr_db", [-30, -10, 0, 10, 30, 50])
def test_sdr_agrees_with_two_reference_packages(talkers: Pair, snr_db: int) -> None:
    speech, estimate = (x.astype(float) for x in (talkers[0], _mix(*talkers, snr_db)))
    ours = sdr(speech, estimate)
    assert ours == pytest.approx(fast_bss_eval.sdr(speech[None], estimate[None]).item(), abs=1e-3)
    theirs = signal_distortion_ratio(torch.from_numpy(estimate), torch.from_numpy(speech))
    assert ours == pytest.approx(theirs.item(), abs=1e-3)


def test_sdr_forgives_a_short_filter_and_si_sdr_does_not(talkers: Pair) -> None:
    speech = np.pad(talkers[0].astype(float), (0, 24))  # so that the filter's tail is not cut off
    filtered = lfilter([0.0] * 20 + [0.5, 0.3, 0.0, -0.2], [1.0], speech)
    assert sdr(speech, filtered) > 80.0
    assert si_sdr(speech, filtered) < 5.0


def test_sdr_refuses_what_it_cannot_solve(talkers: Pair) -> None:
    with pytest.raises(Unscorable, match="degenerate reference"):
        sdr(np.hanning(4 * RATE), talkers[0].astype(float))
    with pytest.raises(Unscorable, match="too short"):
        sdr(talkers[0][:1024], talkers[1][:1024])


# PESQ and STOI


@pytest.mark.parametrize("snr_db", [-5, 10])
def test_perceptual_scores_are_those_of_the_reference_packages(talkers: Pair, snr_db: int) -> None:
    speech, estimate = talkers[0], _mix(*talkers, snr_db)
    assert perceptual.pesq_wb(speech, estimate, RATE) == pesq(RATE, speech, estimate, "wb")
    half = (resample_poly(speech, 1, 2), resample_poly(estimate, 1, 2))
    assert perceptual.pesq_nb(speech, estimate, RATE) == pesq(8000, *half, "nb")
    assert perceptual.pesq_nb(*half, 8000) == pesq(8000, *half, "nb")
    assert perceptual.stoi(speech, estimate, RATE) == pystoi(speech, estimate, RATE)
    theirs = pystoi(speech, estimate, RATE, extended=True)
    assert perceptual.estoi(speech, estimate, RATE) == pytest.approx(theirs, abs=1e-9)


def test_wide_band_pesq_refuses_a_rate_without_the_band(talkers: Pair) -> None:
    with pytest.raises(BadInput, match="pesq_wb: rate: expected at least 14000 Hz.*found 8000"):
        perceptual.pesq_wb(*talkers, 8000)


@pytest.mark.parametrize("rate", [14_700, 44_100])
def test_other_rates_score_nearly_alike(talkers: Pair, rate: int) -> None:
    speech, estimate = talkers[0], _mix(*talkers, 10.0)
    other = (resample_poly(speech, rate // 100, RATE // 100), resample_poly(estimate, rate // 100, RATE // 100))
    for function, tolerance in ((perceptual.pesq_wb, 0.15), (perceptual.pesq_nb, 0.05), (perceptual.estoi, 0.01)):
        assert function(*other, rate) == pytest.approx(function(speech, estimate, RATE), abs=tolerance)


def test_estoi_repeats_and_leaves_the_global_generator_alone(talkers: Pair) -> None:
    speech, estimate = talkers[0], _mix(*talkers, 0.0)
    np.random.seed(7)
    expected = np.random.standard_normal(3)
    np.random.seed(7)
    first = perceptual.estoi(speech, estimate, RATE)
    assert np.array_equal(np.random.standard_normal(3), expected)
    assert perceptual.estoi(speech, estimate, RATE) == first


def test_estoi_restores_the_global_generator_after_a_refusal(talkers: Pair) -> None:
    np.random.seed(7)
    expected = np.random.standard_normal(3)
    np.random.seed(7)
    with pytest.raises(Unscorable):
        perceptual.estoi(talkers[0] * 0, talkers[1], RATE)
    assert np.array_equal(np.random.standard_normal(3), expected)


def test_perceptual_refusals_of_audible_signals(talkers: Pair) -> None:
    speech = talkers[0]
    burst = np.where(np.arange(speech.size) < 0.3 * RATE, speech, 0).astype(np.float32)
    for function in (perceptual.stoi, perceptual.estoi):
        with pytest.raises(Unscorable, match="too little speech"):
            function(burst, speech, RATE)
    with pytest.raises(Unscorable, match="no utterance detected"):
        perceptual.pesq_wb(speech, speech * np.float32(1e30), RATE)
    with pytest.raises(Unscorable, match="undefined score"):
        perceptual.pesq_wb(speech * np.float32(1e30), speech, RATE)


# Selection


def test_selection_tells_the_talkers_apart(talkers: Pair) -> None:
    target, other = talkers
    assert target_selected(target, _mix(target, other, 1.0), other) == 1.0
    assert target_selected(target, _mix(target, other, -1.0), other) == 0.0
    assert target_selected(target, -target, other) == 1.0


def test_an_estimate_equally_near_to_both_is_a_tie(talkers: Pair) -> None:
    target, other = (x.astype(float) - x.mean(dtype=float) for x in talkers)
    target, other = target / np.linalg.norm(target), other / np.linalg.norm(other)
    assert target_selected(target, target + other, other) == 0.5
    assert target_selected(target, other + target * 1.0001, other) == 1.0


# All metrics alike


@pytest.mark.parametrize("name", FALLING)
def test_a_metric_follows_the_quality_of_the_estimate(talkers: Pair, name: str) -> None:
    values = [metric(name)(_segment(talkers, snr_db), RATE) for snr_db in (-10, 5, 20)]
    values.append(metric(name)(replace(_segment(talkers), estimate=talkers[0]), RATE))
    assert np.isfinite(values).all()
    assert values == sorted(values, reverse=not metric(name).higher_is_better)
    assert values[0] != values[-1]


def _with_value(signal: np.ndarray, value: float) -> np.ndarray:
    changed = signal.copy()
    changed[signal.size // 2] = value
    return changed


SPOILT = {
    "silent reference": lambda s: replace(s, reference=s.reference * 0),
    "silent estimate": lambda s: replace(s, estimate=np.full_like(s.estimate, 0.5)),
    "non-finite reference": lambda s: replace(s, reference=_with_value(s.reference, np.inf)),
    "non-finite estimate": lambda s: replace(s, estimate=_with_value(s.estimate, np.nan)),
}


@pytest.mark.parametrize("reason", SPOILT)
@pytest.mark.parametrize("name", NAMES)
def test_spoilt_signals_have_no_score_but_a_reason(talkers: Pair, name: str, reason: str) -> None:
    with pytest.raises(Unscorable) as failure:
        metric(name)(SPOILT[reason](_segment(talkers)), RATE)
    assert failure.value.reason == reason


@pytest.mark.parametrize("samples", [0, 1, RATE // 10])
@pytest.mark.parametrize("name", NAMES)
def test_short_signals_have_no_score(talkers: Pair, name: str, samples: int) -> None:
    short = _segment((talkers[0][:samples], talkers[1][:samples]))
    with pytest.raises(Unscorable, match="^too short$"):
        metric(name)(short, RATE)


@pytest.mark.parametrize("name", NAMES)
def test_signals_of_unequal_length_are_refused(talkers: Pair, name: str) -> None:
    segment = _segment(talkers)
    with pytest.raises(BadInput, match="estimate: expected 64000 samples as in the reference, found 63999"):
        metric(name)(replace(segment, estimate=segment.estimate[:-1]), RATE)
    for need in metric(name).needs:
        with pytest.raises(BadInput, match=f"{need}: expected 64000 samples"):
            metric(name)(replace(segment, **{need: talkers[1][1:]}), RATE)


@pytest.mark.parametrize(
    ("name", "need"), [(name, need) for name in NAMES for need in METRICS[name].needs], ids=lambda text: text
)
def test_a_needed_signal_is_checked(talkers: Pair, name: str, need: str) -> None:
    segment = _segment(talkers)
    spoilt: dict[str, Any] = {"no": None, "silent": talkers[0] * 0, "non-finite": _with_value(talkers[0], np.nan)}
    for word, signal in spoilt.items():
        with pytest.raises(Unscorable, match=f"^{word} {need}$"):
            metric(name)(replace(segment, **{need: signal}), RATE)


@pytest.mark.parametrize("name", NAMES)
def test_a_metric_leaves_its_input_alone_and_takes_double_precision(talkers: Pair, name: str) -> None:
    segment = _segment(talkers)
    before = segment.digest()
    value = metric(name)(segment, RATE)
    assert segment.digest() == before
    double = Signals(*(np.asarray(getattr(segment, f), dtype=float) for f in segment.__dataclass_fields__))
    assert metric(name)(double, RATE) == pytest.approx(value, abs=1e-3)


@pytest.mark.parametrize(
    ("estimate", "expected"),
    [
        (np.zeros((1, RATE)), "shape"),
        (np.zeros(RATE, dtype=np.int16), "floating-point"),
        (np.zeros(0, dtype=np.int64), "floating-point"),
        ([0.0] * RATE, "floating-point"),
    ],
)
def test_what_is_not_a_wave_is_refused(estimate: Any, expected: str) -> None:
    with pytest.raises(BadInput, match=f"estimate: expected .*{expected}"):
        check_pair(np.ones(RATE), estimate)


def test_a_rate_must_be_positive() -> None:
    with pytest.raises(BadInput, match="rate"):
        check_pair(np.ones(RATE), np.ones(RATE), rate=0)


# The table


def test_the_table_knows_what_every_metric_must_declare() -> None:
    extraction = {"si_sdr", "si_sdri", "sdr", "pesq_nb", "pesq_wb", "stoi", "estoi", "selection_accuracy"}
    generation = {"mel_correlation", "envelope_correlation", "f0_correlation", "speaker_similarity", "dnsmos"}
    published = {"si_sdr_voiced", "sdr_voiced", "si_sdr_decimated", "pesq_nb_8k"}
    assert set(METRICS) == extraction | generation | published | {"log_spectral_distance", "mcd"}
    assert all(name == entry.name and entry.source for name, entry in METRICS.items())
    decibel = ["si_sdr", "si_sdri", "sdr", "log_spectral_distance", "mcd"]
    decibel += ["si_sdr_voiced", "sdr_voiced", "si_sdr_decimated"]
    assert [name for name in METRICS if METRICS[name].unit == "dB"] == decibel
    assert {name for name in METRICS if not METRICS[name].higher_is_better} == {"log_spectral_distance", "mcd"}


def test_an_unknown_metric_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(BadInput, match="did you mean 'si_sdr'"):
        metric("sisdr")


def test_an_unknown_need_is_refused() -> None:
    with pytest.raises(BadInput, match="did you mean 'mixture'"):
        Metric("mine", lambda signals, rate: 0.0, "", True, ("mixtures",))


def test_an_installed_package_can_bring_a_metric(monkeypatch: pytest.MonkeyPatch, talkers: Pair) -> None:
    peak = Metric("peak", lambda signals, rate: float(np.abs(signals.estimate).max()), "", False)
    points = [SimpleNamespace(name="peak", load=lambda: peak), SimpleNamespace(name="other", load=lambda: 3)]
    monkeypatch.setattr(table, "entry_points", lambda group: points if group == "eeg2speech.metrics" else [])
    assert metric("peak")(_segment(talkers), RATE) > 0
    with pytest.raises(BadInput, match="expected a Metric named 'other', found 3"):
        metric("other")
    with pytest.raises(BadInput, match="did you mean 'peak'"):
        metric("peek")


def test_a_metric_that_returns_no_number_has_no_score(talkers: Pair) -> None:
    with pytest.raises(Unscorable, match="undefined score"):
        Metric("mine", lambda signals, rate: float("nan"), "", True)(_segment(talkers), RATE)


def test_the_metrics_load_no_torch_and_nothing_else_that_is_slow() -> None:
    slow = "{'torch', 'librosa', 'pyworld', 'resemblyzer', 'onnxruntime'}"
    code = f"import sys, eeg2speech.metrics; sys.exit(len({slow} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
