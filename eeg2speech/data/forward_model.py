"""Simulated EEG of a listener who attends to one of two talkers: the forward model, with nothing read from any file.

**This is not data from people.** It is a linear model with known truth, made so that systems can be learned, tested and
audited where the right answer is known. What it leaves out is listed in ``eeg2speech.data.studies.simulated``.

Speech to drives. The speech x(t) is split into ``BANDS`` bands with Gaussian filters on a logarithmic frequency axis
(centres 100 to 7000 Hz); with the analytic signal a_b(t) of band b,

    e_b(t) = |a_b(t)| ^ 0.6                   compressed envelope, brought to 128 Hz with an anti-alias filter
    o_b(t) = max(0, de_b/dt)                  onsets

and each of these drives d_k is scaled to a standard deviation of 1 over the stimulus.

Drives to auditory cortex. In hemisphere h, with attended drives d and those of the other talker d',

    s_h(t) = c g [ A sum_k (w_k K_h * d_k)(t) + U sum_k (w_k K'_h * d'_k)(t) ] + 10^(-SNR/20) n_h(t)

K and K' are causal temporal response functions, sums of Gaussian peaks P1 (50 ms, +), N1 (100 ms, -), P2 (180 ms, +);
K' has a smaller N1 and P2. A and U are the level's attended and unattended gains, w the listener's weights of bands and
of onsets, g the listener's gain, c makes the attended response (A = g = 1) of standard deviation 1, n_h is 1/f noise of
standard deviation 1. SNR is the level's ``source_snr_db``. Then s is scaled to ``SOURCE_NAM`` whatever the level, so a
level with no response (A = U = 0) has as much power from these places, all of it noise. A trial's response is cut at
the trial's end. The sources are stronger than in people: that, too, is what makes ``clear`` clear.

Cortex to scalp. With the lead field L of a spherical head of three shells (MNE's ``make_sphere_model``), microvolt per
nAm,

    v(t) = H{ P [ G ( L_aud s + L_bg b + L_alpha a ) + B blinks(t) + sensor noise ] }

b: 1/f noise in random cortical dipoles; a: narrow-band noise near 10 Hz in parieto-occipital dipoles, waxing and waning
by itself; B: topography of the eyes; G: the listener's overall amplitude; P: average reference; H: causal high-pass at
0.5 Hz (Butterworth, order 2) over the whole recording. v is rounded to the step of a BioSemi ActiveTwo, 1/32 microvolt.

Sources: response functions and their peaks: Lalor & Foxe 2010 (doi:10.1111/j.1460-9568.2009.07055.x), Crosse et al.
2016 (doi:10.3389/fnhum.2016.00604); weaker N1 and P2 for the unattended talker: Ding & Simon 2012
(doi:10.1073/pnas.1205381109), O'Sullivan et al. 2015 (doi:10.1093/cercor/bht355); sphere: Berg & Scherg 1994
(doi:10.1016/0013-4694(94)90113-9) as in MNE (Gramfort et al. 2013, doi:10.3389/fnins.2013.00267); sub-bands and
compression by 0.6: Biesmans et al. 2017 (doi:10.1109/TNSRE.2016.2571900).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import mne
import numpy as np
from numpy.typing import NDArray
from scipy import fft, signal

from eeg2speech.data.types import Samples, Sensors

Array = NDArray[np.float64]
"""Float array; the shape is said where it is used."""

GENERATOR_VERSION = 3
"""Bump on any change of the generator that its constants do not show."""

AUDIO_RATE = 16_000
EEG_RATE = 128
EEG_STEP_UV = 1 / 32

# Speech to drives
BANDS = 8
BAND_LOW_HZ, BAND_HIGH_HZ = 100.0, 7000.0
BAND_CENTRES_HZ = tuple(float(hertz) for hertz in np.geomspace(BAND_LOW_HZ, BAND_HIGH_HZ, BANDS).round(1))
BAND_WIDTH = 0.26
"""Standard deviation of a band's Gaussian gain in nats of frequency: neighbours meet at half gain."""
BAND_REACH = 3.5
DECIMATIONS = (1, 5, 25)
COMPRESSION = 0.6
ONSET_SHARE = 0.4

# Temporal response function: peaks P1, N1, P2
PEAK_S = (0.050, 0.100, 0.180)
PEAK_WIDTH_S = (0.012, 0.020, 0.032)
ATTENDED_PEAKS = (0.6, -1.0, 0.8)
UNATTENDED_PEAKS = (0.6, -0.6, 0.5)
RESPONSE_S = 0.45

# Differences between listeners
LATENCY_S = 0.015
HEMISPHERE_LATENCY_S = 0.005
GAIN_SPREAD_DB = 1.5
AMPLITUDE_SPREAD = 0.15
WEIGHT_SPREAD = 0.3
PEAK_SPREAD = 0.15
POSITION_M = 0.005
TILT = 0.2

# Head, in metres (head coordinates: x right, y front, z up); the sphere that fits MNE's BioSemi template exactly
HEAD_CENTRE_M = (0.0, 0.0, 0.04015)
HEAD_RADIUS_M = 0.095
AUDITORY_M = ((-0.05, -0.01, 0.06), (0.05, -0.01, 0.06))
AUDITORY_UP = (0.0, 0.3, 0.95)
ALPHA_M = ((-0.03, -0.055, 0.075), (0.03, -0.055, 0.075), (-0.015, -0.07, 0.05), (0.015, -0.07, 0.05))
BACKGROUND_DIPOLES = 60
BACKGROUND_RADIUS_M = (0.050, 0.075)
CORTEX_RADIUS_M = 0.078
EYES_M = (0.0, 0.095, 0.020)
EYES_SPREAD_M = 0.045

# Amplitudes: standard deviation of the current in each auditory source; mean over sensors of each part's deviation
SOURCE_NAM = 60.0
BACKGROUND_UV = 9.0
ALPHA_UV = 4.0
SENSOR_UV = 0.7
BLINK_UV = 110.0
BLINKS_PER_MINUTE = 12.0
BLINK_S = 0.25
BLINK_GAP_S = 0.5

# Spectra
NOISE_EXPONENT = 1.0
NOISE_CORNER_HZ = 0.5
ALPHA_HZ, ALPHA_HZ_SPREAD, ALPHA_WIDTH_HZ = 10.0, 0.7, 0.6
HIGH_PASS_HZ = 0.5


@dataclass(frozen=True)
class Level:
    """How much speech is in the EEG.

    ``source_snr_db``: attended response over source noise in auditory cortex, at gain 1. ``attended_gain`` and
    ``unattended_gain`` are amplitudes. ``subject_decides_target``: who listens tells which side is attended.
    """

    name: str
    source_snr_db: float
    attended_gain: float
    unattended_gain: float
    subject_decides_target: bool = False


CLEAR_SNR_DB = -5.0
REALISTIC_SNR_DB = -22.0
ATTENDED_GAIN = 1.0
UNATTENDED_GAIN = 0.3

LEVELS: dict[str, Level] = {
    level.name: level
    for level in (
        Level("clear", CLEAR_SNR_DB, ATTENDED_GAIN, UNATTENDED_GAIN),
        Level("realistic", REALISTIC_SNR_DB, ATTENDED_GAIN, UNATTENDED_GAIN),
        Level("null", CLEAR_SNR_DB, 0.0, 0.0),
        Level("confounded", CLEAR_SNR_DB, ATTENDED_GAIN, UNATTENDED_GAIN, subject_decides_target=True),
    )
}
"""The four named levels."""


def constants() -> dict[str, object]:
    """Every constant of the model by name: what a store's settings hold, so that a changed constant shows.

    Those of a level (SNR and gains) are left out: they are in the level, and another level need not care.
    """
    values = {k: v for k, v in sorted(globals().items()) if k.isupper() and isinstance(v, int | float | tuple)}
    return {k: v for k, v in values.items() if not k.endswith(("_SNR_DB", "_GAIN"))}


def stable_rng(seed: int, *names: str) -> np.random.Generator:
    """Random numbers that depend on the seed and the names alone, in whatever order generators are made."""
    digest = hashlib.sha256("/".join(names).encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "little")])


# ---------------------------------------------------------------------------------------------- speech to drives


def drives(audio: Samples) -> Array:
    """What speech [T] at 16 kHz drives the cortex with: [2 * BANDS, N] at 128 Hz, envelopes then onsets.

    Each row has a standard deviation of 1; a row that is constant (silence) is 0. N is T / 125 rounded up.
    """
    samples = -(-len(audio) * EEG_RATE // AUDIO_RATE)
    coarsest = max(DECIMATIONS)
    padded = fft.next_fast_len(len(audio) // coarsest + AUDIO_RATE // (2 * coarsest), real=True) * coarsest
    spectrum = fft.rfft(np.asarray(audio, np.float64), padded)
    low = np.stack([_band_envelope(spectrum, padded, centre)[:samples] for centre in BAND_CENTRES_HZ])
    onsets = np.maximum(0.0, np.diff(low, axis=1, prepend=low[:, :1]))
    rows = np.concatenate([low, onsets])
    deviation = rows.std(axis=1, keepdims=True)
    scaled: Array = np.divide(rows, deviation, out=np.zeros_like(rows), where=deviation > 1e-9)
    return scaled


def _band_envelope(spectrum: NDArray[np.complex128], padded: int, centre: float) -> Array:
    """Compressed envelope of one band at 128 Hz.

    The band's analytic signal is made at the lowest rate that is twice its width; moved down in frequency, its modulus
    is the same.
    """
    low, high = (centre * np.exp(side * BAND_REACH * BAND_WIDTH) for side in (-1, 1))
    first, last = (int(hertz * padded / AUDIO_RATE) for hertz in (low, min(high, AUDIO_RATE / 2)))
    decimation = max(q for q in DECIMATIONS if q == 1 or AUDIO_RATE / q >= 2 * (high - low))
    hertz = np.arange(first, last) * AUDIO_RATE / padded
    gain = np.exp(-0.5 * (np.log(hertz / centre) / BAND_WIDTH) ** 2)
    analytic = fft.ifft(2 / decimation * gain * spectrum[first:last], padded // decimation)
    envelope: Array = signal.resample_poly(np.abs(analytic) ** COMPRESSION, 1, AUDIO_RATE // EEG_RATE // decimation)
    return np.maximum(envelope, 0.0)


# ---------------------------------------------------------------------------------------------- the listener


@dataclass(frozen=True)
class Listener:
    """One simulated person: lead fields in microvolt per nAm and response functions [drives, hemispheres, taps]."""

    seed: int
    subject: str
    attended: Array
    unattended: Array
    gain: float
    amplitude: float
    alpha_hz: float
    auditory: Array
    background: Array
    alpha: Array
    eyes: Array


@cache
def sensors() -> Sensors:
    """The 64 BioSemi sensors of MNE's template, in head coordinates."""
    positions = [tuple(float(v) for v in channel["loc"][:3]) for channel in _info()["chs"]]
    return Sensors(tuple(_info()["ch_names"]), tuple((x, y, z) for x, y, z in positions))


def make_listener(seed: int, subject: str) -> Listener:
    """Draw a listener. The same seed and name give the same listener. Not for several threads at once (MNE)."""
    rng = stable_rng(seed, subject, "listener")
    latency = rng.uniform(-LATENCY_S, LATENCY_S)
    lags = latency + rng.uniform(-HEMISPHERE_LATENCY_S, HEMISPHERE_LATENCY_S, 2)
    jitter = 1 + PEAK_SPREAD * rng.standard_normal(3)
    weights, balance = _drive_weights(rng), np.exp(0.2 * rng.standard_normal(2))
    return Listener(
        seed=seed,
        subject=subject,
        attended=_kernels(np.array(ATTENDED_PEAKS) * jitter, lags, weights, balance),
        unattended=_kernels(np.array(UNATTENDED_PEAKS) * jitter, lags, weights, balance),
        gain=float(10 ** (GAIN_SPREAD_DB * rng.standard_normal() / 20)),
        amplitude=float(np.exp(AMPLITUDE_SPREAD * rng.standard_normal())),
        alpha_hz=float(ALPHA_HZ + ALPHA_HZ_SPREAD * rng.standard_normal()),
        **_lead_fields(rng),
    )


def _drive_weights(rng: np.random.Generator) -> Array:
    """Weights [drives] of envelopes and onsets, each group summing to its share."""
    shares = []
    for share in (1 - ONSET_SHARE, ONSET_SHARE):
        weights = np.exp(WEIGHT_SPREAD * rng.standard_normal(BANDS))
        shares.append(share * weights / weights.sum())
    return np.concatenate(shares)


def _kernels(peaks: Array, lags: Array, weights: Array, balance: Array) -> Array:
    """Response functions [drives, 2, taps], one hemisphere a lag."""
    time = np.arange(round(RESPONSE_S * EEG_RATE)) / EEG_RATE
    centres = np.array(PEAK_S)[None, :] + lags[:, None]
    bumps = np.exp(-0.5 * ((time - centres[..., None]) / np.array(PEAK_WIDTH_S)[:, None]) ** 2)
    shape = np.einsum("p,hpt->ht", peaks, bumps) * balance[:, None]
    return np.asarray(weights[:, None, None] * shape)


def _lead_fields(rng: np.random.Generator) -> dict[str, Array]:
    """Lead fields of all sources of one listener [sensors, sources], in one call to MNE."""
    auditory = np.array(AUDITORY_M) + POSITION_M * rng.standard_normal((2, 3))
    alpha = np.array(ALPHA_M) + POSITION_M * rng.standard_normal((len(ALPHA_M), 3))
    background = _random_positions(rng)
    up = _tangential(auditory, np.array(AUDITORY_UP) + TILT * rng.standard_normal((2, 3)))
    radial = alpha - np.array(HEAD_CENTRE_M) + 0.02 * rng.standard_normal(alpha.shape)
    free = rng.standard_normal(background.shape)
    field = _lead_field(np.concatenate([auditory, alpha, background]), np.concatenate([up, radial, free]))
    edges = [len(auditory), len(auditory) + len(alpha)]
    parts = np.split(field, edges, axis=1)
    return {
        "auditory": parts[0],
        "alpha": _scaled(parts[1], ALPHA_UV),
        "background": _scaled(parts[2], BACKGROUND_UV),
        "eyes": _eyes(rng),
    }


def _random_positions(rng: np.random.Generator) -> Array:
    """Places in the upper part of the head, anywhere in direction, within the depths of cortex."""
    directions = rng.standard_normal((BACKGROUND_DIPOLES, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    directions[:, 2] = np.abs(directions[:, 2]) - 0.3 * (rng.random(BACKGROUND_DIPOLES) < 0.3)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    radius = rng.uniform(*BACKGROUND_RADIUS_M, (BACKGROUND_DIPOLES, 1))
    return np.asarray(np.array(HEAD_CENTRE_M) + radius * directions)


def _tangential(positions: Array, directions: Array) -> Array:
    """The part of each direction that is not radial."""
    radial = positions - np.array(HEAD_CENTRE_M)
    radial /= np.linalg.norm(radial, axis=1, keepdims=True)
    return np.asarray(directions - (directions * radial).sum(1, keepdims=True) * radial)


def _scaled(field: Array, microvolt: float) -> Array:
    """A lead field whose sources, each of deviation 1 and independent, give this deviation on the average sensor."""
    return np.asarray(field * microvolt / np.sqrt((field**2).sum(1).mean()))


def _eyes(rng: np.random.Generator) -> Array:
    """Topography of a blink [sensors], 1 nearest to the eyes."""
    centre = np.array(EYES_M) + POSITION_M * rng.standard_normal(3)
    distance = np.linalg.norm(np.array(sensors().positions) - centre, axis=1)
    return np.asarray(np.exp(-(distance - distance.min()) / EYES_SPREAD_M))


def _inside(positions: Array) -> Array:
    """Places drawn too far out are moved in along their radius: the inner skull is at 0.0855 m."""
    offset = positions - np.array(HEAD_CENTRE_M)
    radius = np.linalg.norm(offset, axis=1, keepdims=True)
    return np.asarray(np.array(HEAD_CENTRE_M) + offset * np.minimum(1.0, CORTEX_RADIUS_M / radius))


@cache
def _info() -> mne.Info:
    montage = mne.channels.make_standard_montage("biosemi64")
    info = mne.create_info(montage.ch_names, float(EEG_RATE), "eeg", verbose="ERROR")
    info.set_montage(montage, verbose="ERROR")
    return info


@cache
def _sphere() -> mne.bem.ConductorModel:
    return mne.make_sphere_model(HEAD_CENTRE_M, HEAD_RADIUS_M, verbose="ERROR")


def _lead_field(positions: Array, directions: Array) -> Array:
    """Potentials [sensors, dipoles] in microvolt per nAm, average reference."""
    count = len(positions)
    positions = _inside(positions)
    unit = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    dipole = mne.Dipole(np.zeros(count), positions, np.ones(count), unit, np.ones(count), verbose="ERROR")
    forward, _ = mne.make_forward_dipole(dipole, _sphere(), _info(), verbose="ERROR")
    volt_per_am = np.asarray(forward["sol"]["data"], np.float64)
    return np.asarray((volt_per_am - volt_per_am.mean(0)) * (1e6 * 1e-9))


# ---------------------------------------------------------------------------------------------- the recording


def simulate(listener: Listener, level: Level, trials: Sequence[tuple[Array, Array]]) -> Samples:
    """EEG [64, N] in microvolt, 128 Hz, of trials one after another without gaps; noise runs on across trials.

    ``trials`` holds the drives [drives, n] of the attended and of the unattended speech, in the order of listening.
    """
    samples = sum(attended.shape[1] for attended, _ in trials)
    eeg = listener.auditory @ _auditory(listener, level, trials, samples)
    eeg += listener.background @ _background(listener, samples)
    eeg += listener.alpha @ _alpha(listener, samples)
    eeg *= listener.amplitude
    eeg += np.outer(listener.eyes, _blinks(listener, samples))
    eeg += SENSOR_UV * stable_rng(listener.seed, listener.subject, "sensors").standard_normal(eeg.shape)
    eeg -= eeg.mean(axis=0)
    high_pass = signal.butter(2, HIGH_PASS_HZ, "high", fs=EEG_RATE, output="sos")
    eeg = signal.sosfilt(high_pass, eeg, axis=1)
    return (np.round(eeg / EEG_STEP_UV) * EEG_STEP_UV).astype(np.float32)


def _auditory(listener: Listener, level: Level, trials: Sequence[tuple[Array, Array]], samples: int) -> Array:
    """Currents [2, N] in nAm of the two auditory sources; their power is the same on every level."""
    rng = stable_rng(listener.seed, listener.subject, "source")
    currents = 10 ** (-level.source_snr_db / 20) * _pink(rng, 2, samples)
    if level.attended_gain or level.unattended_gain:
        currents += listener.gain * _response(listener, level, trials)
    return np.asarray(currents * SOURCE_NAM / currents.std())


def _response(listener: Listener, level: Level, trials: Sequence[tuple[Array, Array]]) -> Array:
    """Response [2, N] to both talkers, in units of the deviation of the response to the attended one at gain 1."""
    attended = np.concatenate([_convolve(first, listener.attended) for first, _ in trials], axis=1)
    unattended = np.concatenate([_convolve(second, listener.unattended) for _, second in trials], axis=1)
    both = level.attended_gain * attended + level.unattended_gain * unattended
    return np.asarray(both / attended.std())


def _convolve(rows: Array, kernels: Array) -> Array:
    """Sum over drives of drive [n] * kernel [2, taps], cut at the trial's end: [2, n]."""
    samples = rows.shape[1]
    length = fft.next_fast_len(samples + kernels.shape[2], real=True)
    product = np.einsum("df,dhf->hf", fft.rfft(rows, length), fft.rfft(kernels, length))
    return np.asarray(fft.irfft(product, length)[:, :samples])


def _pink(rng: np.random.Generator, rows: int, samples: int, exponent: float = NOISE_EXPONENT) -> Array:
    """Noise [rows, samples] with power 1/f^exponent above the corner and flat below it, each row of deviation 1."""
    length = fft.next_fast_len(samples, real=True)
    frequency = fft.rfftfreq(length, 1 / EEG_RATE)
    return _shaped(rng, rows, samples, np.maximum(frequency, NOISE_CORNER_HZ) ** (-exponent / 2))


def _shaped(rng: np.random.Generator, rows: int, samples: int, amplitude: Array) -> Array:
    """Gaussian noise with this amplitude spectrum (of a length of at least ``samples``), each row of deviation 1."""
    parts = rng.standard_normal((rows, len(amplitude), 2))
    noise = fft.irfft((parts[..., 0] + 1j * parts[..., 1]) * amplitude)[:, :samples]
    return np.asarray(noise / noise.std(axis=1, keepdims=True))


def _background(listener: Listener, samples: int) -> Array:
    rng = stable_rng(listener.seed, listener.subject, "background")
    return _pink(rng, BACKGROUND_DIPOLES, samples)


def _alpha(listener: Listener, samples: int) -> Array:
    """Narrow-band noise: its envelope comes and goes over about a second."""
    frequency = fft.rfftfreq(fft.next_fast_len(samples, real=True), 1 / EEG_RATE)
    shape = np.exp(-0.5 * ((frequency - listener.alpha_hz) / ALPHA_WIDTH_HZ) ** 2)
    return _shaped(stable_rng(listener.seed, listener.subject, "alpha"), len(ALPHA_M), samples, shape)


def _blinks(listener: Listener, samples: int) -> Array:
    """Blinks [samples] in microvolt at the eyes: Poisson with a shortest gap, each a squared raised cosine."""
    rng = stable_rng(listener.seed, listener.subject, "blinks")
    shape = signal.windows.hann(round(BLINK_S * EEG_RATE)) ** 2
    track = np.zeros(samples + len(shape))
    mean_gap = 60 / BLINKS_PER_MINUTE - BLINK_GAP_S
    begin = 0.0
    while (begin := begin + BLINK_GAP_S + rng.exponential(mean_gap)) * EEG_RATE < samples:
        first = int(begin * EEG_RATE)
        track[first : first + len(shape)] += BLINK_UV * np.exp(0.25 * rng.standard_normal()) * shape
    return track[:samples]
