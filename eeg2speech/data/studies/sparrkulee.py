"""SparrKULee (Accou et al. 2024; KU Leuven RDR 10.48804/K3VSND), from the files.

::

    sub-027/ses-varyingStories01/eeg/sub-027_ses-varyingStories01_task-listeningActive_run-08_eeg.bdf.gz
        ..._events.tsv      onset duration stim_file trigger_file noise_file video_file condition snr
        ..._eeg.apr         results of the experiment, XML: the SNR, where there was noise
    stimuli/eeg/audiobook_7_5.npz.gz      audio float32 [T] and its rate fs: speech
    stimuli/eeg/t_audiobook_7_5.npz.gz    the same of the trigger: a pulse a second and one at the end

The folder itself or the one that holds it may be named; files that somebody has unpacked (``.bdf``, ``.npz``) are taken
as well. A recording is a run, a trial a row of its table of events. EEG is unpacked into the folder for temporary files
(the environment variable ``TMPDIR``), one recording at a time in each process.

Traps:

- The onset in the table is a rough one: the pulses of the trigger file are looked for in the channel Status, and the
  line through all of them gives the beginning of the speech (``sparrkulee_triggers``). A lost first pulse is noticed.
- Sound card and amplifier drift apart. As the authors do, EEG is brought to the clock of the sound (``drift``). What
  is refused: clocks that are more than 500 ppm apart, 5 s without a trigger, triggers more than 5 ms off the line.
- Three recordings have not enough triggers, say the authors; they are left out (``left_out``).
- In noise the other sound is noise and no talker: these trials have no unattended stimulus and the speech without the
  noise. They are told with their SNR, which a store does not keep; ``noise`` leaves them out, as ``video`` does those
  with a film.
- Some stimuli are given out by e-mail only. Recordings whose stimulus is not there are left out and told.

What is not certain: the names of the channels (``channels``); the EEG's rate, which is the file's, whatever it is.
Talkers are not named in the files: the name of the audiobook or podcast stands for the talker and for the story.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from eeg2speech.data.preparation.blocks import Blocks
from eeg2speech.data.preparation.montages import montage
from eeg2speech.data.preparation.source import Item, Source, Speech, Take
from eeg2speech.data.preparation.steps import Steps
from eeg2speech.data.preparation.study import RawStudy
from eeg2speech.data.studies.sparrkulee_bdf import Bdf, BdfBlocks
from eeg2speech.data.studies.sparrkulee_runs import QUIET, Event, Run, events, home, runs, snr
from eeg2speech.data.studies.sparrkulee_sound import sound
from eeg2speech.data.studies.sparrkulee_triggers import Clock, Seconds, Stretched, clock, onsets, pulses
from eeg2speech.data.types import StudyFacts
from eeg2speech.errors import BadInput

SUBJECTS = 85
INADEQUATE = (
    "sub-006_ses-shortstories01_task-listeningActive_run-06",
    "sub-017_ses-shortstories01_task-listeningActive_run-03",
    "sub-048_ses-varyingStories05_task-listeningActive_run-04",
)
"""Recordings without enough triggers, by the README of the data set."""
AMPLIFIER = tuple(f"{side}{n}" for side in "AB" for n in range(1, 33))
FACTS = StudyFacts(
    name="sparrkulee",
    title="SparrKULee: 85 people listen to audiobooks and podcasts",
    licence="CC BY-NC 4.0; stimuli for non-commercial purposes, some by e-mail only",
    citation="Accou, Bollens, Gillis, Verheijen, Van hamme, Francart (2024). SparrKULee. Data 9(8):94",
    doi="10.48804/K3VSND",
    how_to_get=(
        "download the folders sub-* and stimuli from https://doi.org/10.48804/K3VSND (the authors have a script for "
        "it), ask them for the stimuli that are not there, then `eeg2speech prepare sparrkulee --root FOLDER`"
    ),
    note="real EEG, real speech; one Dutch talker at a time, in some recordings in noise",
    audio_rate=16_000,
    eeg_rate=128,
    known_problems=(
        "three recordings have not enough triggers and are left out",
        "stimuli that are given out by e-mail only are missing in a download: what was heard then is left out",
        "talkers are not named: an audiobook or podcast counts as one",
        "the same stimuli are heard by many people: a split by trial or subject shares speech",
    ),
    splits=(
        "first 80 % of each recording train, next 10 % valid, last 10 % test (the study's own, sparrkulee-envelopes)",
        "leave stories out; leave subjects out",
    ),
)


@dataclass(frozen=True)
class SparrkuleeSteps(Steps):
    """Settings of this study.

    Args:
        align: when speech begins: by the ``triggers`` in the EEG, or by the table of ``events`` alone, which may be far
            off and knows nothing of drift.
        drift: ``correct`` how clocks of EEG and sound drift apart, or ``keep`` it.
        channels: which are the 64 sensors: by their ``labels``, BioSemi's (A1 to B32) or those of 10-20, or the first
            64 in the ``order`` of BioSemi's cap.
        noise: ``keep`` trials in noise, or ``leave_out``. video: likewise, trials with a film.
        left_out: names of recordings or subjects that are not used, with commas.
    """

    align: Literal["triggers", "events"] = "triggers"
    drift: Literal["correct", "keep"] = "correct"
    channels: Literal["labels", "order"] = "labels"
    noise: Literal["keep", "leave_out"] = "keep"
    video: Literal["keep", "leave_out"] = "keep"
    left_out: str = ",".join(INADEQUATE)

    @property
    def without(self) -> tuple[str, ...]:
        """Names that are left out."""
        return tuple(each.strip() for each in self.left_out.split(",") if each.strip())


def sparrkulee() -> RawStudy[SparrkuleeSteps]:
    """The study."""
    return RawStudy(FACTS, SparrkuleeSteps, source)


def source(root: Path, steps: SparrkuleeSteps) -> Source:
    """A recording for each run with speech that is there; EEG is read when its takes are asked for.

    Raises:
        BadInput: a folder without recordings; a table that cannot be used; ``left_out`` names none.
    """
    folder = home(root)
    found = runs(folder)
    _require_known(steps, found)
    survey = _Survey(folder / "stimuli", steps)
    items = [item for run in found if (item := survey.item(run)) is not None]
    if not items:
        raise BadInput(folder, "recordings", "one with a stimulus that is there", "; ".join(survey.missing()))
    people = {run.subject for run in found}
    gone = [f"files of {len(people)} of {SUBJECTS} subjects"] if len(people) < SUBJECTS else []
    return Source(montage("biosemi64"), tuple(items), missing=(*gone, *survey.missing()), notes=tuple(survey.notes()))


def story(stimulus: str) -> str:
    """Audiobook or podcast of which a stimulus is a part: of audiobook_7_5 it is audiobook_7."""
    found = re.match(r"(?:audiobook|podcast)_[0-9]+(?=_|$)", stimulus)
    return found[0] if found else re.sub(r"(?<=[0-9])_[0-9]+$", "", stimulus)


def _require_known(steps: SparrkuleeSteps, found: list[Run]) -> None:
    known = {name for run in found for name in (run.stem, run.subject)} | {*INADEQUATE}
    if unknown := [name for name in steps.without if name not in known]:
        raise BadInput("settings of sparrkulee", "left_out", "names of recordings or subjects", ", ".join(unknown))


@dataclass(frozen=True)
class _Survey:
    """Looks through tables of events, and notes what is left out, by the reason, and what is told of the rest."""

    folder: Path
    steps: SparrkuleeSteps
    left: dict[str, list[str]] = field(default_factory=dict)
    told: dict[str, list[str]] = field(default_factory=dict)

    def item(self, run: Run) -> Item | None:
        """A recording, if anything of it can be used."""
        table = run.beside("events.tsv")
        rows = events(table) if table.is_file() else []
        if reason := self._unusable(run, table, rows):
            self.left.setdefault(reason, []).append(run.stem)
            return None
        heard = [_Heard(run, event, self._name(run, rows, k)) for k, event in enumerate(rows)]
        kept = [each for each in heard if self._kept(each)]
        triggers = [self.file(each.event.trigger) for each in kept if self.steps.align == "triggers"]
        files = dict.fromkeys((run.path, table, *triggers))
        return Item(run.stem, run.subject, tuple(files), partial(_takes, self, run, kept)) if kept else None

    def file(self, name: str) -> Path:
        """Of a stimulus; that of somebody who has unpacked it, where the published one is not."""
        path = self.folder / name
        plain = path.with_suffix("") if path.suffix == ".gz" else path
        return plain if plain.is_file() and not path.is_file() else path

    def missing(self) -> list[str]:
        """What was left out, in words."""
        return [f"{reason}: {', '.join(names)}" for reason, names in self.left.items()]

    def notes(self) -> list[str]:
        """What a store does not keep."""
        return [f"{about}: {', '.join(names)}" for about, names in sorted(self.told.items())]

    def _name(self, run: Run, rows: list[Event], place: int) -> str:
        return run.stem if len(rows) == 1 else f"{run.stem}_{place + 1}"

    def _unusable(self, run: Run, table: Path, rows: list[Event]) -> str:
        """Why nothing of a recording is used, if so."""
        if {run.stem, run.subject} & {*self.steps.without}:
            return "left out by the setting left_out"
        if not table.is_file():
            return "no table of events"
        return "" if rows else "an empty table of events"

    def _kept(self, heard: _Heard) -> bool:
        """Whether a row becomes a trial; either way it is noted."""
        if reason := self._lacking(heard.event):
            self.left.setdefault(reason, []).append(heard.name)
            return False
        if heard.event.noise:
            self.told.setdefault(f"in noise, SNR {_decibel(heard)}", []).append(heard.name)
        if heard.event.video:
            self.told.setdefault("with a film", []).append(heard.name)
        return True

    def _lacking(self, event: Event) -> str:
        """Why a row becomes no trial, if so."""
        if not event.stimulus:
            return "without speech"
        if event.video and self.steps.video == "leave_out":
            return "with a film, left out by the setting video"
        if event.noise and self.steps.noise == "leave_out":
            return "in noise, left out by the setting noise"
        needed = (event.stimulus, event.trigger) if self.steps.align == "triggers" else (event.stimulus,)
        if not all(needed):
            return "without a trigger file (--set align=events goes by the table of events)"
        gone = [self._below(name) for name in needed if not self.file(name).is_file()]
        return f"no {' and no '.join(gone)}" if gone else ""

    def _below(self, name: str) -> str:
        """A file's name; stimuli that are not there may have to be asked for."""
        return f"{self.folder.name}/{name} (some stimuli are given out by e-mail only)"


@dataclass(frozen=True)
class _Heard:
    """A row of a table that becomes a trial."""

    run: Run
    event: Event
    name: str


def _decibel(heard: _Heard) -> str:
    """What the table says, and the results where they say something else."""
    path, stated = heard.run.beside("eeg.apr"), heard.event.snr
    found = snr(path) if path.is_file() else QUIET
    told = [
        f"{value:g} dB" for value in dict.fromkeys((stated, found if found != QUIET else None)) if value is not None
    ]
    return " (events.tsv) or ".join(told) + (" (apr)" if len(told) > 1 else "") if told else "unknown"


def _takes(survey: _Survey, run: Run, heard: list[_Heard]) -> Iterator[Take]:
    steps = survey.steps
    bdf = Bdf(run.path)
    eeg = BdfBlocks(bdf, _sensors(bdf, steps.channels))
    triggers = onsets(bdf.triggers(), eeg.rate) if steps.align == "triggers" else None
    for each in heard:
        event = each.event
        speech = _speech(survey.file(event.stimulus), event.stimulus)
        if triggers is None:
            yield Take(each.name, eeg, speech, start=event.onset, seconds=event.duration)
            continue
        found = _clock(run, event, sound(survey.file(event.trigger)), triggers, eeg)
        yield _aligned(each, eeg, speech, found, steps)


def _clock(run: Run, event: Event, pulse: Blocks, triggers: Seconds, eeg: Blocks) -> Clock:
    """How the clocks go, by the pulses that fall into the EEG and into the stimulus."""
    within = eeg.samples / eeg.rate - event.onset
    end = within if event.duration is None else min(within, event.duration)
    return clock(run.path, pulses(pulse), triggers, event.onset, end, 1 / eeg.rate)


def _aligned(heard: _Heard, eeg: Blocks, speech: Speech, found: Clock, steps: SparrkuleeSteps) -> Take:
    apart = abs(found.rate - 1) * found.length
    # What is less than a sample's half is the grain of the triggers.
    if apart <= 0.5 / eeg.rate:
        return Take(heard.name, eeg, speech, start=found.start, seconds=heard.event.duration)
    if steps.drift == "correct":
        made = Stretched(eeg, found.rate)
        return Take(heard.name, made, speech, start=found.start / found.rate, seconds=heard.event.duration)
    if apart > 1 / steps.eeg_rate:
        text = f"{heard.name}: clocks {found.drift:.0f} ppm apart, EEG and speech {1e3 * apart:.0f} ms at the end"
        warnings.warn(text, stacklevel=2)
    return Take(heard.name, eeg, speech, start=found.start, seconds=heard.event.duration)


def _speech(path: Path, name: str) -> Speech:
    title = Path(name).name.partition(".")[0]
    key = name.removesuffix(".gz").removesuffix(".npz")
    return Speech(key, partial(sound, path), (path,), story(title), "nl", title, story(title))


def _sensors(bdf: Bdf, channels: str) -> tuple[int, ...]:
    """Rows of the 64 sensors in the order of BioSemi's cap. Raises BadInput: not all are there, or one twice."""
    names = [name.casefold() for name in bdf.header.names]
    caps = (AMPLIFIER, montage("biosemi64").names)
    if channels == "order":
        if len(names) < len(AMPLIFIER):
            raise BadInput(bdf.path, "channels", f"at least {len(AMPLIFIER)}", len(names))
        return tuple(range(len(AMPLIFIER)))
    for cap in caps:
        wanted = [name.casefold() for name in cap]
        if all(names.count(name) == 1 for name in wanted):
            return tuple(names.index(name) for name in wanted)
    expected = "A1 to B32, or the 64 of BioSemi's cap, each once (or --set channels=order: the first 64)"
    raise BadInput(bdf.path, "channels", expected, ", ".join(bdf.header.names))
