"""Runs of the Cocktail Party data by number, and which of them published code trains and tests on.

Metadata alone: recordings are named after their files, ``SubjectN_RunM``.
"""

from __future__ import annotations

import random
import re

from eeg2speech.errors import BadInput

RUNS = 30
TEST_RUNS, VALID_RUNS = 5, 2
SPLIT_SEED = 14
_RUN = re.compile(r"Run(\d+)$")


def published_runs() -> dict[str, tuple[int, ...]]:
    """Runs of each part in the published code: 1 to 30 in an order of Python's generator from seed 14, then cut."""
    runs = list(range(1, RUNS + 1))
    random.Random(SPLIT_SEED).shuffle(runs)
    last = TEST_RUNS + VALID_RUNS
    return {"train": tuple(runs[last:]), "valid": tuple(runs[TEST_RUNS:last]), "test": tuple(runs[:TEST_RUNS])}


def part_of(run: int) -> str:
    """The part that a run is in. Raises BadInput for a number that is none of a run."""
    for part, numbers in published_runs().items():
        if run in numbers:
            return part
    raise BadInput("Cocktail Party", "run", f"1 to {RUNS}", run)


def run_of(recording: str) -> int:
    """Number of the run in a recording's name. Raises BadInput for a name that has none."""
    found = _RUN.search(recording)
    if found is None or not 1 <= int(found[1]) <= RUNS:
        expected = f"one named after its file, SubjectN_RunM with M from 1 to {RUNS}"
        raise BadInput("split 'published'", "recording", expected, repr(recording))
    return int(found[1])


def recording_name(subject: int, run: int) -> str:
    """Name of a run's file without its suffix."""
    return f"Subject{subject}_Run{run}"
