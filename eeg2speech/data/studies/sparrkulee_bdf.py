"""BioSemi's data format (BDF), gzipped or not: 24-bit samples in records, read a block at a time.

::

    256 bytes                  0xFF BIOSEMI, ..., header bytes, 24BIT, records, seconds a record, channels
    256 bytes a channel        all labels, then all transducers, ..., by field
    records                    of each channel its samples, little-endian, 3 bytes each

A gzipped file is unpacked once, with its checksum, into a temporary file without a name.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from eeg2speech.data.preparation.blocks import Array, require_rate
from eeg2speech.data.preparation.gzipped import gunzipped, likely
from eeg2speech.errors import BadInput

FIXED = 256
WIDTHS = {"label": 16, "transducer": 80, "unit": 8, "pmin": 8, "pmax": 8, "dmin": 8, "dmax": 8, "filter": 80, "spr": 8}
"""Fields of a channel, each for all channels in turn; 32 bytes come after them."""
MICROVOLT = {"nv": 1e-3, "uv": 1.0, "mv": 1e3, "v": 1e6}
CHANNELS, LONGEST = 512, 1 << 20
STATUS = "status"
BLOCK = 1 << 16
"""Records' samples of the trigger channel that are read at a time."""


@dataclass(frozen=True)
class Header:
    """What the header says. ``records`` is None where the recording was broken off and it does not tell; ``length``
    is samples a record, of every channel; ``gains`` and ``offsets`` make microvolt; NaN for a channel of other unit."""

    names: tuple[str, ...]
    records: int | None
    length: int
    rate: float
    gains: tuple[float, ...]
    offsets: tuple[float, ...]

    @property
    def begin(self) -> int:
        """Bytes before the first record."""
        return FIXED * (len(self.names) + 1)

    @property
    def record(self) -> int:
        """Bytes of one."""
        return 3 * self.length * len(self.names)


def header(path: Path, content: bytes) -> Header:
    """Of the first bytes of a file. Raises BadInput for another format, and for numbers that cannot be."""
    if content[:8] != b"\xffBIOSEMI" or len(content) < FIXED:
        raise BadInput(path, "content", "a BDF file: 0xFF and BIOSEMI", repr(content[:8]))
    whole = partial(_whole, path)
    count = whole(content[252:256], "channels", 1, CHANNELS)
    if whole(content[184:192], "bytes of the header", 0, 1 << 24) != FIXED * (count + 1):
        raise BadInput(path, "bytes of the header", FIXED * (count + 1), _text(content[184:192]))
    if len(content) < FIXED * (count + 1):
        raise BadInput(path, "length", f"a header of {FIXED * (count + 1)} bytes", len(content))
    records = whole(content[236:244], "records", -1, 10**8)
    if not records:
        raise BadInput(path, "records", "at least one", 0)
    fields = _fields(content, count)
    lengths = {whole(each, "samples a record", 1, LONGEST) for each in fields["spr"]}
    if len(lengths) != 1:
        raise BadInput(path, "samples a record", "as many in every channel", sorted(lengths))
    length = lengths.pop()
    rate = length / _number(path, content[244:252], "seconds a record", 1e-4, 3600)
    require_rate(rate, path)
    scales = [_scale(path, {name: values[k] for name, values in fields.items()}) for k in range(count)]
    names = tuple(_text(each) for each in fields["label"])
    gains, offsets = zip(*scales, strict=True)
    return Header(names, None if records == -1 else records, length, rate, gains, offsets)


class Bdf:
    """A file's samples. Raises BadInput: no such file, another format, damage, another size than the header says."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = _opened(path)
        # It has to go when this goes: a temporary one takes up room until then.
        weakref.finalize(self, self._file.close)
        self.header = header(path, self._file.read(FIXED * (CHANNELS + 1)))
        found, left = divmod(self._file.seek(0, 2) - self.header.begin, self.header.record)
        # Of a recording that was broken off, what is left of a last record is none.
        if self.header.records is not None and (found, left) != (self.header.records, 0):
            expected = f"{self.header.records} of {self.header.record} bytes, as the header says"
            raise BadInput(path, "records", expected, f"{found} and {left} bytes")
        if not found:
            raise BadInput(path, "records", "at least one", 0)
        self.records = found

    @property
    def samples(self) -> int:
        """Of each channel."""
        return self.records * self.header.length

    def digital(self, rows: Sequence[int], begin: int, end: int) -> NDArray[np.int32]:
        """[C, end - begin] as they are in the file."""
        length = self.header.length
        first, last = begin // length, -(-end // length)
        block = self._records(first, last)[:, list(rows)]
        made = block[..., 2].astype(np.int8).astype(np.int32)
        made <<= 16
        made |= block[..., 1].astype(np.int32) << 8
        made |= block[..., 0]
        flat = made.transpose(1, 0, 2).reshape(len(rows), -1)
        return flat[:, begin - first * length : end - first * length]

    def _records(self, first: int, last: int) -> NDArray[np.uint8]:
        """[records, channels, samples, 3]."""
        self._file.seek(self.header.begin + first * self.header.record)
        content = self._file.read((last - first) * self.header.record)
        if len(content) != (last - first) * self.header.record:
            raise BadInput(self.path, "length", f"{self.records} records", "fewer: the file has changed")
        return np.frombuffer(content, np.uint8).reshape(-1, len(self.header.names), self.header.length, 3)

    def triggers(self) -> NDArray[np.uint16]:
        """[N], the lower 16 bits of the channel Status. Raises BadInput for a file without it."""
        rows = [row for row, name in enumerate(self.header.names) if name.casefold() == STATUS]
        if len(rows) != 1:
            raise BadInput(self.path, "channels", "one named Status", len(rows))
        made = np.empty(self.samples, np.uint16)
        for begin in range(0, self.samples, BLOCK):
            end = min(begin + BLOCK, self.samples)
            made[begin:end] = self.digital(rows, begin, end)[0] & 0xFFFF
        return made


@dataclass(frozen=True)
class BdfBlocks:
    """Channels of a file by their rows, in this order, [C, N] in microvolt.

    Raises BadInput for one that is not in volts.
    """

    bdf: Bdf
    rows: tuple[int, ...]

    def __post_init__(self) -> None:
        for row in self.rows:
            if not np.isfinite(self.bdf.header.gains[row]):
                name = self.bdf.header.names[row]
                raise BadInput(self.bdf.path, f"channel {name!r}", "a unit of volts, and a range", "another")

    @property
    def rate(self) -> float:
        """Hz."""
        return self.bdf.header.rate

    @property
    def channels(self) -> int:
        """C."""
        return len(self.rows)

    @property
    def samples(self) -> int:
        """N."""
        return self.bdf.samples

    def read(self, begin: int, end: int) -> Array:
        """[C, end - begin]."""
        about = self.bdf.header
        gains = np.array([about.gains[row] for row in self.rows])[:, None]
        offsets = np.array([about.offsets[row] for row in self.rows])[:, None]
        made: Array = self.bdf.digital(self.rows, begin, end) * gains + offsets
        return made


def _opened(path: Path) -> IO[bytes]:
    """A file to be read from, unpacked."""
    if path.suffix.casefold() == ".gz":
        return gunzipped(path, FIXED * (CHANNELS + 1), partial(_stated, path))
    if path.is_file():
        return path.open("rb")
    raise BadInput(path, "file", "a BDF file", "no such file")


def _stated(path: Path, content: bytes) -> int:
    """Bytes that the header says there are."""
    found = header(path, content)
    stated = found.begin + found.record * found.records if found.records is not None else likely(path)
    return min(stated, likely(path))


def _fields(content: bytes, count: int) -> dict[str, list[bytes]]:
    """Fields of all channels."""
    found, place = {}, FIXED
    for name, width in WIDTHS.items():
        found[name] = [content[place + k * width : place + (k + 1) * width] for k in range(count)]
        place += count * width
    return found


def _scale(path: Path, fields: dict[str, bytes]) -> tuple[float, float]:
    """Gain and offset to microvolt; NaN where a channel, such as Status, is none of volts or has no range."""
    # Two characters that look like mu: the micro sign and the Greek letter.
    unit = MICROVOLT.get(re.sub("[\u00b5\u03bc]", "u", _text(fields["unit"])).casefold())
    if unit is None:
        return float("nan"), float("nan")
    name = _text(fields["label"])
    low, high = (_number(path, fields[key], f"channel {name!r}: {key}", -1e9, 1e9) for key in ("pmin", "pmax"))
    least, most = (
        _whole(path, fields[key], f"channel {name!r}: {key}", -(1 << 23), 1 << 23) for key in ("dmin", "dmax")
    )
    if not (high > low and most > least):
        raise BadInput(
            path, f"channel {name!r}: range", "a minimum below its maximum", f"{low:g}, {high:g}, {least}, {most}"
        )
    gain = (high - low) / (most - least)
    return gain * unit, (low - gain * least) * unit


def _text(field: bytes) -> str:
    return field.decode("latin-1").strip(" \0")


def _whole(path: Path, field: bytes, name: str, least: int, most: int) -> int:
    found = _text(field)
    if not re.fullmatch(r"[+-]?[0-9]{1,12}", found) or not least <= int(found) <= most:
        raise BadInput(path, name, f"{least} to {most}", repr(found))
    return int(found)


def _number(path: Path, field: bytes, name: str, least: float, most: float) -> float:
    found = _text(field)
    if not re.fullmatch(r"[+-]?[0-9]*\.?[0-9]*([eE][+-]?[0-9]+)?", found) or not re.search("[0-9]", found):
        raise BadInput(path, name, f"{least:g} to {most:g}", repr(found))
    try:
        value = float(found)
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        raise BadInput(path, name, f"{least:g} to {most:g}", repr(found))
    return value
