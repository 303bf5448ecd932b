"""Files as published scripts write them of the Cocktail Party data: noise in rows of 2 s, few of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import soundfile
from scipy import io

from eeg2speech.data.studies.cocktail_party_files import STORIES, eeg_path, story_path

ROW_EEG, ROW_SOUND, CHANNELS, RATE, SOUND = 256, 87_552, 128, 128, 44_100
PARTS = {"train": 6, "val": 2, "test": 4}
"""Rows of each part."""


def noise(*shape: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape) * scale


def part(
    rows: int,
    seed: int = 0,
    pieces: int = 1,
    sound: int = ROW_SOUND,
    channels: int = CHANNELS,
    scale: float = 1e-5,
    subjects: Sequence[int] = (1, 18),
) -> dict[str, np.ndarray]:
    """Arrays by kind: half of the rows each subject's."""
    clean, other = (noise(rows, pieces * sound, 1, seed=seed + k).astype(np.float32) for k in (1, 2))
    both = clean + other
    return {
        "eegs": noise(rows, pieces * ROW_EEG, channels, seed=seed, scale=scale),
        "noisy": both / abs(both).max(),
        "clean": clean / abs(clean).max(),
        "unattended": other / abs(other).max(),
        "subjects": np.resize(np.repeat(subjects, max(rows // len(subjects), 1)), rows).astype(np.int64),
    }


def write_part(folder: Path, name: str, arrays: Mapping[str, np.ndarray], mark: str = "=", **about: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for kind, array in arrays.items():
        write(folder / f"{kind}_{name}.h5", array, f"{kind}_{name}{mark}", **about)


def write(path: Path, array: np.ndarray, key: str = "", libver: str | None = None, **about: Any) -> Path:
    with h5py.File(path, "w", libver=libver) as file:
        file.create_dataset(key or f"{path.stem}=", data=array, **about)
    return path


def write_study(
    folder: Path, nested: bool = False, parts: Mapping[str, int] = PARTS, mark: str = "=", **given: Any
) -> Path:
    """All files; nested in folders named after their parts."""
    for k, (name, rows) in enumerate(parts.items()):
        write_part(folder / name if nested else folder, name, part(rows, 10 * k, **given), mark)
    return folder


def write_raw(folder: Path, subjects: Sequence[int], runs: Sequence[int], seconds: int) -> None:
    """Raw files of the Cocktail Party data, of which such windows are made."""
    for run in runs:
        for k, story in enumerate(STORIES):
            path = story_path(folder, story, run)
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, noise(seconds * SOUND, seed=2 * run + k, scale=0.1), SOUND)
        for subject in subjects:
            path = eeg_path(folder, subject, run)
            path.parent.mkdir(parents=True, exist_ok=True)
            eeg, mastoids = (noise(seconds * RATE, count, seed=100 * subject + run) for count in (CHANNELS, 2))
            io.savemat(path, {"eegData": eeg.astype(np.float32), "mastoids": mastoids, "fs": float(RATE)})
