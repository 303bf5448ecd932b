"""DTU auditory attention (Fuglsang, Wong, Hjortkjaer 2018, Zenodo 10.5281/zenodo.1199011), as its authors prepared it.

::

    S1_data_preproc.mat ... S18_data_preproc.mat       from DATA_preproc.zip; one struct ``data`` each
        data.eeg {1x60} of [T, 66]                     64 Hz, average reference; the last two are the mastoids
        data.wavA, data.wavB {1x60} of [T, 1]          envelopes at 64 Hz
        data.fsample.{eeg,wavA,wavB}  data.event.eeg(i).value {1x1}  data.dim.chan.eeg {1x60} of {1x66}

Traps:

- ``wavA`` is the attended talker in every trial, ``wavB`` the other one. ``event.eeg(i).value`` is the sex of the
  attended talker, 1 male and 2 female, not the side: code that swaps the envelopes by it is wrong. Which ear was
  attended is not in these files.
- EEG and envelopes may differ by some samples: a trial is as long as both.
- Events may be an array of structs, or one struct of vectors.
- Names of channels may be missing: then there have to be 66, of which the last two are left out.

The EEG has been filtered and referenced, so nothing of it is done again unless told. That it is in microvolt is not
certain (``unit``). The same envelope, sample by sample, is one stimulus, whoever heard it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eeg2speech.data.preparation.blocks import ArrayBlocks
from eeg2speech.data.preparation.matlab import elements, field, matlab, number, rows, text
from eeg2speech.data.preparation.montages import montage
from eeg2speech.data.preparation.source import Item, Source, Speech, Take
from eeg2speech.data.preparation.steps import Reference, UnitSteps
from eeg2speech.data.preparation.study import RawStudy
from eeg2speech.data.studies.dtu_expinfo import columns_of, whole_number
from eeg2speech.data.types import StudyFacts
from eeg2speech.errors import BadInput

RATE, SUBJECTS, TRIALS, SENSORS, COLUMNS = 64, 18, 60, 64, 66
TALKERS = {1: "male", 2: "female"}
FACTS = StudyFacts(
    name="dtu-features",
    title="DTU auditory attention (Fuglsang et al. 2018), EEG and envelopes as its authors prepared them",
    licence="CC BY 4.0",
    citation="Fuglsang, Wong, Hjortkjaer 2018, Zenodo; Fuglsang, Dau, Hjortkjaer 2017, NeuroImage 156:435",
    doi="10.5281/zenodo.1199011",
    how_to_get="download DATA_preproc.zip from Zenodo, then `eeg2speech prepare dtu-features --root FOLDER`",
    note="real EEG, envelopes of real speech; two Danish talkers, some in reverberant rooms",
    audio_rate=RATE,
    eeg_rate=RATE,
    known_problems=(
        "which ear was attended is not in these files",
        "a man and a woman tell different stories in each trial: the attended sex is near balanced, the story is not",
    ),
    stimuli="envelope",
    splits=("leave one trial out, within a subject", "leave one subject out"),
)


@dataclass(frozen=True)
class DtuFeatureSteps(UnitSteps):
    """Settings of this study.

    Args:
        eeg_rate: that of the files. audio_rate: of the envelopes.
        high_pass: none: the authors have high-passed at 0.1 Hz.
        reference: none: the authors have referenced to the average.
    """

    eeg_rate: int = RATE
    audio_rate: int = RATE
    high_pass: float = 0.0
    reference: Reference = "none"


def dtu_features() -> RawStudy[DtuFeatureSteps]:
    """The study."""
    return RawStudy(FACTS, DtuFeatureSteps, source)


def source(root: Path, steps: DtuFeatureSteps) -> Source:
    """A recording for each subject, whose file is read when its takes are asked for. Raises BadInput: no files."""
    files = numbered(root, r"S([1-9]\d?)_data_preproc\.mat", "S1_data_preproc.mat to S18_data_preproc.mat")
    items = [Item(f"S{n}", f"S{n}", (path,), partial(_takes, path, n, steps)) for n, path in files.items()]
    return Source(montage("biosemi64"), tuple(items), missing=missing(files, SUBJECTS))


def numbered(root: Path, pattern: str, names: str) -> dict[int, Path]:
    """Files of subjects by number, here or in one folder below. Raises BadInput for none, or two of one number."""
    places = [root, *sorted(path for path in root.iterdir() if path.is_dir())] if root.is_dir() else []
    found: dict[int, Path] = {}
    for path in (path for place in places for path in sorted(place.iterdir()) if path.is_file()):
        name = re.fullmatch(pattern, path.name)
        if name is None:
            continue
        if int(name[1]) in found:
            raise BadInput(root, f"subject {name[1]}", "one file", f"{found[int(name[1])]} and {path}")
        found[int(name[1])] = path
    if not found:
        raise BadInput(root, "files", f"{names}, here or one folder below", "none")
    return dict(sorted(found.items()))


def missing(files: dict[int, Path], count: int) -> tuple[str, ...]:
    """Subjects without a file, in words."""
    gone = sorted({*range(1, count + 1)} - {*files})
    return (f"no file of {', '.join(f'S{number}' for number in gone)}",) if gone else ()


def _takes(path: Path, subject: int, steps: DtuFeatureSteps) -> Iterator[Take]:
    data = matlab(path, ("data",))["data"]
    get = partial(field, path, data)
    for name in ("eeg", "wavA", "wavB"):
        rate = number(path, get(f"fsample.{name}"), f"data.fsample.{name}")
        if rate != RATE:
            raise BadInput(path, f"data.fsample.{name}", f"{RATE} Hz", f"{rate:g} Hz")
    trials = {name: elements(path, get(name), f"data.{name}") for name in ("eeg", "wavA", "wavB")}
    events, count = columns_of(path, get("event.eeg"), ("value",), "data.event.eeg")["value"], len(trials["eeg"])
    for name, found in (*trials.items(), ("event.eeg", events)):
        if len(found) != count or not count:
            raise BadInput(path, f"data.{name}", f"{count or 'at least one'} trials, as data.eeg", len(found))
    kept = _columns(path, data, count)
    for k in range(count):
        where = f"trial {k + 1}"
        sex = _sex(path, events[k], where)
        eeg = _eeg(path, trials["eeg"][k], kept[k], where)
        other = next(talker for talker in TALKERS.values() if talker != sex)
        attended, unattended = (
            _speech(path, trials[name][k], f"{where}: {name}", who) for name, who in (("wavA", sex), ("wavB", other))
        )
        yield Take(f"S{subject}_{k + 1:02d}", ArrayBlocks(eeg, RATE, path, steps.unit), attended, unattended)


def _columns(path: Path, data: Any, count: int) -> list[list[str]]:
    """Names of the columns of each trial; none where the file has none."""
    try:
        cells = elements(path, field(path, data, "dim.chan.eeg"), "data.dim.chan.eeg")
    except BadInput:
        return [[] for _ in range(count)]
    if len(cells) != count:
        raise BadInput(path, "data.dim.chan.eeg", f"names of {count} trials", len(cells))
    label = "data.dim.chan.eeg"
    return [[text(path, each, label) for each in elements(path, cell, label)] for cell in cells]


def _eeg(path: Path, value: Any, names: list[str], where: str) -> NDArray[np.floating]:
    """[64, T] in the order of BioSemi's cap."""
    columns = len(names) or COLUMNS
    matrix = rows(path, value, f"{where}: eeg", columns)
    if not names:
        return matrix[:SENSORS]
    return matrix[order(path, names, where)]


def order(path: Path, names: list[str], where: str) -> list[int]:
    """Columns of the 64 sensors, in the order of BioSemi's cap, by its own names (A1 to B32) or by those of 10-20.

    Raises BadInput: a sensor that is missing or there twice.
    """
    known = montage("biosemi64").names
    amplifier = [f"{side}{n}" for side in "AB" for n in range(1, 33)]
    places = {name.casefold(): k for k, name in enumerate(names)}
    for cap in (known, amplifier):
        if all(name.casefold() in places for name in cap):
            if len(places) != len(names):
                raise BadInput(path, f"{where}: names of channels", "each once", f"{len(names) - len(places)} more")
            return [places[name.casefold()] for name in cap]
    lacking = [name for name in known if name.casefold() not in places]
    expected = "the 64 sensors of BioSemi's cap"
    raise BadInput(path, f"{where}: names of channels", expected, f"none named {', '.join(lacking[:5])}")


def _sex(path: Path, told: str, where: str) -> str:
    value = whole_number(path, told, f"{where}: event.eeg.value")
    if value not in TALKERS:
        raise BadInput(path, f"{where}: event.eeg.value", "1 (male attended) or 2 (female)", value)
    return TALKERS[value]


def _speech(path: Path, value: Any, label: str, speaker: str) -> Speech:
    wave = rows(path, value, label, 1)
    name = hashlib.sha256(np.ascontiguousarray(wave, np.float64).tobytes()).hexdigest()[:16]
    return Speech(name, lambda: ArrayBlocks(wave, RATE, f"{path}: {label}"), (), speaker, "da", f"{speaker} {name}")
