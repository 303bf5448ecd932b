"""Files of DTU's DATA_preproc as their authors write them, seconds long."""

from pathlib import Path
from typing import Any

import numpy as np
from scipy import io

RATE, SECONDS = 64, 20


def cell(items: list[Any]) -> np.ndarray:
    """A row of MATLAB's cells."""
    found = np.empty((1, len(items)), object)
    for k, item in enumerate(items):
        found[0, k] = item
    return found


def eeg(subject: int, trial: int, seconds: float = SECONDS) -> np.ndarray:
    """[T, 66]."""
    return np.random.default_rng((subject, trial)).standard_normal((int(seconds * RATE), 66)) * 10


def envelope(trial: int, sex: int) -> np.ndarray:
    """[T, 1] of a talker in a trial, the same for all subjects; a little longer than the EEG."""
    return np.abs(np.random.default_rng((100, trial, sex)).standard_normal((SECONDS * RATE + 7, 1)))


def attended(subject: int, trial: int) -> int:
    """1 male, 2 female."""
    return 1 + (subject + trial) % 2


def content(subject: int, trials: int = 3, named: bool = True) -> dict[str, Any]:
    """The struct of a subject."""
    from eeg2speech.data.preparation.montages import montage

    count = range(trials)
    events = np.empty((1, trials), dtype=[("sample", object), ("value", object)])
    for k in count:
        events[0, k] = (np.array([[1.0 + k]]), cell([np.array([[float(attended(subject, k))]])]))
    names = cell([*montage("biosemi64").names, "EXG1", "EXG2"])
    body = {
        "eeg": cell([eeg(subject, k) for k in count]),
        "wavA": cell([envelope(k, attended(subject, k)) for k in count]),
        "wavB": cell([envelope(k, 3 - attended(subject, k)) for k in count]),
        "fsample": {"eeg": 64.0, "wavA": 64.0, "wavB": 64.0},
        "event": {"eeg": events},
        "cfg": cell([{"fcn": "co_preprocessing"}]),
    }
    return body | ({"dim": {"chan": {"eeg": cell([names] * trials)}}} if named else {})


def write(folder: Path, subjects: int = 2, **kinds: Any) -> Path:
    """A study's files."""
    folder.mkdir(parents=True, exist_ok=True)
    for subject in range(1, subjects + 1):
        save(folder / f"S{subject}_data_preproc.mat", content(subject, **kinds))
    return folder


def save(path: Path, body: dict[str, Any]) -> None:
    """A subject's file, compressed."""
    io.savemat(path, {"data": body}, do_compression=True)
