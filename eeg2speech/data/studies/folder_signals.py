"""Signals of a folder with one's own data: headers first, samples when they are asked for.

EEG is what MNE reads by its suffix, or bare numbers [channels, samples] in ``.npy`` or HDF5 (one data set, its
attributes ``rate``, ``unit`` and ``names`` used where they are there). Speech is WAV or FLAC of one channel, or, in
studies of features, ``.npy`` [bands, samples]; an envelope may be [samples].

MNE and soundfile take files that are cut short for shorter ones. These are refused here, by what their headers say, for
EDF, BDF, BrainVision and WAV.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eeg2speech.data.eeg_files import HDF5, UNITS
from eeg2speech.data.preparation.blocks import Array, ArrayBlocks, Blocks, SoundBlocks, require_rate
from eeg2speech.data.preparation.mne_blocks import MneBlocks
from eeg2speech.errors import BadInput, refusing

Place = tuple[float, float, float]
FARTHEST = 0.3
"""Metres from the head's centre: a sensor that is farther has its place in another unit."""
SOUNDS = (".wav", ".flac")
STEREO = {"": None, "mean": None, "left": 0, "right": 1}
"""Channels that ``SoundBlocks`` reads."""


@dataclass(frozen=True)
class EegHeader:
    """What an EEG file says of itself. ``names`` are its EEG channels, None where it has none; ``places`` are of those
    that it knows the places of, in metres; ``files`` all files that it consists of."""

    path: Path
    names: tuple[str, ...] | None
    rate: float
    channels: int
    samples: int
    files: tuple[Path, ...]
    opened: Callable[[Sequence[str]], Blocks]
    places: Mapping[str, Place] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Duration."""
        return self.samples / self.rate


RECORD_WIDTHS = {".edf": 2, ".bdf": 3}
"""Bytes of a sample."""
VALUE_WIDTHS = {"INT_16": 2, "INT_32": 4, "IEEE_FLOAT_32": 4, "IEEE_FLOAT_64": 8}
"""Bytes of a sample of BrainVision files."""


def eeg_header(path: Path, rate: float | None, unit: str) -> EegHeader:
    """Header of an EEG file; ``rate`` in Hz and ``unit`` for files that do not say.

    Raises:
        BadInput: a file that cannot be read, a rate or unit that is missing, or is not the file's.
    """
    suffix = path.suffix.casefold()
    if suffix == ".npy":
        array = numbers(path)
        shape, dtype = array.shape, array.dtype
        # Mapped again when it is read: a map keeps its file open, and there may be more files than may be open.
        return _bare(
            path, shape, dtype, rate, unit, None, lambda scale, hz: ArrayBlocks(numbers(path), hz, path, scale)
        )
    return _hdf5(path, rate, unit) if suffix in HDF5 else _mne(path, rate, unit)


def numbers(path: Path) -> NDArray[np.generic]:
    """An array in a ``.npy`` file, mapped. Raises BadInput for anything else."""
    if not path.is_file():
        raise BadInput(path, "file", "a .npy file", "no such file")
    with refusing(path, "content", "an array in a .npy file"):
        found = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(found, np.ndarray):
            raise BadInput(path, "content", "one array", "an archive of several")
        return found


def named(header: EegHeader, names: Sequence[str]) -> EegHeader:
    """A header with these names of its channels, if it has none."""
    if header.names is not None:
        return header
    if len(names) != header.channels:
        expected = f"{header.channels} names in the setting channels, for the file has none"
        raise BadInput(header.path, "channels", expected, len(names) or "none")
    return EegHeader(**(header.__dict__ | {"names": tuple(names)}))


def eeg_blocks(header: EegHeader, names: Sequence[str]) -> Blocks:
    """The samples [C, N] of these channels, in microvolt, in the order of ``names``."""
    if header.path.suffix.casefold() not in (".npy", *HDF5):
        return header.opened(names)
    assert header.names is not None, "it has been named"
    return PickedBlocks(header.opened(names), tuple(header.names.index(name) for name in names))


@dataclass(frozen=True)
class PickedBlocks:
    """Some rows of a signal, in another order."""

    blocks: Blocks
    rows: tuple[int, ...]

    @property
    def rate(self) -> float:
        """Hz."""
        return self.blocks.rate

    @property
    def channels(self) -> int:
        """C."""
        return len(self.rows)

    @property
    def samples(self) -> int:
        """N."""
        return self.blocks.samples

    def read(self, begin: int, end: int) -> Array:
        """[C, end - begin]."""
        found: Array = self.blocks.read(begin, end)[list(self.rows)]
        return found


@dataclass(frozen=True)
class Hdf5Blocks:
    """A data set [C, N] in an HDF5 file, which is open only while it is read."""

    path: Path
    key: str
    rate: float
    channels: int
    samples: int
    scale: float

    def read(self, begin: int, end: int) -> Array:
        """[C, end - begin]."""
        with refusing(self.path, "content", "an HDF5 file"), h5py().File(self.path, "r") as file:
            found: Array = np.asarray(file[self.key][:, begin:end], np.float64) * self.scale
        return found


def h5py() -> Any:
    """The package. Raises BadInput where it is not installed."""
    try:
        return import_module("h5py")
    except ImportError as error:
        raise BadInput("HDF5", "package", "h5py: pip install h5py", "not installed") from error


def _hdf5(path: Path, rate: float | None, unit: str) -> EegHeader:
    with refusing(path, "content", "an HDF5 file"), h5py().File(path, "r") as file:
        keys: list[str] = []
        file.visititems(lambda name, item: keys.append(name) if hasattr(item, "shape") else None)
        if len(keys) != 1:
            raise BadInput(path, "data sets", "one, [channels, samples]", ", ".join(keys) or "none")
        data = file[keys[0]]
        shape, dtype = tuple(map(int, data.shape)), np.dtype(data.dtype)
        own_rate, own_unit, own_names = (data.attrs.get(name) for name in ("rate", "unit", "names"))
        rate = _agreed(path, "eeg_rate", None if own_rate is None else float(own_rate), rate)
        unit = _agreed(path, "eeg_unit", None if own_unit is None else _unit(_text(own_unit)), unit or None) or ""
        names = None if own_names is None else tuple(map(_text, own_names))
    return _bare(
        path,
        shape,
        dtype,
        rate,
        unit,
        names,
        lambda scale, hz: Hdf5Blocks(path, keys[0], hz, shape[0], shape[1], scale),
    )


def _bare(
    path: Path,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    rate: float | None,
    unit: str,
    names: tuple[str, ...] | None,
    opened: Callable[[float, float], Blocks],
) -> EegHeader:
    """Numbers from a file that does not know what they are."""
    if len(shape) != 2 or 0 in shape or dtype.kind not in "iuf":
        raise BadInput(path, "content", "numbers [channels, samples]", f"{dtype} {list(shape)}")
    if shape[0] > shape[1]:
        raise BadInput(path, "content", "numbers [channels, samples]", f"{list(shape)}, more channels than samples")
    if rate is None:
        raise BadInput(path, "eeg_rate", "its rate in Hz in this column", "none, and the file does not say")
    if unit not in UNITS:
        raise BadInput(path, "eeg_unit", f"one of {', '.join(UNITS)} in this column", unit or "none, as in the file")
    require_rate(rate, path)
    if names is not None and len(names) != shape[0]:
        raise BadInput(path, "names", f"{shape[0]}, one a channel", len(names))
    scale, hz = UNITS[unit], rate
    return EegHeader(path, names, hz, shape[0], shape[1], (path,), lambda wanted: opened(scale, hz))


def _mne(path: Path, rate: float | None, unit: str) -> EegHeader:
    raw = _raw(path)
    picks = _eeg_picks(raw)
    names = tuple(raw.ch_names[k] for k in picks)
    if not names:
        raise BadInput(path, "EEG channels", "at least one", f"none among {len(raw.ch_names)} channels")
    files, places = _files(path, raw), _places(path, raw, picks)
    blocks = MneBlocks(path, names)
    _agreed(path, "eeg_rate", blocks.rate, rate)
    if unit:
        raise BadInput(path, "eeg_unit", "none, for the file's header tells its units", repr(unit))
    return EegHeader(path, names, blocks.rate, len(names), blocks.samples, files, partial(MneBlocks, path), places)


def _raw(path: Path) -> Any:
    import mne

    with refusing(path, "content", "an EEG file that MNE reads, .npy or HDF5"):
        suffix = path.suffix.casefold()
        if suffix in RECORD_WIDTHS:
            _require_records(path, RECORD_WIDTHS[suffix])
        raw = mne.io.read_raw(path, preload=False, verbose="ERROR")
        if suffix in (".vhdr", ".ahdr"):
            _require_points(path, raw)
    return raw


def _eeg_picks(raw: Any) -> list[int]:
    import mne

    found: list[int] = mne.pick_types(raw.info, meg=False, eeg=True, exclude=[]).tolist()
    return found


def _places(path: Path, raw: Any, picks: Sequence[int]) -> dict[str, Place]:
    """In metres, of the channels that have one."""
    found: dict[str, Place] = {}
    for k in picks:
        place = np.asarray(raw.info["chs"][k]["loc"][:3], float)
        if not np.isfinite(place).all() or not place.any():
            continue
        if np.linalg.norm(place) > FARTHEST:
            shown = ", ".join(f"{value:g}" for value in place)
            raise BadInput(path, f"place of {raw.ch_names[k]!r}", f"metres, within {FARTHEST} of the head", shown)
        found[raw.ch_names[k]] = (float(place[0]), float(place[1]), float(place[2]))
    return found


def _files(path: Path, raw: Any) -> tuple[Path, ...]:
    """All files of a recording, those of a folder one by one."""
    named = [path, *(Path(each) for each in raw.filenames if each is not None), path.with_suffix(".vmrk")]
    found = [path.parent / each.name if each.parent == path.parent.resolve() else each for each in named]
    files = [file for each in found for file in (sorted(each.rglob("*")) if each.is_dir() else [each])]
    return tuple(dict.fromkeys(file for file in files if file.is_file()))


def _require_records(path: Path, width: int) -> None:
    """EDF: 256 bytes with the number of records, then 256 a channel; BDF has samples of three bytes."""
    with path.open("rb") as file:
        head = file.read(256)
        count, channels = int(head[236:244]), int(head[252:256])
        if not 1 <= channels <= 9999:
            raise BadInput(path, "channels", "1 to 9999", channels)
        about = file.read(256 * channels)
    if len(about) < 256 * channels:
        raise BadInput(path, "content", f"headers of {channels} channels", "fewer")
    lengths = [int(about[216 * channels + 8 * k : 216 * channels + 8 * k + 8]) for k in range(channels)]
    if min(lengths) < 0 or not sum(lengths):
        raise BadInput(path, "samples a record", "0 or more for each channel", lengths)
    size, record = path.stat().st_size - 256 * (channels + 1), width * sum(lengths)
    # -1 stands for a recording that was not closed: its length is the file's.
    if count != -1 and size < count * record:
        raise BadInput(path, "length", f"{count} records, as its header says", f"{size / record:.2f}")


def _require_points(path: Path, raw: Any) -> None:
    """BrainVision: as many samples as the header says, where it does, and no part of one."""
    header = path.read_bytes().decode("latin-1")
    points = re.search(r"^DataPoints=([0-9]{1,15})\s*$", header, re.MULTILINE)
    if points and int(points[1]) != raw.n_times:
        raise BadInput(path, "DataPoints", f"{raw.n_times}, as {Path(raw.filenames[0]).name} has", points[1])
    width = VALUE_WIDTHS.get("".join(re.findall(r"^BinaryFormat=(\w+)\s*$", header, re.MULTILINE)))
    channels = re.search(r"^NumberOfChannels=([0-9]{1,9})\s*$", header, re.MULTILINE)
    size = Path(raw.filenames[0]).stat().st_size
    if width and channels and size % (width * int(channels[1])):
        expected = f"a multiple of {width * int(channels[1])} bytes, those of a sample"
        raise BadInput(raw.filenames[0], "length", expected, size)


def sound_blocks(path: Path, stereo: str) -> Blocks:
    """A sound [1, T]; of one with several channels what ``stereo`` says: mean, left or right.

    Raises:
        BadInput: a file that is no sound, that is cut short, or that has several channels where nothing is said.
    """
    if path.suffix.casefold() not in SOUNDS:
        hint = f"{path.suffix or 'none'} (features are for the studies folder-envelopes and folder-mels)"
        raise BadInput(path, "suffix", " or ".join(SOUNDS), hint)
    _require_whole_sound(path)
    blocks = SoundBlocks(path)
    import soundfile

    channels = soundfile.info(path).channels
    if channels > 1 and not stereo:
        raise BadInput(path, "channels", "one (or set stereo=mean, left or right)", channels)
    return SoundBlocks(path, STEREO[stereo]) if channels > 1 else blocks


def _require_whole_sound(path: Path) -> None:
    """Refuse a RIFF file that is shorter than its data should be."""
    if not path.is_file():
        raise BadInput(path, "file", "a sound file", "no such file")
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        while head[:4] == b"RIFF" and len(chunk := file.read(8)) == 8:
            name, length = chunk[:4], struct.unpack("<I", chunk[4:])[0]
            if name == b"data":
                left = size - file.tell()
                # All ones stand for a stream whose length was not known.
                if length > left and length != 0xFFFFFFFF:
                    raise BadInput(path, "length", f"{length} bytes of sound, as its header says", left)
                return
            file.seek(length + length % 2, 1)


def feature_blocks(path: Path, rate: float | None, mel: bool) -> Blocks:
    """Features [F, N]: of an envelope one band, of a mel two or more, and fewer than samples.

    Raises:
        BadInput: no array of that shape in the file, or no rate.
    """
    if path.suffix.casefold() != ".npy":
        raise BadInput(path, "suffix", ".npy", f"{path.suffix or 'none'} (sound is for the study folder)")
    if rate is None:
        raise BadInput(path, "feature_rate", "samples a second, in Hz, in this column", "none")
    array = numbers(path)
    if array.ndim == 1 and not mel:
        array = array[None]
    wanted = "[bands, samples], two bands or more" if mel else "[1, samples], or [samples]"
    if array.ndim != 2 or (len(array) < 2) == mel or len(array) > array.shape[1]:
        raise BadInput(path, "shape", wanted, list(array.shape))
    return ArrayBlocks(array, rate, path)


def _agreed(path: Path, column: str, own: Any, given: Any) -> Any:
    """What the file says, or what the table says; a contradiction is refused."""
    if own is not None and given is not None and own != given:
        raise BadInput(path, column, f"{own}, as the file says, or none", given)
    return given if own is None else own


def _unit(text: str) -> str:
    # Two characters that look like mu: the micro sign and the Greek letter.
    return re.sub("[\u00b5\u03bc]", "u", text)


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
