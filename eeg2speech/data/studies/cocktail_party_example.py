"""Raw files in the exact form of the Cocktail Party data, made from real speech and simulated EEG.

**Real:** the speech below 8 kHz, that of the embedded corpus. "20000" is its English and Spanish track, of one voice;
"Journey" its Russian and Italian one, of two. Run M is the M-th piece of the story, so no sound is in two runs.

**Made:** all else. The corpus ends at 8 kHz, and sound without a trace of what lies above would hide what decimation
without a filter does. So noise from 8 to 16 kHz is added, as loud as ``HIGH_DB`` below the speech's own band of 4 to
8 kHz, and rising and falling with it, as the noise of sibilants does in a recording at 44.1 kHz. The EEG comes from the
suite's forward model, level ``clear``; its lead fields, for 64 sensors, are brought to the 128 of the BioSemi cap by
splines over the head. A mastoid is the sensor nearest to it, with sensor noise of its own. Every subject listens as the
table ``attention`` says: in the example that is the truth, so it can be seen what the other table does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import io, signal
from scipy.interpolate import RBFInterpolator

from eeg2speech.assets import corpus
from eeg2speech.data import forward_model as model
from eeg2speech.data.studies.cocktail_party import sensors
from eeg2speech.data.studies.cocktail_party_files import (
    EEG_RATE,
    RAW_RATE,
    STORIES,
    Attention,
    attended_story,
    eeg_path,
    other_story,
    require_table,
    story_path,
)
from eeg2speech.data.studies.cocktail_party_runs import RUNS
from eeg2speech.data.types import Samples
from eeg2speech.errors import BadInput

Array = NDArray[np.float64]
TRACKS = {"20000": ("en", "es"), "Journey": ("ru", "it")}
"""Languages of the corpus that make each story, one after the other."""
SIBILANT_HZ, HIGH_HZ, HIGH_DB = (4000.0, 7900.0), (8000.0, 16_000.0), -6.0
ENVELOPE_HZ = 40.0
PEAK = 0.9
MASTOIDS_M = ((-0.075, -0.03, -0.03), (0.075, -0.03, -0.03))
SEED = 2018


def write_example(
    folder: Path,
    subjects: Sequence[int] = (1, 2, 18, 19),
    runs: Iterable[int] = range(1, RUNS + 1),
    seconds: int = 60,
    attention: Attention = "readme",
) -> None:
    """Write raw files of these subjects and runs, each of ``seconds``, below ``folder``.

    Raises:
        BadInput: a run beyond 30, a story longer than the corpus, or a table that nobody knows.
    """
    numbers = sorted(set(runs))
    require_table(attention)
    if not numbers or numbers[0] < 1 or numbers[-1] > RUNS:
        raise BadInput("write_example", "runs", f"1 to {RUNS}", numbers)
    pieces = {story: _pieces(story, numbers, seconds) for story in STORIES}
    for story, spoken in pieces.items():
        for run, wave in spoken.items():
            _write_wav(story_path(folder, story, run), with_sibilance(wave, f"{story}/{run}"))
    drives = {story: [model.drives(wave) for wave in spoken.values()] for story, spoken in pieces.items()}
    for subject in subjects:
        attended = attended_story(subject, attention)
        trials = list(zip(drives[attended], drives[other_story(attended)], strict=True))
        for run, eeg in zip(numbers, _eeg(subject, trials), strict=True):
            _write_mat(eeg_path(folder, subject, run), eeg, f"Subject{subject}/{run}")


def with_sibilance(wave: Samples, name: str) -> Array:
    """Speech [T] at 16 kHz -> [T'] at 44.1 kHz, with noise from 8 to 16 kHz that follows its sibilants."""
    speech = signal.resample_poly(np.asarray(wave, np.float64), 441, 160)
    band = signal.sosfiltfilt(signal.butter(4, SIBILANT_HZ, "band", fs=RAW_RATE, output="sos"), speech)
    low = signal.butter(2, ENVELOPE_HZ, fs=RAW_RATE, output="sos")
    envelope = np.sqrt(np.maximum(signal.sosfiltfilt(low, band**2), 0.0))
    noise = model.stable_rng(SEED, name, "sibilance").standard_normal(len(speech))
    noise = signal.sosfiltfilt(signal.butter(6, HIGH_HZ, "band", fs=RAW_RATE, output="sos"), noise)
    added = envelope * noise
    gain = 10 ** (HIGH_DB / 20) * np.sqrt(np.mean(band**2) / max(float(np.mean(added**2)), 1e-12))
    return np.asarray(speech + gain * added)


def _pieces(story: str, runs: Sequence[int], seconds: int) -> dict[int, Samples]:
    """The story's speech at 16 kHz in these runs."""
    length = seconds * corpus.RATE
    told = _told(story, runs[-1] * length)
    if seconds < 1 or runs[-1] * length > len(told):
        most = len(told) // corpus.RATE // runs[-1]
        raise BadInput("write_example", "seconds", f"1 to {most}, for {runs[-1]} runs", seconds)
    return {run: told[(run - 1) * length : run * length] for run in runs}


def _told(story: str, samples: int) -> Samples:
    """The story from its beginning, at least so many samples if it has them: no more tracks than that takes."""
    told: list[Samples] = []
    for language in TRACKS[story]:
        if sum(map(len, told)) < samples or not told:
            told.append(_track(language))
    return np.concatenate(told)


@cache
def _track(language: str) -> Samples:
    return corpus.load_track(next(track for track in corpus.tracks() if track.language == language))


def _eeg(subject: int, trials: Sequence[tuple[Array, Array]]) -> Iterator[Samples]:
    """EEG [128, n] in microvolt of each run, cut from one recording."""
    eeg = model.simulate(_listener(f"Subject{subject}"), model.LEVELS["clear"], trials)
    ends = np.cumsum([attended.shape[1] for attended, _ in trials])
    yield from np.split(eeg, ends[:-1], axis=1)


def _listener(name: str) -> model.Listener:
    """A listener of the forward model with 128 sensors."""
    listener = model.make_listener(SEED, name)
    return replace(
        listener,
        auditory=_on_cap(listener.auditory),
        background=_on_cap(listener.background),
        alpha=_on_cap(listener.alpha),
        eyes=_on_cap(listener.eyes),
    )


def _on_cap(field: Array) -> Array:
    """A field of the 64 sensors [64, ...] at the 128 places of the cap, by thin-plate splines."""
    places = RBFInterpolator(np.array(model.sensors().positions), field, kernel="thin_plate_spline")
    found: Array = places(np.array(sensors().positions))
    return found


def _write_wav(path: Path, wave: Array) -> None:
    import soundfile

    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, PEAK * wave / max(float(np.abs(wave).max()), 1e-9), RAW_RATE, subtype="PCM_16")


def _write_mat(path: Path, eeg: Samples, name: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = model.SENSOR_UV * model.stable_rng(SEED, name, "mastoids").standard_normal((2, eeg.shape[1]))
    mastoids = eeg[_mastoids()] + noise
    content = {"eegData": eeg.T, "mastoids": mastoids.T.astype(np.float32), "fs": float(EEG_RATE)}
    io.savemat(path, content)


@cache
def _mastoids() -> list[int]:
    """Numbers of the sensors nearest to both mastoids."""
    places = np.array(sensors().positions)
    return [int(np.argmin(np.linalg.norm(places - np.array(one), axis=1))) for one in MASTOIDS_M]
