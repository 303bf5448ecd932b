"""DTU auditory attention (Fuglsang, Wong, Hjortkjaer 2018, Zenodo 10.5281/zenodo.1199011), the recordings themselves.

::

    EEG/S1.mat ... S18.mat     from EEG.zip
        data.eeg {1x1} of [N, 73]      512 Hz: 64 sensors, EXG1 to EXG8, Status
        data.fsample.eeg  data.dim.chan.eeg  data.event.eeg.{sample, value}: an onset and an offset for each trial
        expinfo                        a MATLAB table of 70 trials, which MATLAB alone can read
    EEG/S1.csv ... S18.csv     these tables, exported; see ``dtu_expinfo`` for what else is taken
    AUDIO/aske_story4_trial_8.wav, marianne_story3_trial_1.wav ...   from AUDIO.zip; 44.1 kHz, about 50 s

The folder itself or the one that holds it may be named; tables may lie in any folder of it, sounds in ``AUDIO``.

Traps:

- ``attend_mf`` is the sex of the attended talker, the ear is ``attend_lr`` alone. Nothing else tells a side.
- Trials with one talker are left out, and their number is told. Names count the trials that are left, as in
  ``dtu-features``: S1_01 to S1_60.
- Samples of events count from 1. A trial lasts from its onset to its offset, at most as long as both sounds
  (``end``); the onset's value has to be the table's ``trigger`` (``events``). A table of fewer rows than the recording
  has onsets, as that of the trials with two talkers, is laid on them by its triggers, if that can be done in one way.
- Columns are found by their names; without names there have to be 73, in the order above.

Nothing has been done to this EEG, against nothing has it been referenced: ``reference`` is the average of the 64
sensors unless told; ``reference=electrodes`` takes EXG1 and EXG2, the mastoids. The authors take the average of all 66.

What is not certain: that the EEG is in microvolt (``unit``); that a story of one number is the same for both talkers,
as the store says, so that a split by story is never too fine; whether the published sounds are those of the room that
was heard (anechoic, or with mild or high reverberation), or without it.

A subject's file is read whole, about 1.4 GB in memory: one at a time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from eeg2speech.data.preparation.blocks import Array, ArrayBlocks, SoundBlocks
from eeg2speech.data.preparation.matlab import elements, field, matlab, number, rows, text
from eeg2speech.data.preparation.montages import montage
from eeg2speech.data.preparation.source import Item, Source, Speech, Take
from eeg2speech.data.preparation.steps import UnitSteps
from eeg2speech.data.preparation.study import RawStudy
from eeg2speech.data.studies.dtu_expinfo import EXPORT, VOICES, Row, columns_of, found, read, whole_number
from eeg2speech.data.studies.dtu_features import SENSORS, SUBJECTS, TRIALS, missing, numbered, order
from eeg2speech.data.types import StudyFacts
from eeg2speech.errors import BadInput

EEG_RATE, COLUMNS, SHORTEST = 512, 73, 1.0
FILE, MASTOIDS = r"S([1-9]\d?)\.mat", ("EXG1", "EXG2")
FACTS = StudyFacts(
    name="dtu",
    title="DTU auditory attention (Fuglsang et al. 2018)",
    licence="CC BY 4.0",
    citation="Fuglsang, Wong, Hjortkjaer 2018, Zenodo; Fuglsang, Dau, Hjortkjaer 2017, NeuroImage 156:435",
    doi="10.5281/zenodo.1199011",
    how_to_get=(
        "download EEG.zip and AUDIO.zip from Zenodo, unpack them into one folder as EEG and AUDIO; in MATLAB, in the "
        f"folder EEG: `{EXPORT}`; then `eeg2speech prepare dtu --root FOLDER`"
    ),
    note="real EEG, real speech; two Danish talkers, some in reverberant rooms",
    audio_rate=16_000,
    eeg_rate=128,
    known_problems=(
        "the table of the trials has to be exported by MATLAB",
        "some trials were heard with reverberation; whether the published sounds have it is not certain",
        "a man and a woman tell different stories in each trial: the attended sex is near balanced, the story is not",
        "trials with one talker are left out",
    ),
    splits=("leave one trial out, within a subject", "leave one subject out"),
)


@dataclass(frozen=True)
class DtuSteps(UnitSteps):
    """Settings of this study.

    Args:
        events: ``triggers``: the values at the onsets have to be the table's triggers, where it has them; ``order``:
            they are not looked at, and the n-th onset is that of the n-th row.
        end: a trial ends at its ``offset``, or lasts as long as the ``sound``, until the next onset at most.
    """

    events: Literal["triggers", "order"] = "triggers"
    end: Literal["offset", "sound"] = "offset"


def dtu() -> RawStudy[DtuSteps]:
    """The study."""
    return RawStudy(FACTS, DtuSteps, source, at_a_time=1)


def source(root: Path, steps: DtuSteps) -> Source:
    """A recording for each subject, whose file is read when its takes are asked for; tables are read at once.

    Raises:
        BadInput: no recordings, or two of one subject; none or a damaged table for one of them; no folder of sounds.
    """
    home = _home(root)
    files = numbered(home, FILE, "S1.mat to S18.mat")
    tables = {n: (path, read(path)) for n, path in _tables(home, files).items()}
    sounds = _sounds(home)
    items = [_item(n, files[n], *table, sounds, steps) for n, table in tables.items()]
    told = {n: table for n, (_, table) in tables.items()}
    gone = (*missing(files, SUBJECTS), *_too_few(told), *_silent(told, sounds))
    return Source(montage("biosemi64"), tuple(items), MASTOIDS, missing=gone, notes=tuple(_left_out(told)))


def _item(subject: int, path: Path, table: Path, told: Sequence[Row], sounds: _Sounds, steps: DtuSteps) -> Item:
    files = tuple(dict.fromkeys((path, table)))
    return Item(f"S{subject}", f"S{subject}", files, partial(_takes, path, subject, told, sounds, steps))


def _below(folder: Path) -> list[Path]:
    """It and the folders in it."""
    return [folder, *sorted(path for path in folder.iterdir() if path.is_dir())] if folder.is_dir() else []


def _home(root: Path) -> Path:
    """The folder in which, or one below which, the recordings are: the one named, or one in it."""

    def holds(folder: Path) -> bool:
        return any(re.fullmatch(FILE, path.name) for place in _below(folder) for path in place.iterdir())

    homes = [folder for folder in _below(root) if holds(folder)]
    if len(homes) > 1 and root not in homes:
        raise BadInput(root, "files", "S1.mat to S18.mat in one folder", ", ".join(home.name for home in homes))
    return root if root in homes or not homes else homes[0]


def _tables(home: Path, files: Mapping[int, Path]) -> dict[int, Path]:
    """Where the table of each subject is."""
    tables = {n: found(n, path, _named(path.parent, *_below(home))) for n, path in files.items()}
    lacking = [f"S{n}" for n, table in tables.items() if table is None]
    if lacking:
        expected = (
            "S1.csv or S1_expinfo.mat beside S1.mat, for the table that lies in it can be read by MATLAB alone. "
            f"In MATLAB, in the folder of the recordings: {EXPORT}"
        )
        raise BadInput(home, "tables of the trials (expinfo)", expected, f"none of {', '.join(lacking)}")
    return {n: table for n, table in tables.items() if table is not None}


def _named(*folders: Path) -> dict[str, Path]:
    """Tables by their names in lower case; of two with a name that in the earlier folder."""
    places = [path for folder in folders for path in sorted(folder.iterdir()) if path.suffix.casefold() != ".wav"]
    return {path.name.casefold(): path for path in reversed(places) if path.is_file()}


@dataclass(frozen=True)
class _Sounds:
    """The folder of the sounds, and its files by their names in lower case."""

    folder: Path
    files: Mapping[str, Path]

    def speech(self, name: str, sex: str) -> Speech:
        """A sound, opened later; one that is not there is refused then."""
        path = self.files.get(name.casefold(), self.folder / name)
        known = re.match(r"([a-z]+)_(story\d+)(?!\d)", name.casefold())
        story = known[2] if known and known[1] == VOICES[sex] else ""
        title = Path(name).stem
        speaker = VOICES[sex] if story else sex
        return Speech(title.casefold(), partial(SoundBlocks, path), (path,), speaker, "da", title, story)


def _sounds(home: Path) -> _Sounds:
    places = [place for folder in _below(home) for place in _below(folder)]
    filled = {place: files for place in places if (files := _wavs(place))}
    if not filled:
        raise BadInput(home, "sounds", "a folder AUDIO with aske_story4_trial_8.wav and others", "none")
    named = [place for place in filled if place.name.casefold() == "audio"]
    if len(filled) > 1 and len(named) != 1:
        raise BadInput(home, "sounds", "one folder AUDIO", ", ".join(map(str, named or filled)))
    folder = named[0] if named else next(iter(filled))
    return _Sounds(folder, filled[folder])


def _wavs(folder: Path) -> dict[str, Path]:
    kept = (path for path in sorted(folder.iterdir()) if path.suffix.casefold() == ".wav" and path.name[0] != ".")
    return {path.name.casefold(): path for path in kept if path.is_file()}


def _too_few(tables: Mapping[int, Sequence[Row]]) -> Iterator[str]:
    for n, table in tables.items():
        count = sum(row.talkers == 2 for row in table)
        if count < TRIALS:
            yield f"S{n}: {count} of {TRIALS} trials"


def _silent(tables: Mapping[int, Sequence[Row]], sounds: _Sounds) -> Iterator[str]:
    """Sounds that trials name and that are not there."""
    wanted = {name for table in tables.values() for row in table if row.talkers == 2 for name, _ in row.sounds}
    if gone := sorted(name for name in wanted if name.casefold() not in sounds.files):
        yield f"sounds: no {', '.join(gone)}"


def _left_out(tables: Mapping[int, Sequence[Row]]) -> Iterator[str]:
    counts = {n: sum(row.talkers == 1 for row in table) for n, table in tables.items()}
    if any(counts.values()):
        each = ", ".join(f"{count} of S{n}" for n, count in counts.items() if count)
        yield f"trials with one talker are left out: {each}"


def _takes(path: Path, subject: int, table: Sequence[Row], sounds: _Sounds, steps: DtuSteps) -> Iterator[Take]:
    data = matlab(path, ("data",))["data"]
    rate = number(path, field(path, data, "fsample.eeg", "data"), "data.fsample.eeg")
    if rate != EEG_RATE:
        raise BadInput(path, "data.fsample.eeg", f"{EEG_RATE} Hz", f"{rate:g} Hz")
    eeg = _eeg(path, data, steps.unit)
    spans = _spans(path, data, table, eeg.samples, steps)
    kept = [(row, span) for row, span in zip(table, spans, strict=True) if row.talkers == 2]
    for k, (row, (begin, end)) in enumerate(kept, 1):
        attended, unattended = (sounds.speech(*sound) for sound in row.sounds)
        start, seconds = begin / EEG_RATE, (end - begin) / EEG_RATE
        yield Take(f"S{subject}_{k:02d}", eeg, attended, unattended, start, seconds, row.ear)


@dataclass(frozen=True)
class _Chosen:
    """Some rows of a signal, in another order, chosen as they are read: a copy of all would double the memory."""

    whole: ArrayBlocks
    order: tuple[int, ...]

    @property
    def rate(self) -> float:
        """Hz."""
        return self.whole.rate

    @property
    def channels(self) -> int:
        """Rows that are chosen."""
        return len(self.order)

    @property
    def samples(self) -> int:
        """Of the recording."""
        return self.whole.samples

    def read(self, begin: int, end: int) -> Array:
        """[channels, end - begin] in microvolt."""
        chosen: Array = self.whole.read(begin, end)[list(self.order)]
        return chosen


def _eeg(path: Path, data: Any, unit: float) -> _Chosen:
    """The recording: 64 sensors in the order of BioSemi's cap, then the mastoids."""
    names = _names(path, data)
    matrix = rows(path, field(path, data, "eeg", "data"), "data.eeg", len(names) or COLUMNS)
    whole = ArrayBlocks(matrix, EEG_RATE, path, unit)
    if not names:
        return _Chosen(whole, tuple(range(SENSORS + len(MASTOIDS))))
    places = {name.casefold(): k for k, name in enumerate(names)}
    for name in MASTOIDS:
        if name.casefold() not in places:
            raise BadInput(path, "data.dim.chan.eeg", f"{' and '.join(MASTOIDS)}, the mastoids", f"no {name}")
    mastoids = (places[name.casefold()] for name in MASTOIDS)
    return _Chosen(whole, (*order(path, names, "data.dim.chan.eeg"), *mastoids))


def _names(path: Path, data: Any) -> list[str]:
    """Names of the columns; none where the file has none. They are a cell, or a cell in one."""
    label = "data.dim.chan.eeg"
    try:
        value = field(path, data, "dim.chan.eeg", "data")
    except BadInput:
        return []
    while isinstance(value, np.ndarray) and value.dtype.kind == "O" and value.size == 1:
        value = value.reshape(-1)[0]
    if not np.asarray(value).size:
        return []
    return [text(path, each, label) for each in elements(path, value, label)]


def _spans(path: Path, data: Any, table: Sequence[Row], samples: int, steps: DtuSteps) -> list[tuple[int, int]]:
    """First sample of each row's trial, from 0, and the one after its last."""
    label = "data.event.eeg"
    events = columns_of(path, field(path, data, "event.eeg", "data"), ("sample", "value"), label)
    places = [whole_number(path, each, f"{label}.sample") - 1 for each in events["sample"]]
    if len(places) != len(events["value"]) or len(places) % 2 or not places:
        found = f"{len(places)} samples and {len(events['value'])} values"
        raise BadInput(path, label, "an onset and an offset for each trial, with a value each", found)
    _require_order(path, places, samples)
    ends = places[1::2] if steps.end == "offset" else [*places[2::2], samples]
    spans = list(zip(places[::2], ends, strict=True))
    return [spans[k] for k in _matched(path, events["value"][::2], table, steps)]


def _require_order(path: Path, places: Sequence[int], samples: int) -> None:
    """Onsets and offsets follow each other, within the recording; none is a pulse's beginning and end."""
    label = "data.event.eeg.sample"
    if min(places) < 0 or max(places) > samples:
        raise BadInput(path, label, f"1 to {samples}, as in the recording", f"{min(places) + 1} to {max(places) + 1}")
    for k, (before, after) in enumerate(zip(places, places[1:], strict=False), 1):
        if after <= before:
            raise BadInput(path, label, "samples that rise", f"{before + 1}, then {after + 1} (events {k}, {k + 1})")
    shortest = min(after - before for before, after in zip(places[::2], places[1::2], strict=True)) / EEG_RATE
    if shortest < SHORTEST:
        expected = f"at least {SHORTEST:g} s from each onset to its offset, as events are taken in pairs"
        raise BadInput(path, label, expected, f"{shortest:.3f} s")


def _matched(path: Path, values: Sequence[str], table: Sequence[Row], steps: DtuSteps) -> list[int]:
    """The onset of each row, by its number."""
    label = "data.event.eeg.value"
    triggers = [row.trigger for row in table if row.trigger is not None]
    if len(values) == len(table) and (steps.events == "order" or not triggers):
        return list(range(len(table)))
    if steps.events == "order" or len(triggers) != len(table) or len(values) < len(table):
        expected = f"as many onsets as the table has rows, {len(table)}, or more of them and a trigger in each row"
        raise BadInput(path, label, expected, f"{len(values)} onsets, {len(triggers)} triggers")
    onsets = [whole_number(path, value, label) for value in values]
    first, last = _laid(triggers, onsets), _laid(triggers[::-1], onsets[::-1])
    if first is None or last is None:
        hint = "the triggers of the table at its onsets, in their order (or --set events=order)"
        raise BadInput(path, label, hint, f"{onsets[:5]}... for {triggers[:5]}...")
    if first != [len(onsets) - 1 - k for k in reversed(last)]:
        expected = f"{len(table)} triggers that are found at {len(onsets)} onsets in one way only"
        raise BadInput(path, label, expected, "more than one (export the whole table, with all trials)")
    return first


def _laid(triggers: Sequence[int], onsets: Sequence[int]) -> list[int] | None:
    """The earliest onsets that have these values in this order; None if there are none."""
    places: list[int] = []
    for trigger in triggers:
        begin = places[-1] + 1 if places else 0
        place = next((k for k in range(begin, len(onsets)) if onsets[k] == trigger), None)
        if place is None:
            return None
        places.append(place)
    return places
