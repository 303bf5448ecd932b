"""SparrKULee as its authors prepare it: EEG at 64 Hz with envelopes (sparrkulee-envelopes) or mels (sparrkulee-mels).

::

    derivatives/preprocessed_eeg/sub-027/ses-varyingStories01/
        sub-027_ses-varyingStories01_task-listeningActive_run-08_desc-preproc-audio-audiobook_7_5_eeg.npy    [64, T]
    derivatives/preprocessed_stimuli/audiobook_7_5_-_envelope.npy    [T, 1]; or audiobook_7_5_envelope.npy
    derivatives/preprocessed_stimuli/audiobook_7_5_-_mel.npy         [T, 28] or [T, 10]; or audiobook_7_5_mel.npy
    derivatives/split_data/train_-_sub-027_-_audiobook_7_5_-_eeg.npy                                         [T, 64]
        ..._-_envelope.npy [T, 1]    ..._-_mel.npy [T, 28] or [T, 10]    and the same with val and test

The data set's folder, its ``derivatives``, or the folder that holds one of them may be named. The setting ``files``
says which kind of them is read, and has to be chosen where both are there: ``preprocessed`` has whole recordings, a
trial each; ``split`` has the authors' parts, three trials of each recording.

Traps:

- EEG is [64, T] in ``preprocessed_eeg`` and [T, 64] in ``split_data``; arrays may be stored by columns.
- Names have ``_-_`` or ``_`` before the feature: two scripts of the authors disagree. Both are read.
- Mels have 28 bands in one of the authors' releases and 10, of other frequencies, in the other. A store has one kind.
- EEG and features differ in length by some samples: a trial is as long as both.
- The script that splits is called ``split_and_normalize`` and saves what is not normalised: EEG in microvolt. Parts
  that are normalised all the same are refused: of what is a mean of 0 and a deviation of 1 nobody knows the unit.

The EEG is filtered and referenced to the average, so nothing of it is done again unless told. Not read: ``.data_dict``
(pickles), and the test set of the challenge, whose stimuli are cut into windows of five seconds.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from eeg2speech.data.preparation.blocks import ArrayBlocks
from eeg2speech.data.preparation.montages import montage
from eeg2speech.data.preparation.source import Item, Source, Speech, Take
from eeg2speech.data.preparation.steps import Reference, Steps
from eeg2speech.data.preparation.study import RawStudy
from eeg2speech.data.studies import sparrkulee
from eeg2speech.data.studies.sparrkulee_runs import natural
from eeg2speech.data.types import StudyFacts
from eeg2speech.errors import BadInput

RATE, SENSORS = 64, 64
BANDS = {"envelope": (1,), "mel": (28, 10)}
PARTS = {"train": "train", "val": "valid", "test": "test"}
"""Parts as files are named, and as the store calls them."""
WHOLE, SPLIT, STIMULI = "preprocessed_eeg", "split_data", "preprocessed_stimuli"
BLOCK = 1 << 14
ENVELOPES = StudyFacts(
    name="sparrkulee-envelopes",
    title="SparrKULee, EEG and envelopes as its authors prepare them",
    licence=sparrkulee.FACTS.licence,
    citation=sparrkulee.FACTS.citation,
    doi=sparrkulee.FACTS.doi,
    how_to_get=(
        "download the folder derivatives from https://doi.org/10.48804/K3VSND, or make it with the authors' script, "
        "then `eeg2speech prepare sparrkulee-envelopes --root FOLDER`"
    ),
    note="real EEG, envelopes of real speech; one Dutch talker at a time, in some recordings in noise",
    audio_rate=RATE,
    eeg_rate=RATE,
    known_problems=(
        "split_and_normalize saves what is not normalised: EEG in microvolt, features as they are",
        "train, valid and test of the study's own split are of the same recordings, talkers and stories",
        "talkers are not named: an audiobook or podcast counts as one",
        "which recordings were in noise is not in these files",
    ),
    stimuli="envelope",
    splits=("first 80 % of each recording train, next 10 % valid, last 10 % test: --set files=split keeps it",),
)
MELS = replace(
    ENVELOPES,
    name="sparrkulee-mels",
    title="SparrKULee, EEG and mels as its authors prepare them",
    how_to_get=ENVELOPES.how_to_get.replace("sparrkulee-envelopes", "sparrkulee-mels"),
    note=ENVELOPES.note.replace("envelopes", "mels"),
    known_problems=(*ENVELOPES.known_problems, "mels have 28 bands or 10, of other frequencies, by the release"),
    stimuli="mel",
)


@dataclass(frozen=True)
class SparrkuleeFeatureSteps(Steps):
    """Settings of both studies.

    Args:
        eeg_rate: that of the files. audio_rate: of the features.
        high_pass: none: the authors have high-passed at 0.5 Hz.
        reference: none: the authors have referenced to the average.
        files: ``preprocessed``, whole recordings, or ``split``, the authors' parts. To be chosen where both are there.
    """

    eeg_rate: int = RATE
    audio_rate: int = RATE
    high_pass: float = 0.0
    reference: Reference = "none"
    files: Literal["", "preprocessed", "split"] = ""


def sparrkulee_envelopes() -> RawStudy[SparrkuleeFeatureSteps]:
    """The study with envelopes."""
    return RawStudy(ENVELOPES, SparrkuleeFeatureSteps, partial(source, "envelope"))


def sparrkulee_mels() -> RawStudy[SparrkuleeFeatureSteps]:
    """The study with mels."""
    return RawStudy(MELS, SparrkuleeFeatureSteps, partial(source, "mel"))


def source(feature: str, root: Path, steps: SparrkuleeFeatureSteps) -> Source:
    """A recording for each pair of EEG and stimulus whose ``feature`` is there.

    Raises:
        BadInput: no derivatives; both kinds of them and no choice; no pair; mels of different numbers of bands; a file
            that is there twice under both ways to name it.
    """
    home, kind = _home(root, steps.files)
    pairs = _Pairs(feature, home)
    items = tuple(_split(pairs) if kind == SPLIT else _whole(pairs))
    if not items:
        expected = f"EEG with the {feature} of its stimulus"
        raise BadInput(home, "recordings", expected, "; ".join(pairs.missing()) or f"no .npy file in {kind}")
    _require_same_bands(pairs.used)
    people = {item.subject for item in items}
    gone = [f"files of {len(people)} of {sparrkulee.SUBJECTS} subjects"] if len(people) < sparrkulee.SUBJECTS else []
    return Source(montage("biosemi64"), items, missing=(*gone, *pairs.missing()))


def array(path: Path) -> NDArray[np.generic]:
    """Numbers [., .] in a ``.npy`` file, mapped, whole and no more than its header says. Raises BadInput."""
    if not path.is_file():
        raise BadInput(path, "file", "a .npy file", "no such file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # of damaged headers numpy raises nearly anything
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise BadInput(path, "content", "an array in a .npy file", reason) from error
    if not isinstance(found, np.memmap) or found.dtype.kind != "f" or found.dtype.itemsize not in (4, 8):
        raise BadInput(path, "content", "floating-point numbers", getattr(found, "dtype", "several arrays"))
    if found.offset + found.nbytes != path.stat().st_size:
        raise BadInput(path, "length", f"{found.offset + found.nbytes} bytes, as its header says", path.stat().st_size)
    return found


def features(path: Path, feature: str) -> ArrayBlocks:
    """Features [F, N] of a file [N, F]; an envelope may be [N]. Raises BadInput for another number of bands."""
    found = array(path)
    if found.ndim == 1 and feature == "envelope":
        found = found[:, None]
    if found.ndim != 2 or found.shape[1] not in BANDS[feature] or not len(found):
        known = " or ".join(f"[T, {bands}]" for bands in BANDS[feature])
        raise BadInput(path, "shape", known, list(found.shape))
    return ArrayBlocks(found.T, RATE, path)


def eeg(path: Path, times_first: bool) -> ArrayBlocks:
    """EEG [64, N] of a file [64, N], or, times first, [N, 64]. Raises BadInput for another number of channels."""
    found = array(path)
    expected = f"[T, {SENSORS}]" if times_first else f"[{SENSORS}, T]"
    if found.ndim != 2 or found.shape[1 if times_first else 0] != SENSORS or 0 in found.shape:
        raise BadInput(path, "shape", expected, list(found.shape))
    return ArrayBlocks(found.T if times_first else found, RATE, path)


@dataclass(frozen=True)
class _Pairs:
    """Finds features, and notes which are used, and for what none is there."""

    feature: str
    home: Path
    used: list[Path] = field(default_factory=list)
    lacking: dict[str, list[str]] = field(default_factory=dict)

    def speech(self, folder: str, stem: str, stimulus: str, names: Sequence[str], title: str) -> Speech | None:
        """Of one of the files ``names``; None, and noted, if none is there."""
        found = [path for name in names if (path := self.home / folder / name).is_file()]
        if len(found) > 1:
            raise BadInput(found[0], "files", "one of the two ways to name it", f"{found[1].name} as well")
        if not found:
            self.lacking.setdefault(f"no {' or '.join(names)} in {folder}", []).append(stem)
            return None
        self.used.append(found[0])
        about = (sparrkulee.story(stimulus), "nl", title, sparrkulee.story(stimulus))
        return Speech(found[0].stem, partial(features, found[0], self.feature), (found[0],), *about)

    def missing(self) -> list[str]:
        """In words."""
        return [f"{reason}: {', '.join(names)}" for reason, names in self.lacking.items()]


def _home(root: Path, files: str) -> tuple[Path, str]:
    """The folder of the derivatives, and which kind of them is read."""
    near = [root, *sorted(path for path in root.iterdir() if path.is_dir())] if root.is_dir() else []
    places = [place for folder in near for place in (folder, folder / "derivatives")]
    homes = [place for place in places if (place / WHOLE).is_dir() or (place / SPLIT).is_dir()]
    if not homes:
        raise BadInput(root, "files", f"the folder derivatives with {WHOLE} or {SPLIT} in it", "none")
    home = homes[0]
    kinds = [kind for kind in (WHOLE, SPLIT) if any((home / kind).rglob("*.npy"))]
    wanted = {"preprocessed": WHOLE, "split": SPLIT}.get(files)
    if wanted is None and len(kinds) > 1:
        expected = "--set files=preprocessed (whole recordings) or --set files=split (the authors' parts)"
        raise BadInput("settings of sparrkulee's features", "files", expected, f"both, in {home}")
    if not kinds or (wanted is not None and wanted not in kinds):
        raise BadInput(home, "files", f".npy files in {wanted or WHOLE}", "none")
    return home, wanted or kinds[0]


def _whole(pairs: _Pairs) -> Iterator[Item]:
    """A recording for each file of EEG."""
    pattern = r"(sub-[A-Za-z0-9]+)(?:_[a-z]+-[A-Za-z0-9]+)*?_desc-preproc-audio-([A-Za-z0-9_.+-]+)_eeg\.npy"
    for path in sorted((pairs.home / WHOLE).rglob("*_eeg.npy"), key=lambda path: natural(path.name)):
        name = re.fullmatch(pattern, path.name)
        if name is None:
            pairs.lacking.setdefault("names that are not understood", []).append(path.name)
            continue
        subject, stimulus = name.groups()
        stem = path.name.removesuffix("_eeg.npy").replace("_desc-preproc-audio-", "_")
        names = [f"{stimulus}_-_{pairs.feature}.npy", f"{stimulus}_{pairs.feature}.npy"]
        if speech := pairs.speech(STIMULI, stem, stimulus, names, stimulus):
            yield Item(stem, subject, (path,), partial(_whole_takes, path, stem, speech))


def _split(pairs: _Pairs) -> Iterator[Item]:
    """A recording for each subject and stimulus, of three parts."""
    found: dict[tuple[str, str], dict[str, Path]] = {}
    for path in sorted((pairs.home / SPLIT).glob("*_-_eeg.npy"), key=lambda path: natural(path.name)):
        name = re.fullmatch(r"(train|val|test)_-_([A-Za-z0-9.+-]+)_-_([A-Za-z0-9_.+-]+)_-_eeg\.npy", path.name)
        if name is None:
            pairs.lacking.setdefault("names that are not understood", []).append(path.name)
            continue
        found.setdefault((name[2], name[3]), {})[name[1]] = path
    for (subject, stimulus), paths in sorted(found.items(), key=lambda pair: natural("_".join(pair[0]))):
        stem = f"{subject}_{stimulus}"
        parts = [*_parts(pairs, paths, stem, stimulus)]
        if gone := [part for part in PARTS if part not in paths]:
            pairs.lacking.setdefault(f"no part {', '.join(gone)}", []).append(stem)
        if parts:
            yield Item(stem, subject, tuple(path for _, path, _ in parts), partial(_split_takes, stem, parts))


def _parts(pairs: _Pairs, paths: dict[str, Path], stem: str, stimulus: str) -> Iterator[tuple[str, Path, Speech]]:
    """Those whose feature is there, in order of time."""
    for part in (part for part in PARTS if part in paths):
        name = paths[part].name.removesuffix("eeg.npy") + f"{pairs.feature}.npy"
        if speech := pairs.speech(SPLIT, f"{stem}_{part}", stimulus, [name], f"{stimulus}, {part}"):
            yield part, paths[part], speech


def _whole_takes(path: Path, stem: str, speech: Speech) -> Iterator[Take]:
    yield Take(stem, eeg(path, times_first=False), speech)


def _split_takes(stem: str, parts: Iterable[tuple[str, Path, Speech]]) -> Iterator[Take]:
    for part, path, speech in parts:
        signal = eeg(path, times_first=True)
        if part == "train":
            _require_microvolt(path, signal)
        yield Take(f"{stem}_{part}", signal, speech, part=PARTS[part])


def _require_microvolt(path: Path, signal: ArrayBlocks) -> None:
    """Refuse what is normalised: of 64 channels of EEG none, or hardly one, has by chance a deviation of 1."""
    count, total, squares = signal.samples, np.zeros(SENSORS), np.zeros(SENSORS)
    for begin in range(0, count, BLOCK):
        block = signal.read(begin, min(begin + BLOCK, count)).astype(np.float64)
        total += block.sum(axis=1)
        squares += (block**2).sum(axis=1)
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
    if np.all(np.abs(mean) < 1e-3) and np.all(np.abs(deviation - 1) < 1e-2):
        raise BadInput(path, "EEG", "microvolt, as the authors' script saves it", "mean 0 and deviation 1: normalised")


def _require_same_bands(used: Iterable[Path]) -> None:
    """Refuse 10 and 28 bands side by side. Envelopes have one."""
    first: tuple[Path, int] | None = None
    for path in dict.fromkeys(used):
        shape = array(path).shape
        bands = shape[1] if len(shape) > 1 else 1
        if first is None:
            first = path, bands
        elif bands != first[1]:
            raise BadInput(path, "bands", f"{first[1]}, as {first[0].name}", bands)
