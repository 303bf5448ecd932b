"""The steps on EEG, at the store's rate: reference, filters, bad sensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eeg2speech.data.preparation.steps import Steps
from eeg2speech.data.types import Samples, Sensors
from eeg2speech.errors import BadInput

SCALE = 1.4826
"""Median absolute deviation to standard deviation, of a normal distribution."""
ROWS = 8
"""Sensors that are filtered at a time."""
BLOCK = 1 << 15
"""Samples that are interpolated and referenced at a time."""
FLAT = 1e-3
"""Microvolt; a sensor with less is not connected."""


@dataclass(frozen=True)
class Cleaned:
    """EEG [C, N] in microvolt, and the sensors that were found bad."""

    eeg: Samples
    bad: tuple[str, ...]


def margin(steps: Steps) -> int:
    """Samples before and after a trial that its filters need."""
    # MNE's transition bands; its notch has one of 1 Hz, with half of it on each side.
    nyquist = steps.eeg_rate / 2
    bands = [
        *([min(max(0.25 * steps.high_pass, 2.0), steps.high_pass)] if steps.high_pass else []),
        *([min(max(0.25 * steps.low_pass, 2.0), nyquist - steps.low_pass)] if steps.low_pass else []),
        *([0.5] if steps.notch else []),
    ]
    # Length of its filters with a Hamming window: 3.3 periods of the narrowest transition.
    return ceil(3.3 / min(bands) * steps.eeg_rate / 2) if bands else 0


def cleaned(
    eeg: Samples, before: int, count: int, steps: Steps, sensors: Sensors, bad: Sequence[str], where: object
) -> Cleaned:
    """Clean a stretch of EEG [C + R, N] in microvolt, R reference electrodes after the C sensors.

    ``before`` samples of it come before the trial, which has ``count``; what is beside it serves the filters' edges.

    Raises:
        BadInput: EEG that is too short for the filters, or whose sensors are all bad; a reference that is not there.
    """
    trial = _filtered(eeg, before, count, len(sensors), steps, where)
    rows = _bad_rows(trial, steps, sensors, bad)
    names = tuple(sensors.names[row] for row in rows)
    good = np.setdiff1d(np.arange(len(sensors)), rows)
    if not len(good):
        raise BadInput(where, "EEG", "a sensor that is not flat or bad", "none")
    for begin in range(0, count, BLOCK):
        block = trial[:, begin : begin + BLOCK]
        if steps.bad_channels == "interpolate" and len(rows):
            block[:] = _interpolated(block, sensors, names)
        if steps.reference == "average":
            block -= block[good].mean(axis=0, dtype=np.float64).astype(np.float32)
    return Cleaned(trial, names)


def _filtered(eeg: Samples, before: int, count: int, sensors: int, steps: Steps, where: object) -> Samples:
    """Trial [C, count], against the reference electrodes and filtered, a few sensors at a time: in double precision,
    as filters want it, the whole would need three times the memory."""
    reference = _reference(eeg, sensors, steps, where)
    needed = 2 * margin(steps) + 1
    if margin(steps) and eeg.shape[1] < needed:
        expected = f"at least {needed / steps.eeg_rate:.2f} s, as long as its filters (or set high_pass=0)"
        raise BadInput(where, "EEG", expected, f"{eeg.shape[1] / steps.eeg_rate:.2f} s")
    trial = np.empty((sensors, count), np.float32)
    for row in range(0, sensors, ROWS):
        waves = eeg[row : min(row + ROWS, sensors)].astype(np.float64) - reference
        trial[row : row + ROWS] = _through_filters(waves, steps)[:, before : before + count]
    return trial


def _reference(eeg: Samples, sensors: int, steps: Steps, where: object) -> NDArray[np.float64] | float:
    if steps.reference != "electrodes":
        return 0.0
    if len(eeg) == sensors:
        raise BadInput(where, "reference", "average or none, for the study has no reference electrodes", "electrodes")
    mean: NDArray[np.float64] = eeg[sensors:].mean(axis=0, dtype=np.float64)
    return mean


def _through_filters(waves: NDArray[np.float64], steps: Steps) -> NDArray[np.float64]:
    """MNE's zero-phase FIR filters: Hamming window, transition bands a quarter of the edge, at least 2 Hz."""
    low, high = steps.high_pass or None, steps.low_pass or None
    if low is None and high is None and not steps.notch:
        return waves
    import mne

    # The offset of a direct-current amplifier is orders above the signal.
    found = waves - waves.mean(axis=1, keepdims=True)
    about: dict[str, Any] = {"method": "fir", "phase": "zero", "copy": False, "verbose": "ERROR"}
    if low is not None or high is not None:
        found = mne.filter.filter_data(found, steps.eeg_rate, low, high, **about)
    if steps.notch:
        mains = np.arange(steps.notch, steps.eeg_rate / 2, steps.notch)
        found = mne.filter.notch_filter(found, steps.eeg_rate, mains, **about)
    return np.asarray(found, np.float64)


def _bad_rows(eeg: Samples, steps: Steps, sensors: Sensors, known: Sequence[str]) -> NDArray[np.intp]:
    """Sensors that the authors name, flat ones, and those whose power is far from that of the others."""
    deviation = np.array([wave.std(dtype=np.float64) for wave in eeg])
    flat = deviation < FLAT
    level = np.log(np.maximum(deviation, FLAT))
    middle = np.median(level[~flat]) if not flat.all() else 0.0
    spread = SCALE * np.median(np.abs(level[~flat] - middle)) if not flat.all() else 0.0
    # With few sensors, or equal ones, the spread can be nothing: then none is far from the others.
    far = np.abs(level - middle) > steps.bad_deviation * spread if spread > 1e-6 else np.zeros(len(level), bool)
    named = np.isin(np.array(sensors.names), np.array(known, dtype=str))
    return np.flatnonzero(flat | far | named)


def _interpolated(eeg: Samples, sensors: Sensors, bad: Sequence[str]) -> NDArray[np.float64]:
    import mne

    places = dict(zip(sensors.names, map(np.array, sensors.positions), strict=True))
    info = mne.create_info(list(sensors.names), 1.0, "eeg", verbose="ERROR")
    info.set_montage(mne.channels.make_dig_montage(places, coord_frame="head"), verbose="ERROR")
    raw = mne.io.RawArray(eeg.astype(np.float64), info, verbose="ERROR")
    raw.info["bads"] = list(bad)
    return np.asarray(raw.interpolate_bads(verbose="ERROR").get_data())
