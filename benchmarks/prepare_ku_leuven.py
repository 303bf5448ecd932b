"""How long a study as large as KU Leuven takes to prepare, in how much memory, and how fast a training is fed from it.

``python benchmarks/prepare_ku_leuven.py FOLDER`` writes the study's files there (16 subjects, 20 trials of six minutes,
64 channels at 128 Hz in single precision, 16 sounds; of noise, about 4 GB), prepares them in a fresh process, and draws
segments of four seconds from the store (about 4 GB) as a training does. All figures are printed as JSON. What lies in
the folder is used again; ``FOLDER/store`` is made anew. Prepared and fed is on two cores, unless told.

Targets, on two cores: prepared in 600 s and 2 GB, and 200 segments a second.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SOUND, RATE, CHANNELS = 44_100, 128, 64
SEGMENT_S, BATCH = 4.0, 32


def generate(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """The raw files, those that are not there yet."""
    import soundfile

    raw = folder / "raw"
    (raw / "stimuli").mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(_names()):
        path = raw / "stimuli" / f"{name}_dry.wav"
        if not path.exists():
            soundfile.write(path, _speech(args.seconds, seed), SOUND, "PCM_16")
    for subject in range(1, args.subjects + 1):
        path = raw / f"S{subject}.mat"
        if not path.exists():
            _write_subject(path, subject, args)
    return {"raw_megabytes": sum(path.stat().st_size for path in raw.rglob("*.*")) // 1_000_000}


def _names() -> list[str]:
    return [f"{again}part{part}_track{track}" for again in ("", "rep_") for part in range(1, 5) for track in (1, 2)]


def _speech(seconds: float, seed: int) -> Any:
    """Noise that swells and falls as often as syllables come, [T]."""
    import numpy as np

    rng = np.random.default_rng(seed)
    envelope = np.repeat(rng.random(int(seconds * 5) + 1, np.float32), SOUND // 5)[: int(seconds * SOUND)]
    return 0.05 * envelope * rng.standard_normal(len(envelope), np.float32)


def _write_subject(path: Path, subject: int, args: argparse.Namespace) -> None:
    import numpy as np
    from scipy import io

    trials = np.empty((1, args.trials), object)
    for number in range(1, args.trials + 1):
        trials[0, number - 1] = _trial(subject, number, args.seconds)
    partial = path.with_suffix(".tmp")
    with partial.open("wb") as file:
        io.savemat(file, {"trials": trials}, do_compression=False)
    partial.replace(path)


def _trial(subject: int, number: int, seconds: float) -> dict[str, Any]:
    """Parts in turn, both tracks attended in turn, the later trials of repeated files."""
    import numpy as np

    rng = np.random.default_rng((subject, number))
    part, track, left = (number - 1) % 4 + 1, (number - 1) // 4 % 2 + 1, (number + subject) % 2 == 0
    again = "rep_" if number > 8 else ""
    ears = (track, 3 - track) if left else (3 - track, track)
    stimuli = np.empty((2, 1), object)
    stimuli[:, 0] = [f"{again}part{part}_track{each}_dry.wav" for each in ears]
    return {
        "RawData": {
            "Channels": np.arange(1.0, CHANNELS + 1)[None],
            "EegData": 20 * rng.standard_normal((int(seconds * RATE), CHANNELS), np.float32),
        },
        "FileHeader": {"SampleRate": float(RATE)},
        "TrialID": float(number),
        "attended_ear": "L" if left else "R",
        "stimuli": stimuli,
        "condition": "dry",
        "experiment": 1.0 + (number > 4) + (number > 8),
        "part": float(part),
        "attended_track": float(track),
        "repetition": np.bool_(number > 8),
        "subject": f"S{subject}",
    }


def prepare(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Seconds and memory of the preparation, from the raw files to the closed store."""
    import warnings

    from eeg2speech.data.studies.ku_leuven import ku_leuven

    study = ku_leuven()
    study.raw, study.jobs = folder / "raw", args.jobs
    shutil.rmtree(folder / "store", ignore_errors=True)
    begin = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        store = study.prepare(folder / "store")
    seconds = time.perf_counter() - begin
    own, child = (_peak(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {
        "prepare_seconds": round(seconds, 1),
        "prepare_jobs": args.jobs,
        "peak_megabytes_parent": own,
        "peak_megabytes_largest_worker": child,
        "peak_megabytes_at_most": own + args.jobs * child,
        "trials": len(store.trials),
        "hours_of_eeg": round(sum(trial.duration for trial in store.trials.values()) / 3600, 2),
        "store_megabytes": sum(path.stat().st_size for path in store.root.rglob("*.*")) // 1_000_000,
    }


def _peak(who: int) -> int:
    """Peak resident memory in megabytes; of children, that of the largest."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(who).ru_maxrss * unit // 1_000_000


def feed(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Segments a second of the loader that trainings use, once its workers have started."""
    from eeg2speech.data.mixing import Mixer
    from eeg2speech.data.store import Store
    from eeg2speech.splits import make_split
    from eeg2speech.training.examples import Examples

    store = Store(folder / "store")
    spans = tuple(make_split(store.index, "trial", 0).parts["train"])
    examples = Examples(store, spans, Mixer(store))
    rates = {}
    for workers in sorted({0, args.jobs}):
        loader = iter(examples.loader(examples.random(SEGMENT_S, args.segments, 0, 0), BATCH, workers))
        next(loader)
        begin = time.perf_counter()
        count = sum(len(batch) for batch in loader)
        rates[f"segments_per_second_{workers}_workers"] = round(count / (time.perf_counter() - begin))
    return rates


STAGES: dict[str, Callable[[Path, argparse.Namespace], dict[str, Any]]] = {
    "generate": generate,
    "prepare": prepare,
    "feed": feed,
}


def main() -> None:
    """Each stage in a process of its own, for peaks of memory to be its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--subjects", type=int, default=16)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=360.0, help="of a trial")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--segments", type=int, default=4096)
    parser.add_argument("--stage", choices=STAGES, help="only this one, in this process")
    args = parser.parse_args()
    if args.stage:
        print(json.dumps(STAGES[args.stage](args.folder, args)))
        return
    figures: dict[str, Any] = {"subjects": args.subjects, "trials_each": args.trials, "seconds_each": args.seconds}
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for stage in STAGES:
        command = [sys.executable, __file__, *sys.argv[1:], "--stage", stage]
        told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
        figures |= json.loads(told.splitlines()[-1])
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
