"""Properties of the metrics for generated speech: perfect, far and spoilt estimates, gains, and known answers."""

from __future__ import annotations

import sys
from collections.abc import Callable

import librosa
import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.signal import chirp
from speechmos import dnsmos as speechmos  # type: ignore[import-untyped]

from eeg2speech.assets.corpus import RATE, load_track, tracks
from eeg2speech.assets.pretraining import stretches
from eeg2speech.errors import BadInput
from eeg2speech.metrics import (
    METRICS,
    Signals,
    Unscorable,
    dnsmos_overall,
    envelope_correlation,
    f0_correlation,
    frechet_distance,
    frechet_resemblyzer,
    log_mel,
    log_spectral_distance,
    mel,
    mel_cepstral_distortion,
    mel_correlation,
    mel_filterbank,
    metric,
    partial_embeddings,
    speaker_similarity,
)
from eeg2speech.metrics.correlation import pearson
from eeg2speech.metrics.packages import package
from eeg2speech.metrics.spectral import mel_cepstrum

Wave = np.ndarray
PERFECT = {
    "mel_correlation": 1.0,
    "envelope_correlation": 1.0,
    "log_spectral_distance": 0.0,
    "mcd": 0.0,
    "f0_correlation": 1.0,
    "speaker_similarity": 1.0,
}
OF_NOISE = {
    "mel_correlation": (-0.1, 0.1),
    "envelope_correlation": (-0.4, 0.4),
    "log_spectral_distance": (15.0, 60.0),
    "mcd": (10.0, 30.0),
    "speaker_similarity": (0.3, 0.7),
    "dnsmos": (1.0, 1.3),
}
"""Least and greatest value that steady noise may score; it has no pitch at all."""
NAMES = sorted({*PERFECT, *OF_NOISE})
BLIND_TO_GAIN = [name for name in PERFECT if name != "log_spectral_distance"]
ONLY_16K = ["mel_correlation", "mcd", "speaker_similarity", "dnsmos"]


@pytest.fixture(scope="module")
def talkers() -> dict[str, Wave]:
    """Eight seconds of speech kept out of all pretraining, [128000] float32, of two speakers."""
    first, second = list({track.speaker: track for track in tracks()}.values())[:2]
    found = {}
    for name, track in (("true", first), ("other", second)):
        start = next(a for a, b in stretches(track.track, kept_out=True) if b - a >= 8 * RATE)
        found[name] = load_track(track)[start : start + 8 * RATE]
    return found


@pytest.fixture(scope="module")
def speech(talkers: dict[str, Wave]) -> Wave:
    """Four seconds of the first speaker, [64000]."""
    return talkers["true"][: 4 * RATE]


@pytest.fixture(scope="module")
def noise(speech: Wave) -> Wave:
    """White noise as loud as the speech."""
    return (np.random.default_rng(5).standard_normal(speech.size) * speech.std()).astype(np.float32)


def _voice(pitch: Wave) -> Wave:
    """All harmonics below 7.5 kHz [T] of a pitch in Hz [T], as even as a buzzer."""
    turns = 2 * np.pi * np.cumsum(pitch) / RATE
    return np.asarray(0.01 * sum(np.cos(k * turns) for k in range(1, int(7500 / pitch.max()) + 1)))


def _glide(low: float, high: float, seconds: float = 2.0) -> Wave:
    return np.linspace(low, high, round(seconds * RATE))


# All alike


@pytest.mark.parametrize("name", PERFECT)
def test_a_perfect_estimate_has_the_best_score(speech: Wave, name: str) -> None:
    assert metric(name)(Signals(speech, speech.copy()), RATE) == pytest.approx(PERFECT[name], abs=1e-9)


@pytest.mark.parametrize("name", OF_NOISE)
def test_noise_is_far_from_speech(speech: Wave, noise: Wave, name: str) -> None:
    least, greatest = OF_NOISE[name]
    assert least <= metric(name)(Signals(speech, noise), RATE) <= greatest


@pytest.mark.parametrize("name", [name for name in PERFECT if name != "speaker_similarity"])
def test_other_speech_is_far_too(talkers: dict[str, Wave], speech: Wave, name: str) -> None:
    other = metric(name)(Signals(speech, talkers["other"][: speech.size]), RATE)
    if metric(name).higher_is_better:
        assert other < 0.5
    else:
        assert other > 8.0


@pytest.mark.parametrize("name", NAMES)
def test_a_score_repeats_whatever_the_number_of_threads(speech: Wave, noise: Wave, name: str) -> None:
    signals = Signals(speech, speech + np.float32(0.1) * noise)
    first, before = metric(name)(signals, RATE), torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        assert metric(name)(signals, RATE) == first
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("gain", [0.1, 8.0])
@pytest.mark.parametrize("name", BLIND_TO_GAIN)
def test_a_gain_of_the_estimate_changes_nothing(speech: Wave, noise: Wave, name: str, gain: float) -> None:
    estimate = speech + np.float32(0.1) * noise
    expected = metric(name)(Signals(speech, estimate), RATE)
    assert metric(name)(Signals(speech, estimate * np.float32(gain)), RATE) == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("name", NAMES)
def test_silence_and_what_is_not_a_number_have_no_score(speech: Wave, name: str) -> None:
    spoilt = speech.copy()
    spoilt[1000] = np.nan
    for reason, estimate in (("silent estimate", speech * 0), ("non-finite estimate", spoilt)):
        with pytest.raises(Unscorable, match=f"^{reason}$"):
            metric(name)(Signals(speech, estimate), RATE)


@pytest.mark.parametrize("name", NAMES)
def test_a_segment_may_be_as_short_as_declared_and_no_shorter(speech: Wave, name: str) -> None:
    samples = int(np.ceil(METRICS[name].minimum_seconds * RATE))
    start = int(np.argmax(np.convolve(speech**2, np.ones(samples), "valid")))
    short = speech[start : start + samples]
    assert np.isfinite(metric(name)(Signals(short, short), RATE))
    with pytest.raises(Unscorable, match="^too short$"):
        metric(name)(Signals(short[:-1], short[:-1]), RATE)


@pytest.mark.parametrize("name", NAMES)
def test_signals_of_unequal_length_are_refused(speech: Wave, name: str) -> None:
    with pytest.raises(BadInput, match="expected 64000 samples as in the reference, found 63999"):
        metric(name)(Signals(speech, speech[1:]), RATE)


@pytest.mark.parametrize("name", NAMES)
def test_a_rate_is_taken_or_refused(speech: Wave, name: str) -> None:
    signals = Signals(speech, speech)
    if name in ONLY_16K:
        with pytest.raises(BadInput, match="rate: expected 16000 Hz, found 8000"):
            metric(name)(signals, 8000)
    else:
        assert metric(name)(signals, 8000) == pytest.approx(PERFECT[name], abs=1e-9)


@pytest.mark.parametrize(
    "function",
    [
        mel_correlation,
        envelope_correlation,
        log_spectral_distance,
        mel_cepstral_distortion,
        f0_correlation,
        speaker_similarity,
    ],
)
def test_the_plain_functions_check_their_signals(function: Callable[..., float], speech: Wave) -> None:
    with pytest.raises(Unscorable, match="silent reference"):
        function(speech * 0, speech, RATE)
    with pytest.raises(BadInput, match="estimate"):
        function(speech, speech[None], RATE)


def test_a_package_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "absent_module", None)
    with pytest.raises(BadInput, match="absent-distribution: pip install absent-distribution"):
        package("absent_module", "absent-distribution")


# Log-mel


@pytest.mark.parametrize("samples", [433, 479, 480, 481, 1600, 16_001, 63_999, 64_000])
def test_a_log_mel_has_a_frame_a_hop(speech: Wave, samples: int) -> None:
    found = log_mel(speech[:samples], RATE)
    assert found.shape == (64, samples // 160)
    assert np.isfinite(found).all() and found.min() >= np.log(1e-5)


def test_log_mel_is_that_of_librosa(speech: Wave) -> None:
    filters = librosa.filters.mel(sr=RATE, n_fft=mel.N_FFT, n_mels=mel.BANDS, fmin=mel.FMIN, fmax=mel.FMAX)
    assert mel_filterbank().shape == (64, 513)
    assert np.allclose(mel_filterbank(), filters, atol=1e-8)
    padded = np.pad(speech.astype(float), mel.PAD, mode="reflect")
    theirs = librosa.feature.melspectrogram(
        y=padded, sr=RATE, n_fft=1024, hop_length=160, center=False, power=1.0, n_mels=64
    )
    assert np.allclose(log_mel(speech, RATE), np.log(np.maximum(theirs, 1e-5)), atol=1e-5)


def test_the_shared_filterbank_cannot_be_spoilt() -> None:
    with pytest.raises(ValueError, match="read-only"):
        mel_filterbank()[0, 0] = 1.0


def test_log_mel_follows_gain_and_ends_at_the_floor(speech: Wave) -> None:
    found, louder = log_mel(speech, RATE), log_mel(speech * np.float32(2), RATE)
    above = found > np.log(1e-5)
    assert np.allclose((louder - found)[above], np.log(2), atol=1e-5)
    assert np.all(log_mel(np.zeros(RATE), RATE) == np.log(1e-5))


def test_log_mel_refuses_what_it_cannot_frame(speech: Wave) -> None:
    with pytest.raises(BadInput, match="rate: expected 16000 Hz, found 22050"):
        log_mel(speech, 22_050)
    with pytest.raises(BadInput, match="at least 433 samples, found 432"):
        log_mel(speech[:432], RATE)
    with pytest.raises(BadInput, match="shape"):
        log_mel(speech[None], RATE)


# Spectra and envelopes


def test_correlation_of_what_is_flat_is_nothing() -> None:
    x = np.array([[1.0, 2.0, 4.0], [3.0, 3.0, 3.0], [0.0, 1.0, 0.0]])
    y = np.array([[2.0, 4.0, 8.0], [1.0, 2.0, 3.0], [0.0, -1.0, 0.0]])
    assert pearson(x, y) == pytest.approx([1.0, 0.0, -1.0])


def test_bands_without_sound_count_as_nothing(speech: Wave) -> None:
    quiet = speech * np.float32(1e-5 / speech.std())
    flat = np.mean(log_mel(quiet, RATE).std(axis=1) < 1e-9)
    assert 0.1 < flat < 0.9
    assert 0 < mel_correlation(speech, quiet, RATE) <= 1 - flat


def test_log_spectral_distance_of_a_gain_is_that_gain(noise: Wave) -> None:
    half = noise * np.float32(0.5)
    assert log_spectral_distance(noise, half, RATE) == pytest.approx(20 * np.log10(2), abs=1e-3)
    inaudible = np.random.default_rng(1).standard_normal(noise.size) * 2e-6
    assert log_spectral_distance(inaudible, -inaudible[::-1], RATE) == 0.0


def test_mel_cepstrum_of_a_known_spectrum() -> None:
    straight = np.linspace(0, np.pi, 513)
    bent = straight + 2 * np.arctan(0.42 * np.sin(straight) / (1 - 0.42 * np.cos(straight)))
    log_magnitude = 0.7 + 0.5 * np.cos(bent) - 0.2 * np.cos(3 * bent)
    cepstrum = mel_cepstrum(np.exp(2 * log_magnitude)[:, None])[:, 0]
    expected = np.zeros(25)
    expected[[0, 1, 3]] = 0.7, 0.5, -0.2
    assert cepstrum == pytest.approx(expected, abs=1e-3)


def test_mel_cepstral_distortion_hears_the_voice_and_not_its_pitch() -> None:
    low, high = _voice(_glide(120, 120)), _voice(_glide(150, 150))
    tilted = np.append(low[0], low[1:] - 0.9 * low[:-1])
    assert mel_cepstral_distortion(low, high, RATE) < 0.4 * mel_cepstral_distortion(low, tilted, RATE)


def test_envelope_correlation_knows_the_rhythm_alone(noise: Wave) -> None:
    time = np.arange(noise.size) / RATE
    carrier = chirp(time, 500, time[-1], 2000)
    slow, against = 1 + 0.8 * np.cos(2 * np.pi * 4 * time), 1 - 0.8 * np.cos(2 * np.pi * 4 * time)
    assert envelope_correlation(slow * carrier, slow * noise, RATE) > 0.9
    assert envelope_correlation(slow * carrier, against * carrier, RATE) < -0.9


def test_envelopes_of_steady_noises_do_not_share_their_ends() -> None:
    # Without care the two ends of a segment are steps that correlate: 0.3 or more in the mean.
    draw = np.random.default_rng(2).standard_normal
    found = [envelope_correlation(draw(2 * RATE), draw(2 * RATE), RATE) for _ in range(40)]
    assert abs(np.mean(found)) < 0.1


# Pitch


@pytest.mark.parametrize("gain", [1.0, 0.01])
def test_the_pitch_of_a_glide_is_followed(gain: float) -> None:
    rising = _voice(_glide(110, 220))
    assert f0_correlation(rising, gain * _voice(_glide(130, 260)), RATE) > 0.99
    assert f0_correlation(rising, gain * _voice(_glide(220, 110)), RATE) < -0.95


def test_a_voice_without_common_voiced_frames_has_no_score(noise: Wave) -> None:
    silence = np.zeros(RATE)
    voice = _voice(_glide(110, 220, 1.0))
    first, second = np.concatenate([voice, silence]), np.concatenate([silence, voice])
    for reference, estimate in ((first, second), (_voice(_glide(110, 220, 4.0)), noise)):
        with pytest.raises(Unscorable, match="^few voiced frames$"):
            f0_correlation(reference, estimate, RATE)


# Speakers


def test_the_same_voice_is_nearer_than_another(talkers: dict[str, Wave]) -> None:
    half = 4 * RATE
    same = speaker_similarity(talkers["true"][:half], talkers["true"][half:], RATE)
    other = speaker_similarity(talkers["true"][:half], talkers["other"][:half], RATE)
    assert other + 0.05 < same < 1.0


def test_partial_embeddings_are_unit_vectors(speech: Wave) -> None:
    found = partial_embeddings(speech, RATE)
    assert found.shape == (4, 256)
    assert np.linalg.norm(found, axis=1) == pytest.approx(1.0, abs=1e-6)
    assert np.array_equal(found, partial_embeddings(speech.astype(float), RATE))
    assert len(partial_embeddings(speech[: int(1.6 * RATE)], RATE)) == 1


def test_partial_embeddings_refuse_what_they_would_fill_up(speech: Wave) -> None:
    with pytest.raises(BadInput, match=r"at least 1.6 s, found 1.500 s"):
        partial_embeddings(speech[: int(1.5 * RATE)], RATE)
    with pytest.raises(Unscorable, match="silent signal"):
        partial_embeddings(speech * 0, RATE)


def test_frechet_distance_of_shifted_sets_is_the_squared_shift() -> None:
    rows = np.random.default_rng(3).standard_normal((400, 6)) @ np.diag([3.0, 2.0, 1.0, 0.5, 0.1, 0.0])
    assert frechet_distance(rows, rows[::-1]) == pytest.approx(0.0, abs=1e-9)
    assert frechet_distance(rows, rows + [1, 0, -2, 0, 0, 3]) == pytest.approx(14.0, abs=1e-9)
    assert frechet_distance(rows, 2 * rows) == pytest.approx(
        np.trace(np.cov(rows.T)) + np.sum(rows.mean(0) ** 2), abs=1e-9
    )


def test_frechet_distance_is_that_of_the_textbook() -> None:
    draw = np.random.default_rng(4)
    x, y = draw.standard_normal((50, 5)), draw.standard_normal((70, 5)) @ draw.standard_normal((5, 5)) + 1
    s, t = np.cov(x.T), np.cov(y.T)
    expected = np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(s + t - 2 * sqrtm(s @ t).real)
    assert frechet_distance(x, y) == pytest.approx(expected, abs=1e-9)
    assert frechet_distance(y, x) == pytest.approx(expected, abs=1e-9)


def test_frechet_distance_takes_fewer_rows_than_columns() -> None:
    rows = np.random.default_rng(5).standard_normal((3, 256)).astype(np.float32)
    assert frechet_distance(rows, rows) == pytest.approx(0.0, abs=1e-9)
    assert frechet_distance(rows, rows + np.float32(1)) == pytest.approx(256.0, rel=1e-6)


@pytest.mark.parametrize(
    ("estimate", "expected"),
    [
        (np.ones((1, 4)), "N at least 2"),
        (np.ones(4), "N at least 2"),
        (np.ones(()), "N at least 2"),
        (np.ones((5, 3)), "4 columns"),
        (np.full((5, 4), np.nan), "finite"),
    ],
)
def test_frechet_distance_refuses(estimate: Wave, expected: str) -> None:
    with pytest.raises(BadInput, match=expected):
        frechet_distance(np.eye(4), estimate)


def test_frechet_resemblyzer_tells_voices_apart(talkers: dict[str, Wave]) -> None:
    true, other = talkers["true"], talkers["other"]
    halves = [true[: 4 * RATE], true[4 * RATE :]]
    assert frechet_resemblyzer(halves, iter(halves), RATE) == pytest.approx(0.0, abs=1e-6)
    assert frechet_resemblyzer(halves[:1], halves[1:], RATE) < frechet_resemblyzer(
        halves[:1], [other[: 4 * RATE]], RATE
    )
    with pytest.raises(BadInput, match="estimates: expected at least one signal, found none"):
        frechet_resemblyzer(halves, [], RATE)


# DNSMOS


def test_dnsmos_is_that_of_speechmos(talkers: dict[str, Wave]) -> None:
    tiled = np.resize(talkers["true"], int(9.01 * RATE))
    long = np.concatenate([talkers["true"], talkers["other"]])[: 11 * RATE]
    for wave, whole in ((talkers["true"], tiled), (long, long)):
        assert dnsmos_overall(wave, RATE) == pytest.approx(speechmos.run(whole, RATE)["ovrl_mos"], abs=1e-3)


def test_dnsmos_scales_what_is_too_loud_and_nothing_else(speech: Wave) -> None:
    full = speech / np.abs(speech).max()
    expected = dnsmos_overall(full, RATE)
    assert dnsmos_overall(full * np.float32(4), RATE) == pytest.approx(expected, abs=1e-3)
    assert dnsmos_overall(full * np.float32(0.03), RATE) != pytest.approx(expected, abs=1e-3)


def test_dnsmos_asks_the_estimate_alone(speech: Wave, noise: Wave) -> None:
    expected = dnsmos_overall(speech, RATE)
    assert metric("dnsmos")(Signals(noise, speech), RATE) == expected
    for bad in (speech[:0], speech[: RATE - 1]):
        with pytest.raises(Unscorable, match="^too short$"):
            dnsmos_overall(bad, RATE)
