"""A folder with somebody's own data, written for tests: EEG in several formats, speech, a table of trials."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

RATE, SOUND = 128, 8000
NAMES = ("Fz", "Cz", "Pz", "C3", "C4", "Oz")
COLUMNS = ("subject", "eeg", "start", "attended", "unattended")
Floats = NDArray[np.floating]


def noise(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape)


def write_edf(
    path: Path, eeg: Floats, rate: int, names: Sequence[str] = NAMES, span: float = 3000.0, unit: str = "uV"
) -> None:
    """EEG [C, N] in microvolt as EDF, or as BDF by its suffix, of records of one second; the last is filled with 0."""
    width = 3 if path.suffix == ".bdf" else 2
    top, count, records = 1 << (8 * width - 1), len(eeg), -(-eeg.shape[1] // rate)
    fixed = [("", 80), ("", 80), ("01.01.2001.01.01", 16), (str(256 * (count + 1)), 8), ("", 44)]
    fixed += [(str(records), 8), ("1", 8), (str(count), 4)]
    each = [(name, 16) for name in names] + [("", 80)] * count + [(unit, 8)] * count
    for value in (str(-span), str(span), str(-top), str(top - 1)):
        each += [(value, 8)] * count
    each += [("", 80)] * count + [(str(rate), 8)] * count + [("", 32)] * count
    header = "".join(text.ljust(width) for text, width in fixed + each).encode()
    padded = np.pad(eeg.astype(float), ((0, 0), (0, records * rate - eeg.shape[1])))
    digital = np.round((padded + span) * ((2 * top - 1) / (2 * span)) - top).clip(-top, top - 1).astype("<i4")
    ordered = np.ascontiguousarray(digital.reshape(count, records, rate).transpose(1, 0, 2))
    body = ordered.view(np.uint8).reshape(-1, 4)[:, :width].tobytes()
    path.write_bytes((b"\xffBIOSEMI" if width == 3 else b"0       ") + header + body)


def write_brainvision(path: Path, eeg: Floats, rate: int, names: Sequence[str] = NAMES, points: int = 0) -> None:
    """EEG [C, N] in microvolt as three BrainVision files, 32-bit float; ``points`` is what the header claims."""
    channels = "\n".join(f"Ch{k}={name},,1,µV" for k, name in enumerate(names, 1))
    claim = f"DataPoints={points}\n" if points else ""
    path.write_text(
        "Brain Vision Data Exchange Header File Version 1.0\n[Common Infos]\nCodepage=UTF-8\n"
        f"DataFile={path.stem}.eeg\nMarkerFile={path.stem}.vmrk\nDataFormat=BINARY\nDataOrientation=MULTIPLEXED\n"
        f"NumberOfChannels={len(names)}\n{claim}SamplingInterval={1e6 / rate:g}\n"
        f"[Binary Infos]\nBinaryFormat=IEEE_FLOAT_32\n[Channel Infos]\n{channels}\n",
        encoding="utf-8",
    )
    marks = "Brain Vision Data Exchange Marker File, Version 1.0\n[Common Infos]\nCodepage=UTF-8\n"
    path.with_suffix(".vmrk").write_text(f"{marks}DataFile={path.stem}.eeg\n[Marker Infos]\n")
    path.with_suffix(".eeg").write_bytes(np.ascontiguousarray(eeg.T).astype("<f4").tobytes())


def write_fif(path: Path, eeg: Floats, rate: int, names: Sequence[str] = NAMES, placed: bool = True) -> None:
    """EEG [C, N] in microvolt as FIF, with places of its sensors."""
    import mne

    info = mne.create_info(list(names), rate, "eeg", verbose="ERROR")
    if placed:
        info.set_montage("easycap-M1", verbose="ERROR")
    mne.io.RawArray(eeg * 1e-6, info, verbose="ERROR").save(path, overwrite=True, verbose="ERROR")


def write_npy(path: Path, eeg: Floats, rate: int, names: Sequence[str] = ()) -> None:
    """EEG [C, N] in microvolt, as it is."""
    np.save(path, eeg.astype(np.float32))


def write_hdf5(path: Path, eeg: Floats, hz: int, labels: Sequence[str] = NAMES, **attributes: Any) -> None:
    """EEG [C, N] in microvolt, with attributes that say what it is."""
    import h5py

    with h5py.File(path, "w") as file:
        data = file.create_dataset("eeg", data=eeg)
        for name, value in ({"rate": float(hz), "unit": "uV", "names": list(labels)} | attributes).items():
            if value is not None:
                data.attrs[name] = value


WRITERS = {
    ".edf": write_edf,
    ".bdf": write_edf,
    ".vhdr": write_brainvision,
    ".fif": write_fif,
    ".npy": write_npy,
    ".h5": write_hdf5,
}


def write_sound(path: Path, sound: Floats, rate: int = SOUND, subtype: str | None = None) -> None:
    """Sound [T] or [T, C], WAV or FLAC by its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound, rate, subtype=subtype)


def table_text(rows: Iterable[dict[str, object]], columns: Sequence[str] = (), separator: str = ",") -> str:
    """The table, with the columns that the rows have."""
    rows = list(rows)
    names = list(columns or dict.fromkeys((*COLUMNS, *(name for row in rows for name in row))))
    lines = [names, *([str(row.get(name, "")) for name in names] for row in rows)]
    return "".join(separator.join(line) + "\n" for line in lines)


def write_table(home: Path, rows: Iterable[dict[str, object]], name: str = "trials.csv") -> Path:
    """The table in a folder."""
    (home / name).write_text(table_text(rows), encoding="utf-8")
    return home / name


def trials(subjects: int = 2, suffix: str = ".edf", seconds: float = 10.0) -> list[dict[str, object]]:
    """Two trials of each, of the same two pairs; the second subject attends to what the first did not."""
    rows: list[dict[str, object]] = []
    for subject in range(1, subjects + 1):
        for trial in (1, 2):
            pair = [f"speech/a{trial}.wav", f"speech/b{trial}.wav"]
            attended, other = pair if subject % 2 else pair[::-1]
            about = {"eeg": f"eeg/S{subject}{suffix}", "start": 1 + (trial - 1) * (seconds + 1)}
            rows.append({"subject": f"S{subject}", **about, "attended": attended, "unattended": other})
    return rows


def write_folder(home: Path, subjects: int = 2, suffix: str = ".edf", seconds: float = 10.0) -> list[dict[str, object]]:
    """A whole folder; returns the rows of its table."""
    rows = trials(subjects, suffix, seconds)
    (home / "eeg").mkdir(parents=True, exist_ok=True)
    for subject in range(1, subjects + 1):
        eeg = 20 * noise(len(NAMES), round((2 * seconds + 3) * RATE), seed=subject)
        WRITERS[suffix](home / "eeg" / f"S{subject}{suffix}", eeg, RATE, NAMES)
    for number, name in enumerate(("a1", "b1", "a2", "b2")):
        write_sound(home / "speech" / f"{name}.wav", noise(round(seconds * SOUND), seed=50 + number) / 10)
    write_table(home, rows)
    return rows
