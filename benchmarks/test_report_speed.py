"""How long do the leaderboard of 10,000 records and intervals of 10,000 resamples take?

    pytest benchmarks/test_report_speed.py --benchmark-enable

The leaderboard is made by the command, a process that has imported nothing and one more for each other core, from the
committed records as so many seeds of their trainings: real scores, the committed groups, systems and controls. It is
held against only reading the records as one would in a notebook: JSON into the model, hash, a frame of all scores. An
interval is held against the same bootstrap written as a loop over its resamples, with which it has to agree. Times are
of the processor, where others use it too the clock says how many they are; both are told.
``REPORT_RECORDS`` makes it smaller.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture

from eeg2speech.profiling.clock import processor_clock
from eeg2speech.records import Record, clustered_interval
from eeg2speech.records.intervals import CHUNK, RESAMPLES, paired_difference

RESULTS = Path(__file__).parent.parent / "results"
RECORDS, SAMPLE = int(os.environ.get("REPORT_RECORDS", "10000")), 200
AT_LEAST_RATIO, AT_LEAST_INTERVAL_RATIO = 1.0, 10.0
COMMAND = (sys.executable, "-c", "from eeg2speech.cli import app; app()", "leaderboard")
"""The installed command."""
SUBJECTS, PAIRS = 16, 10
Floats = NDArray[np.float64]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``RECORDS`` records in a folder."""
    root = tmp_path_factory.mktemp("many") / "records"
    made, seed = 0, 0
    while made < RECORDS:
        for path in sorted(RESULTS.glob("demo*/*/*/*/*.json"))[: RECORDS - made]:
            _as_seed(path, root, seed)
            made += 1
        seed += 1
    return root


def test_the_leaderboard_of_many_records(benchmark: BenchmarkFixture, many: Path) -> None:
    """Seconds of the processor and of the clock, cold; beside it the loop, from some of the records."""
    out = many.parent / "leaderboard.md"
    paths = sorted(many.glob("*/*/*/*/*.json"))
    some = paths[:: max(1, len(paths) // SAMPLE)]
    read_plainly(some[0])  # imports
    sample = [processor_clock(lambda: [read_plainly(path) for path in some])]
    asked = ["--results", str(many), "--out", str(out), "--figures", str(many.parent / "figures")]
    before, start = os.times(), time.perf_counter()
    subprocess.run([*COMMAND, *asked], check=True, env=os.environ | {"MPLBACKEND": "Agg"})
    wall, after, load = time.perf_counter() - start, os.times(), os.getloadavg()[0]
    used = after.children_user - before.children_user + after.children_system - before.children_system
    assert f"{RECORDS} records, by eeg2speech" in out.read_text(encoding="utf-8")
    sample.append(processor_clock(lambda: [read_plainly(path) for path in some]))
    reading = sum(sample) / 2 * len(paths) / len(some)
    benchmark.group = "Leaderboard"
    benchmark.extra_info.update(
        records=RECORDS,
        seconds=round(wall, 2),
        processor_seconds=round(used, 2),
        reading_seconds=round(reading, 2),
        reading_to_leaderboard_ratio=round(reading / used, 2),
        load=round(load, 1),
    )
    result = f"{wall:.1f} s, {used:.1f} s of the processor, {reading:.1f} s to read them in a loop, load {load:.1f}"
    print(result)
    benchmark.pedantic(lambda: [read_plainly(path) for path in some], rounds=1)
    assert reading / used >= AT_LEAST_RATIO, result


def test_an_interval(benchmark: BenchmarkFixture) -> None:
    """Microseconds an interval, and how many times as long a loop over its resamples takes."""
    frames = [_frame(seed) for seed in range(4)]
    difference = (frames[0]["score"] - frames[1]["score"]).to_numpy()

    def ours() -> None:
        for frame in frames[1:]:
            paired_difference(frames[0], frame, "score")

    def loop() -> Floats:
        return resampled_plainly(difference, frames[0]["subject"], frames[0]["pair"], RESAMPLES)

    means, found = loop(), paired_difference(frames[0], frames[1], "score")
    rounds = [(processor_clock(ours) / (len(frames) - 1), processor_clock(loop)) for _ in range(3)]
    mine, theirs = (min(each) for each in zip(*rounds, strict=True))
    _require_agreement(means, difference, frames[0])
    assert found.mean == pytest.approx(means.mean(), abs=0.05)
    ratio, load = theirs / mine, os.getloadavg()[0]
    benchmark.group = "Intervals"
    benchmark.extra_info.update(
        milliseconds=round(1e3 * mine, 2), loop_over_ours_ratio=round(ratio, 1), load=round(load, 1)
    )
    result = f"{1e3 * mine:.2f} ms an interval, {ratio:.0f} times as long in a loop, load {load:.1f}"
    print(result)
    benchmark.pedantic(ours, rounds=1)
    assert ratio >= AT_LEAST_INTERVAL_RATIO, result


def read_plainly(path: Path) -> tuple[Record, pd.DataFrame]:
    """A record and its scores, checked."""
    record = Record.model_validate(json.loads(path.read_text(encoding="utf-8")))
    content = path.with_name(record.scores_file).read_bytes()
    assert hashlib.sha256(content).hexdigest() == record.scores_hash
    return record, pd.read_parquet(io.BytesIO(content))


def resampled_plainly(values: Floats, subject: Sequence[Any], pair: Sequence[Any], resamples: int) -> Floats:
    """Means [resamples] under the draws that seed 0 means, one resample after the other."""
    names = [np.unique(np.asarray(each, dtype=str), return_inverse=True) for each in (subject, pair)]
    rng, means = np.random.default_rng(0), []
    for start in range(0, resamples, CHUNK):
        size = min(CHUNK, resamples - start)
        drawn = [rng.multinomial(len(n), np.full(len(n), 1 / len(n)), size=size) for n, _ in names]
        for rows, columns in zip(*drawn, strict=True):
            weights = rows[names[0][1]] * columns[names[1][1]]
            means.append(np.average(values, weights=weights))
    return np.array(means)


def _require_agreement(means: Floats, values: Floats, frame: pd.DataFrame) -> None:
    """The shape of an interval is that of the percentiles of the loop: both ends lie as far from the mean, in ratio."""
    found = clustered_interval(values, frame["subject"], frame["pair"])
    assert found.mean is not None and found.low is not None and found.high is not None
    low, high = np.quantile(means, [0.025, 0.975])
    assert (found.high - found.mean) / (found.mean - found.low) == pytest.approx(
        (high - found.mean) / (found.mean - low), rel=1e-9
    )


def _frame(seed: int) -> pd.DataFrame:
    """Scores of as many segments as the embedded study tests, one a subject and pair."""
    subject, pair = (index.ravel() for index in np.indices((SUBJECTS, PAIRS)))
    rng = np.random.default_rng(seed)
    score = rng.normal(0, 1, SUBJECTS)[subject] + rng.normal(0, 1, PAIRS)[pair] + rng.normal(0, 1, len(subject))
    texts = {"subject": subject, "pair": pair, "trial": pair, "attended": pair, "unattended": pair}
    named = {name: [f"{name}{index:02}" for index in places] for name, places in texts.items()}
    return pd.DataFrame({"segment": np.arange(len(subject)), "start": 0.0, "duration": 4.0, "score": score} | named)


def _as_seed(path: Path, root: Path, seed: int) -> None:
    """Copy a record, and its scores, as if of another seed of its training."""
    content = json.loads(path.read_text(encoding="utf-8"))
    content["seed"] += 1000 * seed
    system = path.parent.name.rpartition("-s")[0]
    folder = root / path.parent.parent.relative_to(RESULTS) / f"{system}-s{content['seed']}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / path.name).write_text(json.dumps(content, indent=2), encoding="utf-8")
    scores = path.with_name(content["scores_file"]).read_bytes()
    (folder / content["scores_file"]).write_bytes(scores)
