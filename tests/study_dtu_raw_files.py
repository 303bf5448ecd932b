"""Files as those of DTU's EEG.zip and AUDIO.zip, of noise: short, whole in form; and the exported tables."""

from __future__ import annotations

import csv
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from scipy import io
from study_dtu_files import cell

from eeg2speech.data.preparation.montages import montage

RATE, SOUND, SECONDS, LEAD, PAUSE = 512, 44_100, 2.0, 1.0, 0.5
NAMES = [*montage("biosemi64").names, *(f"EXG{k}" for k in range(1, 9)), "Status"]
COLUMNS = ("attend_mf", "attend_lr", "trigger", "n_speakers", "wavfile_male", "wavfile_female", "acoustic_condition")
Row = dict[str, Any]


def row(number: int, attended: int = 1, ear: int = 1, talkers: int = 2, story: int = 1) -> Row:
    """A line of the table; of a single talker only one sound is named."""
    names = {"wavfile_male": f"aske_story{story}_trial_{number}.wav",
             "wavfile_female": f"marianne_story{story + 1}_trial_{number}.wav"}  # fmt: skip
    if talkers == 1:
        names["wavfile_female" if attended == 1 else "wavfile_male"] = ""
    numbers = {"attend_mf": attended, "attend_lr": ear, "trigger": 10 * talkers + attended, "n_speakers": talkers}
    return numbers | names | {"acoustic_condition": 1 + number % 3}


def table(subject: int = 1) -> list[Row]:
    """Three trials of two talkers, the second trial of the four has one."""
    return [
        row(1, attended=1 + subject % 2, ear=1),
        row(2, attended=1, ear=1, talkers=1),
        row(3, attended=2, ear=1 + subject % 2, story=3),
        row(4, attended=1, ear=2, story=3),
    ]


@dataclass
class Recording:
    """A subject's EEG with its events; trials of ``seconds`` and pauses between them."""

    rows: Sequence[Row]
    seed: int = 1
    seconds: float = SECONDS
    names: Sequence[str] | None = field(default_factory=lambda: list(NAMES))
    eeg: np.ndarray | None = None

    @property
    def onsets(self) -> list[int]:
        """Samples of the onsets, from 0."""
        return [round((LEAD + k * (self.seconds + PAUSE)) * RATE) for k in range(len(self.rows))]

    def samples(self) -> np.ndarray:
        """[N, 73], whole numbers, which take little room."""
        if self.eeg is None:
            length = round((LEAD + len(self.rows) * (self.seconds + PAUSE)) * RATE)
            self.eeg = np.random.default_rng(self.seed).integers(-300, 300, (length, 73)).astype(np.int16)
        return self.eeg

    def events(self, as_array: bool = False) -> Any:
        """Samples from 1, with values: one struct with vectors, or an array of structs."""
        length = round(self.seconds * RATE)
        samples = [float(place) for onset in self.onsets for place in (onset + 1, onset + length + 1)]
        values = [float(value) for each in self.rows for value in (each["trigger"], 255)]
        if not as_array:
            return {"sample": np.array(samples)[:, None], "value": cell([np.array([[v]]) for v in values]).T}
        made = np.empty((1, len(values)), [("sample", object), ("value", object)])
        for k, (sample, value) in enumerate(zip(samples, values, strict=True)):
            made[0, k] = (np.array([[sample]]), cell([np.array([[value]])]))
        return made

    def body(self, **events: bool) -> dict[str, Any]:
        """The struct ``data``."""
        made = {
            "eeg": cell([self.samples()]),
            "fsample": {"eeg": float(RATE)},
            "event": {"eeg": self.events(**events)},
        }
        if self.names is not None:
            made["dim"] = {"chan": {"eeg": cell([cell(list(self.names))])}}
        return made


def save(path: Path, body: dict[str, Any], compress: bool = True, **others: Any) -> Path:
    """A subject's recording; others are variables beside ``data``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    io.savemat(path, {"data": body, **others}, do_compression=compress)
    return path


def write_csv(path: Path, rows: Iterable[Row], separator: str = ",", columns: Sequence[str] = COLUMNS) -> Path:
    """As MATLAB's writetable."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, delimiter=separator, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


def columns(rows: Sequence[Row]) -> dict[str, Any]:
    """A struct of columns, as table2struct(..., "ToScalar", true)."""
    made: dict[str, Any] = {}
    for name in rows[0]:
        values = [each[name] for each in rows]
        texts = isinstance(values[0], str)
        made[name] = cell(values).T if texts else np.array(values, float)[:, None]
    return made


def structs(rows: Sequence[Row]) -> np.ndarray:
    """An array of structs, as table2struct."""
    made = np.empty((len(rows), 1), [(name, object) for name in rows[0]])
    for k, each in enumerate(rows):
        made[k, 0] = tuple(value if isinstance(value, str) else np.array([[float(value)]]) for value in each.values())
    return made


def sound(name: str, seconds: float = SECONDS) -> np.ndarray:
    """Noise of its own for each name."""
    return np.random.default_rng(zlib.crc32(name.encode())).standard_normal(round(seconds * SOUND)) * 0.05


def write_sounds(folder: Path, rows: Iterable[Row], seconds: float = SECONDS) -> None:
    """All that the table names."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (each[f"wavfile_{sex}"] for each in rows for sex in ("male", "female")):
        if name:
            soundfile.write(folder / name, sound(name, seconds), SOUND, "PCM_16")


def write_study(root: Path, subjects: Iterable[int] = (1, 2), seconds: float = SECONDS) -> Path:
    """A folder as downloaded and unpacked, with tables as CSV files, fewer subjects and trials."""
    for subject in subjects:
        rows = table(subject)
        save(root / "EEG" / f"S{subject}.mat", Recording(rows, subject, seconds).body())
        write_csv(root / "EEG" / f"S{subject}.csv", rows)
        write_sounds(root / "AUDIO", rows, seconds)
    return root


def table_object(name: str) -> bytes:
    """A MATLAB table as a variable of a file: a closed object (class 17), whose content nobody but MATLAB reads."""

    def element(kind: int, data: bytes) -> bytes:
        return kind.to_bytes(4, "little") + len(data).to_bytes(4, "little") + data + bytes(-len(data) % 8)

    flags = element(6, (17).to_bytes(4, "little") + bytes(4))
    texts = b"".join(element(1, text.encode()) for text in (name, "MCOS", "table"))
    numbers = element(6, np.array([17, 0], np.uint32).tobytes())
    shape = element(5, np.array([2, 1], np.int32).tobytes())
    content = element(6, (13).to_bytes(4, "little") + bytes(4)) + shape + element(1, b"") + numbers
    return element(14, flags + texts + element(14, content))
