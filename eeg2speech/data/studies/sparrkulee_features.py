"""SparrKULee (Accou et al. 2024, doi 10.48804/K3VSND), the derivatives that its authors prepared: EEG with features.

::

    derivatives/preprocessed_eeg/sub-XXX/ses-YYY/<run>_desc-preproc-audio-<stimulus>_eeg.npy      [64, T], 64 Hz
    derivatives/preprocessed_stimuli/<stimulus>_-_envelope.npy, or <stimulus>_envelope.npy         [T, 1], 64 Hz
    derivatives/preprocessed_stimuli/<stimulus>_-_mel.npy, or <stimulus>_mel.npy                   [T, 28] or [T, 10]

or, split by the authors' scripts, time first::

    derivatives/split_data/{train,val,test}_-_sub-XXX_-_<stimulus>_-_{eeg,envelope,mel}.npy

The study's folder, ``derivatives`` or one of the folders in it may be named; where both kinds are there,
``preprocessed`` data is read unless ``data=split`` is told. One study has the envelopes, ``sparrkulee-envelopes``,
another the mel spectrograms, ``sparrkulee-mels``, of 28 bands, or of 10 as in the 2024 challenge; copies that mix both
are refused.

Traps:

- EEG and features differ in length by some seconds: both begin together, and a trial is as long as both.
- Arrays may be in Fortran's order. EEG is channels first where it is not split, time first where it is.
- The authors' script computes a normalisation for split data and does not save it: split data is as it was.
- Split data has 80, 10 and 10 % of each recording as train, val and test: the same speech, later in time, and the
  speech of a test part was heard by others in training. The parts are ``given``.

What is not certain: that the EEG is in microvolt (``unit``), and that a stimulus's name up to its last number names
the book or podcast (``audiobook_7`` of ``audiobook_7_5``), which stands for speaker and story. Session and run are in a
trial's name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from eeg2speech.data.preparation.blocks import ArrayBlocks, Blocks
from eeg2speech.data.preparation.montages import montage
from eeg2speech.data.preparation.source import Item, Source, Speech, Take
from eeg2speech.data.preparation.steps import Reference, Steps
from eeg2speech.data.preparation.study import RawStudy
from eeg2speech.data.types import StudyFacts
from eeg2speech.errors import BadInput

RATE, SENSORS = 64, 64
BANDS = {"envelope": (1,), "mel": (10, 28)}
PARTS = {"train": "train", "val": "valid", "test": "test"}
WHOLE = re.compile(r"(sub-[A-Za-z0-9]+_.*)_desc-preproc-audio-(.+)_eeg\.npy")
SPLIT = re.compile(r"(train|val|test)_-_(sub-[A-Za-z0-9]+)_-_(.+)_-_eeg\.npy")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
Feature = Literal["envelope", "mel"]
FACTS = StudyFacts(
    name="sparrkulee-envelopes",
    title="SparrKULee: 85 people listen to audiobooks and podcasts; envelopes of its authors",
    licence="CC BY-NC 4.0; some files by e-mail only",
    citation="Accou, Bollens, Gillis, Verheijen, Van hamme, Francart 2024, Data 9(8):94",
    doi="10.48804/K3VSND",
    how_to_get="download `derivatives` from KU Leuven's RDR, or make it with the authors' scripts, then "
    "`eeg2speech prepare sparrkulee-envelopes --root FOLDER`",
    note="real EEG, envelopes of real speech; one Dutch talker at a time",
    audio_rate=RATE,
    eeg_rate=RATE,
    known_problems=(
        "split data shares speech between its parts, and is not normalised although its script computes how",
        "EEG and features differ in length: what is beyond the shorter is left out",
    ),
    stimuli="envelope",
    splits=(
        "`given`, of split data: first 80 % of each recording train, 10 % val, 10 % test",
        "subjects and stimuli held out, in the auditory EEG challenges of 2023 and 2024; windows of 5 s, 4 mismatches",
    ),
)
MELS = replace(
    FACTS,
    name="sparrkulee-mels",
    title="SparrKULee: 85 people listen to audiobooks and podcasts; mel spectrograms of its authors",
    how_to_get=FACTS.how_to_get.replace("envelopes", "mels"),
    note="real EEG, mel spectrograms of real speech; one Dutch talker at a time",
    stimuli="mel",
)


@dataclass(frozen=True)
class SparrkuleeSteps(Steps):
    """Settings of this study.

    Args:
        eeg_rate: that of the files. audio_rate: of the features.
        high_pass: none: the authors have filtered.
        reference: none: the authors have referenced to the average.
        data: ``preprocessed`` or ``split``; what is there unless told, the first if both are.
        unit: microvolt of one unit of the files.
    """

    eeg_rate: int = RATE
    audio_rate: int = RATE
    high_pass: float = 0.0
    reference: Reference = "none"
    data: Literal["", "preprocessed", "split"] = ""
    unit: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.unit < float("inf"):
            raise BadInput("settings", "unit", "microvolt of one unit, more than 0", self.unit)


def sparrkulee_envelopes() -> RawStudy[SparrkuleeSteps]:
    """The study of envelopes."""
    return RawStudy(FACTS, SparrkuleeSteps, partial(source, feature="envelope"))


def sparrkulee_mels() -> RawStudy[SparrkuleeSteps]:
    """The study of mel spectrograms."""
    return RawStudy(MELS, SparrkuleeSteps, partial(source, feature="mel"))


def source(root: Path, steps: SparrkuleeSteps, feature: Feature) -> Source:
    """A recording for each run that has its feature.

    Raises:
        BadInput: no files, or none of a kind that is asked for; names that cannot be; features of several widths.
    """
    folders = {"preprocessed": _folder(root, "preprocessed_eeg"), "split": _folder(root, "split_data")}
    kind = steps.data or (
        "split" if folders["preprocessed"] is None and folders["split"] is not None else "preprocessed"
    )
    folder = folders[kind]
    if folder is None:
        expected = "derivatives with preprocessed_eeg and preprocessed_stimuli, or with split_data"
        raise BadInput(root, "files", expected, f"no {'preprocessed_eeg' if kind == 'preprocessed' else 'split_data'}")
    runs = list((_whole if kind == "preprocessed" else _split)(folder, feature))
    kept = [run for run in runs if run.feature.is_file()]
    gone = sorted({run.feature.name for run in runs} - {run.feature.name for run in kept})
    if not kept:
        raise BadInput(folder, "files", f"EEG with its {feature}", f"{len(runs)} of EEG, none with its {feature}")
    _require_one_width({run.feature for run in kept}, feature)
    items = [Item(run.id, run.subject, (run.eeg,), partial(_takes, run, steps)) for run in kept]
    missing = [f"no {', '.join(gone)}: {len(runs) - len(kept)} recordings are left out"] if gone else []
    return Source(montage("biosemi64"), tuple(items), missing=tuple(missing))


@dataclass(frozen=True)
class _Run:
    """A recording: its file, the file of its feature, whether time comes first in the EEG."""

    id: str
    subject: str
    stimulus: str
    eeg: Path
    feature: Path
    kind: Feature
    time_first: bool
    part: str = ""


def _folder(root: Path, name: str) -> Path | None:
    """A folder of the derivatives, which may itself be named."""
    places = [root, root.parent, root / "derivatives"] if root.name == name else [root, root / "derivatives"]
    return next((place / name for place in places if (place / name).is_dir()), None)


def _whole(folder: Path, feature: Feature) -> Iterator[_Run]:
    stimuli = folder.parent / "preprocessed_stimuli"
    for path in sorted(folder.rglob("*_eeg.npy")):
        name = WHOLE.fullmatch(path.name)
        if name is None:
            raise BadInput(path, "name", "sub-XXX_..._desc-preproc-audio-STIMULUS_eeg.npy", path.name)
        stimulus = _plain(path, name[2])
        file = next(
            (f for s in ("_-_", "_") if (f := stimuli / f"{stimulus}{s}{feature}.npy").is_file()),
            stimuli / f"{stimulus}_-_{feature}.npy",
        )
        subject = name[1].partition("_")[0]
        yield _Run(_plain(path, f"{name[1]}_{stimulus}"), subject, stimulus, path, file, feature, False)


def _split(folder: Path, feature: Feature) -> Iterator[_Run]:
    for path in sorted(folder.rglob("*_-_eeg.npy")):
        name = SPLIT.fullmatch(path.name)
        if name is None:
            raise BadInput(path, "name", "train_-_sub-XXX_-_STIMULUS_-_eeg.npy, or val or test", path.name)
        part, subject, stimulus = name[1], name[2], _plain(path, name[3])
        file = path.with_name(path.name.removesuffix("eeg.npy") + f"{feature}.npy")
        about = (subject, f"{part}_{subject}_{stimulus}", path, file, feature, True, PARTS[part])
        yield _Run(f"{PARTS[part]}_{subject}_{stimulus}", *about)


def _plain(path: Path, name: str) -> str:
    if not NAME.fullmatch(name):
        raise BadInput(path, "name", "letters, digits and _ . + -", repr(name))
    return name


def _require_one_width(files: set[Path], feature: Feature) -> None:
    widths: dict[int, Path] = {}
    for path in sorted(files):
        widths.setdefault(_array(path).shape[1], path)
    if len(widths) > 1:
        found = ", ".join(f"{width} in {path.name}" for width, path in sorted(widths.items()))
        raise BadInput(next(iter(files)).parent, f"bands of {feature}", "as many in all files", found)
    for width, path in widths.items():
        if width not in BANDS[feature]:
            raise BadInput(path, "shape", f"[samples, {' or '.join(map(str, BANDS[feature]))}]", f"{width} bands")


def _takes(run: _Run, steps: SparrkuleeSteps) -> Iterator[Take]:
    array = _array(run.eeg)
    turned = array.T if run.time_first else array
    if turned.shape[0] != SENSORS:
        expected = f"[samples, {SENSORS}]" if run.time_first else f"[{SENSORS}, samples]"
        raise BadInput(run.eeg, "shape", expected, list(array.shape))
    # A split part's feature is a piece of its own, the same for all who heard it.
    key = run.feature.name if not run.time_first else f"{run.part} {run.stimulus} {run.feature.name}"
    title = re.sub(r"^(train|val|test)_sub-[A-Za-z0-9]+_", "", run.stimulus)
    book = re.sub(r"_\d+$", "", title)
    speech = Speech(key, partial(_features, run.feature), (run.feature,), book, "nl", title, book)
    yield Take(run.id, ArrayBlocks(turned, RATE, run.eeg, steps.unit), speech, part=run.part)


def _features(path: Path) -> Blocks:
    return ArrayBlocks(_array(path).T, RATE, path)


def _array(path: Path) -> NDArray[Any]:
    """A matrix of finite numbers, mapped into memory. Raises BadInput."""
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy reads the header as Python: damage in it comes out as nearly any error
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise BadInput(path, "content", "an array of numpy", reason) from error
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind != "f" or 0 in array.shape:
        found = f"{getattr(array, 'dtype', type(array).__name__)} {list(getattr(array, 'shape', []))}"
        raise BadInput(path, "content", "a matrix of floating-point numbers", found)
    if not np.isfinite(array).all():
        raise BadInput(path, "content", "finite numbers", "NaN or infinite ones")
    return array
