"""EEG files that come from somewhere else: read as microvolt, put into a system's order of sensors, resampled.

EDF, BDF, BrainVision, FIF and whatever else MNE knows by its suffix are read through MNE, which gives volts. ``.npy``
and HDF5 hold bare numbers: their rate and unit have to be said, and a unit is never guessed from the numbers. Nothing
is filtered and no reference is changed: a file should have been processed as the data that a system was trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from eeg2speech.data.types import Samples
from eeg2speech.errors import BadInput, refusing, unknown_name

UNITS = {"V": 1e6, "mV": 1e3, "uV": 1.0}
"""Microvolts in one of each."""
HDF5 = (".h5", ".hdf5")
EXPECTED = ("EEG file", "one that MNE reads, .npy or HDF5")
SLOWEST = 0.001
"""Hz; rates are told apart by as much."""
ZERO_CROSSINGS = 16
"""Half the length of the filter for resampling: it passes 0.8 of the lower band and stops 100 dB at 1.2 of it."""
BLOCK = 1 << 16
"""Samples that MNE reads at a time: it reads float64, of which a long file would need twice as much memory."""


@dataclass(frozen=True)
class EegFile:
    """What a file holds: samples [C, N] float32 in microvolt, rate in Hz, channel names where the file gives them."""

    samples: Samples
    rate: float
    names: tuple[str, ...] | None

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        seconds: float = self.samples.shape[1] / self.rate
        return seconds


def read_eeg(
    path: Path | str,
    rate: float | None = None,
    unit: str | None = None,
    key: str | None = None,
    sensors: Sequence[str] = (),
) -> EegFile:
    """Read an EEG file, in its own order of channels and at its own rate.

    Args:
        path: a file that MNE reads, ``.npy`` [C, N], or HDF5 with a data set [C, N], whose attributes ``rate``,
            ``unit`` and ``names`` are used where they are there.
        rate: Hz, for files that do not say.
        unit: V, mV or uV, for files that do not say.
        key: the data set in an HDF5 file; the only one if None.
        sensors: names that are wanted. Of a file read by MNE, channels of other kinds than EEG are left out unless
            they are among these.

    Raises:
        BadInput: no such file, one that cannot be read, a rate or unit that is missing or is not the file's, samples
            that are not [C, N] finite numbers.
    """
    path = Path(path)
    if not path.exists():
        raise BadInput(path, "EEG file", "a file", "no such file")
    if unit is not None:
        _microvolts(unit)
    if rate is not None and not SLOWEST <= rate < float("inf"):
        raise BadInput("EEG", "--eeg-rate", f"at least {SLOWEST} Hz", rate)
    suffix = path.suffix.lower()
    if key is not None and suffix not in HDF5:
        raise BadInput(path, "--eeg-key", "an HDF5 file (.h5, .hdf5)", repr(key))
    if suffix == ".npy":
        return _checked(_npy(path, rate, unit), path)
    return _checked(_hdf5(path, rate, unit, key) if suffix in HDF5 else _mne(path, rate, unit, sensors), path)


def arranged(file: EegFile, sensors: Sequence[str], where: object) -> Samples:
    """Samples [C, N] with one row for each of ``sensors``, in their order.

    By name (whatever its case) if the file gives names. A file without names must have as many channels, in that order.

    Raises:
        BadInput: names that are missing, or another number of channels.
    """
    if file.names is None:
        if len(file.samples) != len(sensors):
            shape = list(file.samples.shape)
            raise BadInput(where, "EEG shape", f"[{len(sensors)}, samples], the system's sensors", shape)
        return file.samples
    rows = {name.casefold(): k for k, name in enumerate(file.names)} | {n: k for k, n in enumerate(file.names)}
    found = [rows.get(name, rows.get(name.casefold())) for name in sensors]
    names = [name.casefold() for name in file.names]
    for name in sensors:
        if name not in file.names and names.count(name.casefold()) > 1 or file.names.count(name) > 1:
            raise BadInput(where, "EEG channels", f"one named {name!r}", "several")
    missing = [name for name, row in zip(sensors, found, strict=True) if row is None]
    if missing:
        expected = f"all {len(sensors)} sensors of the system"
        raise BadInput(where, "EEG channels", expected, f"none named {', '.join(missing)}; {_some(file.names)}")
    return file.samples[[row for row in found if row is not None]]


def resample(signal: Samples, rate: float, wanted: float, pad: Literal["constant", "line"] = "constant") -> Samples:
    """[..., N] at ``rate`` Hz -> [..., about N * wanted / rate] at ``wanted`` Hz, with a low-pass where that is lower.

    Polyphase, by the exact ratio of the two rates (each to 1/1000 Hz): sample k stays at k / wanted seconds however
    long the signal is. ``pad`` says what lies beyond the ends: ``constant`` zeros, or the ``line`` between first and
    last sample, for signals with an offset.
    """
    from scipy.signal import firwin, resample_poly

    ratio = Fraction(wanted).limit_denominator(1000) / Fraction(rate).limit_denominator(1000)
    if ratio == 1:
        return signal
    up, down = ratio.numerator, ratio.denominator
    # Scipy's own filter leaves images of slow drifts, 6e-5 of them: microvolts where a drift has millivolts.
    # That coefficients are taken as well is not in its stubs.
    taps: Any = firwin(2 * ZERO_CROSSINGS * max(up, down) + 1, 1 / max(up, down), window=("kaiser", 10.0))

    def row(wave: NDArray[np.float32]) -> Samples:
        offset = wave.mean(dtype=np.float64) if pad == "line" else 0.0
        return np.asarray(resample_poly(wave - offset, up, down, window=taps, padtype=pad) + offset, np.float32)

    # Row by row: in double precision a whole recording may not fit into memory.
    return np.stack([row(wave) for wave in signal.reshape(-1, signal.shape[-1])]).reshape(*signal.shape[:-1], -1)


def fitted(signal: Samples, length: int) -> Samples:
    """[..., N] -> [..., length]: cut at the end, or its last sample repeated."""
    short = length - signal.shape[-1]
    if short <= 0:
        return signal[..., :length]
    return np.pad(signal, [(0, 0)] * (signal.ndim - 1) + [(0, short)], mode="edge")


def _npy(path: Path, rate: float | None, unit: str | None) -> EegFile:
    with refusing(path, *EXPECTED):
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    return _bare(path, array, rate, unit, None)


def _hdf5(path: Path, rate: float | None, unit: str | None, key: str | None) -> EegFile:
    with refusing(path, *EXPECTED), _h5py().File(path, "r") as file:
        data = _data_set(path, file, key)
        own_rate, own_unit, own_names = (data.attrs.get(name) for name in ("rate", "unit", "names"))
        rate = _agreed(path, "rate", None if own_rate is None else float(own_rate), rate)
        unit = _agreed(path, "unit", None if own_unit is None else _text(own_unit), unit)
        names = None if own_names is None else tuple(map(_text, own_names))
        return _bare(path, data[()], rate, unit, names)


def _h5py() -> Any:
    try:
        return import_module("h5py")
    except ImportError as error:
        raise BadInput("HDF5", "package", "h5py: pip install h5py", "not installed") from error


def _data_set(path: Path, file: Any, key: str | None) -> Any:
    names: list[str] = []
    file.visititems(lambda name, item: names.append(name) if hasattr(item, "shape") else None)
    if key is None and len(names) == 1:
        key = names[0]
    if key is None:
        raise BadInput(path, "--eeg-key", "the name of a data set", f"none given, and there are {', '.join(names)}")
    if key.strip("/") not in names:
        raise unknown_name(path, "--eeg-key", key, names)
    return file[key]


def _bare(
    path: Path, array: NDArray[Any], rate: float | None, unit: str | None, names: tuple[str, ...] | None
) -> EegFile:
    """Numbers from a file that does not know what they are."""
    if rate is None:
        raise BadInput(path, "rate", "its rate in Hz: give --eeg-rate", "a file that does not say")
    if unit is None:
        raise BadInput(path, "unit", "its unit: give --eeg-unit V, mV or uV", "a file that does not say")
    if not SLOWEST <= rate < float("inf"):
        raise BadInput(path, "rate", f"at least {SLOWEST} Hz", rate)
    if array.ndim != 2 or array.dtype.kind not in "iuf" or 0 in array.shape:
        raise BadInput(path, "content", "numbers [channels, samples]", f"{array.dtype} {list(array.shape)}")
    if names is not None and len(names) != len(array):
        raise BadInput(path, "names", f"{len(array)}, one a channel", len(names))
    return EegFile((array * np.float64(_microvolts(unit))).astype(np.float32), rate, names)


def _mne(path: Path, rate: float | None, unit: str | None, sensors: Sequence[str]) -> EegFile:
    import mne

    with refusing(path, *EXPECTED):
        raw = mne.io.read_raw(path, preload=False, verbose="ERROR")
        kept = set(mne.pick_types(raw.info, meg=False, eeg=True, exclude=[]).tolist())
        wanted = {name.casefold() for name in sensors}
        picks = [k for k, name in enumerate(raw.ch_names) if k in kept or name.casefold() in wanted]
        if not picks:
            raise BadInput(path, "EEG channels", "at least one", f"none; {_some(raw.ch_names)}")
        scales = [_scale(path, raw, raw.ch_names[k], unit) for k in picks]
        samples = np.empty((len(picks), raw.n_times), np.float32)
        for begin in range(0, raw.n_times, BLOCK):
            end = min(begin + BLOCK, raw.n_times)
            samples[:, begin:end] = raw.get_data(picks, begin, end, verbose="ERROR") * np.array(scales)[:, None]
    own_rate = float(raw.info["sfreq"])
    _agreed(path, "rate", own_rate, rate)
    return EegFile(samples, own_rate, tuple(raw.ch_names[k] for k in picks))


def _scale(path: Path, raw: Any, channel: str, unit: str | None) -> float:
    """Microvolts in what MNE gives for a channel: volts, or bare numbers where the file's header has no unit."""
    stated = getattr(raw, "_orig_units", {}).get(channel, "V")
    if stated == "n/a":
        if unit is None:
            raise BadInput(path, f"unit of {channel!r}", "its unit: give --eeg-unit V, mV or uV", "none in its header")
        return _microvolts(unit)
    # MNE converts nanovolts of BrainVision files, but takes those of EDF for volts.
    known = {"V", "mV", "uV", "µV"} | ({"nV"} if path.suffix.lower() in (".vhdr", ".ahdr") else set())
    if stated not in known:
        raise BadInput(path, f"unit of {channel!r}", "V, mV or uV", repr(stated))
    if unit is not None:
        raise BadInput(path, "--eeg-unit", f"none, for the file says its own ({stated})", repr(unit))
    return 1e6


def _checked(file: EegFile, path: Path) -> EegFile:
    bad = file.samples.size - int(np.count_nonzero(np.isfinite(file.samples)))
    if bad:
        raise BadInput(path, "samples", "finite numbers", f"{bad} that are NaN or infinite")
    return file


def _agreed(path: Path, field: str, own: Any, given: Any) -> Any:
    """What the file says, or what the caller says; a contradiction is refused."""
    if own is not None and given is not None and own != given:
        raise BadInput(path, f"--eeg-{field}", f"{own}, as the file says, or none", given)
    return given if own is None else own


def _microvolts(unit: str) -> float:
    # Two characters that look like mu: the micro sign and the Greek letter.
    plain = unit.replace("\u00b5", "u").replace("\u03bc", "u")
    if plain not in UNITS:
        raise unknown_name("EEG", "unit", unit, UNITS)
    return UNITS[plain]


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _some(names: Sequence[str]) -> str:
    """The first few of a file's channel names, for a refusal."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"the file has {', '.join(names[:5])}{more}"
