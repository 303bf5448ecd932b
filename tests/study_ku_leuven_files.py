"""Files as those of the KU Leuven study, of noise: short, whole in form."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from scipy import io

SOUND, RATE, CHANNELS = 44_100, 128, 64
STANDARD = tuple(f"{again}part{p}_track{t}" for again in ("", "rep_") for p in range(1, 5) for t in (1, 2))


def cell(values: Sequence[Any]) -> np.ndarray:
    """A column cell."""
    made = np.empty((len(values), 1), object)
    for k, value in enumerate(values):
        made[k, 0] = value
    return made


def noise(*shape: int, seed: int = 0, scale: float = 20.0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def trial(number: int, subject: str = "S1", eeg: np.ndarray | None = None, **given: Any) -> dict[str, Any]:
    """A struct of the cell: track 1 is attended, at the left ear in trials of an odd number; four seconds of EEG."""
    left = number % 2 == 1
    stimuli = ["part1_track1_dry.wav", "part1_track2_dry.wav"]
    made: dict[str, Any] = {
        "RawData": {
            "Channels": np.arange(1.0, CHANNELS + 1)[None],
            "EegData": noise(4 * RATE, CHANNELS, seed=number) if eeg is None else eeg,
        },
        "FileHeader": {"SampleRate": float(RATE)},
        "TrialID": float(number),
        "attended_ear": "L" if left else "R",
        "stimuli": cell(stimuli if left else stimuli[::-1]),
        "condition": "dry",
        "experiment": 1.0,
        "part": 1.0,
        "attended_track": 1.0,
        "repetition": np.bool_(False),
        "subject": subject,
    }
    return made | given


def labelled(made: dict[str, Any], labels: Sequence[str]) -> dict[str, Any]:
    """The trial with names of its channels."""
    channels = np.empty((1, len(labels)), [("Label", object)])
    for k, label in enumerate(labels):
        channels[0, k] = (label,)
    return made | {"FileHeader": made["FileHeader"] | {"Channels": channels}}


def write_subject(path: Path, trials: Sequence[dict[str, Any]], compress: bool = True) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    row = np.empty((1, len(trials)), object)
    for k, each in enumerate(trials):
        row[0, k] = each
    io.savemat(path, {"trials": row}, do_compression=compress)
    return path


def write_sound(folder: Path, name: str, sound: np.ndarray) -> Path:
    """Of [T] or [T, channels], in [-1, 1]."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.wav"
    soundfile.write(path, sound, SOUND, "PCM_16")
    return path


def write_sounds(root: Path, seconds: float = 4.0, names: Iterable[str] = STANDARD, hrtf: bool = True) -> None:
    """Dry sounds, and, in stereo, those that were played."""
    for k, name in enumerate(names):
        sound = noise(round(seconds * SOUND), seed=100 + k, scale=0.05)
        write_sound(root / "stimuli", f"{name}_dry", sound)
        if hrtf:
            write_sound(root / "stimuli", f"{name}_hrtf", np.stack([sound, sound / 2], axis=1))


def write_study(root: Path, subjects: Iterable[int] = (1, 2), trials: int = 2, seconds: float = 4.0) -> Path:
    """A folder as downloaded and unpacked, with fewer subjects and trials."""
    for number in subjects:
        made = [trial(k, f"S{number}", noise(round(seconds * RATE), CHANNELS, seed=50 * number + k)) for k in
                range(1, trials + 1)]  # fmt: skip
        write_subject(root / f"S{number}.mat", made)
    write_sounds(root, seconds)
    return root
