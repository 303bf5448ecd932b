"""Every metric against an implementation that shares no code with it, on corpus speech, and against what the page says.

``TRUTHS`` is the table: metric, what it is compared with, how near it must come, at which rates. A truth is another
package or, where there is none, a plain version written here from the formula of the paper. Whose backend is whose:

    torchmetrics' SI-SDR and SDR are its own torch code; its STOI and PESQ call pystoi and pesq.
    fast_bss_eval is its own numpy code. Ours are numpy too, but neither calls the other.
    Our STOI is pystoi's, so it is compared with ``plain_stoi``. Our PESQ calls the ITU's C code (pesq), of which there
    is no second one: torchmetrics' wrapper shows that the signals get there whole, and properties show the rest.
    Our MCD and F0 read WORLD (pyworld): the cepstra are computed here in another way, the chain is tested on a voice
    whose spectrum is known, and pitch is compared with librosa's pYIN.

``docs/metrics.md`` quotes numbers measured here. Its tables are read and measured again: they cannot grow stale.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations, permutations
from pathlib import Path

import fast_bss_eval
import librosa
import numpy as np
import pytest
import pyworld  # type: ignore[import-untyped]
import torch
from pesq import pesq
from pystoi import stoi as pystoi
from scipy.signal import firwin, lfilter, upfirdn
from torchmetrics.functional.audio import (
    perceptual_evaluation_speech_quality,
    scale_invariant_signal_distortion_ratio,
    signal_distortion_ratio,
)

from eeg2speech.assets.corpus import RATE, load_track, tracks
from eeg2speech.evaluation.generation import mel_row
from eeg2speech.evaluation.protocol import measure
from eeg2speech.metrics import METRICS, Signals, Unscorable, metric, score, si_sdr
from eeg2speech.metrics.published import si_sdr_decimated
from eeg2speech.metrics.retrieval import ATTENTION, RANK_METRICS, SPOKEN, places, rank, won
from eeg2speech.metrics.speaker import _encoder

Wave = np.ndarray
ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "metrics.md"

# The signals


@cache
def recordings() -> tuple[Wave, Wave]:
    """Seconds 60 to 64 of two speakers' tracks, [64000]."""
    chosen = list({track.speaker: track for track in tracks()}.values())[:2]
    first, second = (load_track(track)[60 * RATE : 64 * RATE].astype(float) for track in chosen)
    return first, second


@cache
def voices(rate: int, seconds: float) -> tuple[Wave, Wave]:
    """Both speakers at equal RMS, [T] float32; those below one second begin where half a second is loudest."""
    found = []
    for part in recordings():
        start = int(np.argmax(np.convolve(part**2, np.ones(RATE // 2), "valid"))) if seconds < 1 else 0
        part = part[start : start + round(seconds * RATE)]
        if rate != RATE:
            part = librosa.resample(part, orig_sr=RATE, target_sr=rate)
        found.append((0.05 * part / part.std()).astype(np.float32))
    return found[0], found[1]


def mixed(speech: Wave, noise: Wave, snr_db: float) -> Wave:
    """Speech with noise of the same RMS at a signal-to-noise ratio."""
    return (speech + noise * np.float32(10 ** (-snr_db / 20))).astype(np.float32)


def delayed(wave: Wave, samples: int) -> Wave:
    """The wave after ``samples`` zeros, as long as before."""
    return np.concatenate([np.zeros(samples, wave.dtype), wave[:-samples]])


CONDITIONS: dict[str, Callable[[Wave, Wave], Wave]] = {
    **{f"{snr} dB": (lambda s, o, snr=snr: mixed(s, o, snr)) for snr in (-10, 0, 10, 20, 30)},  # type: ignore[misc]
    "clipped": lambda s, o: np.clip(s, -s.std(), s.std()),
    "delayed": lambda s, o: delayed(s, 40),
    "flipped": lambda s, o: -mixed(s, o, 10),
}


def scene(condition: str, rate: int, seconds: float = 3.0) -> Signals:
    """What a metric is given under a condition."""
    speech, other = voices(rate, seconds)
    return Signals(speech, CONDITIONS[condition](speech, other), mixed(speech, other, 0), other)


# The truths


def exact_si_sdr(s: Wave, e: Wave, centre: bool = True) -> float:
    """SI-SDR by the formula of Le Roux et al. 2019 with sums that do not round (``math.fsum``)."""
    s, e = (x.astype(float) - centre * math.fsum(x.tolist()) / len(x) for x in (s, e))
    gain = math.fsum((s * e).tolist()) / math.fsum((s * s).tolist())
    noise = math.fsum(((gain * s - e) ** 2).tolist())
    return 10 * math.log10(math.fsum(((gain * s) ** 2).tolist()) / noise)


def fitted_si_sdr(s: Wave, e: Wave) -> float:
    """SI-SDR as a regression: the estimate explained by the reference and a constant, the rest is noise."""
    columns = np.stack([s.astype(float), np.ones(len(s))], axis=1)
    gain, offset = np.linalg.lstsq(columns, e.astype(float), rcond=None)[0]
    target = gain * (s - s.mean(dtype=float))
    return float(10 * np.log10(np.sum(target**2) / np.sum((e - gain * s - offset) ** 2)))


def torch_si_sdr(s: Wave, e: Wave, centre: bool = True) -> float:
    """torchmetrics' SI-SDR in double precision."""
    return scale_invariant_signal_distortion_ratio(double(e), double(s), centre).item()


def torch_sdr(s: Wave, e: Wave) -> float:
    """torchmetrics' SDR in double precision."""
    return signal_distortion_ratio(double(e), double(s)).item()


def double(wave: Wave) -> torch.Tensor:
    return torch.from_numpy(wave.astype(float))


def fitted_sdr(s: Wave, e: Wave) -> float:
    """SDR of BSS Eval by its definition: least squares of the estimate on 512 delayed copies of the reference."""
    taps = 512
    copies = np.zeros((len(s) + taps - 1, taps))
    for delay in range(taps):
        copies[delay : delay + len(s), delay] = s
    estimate = np.concatenate([e.astype(float), np.zeros(taps - 1)])
    basis = np.linalg.qr(copies)[0]
    target = basis @ (basis.T @ estimate)
    return float(10 * np.log10(np.sum(target**2) / np.sum((estimate - target) ** 2)))


def frames_of(wave: Wave) -> list[Wave]:
    """Frames of 256 samples every 128 behind a Hann window that nowhere is 0; one that ends with the wave is left out,
    as in the authors' code."""
    window = np.sin(np.pi * np.arange(1, 257) / 257) ** 2
    return [window * wave[start : start + 256] for start in range(0, len(wave) - 256, 128)]


def without_silence(reference: Wave, estimate: Wave) -> tuple[Wave, Wave]:
    """Both without the frames in which the reference is 40 dB below its loudest, the rest overlapped and added."""
    pairs = list(zip(frames_of(reference), frames_of(estimate), strict=True))
    loudest = max(float(np.dot(x, x)) for x, _ in pairs)
    kept = [pair for pair in pairs if np.dot(pair[0], pair[0]) > 1e-4 * loudest]
    out = np.zeros((2, 128 * (len(kept) + 1)))
    for place, pair in enumerate(kept):
        out[:, 128 * place : 128 * place + 256] += pair
    return out[0], out[1]


def third_octaves(wave: Wave) -> Wave:
    """Magnitudes [15, M] of a wave at 10 kHz in third octaves from 150 Hz, edges at the nearest of the 257 bins."""
    bins = 10_000 / 512 * np.arange(257)
    edges = [150 * 2 ** ((2 * band + side) / 6) for band in range(15) for side in (-1, 1)]
    near = [int(np.argmin(np.abs(bins - edge))) for edge in edges]
    power = np.array([np.abs(np.fft.rfft(frame, 512)) ** 2 for frame in frames_of(wave)])
    rows = [np.sqrt(power[:, near[2 * k] : near[2 * k + 1]].sum(axis=1)) for k in range(15)]
    return np.array(rows)


def unit(rows: Wave) -> Wave:
    """Rows without their mean, of length 1; a flat one is nothing."""
    centred = rows - rows.mean(axis=1, keepdims=True)
    length = np.sqrt((centred**2).sum(axis=1, keepdims=True))
    return np.asarray(centred / np.where(length > 0, length, 1))


def short_time(x: Wave, y: Wave) -> float:
    """Intermediate intelligibility of one segment [15, 30], equations 3 to 5 of Taal et al. 2011."""
    loud = (y**2).sum(axis=1, keepdims=True)
    scaled = y * np.sqrt((x**2).sum(axis=1, keepdims=True) / np.where(loud > 0, loud, 1))
    return float((unit(x) * unit(np.minimum(scaled, x * (1 + 10 ** (15 / 20))))).sum() / len(x))


def short_time_extended(x: Wave, y: Wave) -> float:
    """The same of ESTOI, equations 5 to 8 of Jensen and Taal 2016: rows, then columns, brought to length 1."""
    return float((unit(unit(x).T) * unit(unit(y).T)).sum() / x.shape[1])


def plain_stoi(s: Wave, e: Wave, rate: int, extended: bool) -> float:
    """STOI or ESTOI from the papers, a segment at a time, behind librosa's resampler (soxr), not Octave's."""
    waves = [x.astype(float) for x in (s, e)]
    if rate != 10_000:
        waves = [librosa.resample(x, orig_sr=rate, target_sr=10_000) for x in waves]
    x, y = (third_octaves(wave) for wave in without_silence(waves[0], waves[1]))
    function = short_time_extended if extended else short_time
    return float(np.mean([function(x[:, m - 30 : m], y[:, m - 30 : m]) for m in range(30, x.shape[1] + 1)]))


def octave_to_8k(wave: Wave, rate: int) -> Wave:
    """Octave's ``resample`` to 8 kHz: a sinc under a Kaiser window, 60 dB down, roll-off a tenth of the cut-off."""
    up, down = 8_000 // math.gcd(rate, 8_000), rate // math.gcd(rate, 8_000)
    cut = 0.5 / max(up, down)
    half = math.ceil((60 - 8) / (28.714 * cut / 10))
    taps = np.kaiser(2 * half + 1, 0.1102 * (60 - 8.7)) * np.sinc(2 * cut * np.arange(-half, half + 1))
    # Zeros before the filter make its delay, half of it, a whole number of samples at 8 kHz.
    before = -half % down
    found = upfirdn(np.pad(up * taps / taps.sum(), (before, 0)), wave.astype(float), up, down)
    return np.asarray(found[(half + before) // down :][: math.ceil(len(wave) * up / down)])


def plain_pesq_nb_8k(signals: Signals, rate: int) -> float:
    return float(pesq(8_000, octave_to_8k(signals.reference, rate), octave_to_8k(signals.estimate, rate), "nb"))


def torch_pesq(signals: Signals, rate: int, mode: str) -> float:
    return perceptual_evaluation_speech_quality(double(signals.estimate), double(signals.reference), rate, mode).item()


def plain_selection(signals: Signals) -> float:
    assert signals.interferer is not None
    margin = torch_si_sdr(signals.reference, signals.estimate) - torch_si_sdr(signals.interferer, signals.estimate)
    return 0.5 if abs(margin) <= 1e-6 else float(margin > 0)


def librosa_log_mel(wave: Wave) -> Wave:
    """Log-mel spectrogram [64, F] by librosa, of whose code ours has none."""
    padded = np.pad(wave.astype(float), 432, mode="reflect")
    mel = librosa.feature.melspectrogram(
        y=padded, sr=RATE, n_fft=1024, hop_length=160, center=False, power=1.0, n_mels=64, fmax=8000
    )
    return np.asarray(np.log(np.maximum(mel, 1e-5)))


def bands_correlated(first: Wave, second: Wave) -> float:
    """Mean over bands of the correlations of two log-mel spectrograms; a flat band counts as 0."""
    rows = zip(first, second, strict=True)
    return float(np.mean([np.corrcoef(a, b)[0, 1] if min(a.std(), b.std()) > 1e-9 else 0.0 for a, b in rows]))


def plain_mel_correlation(signals: Signals) -> float:
    return bands_correlated(librosa_log_mel(signals.reference), librosa_log_mel(signals.estimate))


def plain_log_spectral_distance(signals: Signals, rate: int) -> float:
    """Frames and windows by librosa, a frame at a time."""
    size, hop = round(0.032 * rate), round(0.016 * rate)
    both = [
        librosa.stft(wave.astype(float), n_fft=size, hop_length=hop, window="hann", center=False)
        for wave in (signals.reference, signals.estimate)
    ]
    levels = [20 * np.log10(np.maximum(np.abs(spectra) * 4 / size, 1e-5)) for spectra in both]
    return float(np.mean([math.sqrt(np.mean((a - b) ** 2)) for a, b in zip(levels[0].T, levels[1].T, strict=True)]))


def slow_envelope(wave: Wave, rate: int) -> Wave:
    """Envelope of 1 to 9 Hz at the wave's own rate: all filters as factors of one spectrum, the ends mirrored."""
    spectrum = np.fft.fft(wave - wave.mean(dtype=float))
    spectrum[len(wave) // 2 + 1 :] = 0
    loud = np.abs(2 * np.fft.ifft(spectrum)) ** 0.6
    ring = np.concatenate([loud, loud[::-1]]) - loud.mean()
    frequency = np.maximum(np.fft.rfftfreq(len(ring), 1 / rate), 1e-9)
    # Butterworth band-pass of order 4 in all, once forth and once back, with the bilinear transform's bent axis.
    low, centre, high = (np.tan(np.pi * np.minimum(f, 31.99) / 64) for f in (1.0, frequency, 9.0))
    factor = 1 / (1 + ((centre**2 - low * high) / (centre * (high - low))) ** 4)
    return np.fft.irfft(np.fft.rfft(ring) * factor * (frequency < 32), len(ring))[: len(wave)]


def plain_envelope_correlation(signals: Signals, rate: int) -> float:
    first, second = slow_envelope(signals.reference, rate), slow_envelope(signals.estimate, rate)
    return float(np.corrcoef(first, second)[0, 1])


def world_power(wave: Wave) -> Wave:
    """CheapTrick's power spectra [F, 513] at 16 kHz."""
    signal = wave.astype(float)
    coarse, times = pyworld.dio(signal, RATE, f0_floor=60.0, f0_ceil=500.0, frame_period=10.0)
    f0 = pyworld.stonemask(signal, coarse, times, RATE)
    return np.asarray(pyworld.cheaptrick(signal, f0, times, RATE, f0_floor=60.0))


def bent_cepstrum(log_magnitude: Wave) -> Wave:
    """Mel cepstra [25, F] of log magnitudes [F, K] by the recursion of Oppenheim and Johnson 1972, alpha 0.42."""
    plain = np.fft.irfft(log_magnitude).T
    plain = np.concatenate([plain[:1], 2 * plain[1 : len(plain) // 2], plain[len(plain) // 2 : len(plain) // 2 + 1]])
    alpha, bent = 0.42, np.zeros((25, plain.shape[1]))
    for term in plain[::-1]:
        before = bent.copy()
        bent[0] = term + alpha * before[0]
        bent[1] = (1 - alpha**2) * before[0] + alpha * before[1]
        for m in range(2, 25):
            bent[m] = before[m - 1] + alpha * (before[m] - bent[m - 1])
    return bent


def plain_mcd(signals: Signals) -> float:
    powers = [world_power(wave) for wave in (signals.reference, signals.estimate)]
    true, made = (bent_cepstrum(np.log(power) / 2) for power in powers)
    level = 10 * np.log10(powers[0].mean(axis=1))
    heard = [frame for frame in range(len(level)) if level[frame] > level.max() - 40]
    distances = [math.sqrt(2 * sum((true[m, f] - made[m, f]) ** 2 for m in range(1, 25))) for f in heard]
    return 10 / math.log(10) * sum(distances) / len(distances)


def pyin_correlation(signals: Signals) -> float:
    """Correlation of pYIN's pitch over the frames that it calls voiced in both."""
    tracks = []
    for wave in (signals.reference, signals.estimate):
        f0, voiced, _ = librosa.pyin(wave.astype(float), fmin=60, fmax=500, sr=RATE, hop_length=160)
        tracks.append(np.where(voiced, f0, np.nan))
    both = np.isfinite(tracks[0]) & np.isfinite(tracks[1])
    return float(np.corrcoef(tracks[0][both], tracks[1][both])[0, 1])


def sigmoid(x: Wave) -> Wave:
    return np.asarray(1 / (1 + np.exp(-x)))


def plain_embedding(wave: Wave) -> Wave:
    """Resemblyzer's network in numpy from its weights: three LSTM layers, 1.6 s of librosa's mel bands, every 0.77 s.

    Its rule for the end: less than three quarters of 1.6 s are dropped, more is filled up with zeros.
    """
    signal = wave.astype(float) - wave.mean(dtype=float)
    signal = (signal * 10 ** (-30 / 20) / signal.std()).astype(np.float32)
    mel = librosa.feature.melspectrogram(y=signal, sr=RATE, n_fft=400, hop_length=160, n_mels=40).T
    weights = {name: value.numpy() for name, value in _encoder().state_dict().items()}
    starts = [start for start in range(0, len(mel), 77) if start == 0 or len(wave) - 160 * start >= 0.75 * 25_600]
    mel = np.pad(mel, ((0, 160), (0, 0)))
    return np.asarray(np.mean([partial_embedding(mel[start : start + 160], weights) for start in starts], axis=0))


def partial_embedding(frames: Wave, weights: dict[str, Wave]) -> Wave:
    for layer in range(3):
        inner, outer = weights[f"lstm.weight_hh_l{layer}"], weights[f"lstm.weight_ih_l{layer}"]
        bias = weights[f"lstm.bias_ih_l{layer}"] + weights[f"lstm.bias_hh_l{layer}"]
        state, hidden, found = np.zeros(256), np.zeros(256), []
        for frame in frames:
            into, keep, fresh, out = np.split(outer @ frame + inner @ hidden + bias, 4)
            state = sigmoid(keep) * state + sigmoid(into) * np.tanh(fresh)
            hidden = sigmoid(out) * np.tanh(state)
            found.append(hidden)
        frames = np.array(found)
    raw = np.maximum(weights["linear.weight"] @ frames[-1] + weights["linear.bias"], 0)
    return np.asarray(raw / np.linalg.norm(raw))


def plain_speaker_similarity(signals: Signals) -> float:
    a, b = (plain_embedding(wave) for wave in (signals.reference, signals.estimate))
    return float(np.dot(a, b) / math.sqrt(np.dot(a, a) * np.dot(b, b)))


@dataclass(frozen=True)
class Truth:
    """A metric, what it is compared with (as ``docs/metrics.md`` calls it), how near, and where.

    The tolerance is some ten times the largest difference found, and the reason says what makes the difference.
    """

    metric: str
    other: str
    function: Callable[[Signals, int], float]
    tolerance: float
    reason: str
    rates: tuple[int, ...] = (8_000, 16_000, 44_100)
    conditions: tuple[str, ...] = tuple(CONDITIONS)
    seconds: float = 3.0


def of_pair(function: Callable[[Wave, Wave], float]) -> Callable[[Signals, int], float]:
    """A truth that reads reference and estimate alone."""
    return lambda signals, rate: function(signals.reference, signals.estimate)


def fast_sdr(s: Wave, e: Wave) -> float:
    return float(fast_bss_eval.sdr(s[None].astype(float), e[None].astype(float)).item())


def fast_si_sdr(s: Wave, e: Wave) -> float:
    return float(fast_bss_eval.si_sdr(s[None].astype(float), e[None].astype(float), zero_mean=True).item())


def torch_si_sdri(signals: Signals, rate: int) -> float:
    assert signals.mixture is not None
    return torch_si_sdr(signals.reference, signals.estimate) - torch_si_sdr(signals.reference, signals.mixture)


FEW = ("0 dB", "30 dB", "clipped")
ROUNDING = "rounding in double precision"
SOLVER = "rounding, times the condition of 512 x 512 equations"
PUBLISHED_RATES = (8_000, 14_700, 16_000)
WIDE = (RATE,)
TRUTHS = (
    Truth("si_sdr", "the formula with exact sums", of_pair(exact_si_sdr), 1e-9, ROUNDING),
    Truth("si_sdr", "a regression on reference and constant", of_pair(fitted_si_sdr), 1e-9, ROUNDING),
    Truth("si_sdr", "torchmetrics", of_pair(torch_si_sdr), 1e-9, ROUNDING),
    Truth("si_sdr", "fast_bss_eval", of_pair(fast_si_sdr), 1e-9, ROUNDING),
    Truth("si_sdri", "torchmetrics", torch_si_sdri, 1e-9, ROUNDING),
    Truth("sdr", "torchmetrics", of_pair(torch_sdr), 1e-6, SOLVER),
    Truth("sdr", "fast_bss_eval", of_pair(fast_sdr), 1e-6, SOLVER),
    Truth("sdr", "least squares on 512 delayed copies", of_pair(fitted_sdr), 1e-6, SOLVER, (8_000,), FEW, 0.25),
    Truth(
        *("stoi", "the paper's formula", lambda s, r: plain_stoi(s.reference, s.estimate, r, False), 1e-9),
        *("rounding; nothing is resampled at 10 kHz", (10_000,)),
    ),
    Truth(
        *("stoi", "the paper's formula, soxr's resampler", lambda s, r: plain_stoi(s.reference, s.estimate, r, False)),
        *(0.01, "another filter at 4 kHz, where clipped speech at 8 kHz is loud"),
    ),
    Truth(
        *("estoi", "the paper's formula", lambda s, r: plain_stoi(s.reference, s.estimate, r, True), 1e-9),
        *("rounding; nothing is resampled at 10 kHz", (10_000,)),
    ),
    Truth(
        *("estoi", "the paper's formula, soxr's resampler", lambda s, r: plain_stoi(s.reference, s.estimate, r, True)),
        *(0.02, "as for STOI; the lowest bands weigh as much as the loudest"),
    ),
    Truth("pesq_wb", "torchmetrics", lambda s, r: torch_pesq(s, r, "wb"), 1e-6, "the same C code", WIDE, FEW),
    Truth("pesq_nb", "torchmetrics", lambda s, r: torch_pesq(s, r, "nb"), 1e-6, "the same C code", (8_000,), FEW),
    Truth(
        *("pesq_nb_8k", "Octave's filter by its formula", plain_pesq_nb_8k, 1e-3),
        *("the same C code, behind a filter that differs by rounding", (14_700,), FEW),
    ),
    Truth(
        "si_sdr_voiced",
        "frames cut by hand, torchmetrics",
        lambda s, r: torch_si_sdr(*without_silence(s.reference, s.estimate), False),
        1e-9,
        *(ROUNDING, PUBLISHED_RATES),
    ),
    Truth(
        "sdr_voiced",
        "frames cut by hand, torchmetrics",
        lambda s, r: torch_sdr(*without_silence(s.reference, s.estimate)),
        1e-6,
        *(SOLVER, PUBLISHED_RATES),
    ),
    Truth(
        *("si_sdr_decimated", "the formula with exact sums"),
        lambda s, r: exact_si_sdr(s.reference[::3], s.estimate[::3]),
        *(1e-9, ROUNDING),
    ),
    Truth("selection_accuracy", "torchmetrics", lambda s, r: plain_selection(s), 0.0, "none"),
    Truth(
        *("mel_correlation", "librosa, numpy's corrcoef", lambda s, r: plain_mel_correlation(s), 1e-6),
        *("librosa's filters are single precision", WIDE),
    ),
    Truth(
        *("envelope_correlation", "filters as factors of one spectrum", plain_envelope_correlation, 0.02),
        *("the ends: mirrored here and there at another place of the chain", (8_000, 16_000)),
    ),
    Truth("log_spectral_distance", "librosa, a frame at a time", plain_log_spectral_distance, 1e-4, ROUNDING),
    Truth(
        *("mcd", "the bilinear recursion", lambda s, r: plain_mcd(s), 0.02),
        *("the bent axis is read between bins by straight lines there, by a recursion here", WIDE),
    ),
    Truth(
        *("f0_correlation", "librosa's pYIN", lambda s, r: pyin_correlation(s), 0.05),
        *("two trackers, which find other frames voiced", WIDE, ("20 dB", "clipped"), 2.0),
    ),
    Truth(
        *("speaker_similarity", "its LSTM in numpy", lambda s, r: plain_speaker_similarity(s), 1e-4),
        *("single precision over 160 steps and three layers", WIDE, ("-10 dB", "10 dB")),
    ),
)
CASES = [(truth, rate, condition) for truth in TRUTHS for rate in truth.rates for condition in truth.conditions]


def difference(truth: Truth, rate: int, condition: str) -> float:
    """How far the metric is from its truth."""
    signals = scene(condition, rate, truth.seconds)
    return abs(metric(truth.metric)(signals, rate) - truth.function(signals, rate))


@pytest.mark.parametrize(
    ("truth", "rate", "condition"), CASES, ids=[f"{t.metric}-{t.other}-{rate}-{name}" for t, rate, name in CASES]
)
def test_a_metric_is_what_another_implementation_says(truth: Truth, rate: int, condition: str) -> None:
    assert difference(truth, rate, condition) <= truth.tolerance, truth.reason


def test_every_metric_has_a_truth_but_the_one_that_has_no_reference() -> None:
    # DNSMOS is a network: ``test_generation_metrics`` compares it with speechmos, which runs the same one.
    assert {truth.metric for truth in TRUTHS} == set(METRICS) - {"dnsmos"}


# What has no score

DEGENERATE: dict[str, tuple[str, Callable[[Signals], Signals]]] = {
    "silent estimate": ("silent estimate", lambda s: replace(s, estimate=0 * s.estimate)),
    "constant estimate": ("silent estimate", lambda s: replace(s, estimate=np.full_like(s.estimate, 0.3))),
    "inaudible estimate": ("silent estimate", lambda s: replace(s, estimate=np.float32(1e-5) * s.estimate)),
    "silent reference": ("silent reference", lambda s: replace(s, reference=0 * s.reference)),
    "both silent": ("silent reference", lambda s: replace(s, reference=0 * s.reference, estimate=0 * s.estimate)),
    "not a number": ("non-finite estimate", lambda s: replace(s, estimate=s.estimate * np.float32(np.nan))),
    "100 ms": ("too short", lambda s: cut(s, RATE // 10)),
    "one sample": ("too short", lambda s: cut(s, 1)),
    "no sample": ("too short", lambda s: cut(s, 0)),
}


def cut(signals: Signals, samples: int) -> Signals:
    """The first samples of all four signals."""
    assert signals.mixture is not None and signals.interferer is not None
    return Signals(*(x[:samples] for x in (signals.reference, signals.estimate, signals.mixture, signals.interferer)))


@pytest.mark.parametrize("name", DEGENERATE)
def test_what_cannot_be_scored_is_not_a_number_and_says_why(name: str) -> None:
    reason, spoil = DEGENERATE[name]
    for found in score(spoil(scene("10 dB", RATE)), list(METRICS), RATE).values():
        assert math.isnan(found.value) and found.reason == reason


def test_other_packages_give_numbers_there() -> None:
    speech = voices(RATE, 3.0)[0]
    assert torch_si_sdr(speech, 0 * speech) == pytest.approx(0.0, abs=1e-3), "0 dB, as a mixture of equal talkers"
    with pytest.warns(RuntimeWarning, match="Not enough STFT frames"):
        assert pystoi(speech[:1600], speech[:1600], RATE) == 1e-5, "a perfect estimate, bar its length"


# PESQ, whose C code is the only one


def listening_quality(raw: float, slope: float, offset: float) -> float:
    """MOS-LQO of a raw score."""
    return 0.999 + 4 / (1 + math.exp(-slope * raw + offset))


NARROW, WIDE_BAND = (1.4945, 4.6607), (1.3669, 3.8224)
"""Constants of P.862.1 and P.862.2."""


@pytest.mark.parametrize(("name", "constants"), [("pesq_nb", NARROW), ("pesq_wb", WIDE_BAND)])
def test_a_perfect_pesq_is_that_of_the_greatest_raw_score(name: str, constants: tuple[float, float]) -> None:
    speech = voices(RATE, 3.0)[0]
    best = metric(name)(Signals(speech, speech), RATE)
    assert best == pytest.approx(listening_quality(4.5, *constants), abs=1e-4)
    assert round(best, 2) == {"pesq_nb": 4.55, "pesq_wb": 4.64}[name]
    for same in (-speech, speech * np.float32(4), delayed(speech, 1)):
        assert metric(name)(Signals(speech, same), RATE) == pytest.approx(best, abs=0.02)


@pytest.mark.parametrize("name", ["pesq_nb", "pesq_wb", "pesq_nb_8k"])
def test_pesq_rises_with_the_ratio_above_0_db(name: str) -> None:
    found = [metric(name)(scene(f"{snr} dB", RATE), RATE) for snr in (0, 10, 20, 30)]
    assert found == sorted(set(found))


# SI-SDR of every third sample


def test_decimated_si_sdr_is_si_sdr_where_no_two_bands_fold_onto_each_other() -> None:
    # Of the bins k, M - k and M + k of 3 M samples, which every third sample cannot tell apart, one is kept.
    speech, other = (wave.astype(float) for wave in voices(RATE, 3.0))
    third = len(speech) // 3
    draw = np.random.default_rng(0).integers(0, 3, third)
    kept = np.zeros(len(speech) // 2 + 1)
    for k in range(1, third // 2):
        kept[(k, third - k, third + k)[draw[k]]] = 1
    s, e = (np.fft.irfft(np.fft.rfft(wave) * kept, len(speech)) for wave in (speech, mixed(speech, other, 5)))
    assert si_sdr_decimated(s, e) == pytest.approx(si_sdr(s, e), abs=1e-9)
    assert abs(si_sdr_decimated(speech, mixed(speech, other, 5)) - si_sdr(speech, mixed(speech, other, 5))) > 1e-3


def tone(hertz: float, samples: int = 3 * RATE) -> Wave:
    return np.asarray(np.cos(2 * np.pi * hertz * np.arange(samples) / RATE))


def test_an_error_above_the_new_band_passes_for_the_speech_or_cancels() -> None:
    above = RATE / 3 - 1000  # is folded onto 1000 Hz
    speech = voices(RATE, 3.0)[0].astype(float)
    assert si_sdr(tone(1000), tone(1000) + tone(above)) == pytest.approx(0.0, abs=1e-6)
    assert si_sdr_decimated(tone(1000), tone(1000) + tone(above)) == 100.0
    twice = speech + 0.05 * (tone(1000) - tone(above))
    assert si_sdr(speech, twice) < 1.0
    assert si_sdr_decimated(speech, twice) == 100.0
    opposed = tone(1000) - tone(above) + 0.5 * tone(700)  # loses its first two tones
    assert si_sdr(opposed, opposed + 0.5 * tone(1500)) == pytest.approx(20 * math.log10(3), abs=1e-6)
    assert si_sdr_decimated(opposed, opposed + 0.5 * tone(1500)) == pytest.approx(0.0, abs=1e-6)


def test_what_is_left_silent_by_decimation_has_no_score() -> None:
    with pytest.raises(Unscorable, match="^silent reference$"):
        si_sdr_decimated(tone(RATE / 3), tone(1000))
    with pytest.raises(Unscorable, match="^silent estimate$"):
        si_sdr_decimated(tone(1000), tone(RATE / 3))
    assert math.isfinite(si_sdr(tone(1000) + tone(RATE / 3), tone(1000)))


# Mel-cepstral distortion of a voice whose spectrum is known


def resonances(*formants: float) -> Wave:
    """Denominator of an all-pole filter with a resonance of 150 Hz width at each formant (Hz)."""
    found = np.ones(1)
    for hertz in formants:
        radius = math.exp(-math.pi * 150 / RATE)
        found = np.convolve(found, [1, -2 * radius * math.cos(2 * math.pi * hertz / RATE), radius**2])
    return found


def test_mcd_of_a_known_voice_is_that_of_its_filters() -> None:
    pulses = (np.arange(2 * RATE) % (RATE // 100) == 0).astype(float)
    filters = [resonances(700, 1200, 2600, 3500), resonances(400, 1900, 2600, 3500)]
    waves = [
        lfilter([1.0], poles, pulses) + 1e-6 * np.random.default_rng(0).standard_normal(len(pulses))
        for poles in filters
    ]
    bent = np.linspace(0, np.pi, 4097)
    straight = bent - 2 * np.arctan(0.42 * np.sin(bent) / (1 + 0.42 * np.cos(bent)))
    delays = np.exp(-1j * straight[:, None] * np.arange(len(filters[0])))
    first, second = (-np.log(np.abs(delays @ poles)) for poles in filters)
    terms = [2 * np.mean(((first - second) * np.cos(m * bent))[:-1]) for m in range(1, 25)]
    expected = 10 / math.log(10) * math.sqrt(2 * sum(term**2 for term in terms))
    assert metric("mcd")(Signals(*waves), RATE) == pytest.approx(expected, rel=0.1)


# Retrieval, by counting


def counted_order(query: Wave, candidates: Wave) -> list[float]:
    """Cosines of a query with all candidates, by plain sums."""

    def cosine(a: Wave, b: Wave) -> float:
        size = math.sqrt(math.fsum(x * x for x in a) * math.fsum(x * x for x in b))
        return math.fsum(x * y for x, y in zip(a, b, strict=True)) / size

    return [cosine(query.tolist(), row.tolist()) for row in candidates]


def orders(scores: list[float], true: int) -> list[int]:
    """Place of the true candidate, from 1, in every order that sorting may leave the candidates tied with it in."""
    tied = [row for row, value in enumerate(scores) if abs(value - scores[true]) < 1e-9]
    better = sum(value > scores[true] + 1e-9 for value in scores)
    return [better + 1 + order.index(true) for order in permutations(tied)]


def draws_won(scores: list[float], true: int, k: int) -> float:
    """Share of all draws of k - 1 others that the true candidate wins; a tie is shared."""
    others = [value for row, value in enumerate(scores) if row != true]
    shares = []
    for drawn in combinations(others, k - 1):
        lost = any(value > scores[true] + 1e-9 for value in drawn)
        shares.append(0.0 if lost else 1 / (1 + sum(abs(value - scores[true]) < 1e-9 for value in drawn)))
    return sum(shares) / len(shares)


@pytest.mark.parametrize("seed", range(6))
def test_ranks_are_those_that_counting_finds(seed: int) -> None:
    # Small whole numbers, and copies at other scales: ties are many and exact.
    draw = np.random.default_rng(seed)
    candidates = draw.integers(-2, 3, (12, 4)).astype(float) + 0.25
    candidates[[3, 7, 9]] = candidates[0] * np.array([[2.0], [0.5], [4.0]])
    queries, truth = candidates[draw.permutation(12)[:6]] + draw.integers(0, 2, (6, 4)), draw.integers(0, 12, 6)
    truth[:2] = 0, 7
    for query, true, place in zip(queries, truth, places(queries, candidates, truth, 5), strict=True):
        assert place is not None
        scores = counted_order(query, candidates)
        found = orders(scores, int(true))
        expected = {f"top{k}": float(np.mean([at <= k for at in found])) for k in (1, 5, 10)}
        expected |= {"reciprocal_rank": float(np.mean([1 / at for at in found])), "rank": float(np.mean(found))}
        expected |= {f"match_mismatch_{k}": draws_won(scores, int(true), k) for k in (2, 5)}
        assert set(expected) == set(RANK_METRICS)
        for name, value in expected.items():
            assert RANK_METRICS[name].function(place) == pytest.approx(value, abs=1e-12), name


def test_attention_is_the_comparison_of_two_cosines() -> None:
    draw = np.random.default_rng(9)
    queries, candidates = draw.standard_normal((40, 6)), draw.standard_normal((20, 6))
    attended, unattended = draw.integers(0, 20, 40), draw.integers(0, 20, 40)
    found = won(queries, candidates, attended, unattended)
    for query, own, other, value in zip(queries, attended, unattended, found, strict=True):
        scores = counted_order(query, candidates)
        assert value == (0.5 if own == other else float(scores[own] > scores[other]))


def test_spoken_ranks_follow_the_mean_correlation_of_mel_bands() -> None:
    speech, other = voices(RATE, 3.0)
    pieces = [wave[start : start + RATE // 2] for wave in (speech, other) for start in range(0, 3 * RATE, RATE // 2)]
    heard = [mixed(piece, pieces[(i + 5) % 12], -6) for i, piece in enumerate(pieces)]
    rows = [np.stack([mel_row(wave, RATE) for wave in waves]) for waves in (heard, pieces)]
    mels = [[librosa_log_mel(wave) for wave in waves] for waves in (heard, pieces)]
    found = places(rows[0], rows[1], np.arange(12))
    for i, place in enumerate(found):
        near = [bands_correlated(mel, mels[0][i]) for mel in mels[1]]
        assert place is not None
        assert rank(place) == 1 + sum(value > near[i] for value in near)
    assert {rank(place) for place in found if place} > {1.0}


# What the page says


def all_pass(wave: Wave) -> Wave:
    """Phases turned by up to 180 degrees, most around 1 kHz; no magnitude is touched."""
    bend = (np.tan(np.pi * 1000 / RATE) - 1) / (np.tan(np.pi * 1000 / RATE) + 1)
    return np.asarray(lfilter([bend, 1.0], [1.0, bend], wave))


def low_passed(wave: Wave, hertz: float) -> Wave:
    """Nothing above ``hertz``; no delay."""
    return np.convolve(wave, firwin(513, hertz, fs=RATE), "same")


def noise_in_pauses(speech: Wave) -> Wave:
    """Speech with noise 14 dB below it wherever 32 ms of it are 40 dB below its loudest."""
    power = np.convolve(speech.astype(float) ** 2, np.ones(512) / 512, "same")
    return np.asarray(speech + 0.01 * steady(speech) / steady(speech).std() * (power < 1e-4 * power.max()))


def steady(speech: Wave) -> Wave:
    """White noise as loud as the speech."""
    noise = np.random.default_rng(0).standard_normal(len(speech))
    return np.asarray(noise * speech.std() / noise.std())


DEMONSTRATIONS: dict[str, Callable[[Wave, Wave], Wave]] = {
    "the speech itself": lambda s, o: s,
    "turned in polarity": lambda s, o: -s,
    "one sample late": lambda s, o: delayed(s, 1),
    "5 ms late": lambda s, o: delayed(s, 80),
    "100 ms late": lambda s, o: delayed(s, 1600),
    "an all-pass filter": lambda s, o: all_pass(s),
    "nothing above 3.4 kHz": lambda s, o: low_passed(s, 3400),
    "nothing above 2.4 kHz": lambda s, o: low_passed(s, 2400),
    "clipped at its RMS": lambda s, o: np.clip(s, -s.std(), s.std()),
    "noise in the pauses alone": lambda s, o: noise_in_pauses(s),
    "white noise at 10 dB": lambda s, o: s + steady(s) * 10 ** (-10 / 20),
    "the other talker at 10 dB": lambda s, o: mixed(s, o, 10),
    "the other talker at 0 dB": lambda s, o: mixed(s, o, 0),
    "the other talker alone": lambda s, o: o,
    "the speech backwards": lambda s, o: s[::-1].copy(),
    "white noise alone": lambda s, o: steady(s),
    "a tone of 764 Hz": lambda s, o: 0.05 * tone(764, len(s)),
}
"""What ``docs/metrics.md`` does to four seconds of speech."""
RATIOS = re.compile(r"(talker|noise) at (-?\d+) dB")


def demonstrated(what: str) -> Signals:
    """The signals of a row of the page's tables."""
    speech, other = voices(RATE, 4.0)
    if ratio := RATIOS.fullmatch(what):
        noise = other if ratio[1] == "talker" else steady(speech).astype(np.float32)
        return Signals(speech, mixed(speech, noise, float(ratio[2])), mixed(speech, other, 0), other)
    estimate = DEMONSTRATIONS[what](speech, other).astype(np.float32)
    return Signals(speech, estimate, mixed(speech, other, 0), other)


def table_of(heading: str) -> list[dict[str, str]]:
    """Rows of the first table below a heading of the page, by column."""
    below = PAGE.read_text().split(f"\n## {heading}\n", 1)[1]
    lines = [line for line in below.split("\n## ")[0].splitlines() if line.startswith("|")]
    cells = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]


def check_row(row: dict[str, str]) -> None:
    """What a row says of the metrics, measured again: to the last digit that is printed, and a little for libraries."""
    what, signals = row["estimate"], demonstrated(row["estimate"])
    for name, said in row.items():
        if name == "estimate" or not said:
            continue
        if re.fullmatch(r"-?[\d.]+", said):
            digits = len(said.partition(".")[2])
            near = 0.6 * 10**-digits + 0.005
            assert metric(name)(signals, RATE) == pytest.approx(float(said), abs=near), (what, name)
        else:
            assert score(signals, [name], RATE)[name].reason == said, (what, name)


@pytest.mark.parametrize("row", table_of("One estimate, many numbers"), ids=lambda row: row["estimate"])
def test_the_page_says_what_is_measured(row: dict[str, str]) -> None:
    check_row(row)


@pytest.mark.parametrize("row", table_of("Speech that is generated"), ids=lambda row: row["estimate"])
def test_the_page_says_what_is_measured_of_generated_speech(row: dict[str, str]) -> None:
    check_row(row)


@pytest.mark.parametrize("row", table_of("PESQ near and below its floor"), ids=lambda row: row["estimate"])
def test_the_page_says_where_pesq_ends(row: dict[str, str]) -> None:
    check_row(row)


def test_the_page_knows_every_metric_with_its_unit_and_direction() -> None:
    rows = {row["metric"]: row for row in table_of("All metrics")}
    assert set(rows) == {*METRICS, *RANK_METRICS, ATTENTION.name, *SPOKEN}
    for name, row in rows.items():
        assert row["unit"] == measure(name).unit
        assert row["better"] == ("higher" if measure(name).higher_is_better else "lower")


def test_the_page_knows_every_comparison_and_its_tolerance() -> None:
    said = {(row["metric"], row["compared with"]): float(row["tolerance"]) for row in table_of("How closely")}
    assert said == {(truth.metric, truth.other): truth.tolerance for truth in TRUTHS}
    for row in table_of("How closely"):
        assert float(row["largest difference"]) <= float(row["tolerance"])


@pytest.mark.parametrize("row", table_of("What a mean hides"), ids=lambda row: row["system"])
def test_the_page_quotes_the_records(row: dict[str, str]) -> None:
    folder = ROOT / "results" / "demo-1" / "simulated-clear" / "stimulus-s0" / f"{row['system']}-s0"
    record = json.loads((folder / "true_eeg.json").read_text())["metrics"]
    ratio, chosen = record["si_sdr"], record["selection_accuracy"]["mean"]
    assert [row["mean SI-SDR"], row["selection accuracy"]] == [f"{ratio['mean']:.2f}", f"{chosen:.3f}"]
    for side in ("right", "wrong"):
        part = ratio[side]
        assert row[side] == ("" if not part["n"] else f"{part['mean']:.2f} ({part['n']})")
    assert [row["PESQ-WB"], row["STOI"]] == [f"{record['pesq_wb']['mean']:.2f}", f"{record['stoi']['mean']:.3f}"]
