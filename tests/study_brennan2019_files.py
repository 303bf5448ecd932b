"""Files as those of Brennan & Hale 2019, of noise: short, whole in form."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from scipy import io

RATE, SOUND = 500, 44_100
SENSORS = [str(k) for k in range(1, 62) if k != 29]
LABELS = [*SENSORS, "VEOG", "AUD"]
HEADER = (
    "Word,Trigger,Segment,onset,offset,Order,LogFreq,LogFreq_Prev,LogFreq_Next,SndPower,Length,Position,Sentence,"
    "IsLexical,NGRAM,RNN,CFG"
)
Row = dict[str, Any]
"""A word of the table."""


def cell(values: Sequence[Any]) -> np.ndarray:
    """A row cell; its transpose is a column cell."""
    made = np.empty((1, len(values)), object)
    for k, value in enumerate(values):
        made[0, k] = value
    return made


def noise(*shape: int, seed: int = 0, scale: float = 20.0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape) * scale


def words(segments: int = 12, each: int = 4, apart: float = 0.4637) -> list[Row]:
    """Words of a table, with a gap in Order, of segments that last ``each * apart`` seconds."""
    return [
        {
            "Word": "Alice" if k else "it\x1as",
            "Segment": segment,
            "onset": round(0.046 + apart * k, 6),
            "offset": round(0.046 + apart * k + 0.4, 6),
            "Order": 1 + (segment - 1) * each + k + (segment > 1),
        }
        for segment in range(1, segments + 1)
        for k in range(each)
    ]


def write_table(folder: Path, rows: Sequence[Row], trigger: bool = True) -> Path:
    """As it is published: CRLF, no line's end at the end."""
    names = [name for name in HEADER.split(",") if trigger or name != "Trigger"]
    lines = [",".join(names), *(",".join(str(row.get(name, 1)) for name in names) for row in rows)]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "AliceChapterOne-EEG.csv"
    path.write_bytes("\r\n".join(lines).encode("latin-1"))
    return path


def spread(rows: Sequence[Row], first: int = 400, gap: float = 0.5) -> dict[int, int]:
    """A sample for each segment's first, one after the other."""
    found, place = {}, first
    for segment in sorted({row["Segment"] for row in rows}):
        found[segment] = place
        place += round((max(row["offset"] for row in rows if row["Segment"] == segment) + gap) * RATE)
    return found


def trl(rows: Sequence[Row], starts: Mapping[int, int]) -> np.ndarray:
    """As the authors' script makes it: MATLAB's first sample is 1, and words are rounded up."""
    made = np.zeros((len(rows), 6))
    for k, row in enumerate(rows):
        onset = starts[row["Segment"]] + 1 + math.ceil(row["onset"] * RATE)
        made[k] = onset - 150, onset + 500, -150, row["Segment"], row["onset"], row["Order"]
    return made


def proc(matrix: np.ndarray, subject: str = "S01", **given: Any) -> dict[str, Any]:
    made = {
        "subject": subject,
        "trl": matrix,
        "varnames": cell(["segment", "tmin", "Order"]),
        "tot_trials": float(len(matrix)),
        "tot_chans": 61.0,
        "implicitref": "29",
        "refchannels": cell(["25", "29"]),
        "impedence": {"bads": cell(["12", "40"]).T, "imps": np.zeros((1, 3)), "labels": cell(["1", "2", "Gnd"])},
        "rejections": {"badchans": cell(["7", "12"]).T},
    }
    return made | given


def write_proc(folder: Path, made: dict[str, Any], name: str = "S01", compress: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    io.savemat(folder / f"{name}.mat", {"proc": made}, do_compression=compress)
    return folder / f"{name}.mat"


def raw(eeg: np.ndarray, labels: Sequence[str] = LABELS, hdr: Mapping[str, Any] | None = None, **given: Any) -> Row:
    """FieldTrip's struct; EEG is [channels, samples]."""
    count = eeg.shape[1]
    column = cell(list(labels)).T
    header = {
        "Fs": 500.0,
        "nChans": float(len(labels)),
        "nSamples": float(count),
        "nSamplesPre": 0.0,
        "nTrials": 1.0,
        "label": column,
        "chantype": cell(["eeg"] * len(labels)).T,
        "chanunit": cell(["uV"] * len(labels)).T,
    }
    made = {
        "hdr": header | dict(hdr or {}),
        "label": column,
        "fsample": 500.0,
        "sampleinfo": np.array([[1.0, count]]),
        "trial": cell([eeg]),
        "time": cell([np.arange(count)[None] / RATE]),
    }
    return made | given


def without(made: dict[str, Any], name: str) -> dict[str, Any]:
    """A struct without a field, ``a.b`` that of one in it."""
    first, _, rest = name.partition(".")
    if rest:
        return made | {first: without(made[first], rest)}
    return {key: value for key, value in made.items() if key != first}


def write_raw(folder: Path, made: Row, name: str = "S01", compress: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    io.savemat(folder / f"{name}.mat", {"raw": made}, do_compression=compress)
    return folder / f"{name}.mat"


def write_brainvision(
    folder: Path, eeg: np.ndarray, labels: Sequence[str] = LABELS, name: str = "S01", unit: str = "µV", step: int = 2000
) -> Path:
    """BrainVision of float32, sample by sample; ``step`` is the sampling interval in microseconds."""
    folder.mkdir(parents=True, exist_ok=True)
    head = "Brain Vision Data Exchange Header File Version 1.0\n\n[Common Infos]\nCodepage=UTF-8\n"
    head += f"DataFile={name}.eeg\nMarkerFile={name}.vmrk\nDataFormat=BINARY\nDataOrientation=MULTIPLEXED\n"
    head += f"NumberOfChannels={len(labels)}\nSamplingInterval={step}\n\n[Binary Infos]\nBinaryFormat=IEEE_FLOAT_32\n\n"
    head += "[Channel Infos]\n" + "".join(f"Ch{k}={label},,1,{unit}\n" for k, label in enumerate(labels, 1))
    marks = "Brain Vision Data Exchange Marker File, Version 1.0\n\n[Common Infos]\nCodepage=UTF-8\n"
    marks += f"DataFile={name}.eeg\n\n[Marker Infos]\nMk1=New Segment,,1,1,0\nMk2=Stimulus,S  1,2,1,0\n"
    (folder / f"{name}.vhdr").write_text(head, encoding="utf-8")
    (folder / f"{name}.vmrk").write_text(marks, encoding="utf-8")
    (folder / f"{name}.eeg").write_bytes(eeg.T.astype("<f4").tobytes())
    return folder / f"{name}.vhdr"


def write_sounds(folder: Path, seconds: float, segments: Iterable[int] = range(1, 13)) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for k in segments:
        sound = noise(round(seconds * SOUND), seed=100 + k, scale=0.05)
        soundfile.write(folder / f"DownTheRabbitHoleFinal_SoundFile{k}.wav", sound, SOUND, "PCM_16")


def write_study(
    root: Path, subjects: Iterable[int] = (1, 3), segments: int = 2, release: str = "v1", each: int = 4
) -> Path:
    """A folder as downloaded and unpacked, with fewer people and segments; EEG of seed k for person k."""
    rows = words(segments, each)
    starts = spread(rows)
    seconds = max(row["offset"] for row in rows)
    count = starts[segments] + round((seconds + 0.2) * RATE)
    for k in subjects:
        name, eeg = f"S{k:02d}", noise(len(LABELS), count, seed=k)
        if release == "v1":
            write_raw(root, raw(eeg), name)
        else:
            write_brainvision(root, eeg, name=name)
        write_proc(root / "proc", proc(trl(rows, starts), name), name)
    write_table(root, rows)
    write_sounds(root / "audio", seconds + 0.1, range(1, segments + 1))
    return root
