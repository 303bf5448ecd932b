"""Files of Broderick et al. (2018) as the Dryad package has them, seconds long."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import io
from scipy.io import wavfile

RATE, SOUND, SECONDS = 128, 44_100, 12
STORIES = ("20000", "Journey")


def eeg(subject: int, run: int, samples: int = RATE * SECONDS + 1) -> np.ndarray:
    """[T, 130], single: sensors, then mastoids."""
    return (np.random.default_rng((subject, run)).standard_normal((samples, 130)) * 20).astype(np.float32)


def sound(story: str, run: int) -> np.ndarray:
    """[T], whole numbers."""
    seed = (STORIES.index(story), run)
    return (np.random.default_rng(seed).standard_normal(SECONDS * SOUND) * 3000).astype(np.int16)


def write_eeg(path: Path, signal: np.ndarray, flipped: bool = False, **other: object) -> None:
    """A run's file: matrices time first, or the other way round."""
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = {"eegData": signal[:, :128], "mastoids": signal[:, 128:]}
    content = {name: part.T if flipped else part for name, part in parts.items()} | {"fs": np.float64(RATE)} | other
    io.savemat(path, {name: value for name, value in content.items() if value is not None}, do_compression=True)


def write(root: Path, subjects: Sequence[int] = (1, 6, 18), runs: Sequence[int] = (1, 2, 22, 27)) -> Path:
    """A study: subject 6 the other way round and without run 2, run 22 a sample shorter, a text and others' files."""
    home = root / "Cocktail Party"
    for subject in subjects:
        for run in runs:
            if (subject, run) != (6, 2):
                path = home / "EEG" / f"Subject{subject}" / f"Subject{subject}_Run{run}.mat"
                write_eeg(path, eeg(subject, run, RATE * SECONDS + (run == 1) - (run == 22)), subject == 6)
    (home / "EEG" / "readme.txt").write_text("of the authors")
    (home / "EEG" / f"Subject{subjects[0]}" / f"Subject{subjects[0]}_Run1_data.mat").write_bytes(b"of others")
    for story in STORIES:
        for run in runs:
            write_sound(home, story, run, sound(story, run))
    return root


def write_sound(home: Path, story: str, run: int, wave: np.ndarray) -> None:
    """A run's part of a story, and its envelope."""
    audio = home / "Stimuli" / "Full_Audio" / story / f"{story}_{run}.wav"
    envelope = home / "Stimuli" / "Envelopes" / story / f"{story}_{run}_env.mat"
    for path in (audio, envelope):
        path.parent.mkdir(parents=True, exist_ok=True)
    wavfile.write(audio, SOUND, wave)
    slow = np.abs(np.random.default_rng(run).standard_normal((RATE * SECONDS, 1)))
    io.savemat(envelope, {"envelope": slow, "fsEnv": np.float64(RATE)}, do_compression=True)


def write_natural(root: Path, subjects: Sequence[int] = (1, 2), runs: Sequence[int] = (1, 2, 15)) -> Path:
    """Natural Speech: subject 2 without run 2; sound beside the package, envelopes in it."""
    home = root / "Natural Speech"
    for subject in subjects:
        for run in runs:
            if (subject, run) != (2, 2):
                path = home / "EEG" / f"Subject{subject}" / f"Subject{subject}_Run{run}.mat"
                write_eeg(path, eeg(subject, run), flipped=run == 15)
    (root / "private").mkdir()
    (home / "Stimuli" / "Envelopes").mkdir(parents=True)
    for run in runs:
        wavfile.write(root / "private" / f"audio{run}.wav", SOUND, sound("20000", run))
        slow = np.abs(np.random.default_rng(run).standard_normal((RATE * SECONDS, 1)))
        path = home / "Stimuli" / "Envelopes" / f"audio{run}_128Hz.mat"
        io.savemat(path, {"env": slow}, do_compression=True)
    return root
