"""The HDF5 form of the Cocktail Party data: what published networks are trained on, made from the raw files.

Fifteen files ``{eegs,noisy,clean,unattended,subjects}_{train,val,test}.h5``, one data set each, named ``<file>=``::

    noisy_, clean_, unattended_   (N, 87552, 1) or (N, 875520, 1)   float32
    eegs_                         (N, 256, 128) or (N, 2560, 128)   float64
    subjects_                     (N,)                              int64, numbers as in the raw files

N counts items of 2 s or of 20 s of EEG. As the published script has it: sound is cut to 87,552 samples an item (so it
drifts away from the EEG, see ``cocktail_party``), brought to a root mean square of 1, the mixture is the sum of both;
each kind is then divided by the largest magnitude in its train file, so that the three kinds of sound have gains of
their own; rows are ordered by subject, run and item, and then permuted by numpy's generator from seed 14, which draws
for train, val and test in turn. Nothing is decimated here: published networks take every third sample as they read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from eeg2speech.data.studies.cocktail_party import ITEM, ITEM_EEG, ITEMS, PUBLISHED
from eeg2speech.data.studies.cocktail_party_files import CHANNELS, STORIES, Attention, RawFiles, attended_story
from eeg2speech.data.studies.cocktail_party_runs import SPLIT_SEED, part_of, published_runs
from eeg2speech.errors import BadInput

KINDS = ("eegs", "noisy", "clean", "unattended", "subjects")
FILES = {"train": "train", "valid": "val", "test": "test"}
"""Parts, by their names here, as files have them."""
Array = NDArray[Any]
Rows = dict[str, Array]
"""By kind, arrays whose first axis counts items."""


@dataclass(frozen=True)
class Plan:
    """Which runs go into which rows: of each part the (subject, run) in order, and the items of a run."""

    raw: RawFiles
    runs: dict[str, list[tuple[int, int]]]
    items: int
    pieces: int
    attention: Attention

    @classmethod
    def of(cls, raw: RawFiles, item_seconds: int, attention: Attention) -> Plan:
        """The rows of these raw files. Raises BadInput for items of another length, or runs shorter than one."""
        if item_seconds not in (2, 20):
            raise BadInput("HDF5", "item_seconds", "2 or 20, as published", item_seconds)
        runs: dict[str, list[tuple[int, int]]] = {part: [] for part in FILES}
        for subject, numbers in raw.runs.items():
            for run in numbers:
                runs[part_of(run)].append((subject, run))
        for part, found in runs.items():
            if not found:
                raise BadInput(raw.root, "runs", f"one of {published_runs()[part]} ({part})", "none")
        pieces = item_seconds // 2
        lengths = {(s, r): _length(raw, s, r) // pieces for found in runs.values() for s, r in found}
        items = max(lengths.values())
        if not items:
            raise BadInput(raw.root, "runs", f"at least {item_seconds} s long", "a shorter one")
        for (subject, run), length in lengths.items():
            # Cut to the shortest, all runs would lose an item, and every row would move.
            if length < items:
                where = f"{raw.root}: subject {subject}, run {run}"
                raise BadInput(where, "length", f"{items} items of {item_seconds} s, as others have", length)
        return cls(raw, runs, items, pieces, attention)

    def rows(self, part: str) -> Iterator[Rows]:
        """Of each run of a part, its items in order, before they are scaled."""
        for subject, run in self.runs[part]:
            yield self._run(subject, run)

    def _run(self, subject: int, run: int) -> Rows:
        attended = attended_story(subject, self.attention)
        used = self.items * self.pieces
        sound = {name: _unit_level(self.raw.story(name, run)[: used * ITEM]) for name in STORIES}
        other = next(name for name in STORIES if name != attended)
        eeg = self.raw.eeg(subject, run)[:, : used * ITEM_EEG].T.astype(np.float64)
        waves = {"noisy": sound[attended] + sound[other], "clean": sound[attended], "unattended": sound[other]}
        return {
            "eegs": eeg.reshape(self.items, -1, CHANNELS),
            **{kind: wave.reshape(self.items, -1, 1) for kind, wave in waves.items()},
            "subjects": np.full(self.items, subject, np.int64),
        }


def write_hdf5(
    raw: RawFiles, folder: Path, item_seconds: int = 2, attention: Attention = PUBLISHED.attention
) -> dict[str, int]:
    """Write the 15 files into ``folder``, run by run; returns the number of rows of each part.

    All runs have as many items: 30 of 2 s or 3 of 20 s where they last a minute, as published ones do.

    Args:
        raw: the raw files; ``RawFiles.find(left_out=PUBLISHED.left_out)`` for those that published code uses.
        item_seconds: 2, as networks are trained on, or 20, as they are tested on.
        attention: who listened to what.

    Raises:
        BadInput: a part without runs, a run with fewer items than others, or a raw file that is missing or wrong.
    """
    plan = Plan.of(raw, item_seconds, attention)
    largest = {kind: max(float(np.abs(rows[kind]).max()) for rows in plan.rows("train")) for kind in KINDS}
    rng = np.random.RandomState(SPLIT_SEED)
    folder.mkdir(parents=True, exist_ok=True)
    return {part: _write(plan, folder, part, largest, rng) for part in FILES}


def read_hdf5(folder: Path, part: str) -> Rows:
    """The rows of ``train``, ``valid`` or ``test``, by kind. Keys without ``=`` are taken too.

    Raises:
        BadInput: a missing file, a file that does not hold one data set, or kinds with unequal numbers of rows.
    """
    if part not in FILES:
        raise BadInput("read_hdf5", "part", ", ".join(FILES), repr(part))
    rows = {kind: _read(folder / f"{kind}_{FILES[part]}.h5") for kind in KINDS}
    counts = {kind: len(array) for kind, array in rows.items()}
    if len(set(counts.values())) != 1:
        raise BadInput(folder, "rows", "as many in all five files", counts)
    return rows


def _write(plan: Plan, folder: Path, part: str, largest: dict[str, float], rng: np.random.RandomState) -> int:
    count = plan.items * len(plan.runs[part])
    # Row k of the file is item order[k]: item i goes to the place where it stands in the order.
    place = np.argsort(rng.permutation(count))
    files: dict[str, Any] = {kind: h5py.File(folder / f"{kind}_{FILES[part]}.h5", "w") for kind in KINDS}
    try:
        for number, rows in enumerate(plan.rows(part)):
            for kind, array in rows.items():
                if number == 0:
                    name, shape = f"{kind}_{FILES[part]}=", (count, *array.shape[1:])
                    files[kind].create_dataset(name, shape, array.dtype)
                data = files[kind][f"{kind}_{FILES[part]}="]
                for row, item in enumerate(array):
                    data[place[number * plan.items + row]] = item if kind == "subjects" else item / largest[kind]
    finally:
        for file in files.values():
            file.close()
    return count


def _read(path: Path) -> Array:
    if not path.is_file():
        raise BadInput(path, "file", "one of the 15 HDF5 files", "no such file")
    try:
        with h5py.File(path, "r") as file:
            names = list(file)
            if len(names) != 1:
                raise BadInput(path, "content", f"one data set, {path.stem}=", ", ".join(names) or "none")
            found: Array = file[names[0]][()]
    except OSError as error:
        raise BadInput(path, "content", "an HDF5 file", error) from error
    return found


def _length(raw: RawFiles, subject: int, run: int) -> int:
    """Whole items of 2 s in a run, at most 30."""
    sound = min(raw.sound_samples(name, run) for name in STORIES)
    return min(sound // ITEM, raw.eeg_samples(subject, run) // ITEM_EEG, ITEMS)


def _unit_level(wave: NDArray[np.float64]) -> NDArray[np.float32]:
    level = float(np.sqrt(np.mean(np.square(wave))))
    return np.asarray(wave / level, np.float32)
