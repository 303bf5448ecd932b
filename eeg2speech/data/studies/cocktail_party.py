"""The Cocktail Party data: 33 people, 128 sensors, two stories at once, each person told which one to follow.

Two preparations of the same raw files, one study each. ``PUBLISHED`` is what the published code of BASEN and M3ANet
does (U-BESD's has the split and the metrics, and no drift; NeuroCodec's the split and the drift, at 44.1 kHz);
``CORRECTED`` does it right. Each step is a named switch of ``Preparation``, so that what it does to a score can be
measured alone. What belongs to the scores and not to the data (silent frames removed, narrow-band PESQ) is in
``eeg2speech.metrics.published``; which runs are tested, in the split ``published``.

**The drift.** The published code cuts a run of 60 s into items: 7680 samples of EEG into 30 of 256, which last 2 s, but
the sound, 87,552 x 30 samples of 44.1 kHz, into 30 of 87,552, which last 1.98531 s. Item i of the sound is paired with
item i of the EEG: they begin 14.7 ms further apart with each item, 0.44 s at the end of a run. In the published
preparation the *n*-th sample of sound therefore belongs to the same moment as EEG sample *n* / 114, as if the sound had
been played 0.7 % too slowly. That is how a store keeps it: its clock is that of the EEG, and its audio rate is the
number of sound samples that are paired with a second of EEG, 29,184 / 2 = 14,592, though the samples themselves are
14,700 to the second of sound. Every window of EEG then meets the very samples that the published code gives it, and a
store without the drift is an ordinary one. Metrics must be told the true rate: ``Protocol.study_rate`` keeps the two
apart. At other rates than 14,700 Hz the number is rounded to a whole one, and the sound is resampled to fit it exactly
(at 16 kHz to 15,882 samples, which belong to 15,999.55 Hz).

**The EEG held.** Published networks get the EEG at the audio's rate, each sample 114 times (``held_eeg``). This adds
nothing and loses nothing: every 114th sample is the EEG again. So a store keeps the EEG at its own 128 Hz under both
preparations, ``Preparation.as_seen`` gives what a published network sees, and the switch is a system's matter: one that
reads the held EEG through a smooth filter sees it late by half an EEG sample less half a sound sample (3.9 ms), and
weaker by the sinc of the hold (0.07 dB at 9 Hz).

**Not reproduced.** What EEGLAB's script does before: interpolation of bad channels and removal of components by hand,
and its epochs, which begin every 7680 samples of the merged runs, though a run may have a sample or two more (up to
0.23 s by run 30, against the drift). The mastoid reference
and the band of 0.1 to 45 Hz are, under both preparations.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from eeg2speech.data.mixing import LEVEL
from eeg2speech.data.preparation.montages import montage
from eeg2speech.data.preparation.resampling import polyphase
from eeg2speech.data.store import Store, StoreWriter
from eeg2speech.data.studies.cocktail_party_files import (
    EEG_RATE,
    RAW_RATE,
    STORIES,
    Attention,
    RawFiles,
    attended_story,
    other_story,
    require_table,
)
from eeg2speech.data.studies.cocktail_party_runs import recording_name
from eeg2speech.data.types import Samples, Sensors, StudyFacts, Trial
from eeg2speech.errors import BadInput

ITEM, ITEM_EEG, ITEMS = 87_552, 256, 30
"""Samples of sound and of EEG in a published item of 2 s, and items in a run."""
HELD = 114
"""How often the published code repeats an EEG sample: 29,184 / 256."""
VERSION = 1
"""To be raised when the same switches give other bytes."""


@dataclass(frozen=True)
class Preparation:
    """What is done to the raw files, switch by switch.

    Args:
        drift: pair items of 1.98531 s of sound with items of 2 s of EEG, as published.
        anti_alias: filter before samples are dropped. False takes every third, so only at 14,700 Hz.
        audio_rate: of the sound, in Hz: 14,700 as published, or 16,000.
        eeg_hold: ``repeat``: published networks get each sample of EEG 114 times. See ``as_seen``.
        attention: who listened to what, by the package's ``readme`` or by its unverified ``correction``. Both named
            preparations follow the README until one of the tables has been verified: make one with the other to
            compare.
        left_out: subjects that are not used. The published code leaves out number 6.
    """

    drift: bool = False
    anti_alias: bool = True
    audio_rate: int = 16_000
    eeg_hold: Literal["none", "repeat"] = "none"
    attention: Attention = "readme"
    left_out: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        require_table(self.attention)
        if not 0 < self.audio_rate < RAW_RATE:
            raise BadInput("Preparation", "audio_rate", f"below the {RAW_RATE} Hz of the files", self.audio_rate)
        if not self.anti_alias and RAW_RATE % self.audio_rate:
            expected = f"a whole part of {RAW_RATE} Hz, such as 14700, to drop samples without a filter"
            raise BadInput("Preparation", "audio_rate", expected, self.audio_rate)

    @property
    def store_rate(self) -> int:
        """Samples of sound paired with a second of EEG."""
        return round(Fraction(self.audio_rate * ITEM, 2 * RAW_RATE)) if self.drift else self.audio_rate

    def sound(self, raw: NDArray[np.floating]) -> Samples:
        """A run's sound [T] at 44.1 kHz as a stimulus [T'], at the level of the suite.

        Raises:
            BadInput: with the drift, sound shorter than an item; silence.
        """
        used = raw[: self._items(len(raw)) * ITEM] if self.drift else raw
        level = float(np.sqrt(np.mean(np.square(used)))) if len(used) else 0.0
        if not level > 1e-6:
            raise BadInput("Cocktail Party", "sound", f"speech of at least {ITEM / RAW_RATE:.2f} s", f"level {level:g}")
        scaled = used * (LEVEL / level)
        if not self.anti_alias:
            return np.asarray(scaled[:: RAW_RATE // self.audio_rate], np.float32)
        factor = Fraction(2 * self.store_rate, ITEM) if self.drift else Fraction(self.audio_rate, RAW_RATE)
        return np.asarray(polyphase(scaled, factor), np.float32)

    def seconds(self, sound: int, eeg: int) -> float:
        """Duration of a run with so many samples of raw sound and of EEG, on the clock of the EEG."""
        if self.drift:
            return min(self._items(sound), eeg // ITEM_EEG) * ITEM_EEG / EEG_RATE
        return min(sound * EEG_RATE // RAW_RATE, eeg) / EEG_RATE

    def as_seen(self, eeg: NDArray[np.floating]) -> NDArray[np.floating]:
        """EEG [..., N] as a published network sees it: held 114 times, or as it is."""
        return held_eeg(eeg) if self.eeg_hold == "repeat" else eeg

    @staticmethod
    def _items(samples: int) -> int:
        return min(samples // ITEM, ITEMS)


PUBLISHED = Preparation(True, False, RAW_RATE // 3, "repeat", left_out=(6,))
CORRECTED = Preparation()


def held_eeg(eeg: NDArray[np.floating], factor: int = HELD) -> NDArray[np.floating]:
    """Each sample of EEG [..., N] ``factor`` times, [..., factor N]: a staircase, with images of the EEG at all
    multiples of its rate. Nothing is added: ``held[..., ::factor]`` is the EEG."""
    if factor < 1:
        raise BadInput("held_eeg", "factor", "at least 1", factor)
    return np.repeat(eeg, factor, axis=-1)


class CocktailParty:
    """The Cocktail Party study under a preparation.

    Args:
        preparation: what is done to the raw files.
        name: of the study.
        raw: folder of the raw files; where the environment variable says if None. It is looked up when the store is
            made, and not needed for one that is there.
    """

    def __init__(
        self, preparation: Preparation = CORRECTED, name: str = "cocktail-party-corrected", raw: Path | None = None
    ) -> None:
        self.preparation, self.raw = preparation, raw
        self.facts = _facts(preparation, name)

    @property
    def settings(self) -> dict[str, object]:
        """All that decides the bytes of the store, but for the files themselves, as JSON gives it back."""
        made = {"version": VERSION, "preparation": asdict(self.preparation)}
        result: dict[str, object] = json.loads(json.dumps(made))
        return result

    def prepare(self, root: Path) -> Store:
        """Open the store in ``root``, or make it there from the raw files. Runs that are missing are told (a warning,
        and ``missing`` in the store's settings).

        Raises:
            BadInput: ``root`` holds a store made otherwise; no raw files are named; one of them is missing or wrong.
        """
        root = Path(root)
        if (root / "index.json").exists():
            return self._open(root)
        raw = RawFiles.find(self.raw, self.preparation.left_out)
        if raw.missing:
            warnings.warn(f"{self.facts.name}: runs without a file: {'; '.join(raw.missing)}", stacklevel=2)
        writer = StoreWriter(root, self.facts, sensors(), self.settings | {"missing": raw.missing})
        for run in sorted({run for runs in raw.runs.values() for run in runs}):
            self._add_run(writer, raw, run)
        return writer.close()

    def _open(self, root: Path) -> Store:
        store = Store(root)
        expected: Mapping[str, object] = {"study": self.facts.name, **self.settings}
        found = {"study": store.facts.name, **store.index.settings}
        for key, value in expected.items():
            if found.get(key) != value:
                hint = f"{found.get(key)!r} (delete the folder and prepare it again, or name another)"
                raise BadInput(root / "index.json", f"settings: {key}", repr(value), hint)
        return store

    def _add_run(self, writer: StoreWriter, raw: RawFiles, run: int) -> None:
        sounds = {story: raw.story(story, run) for story in STORIES}
        ids = {
            story: writer.add_stimulus(
                self.preparation.sound(sound), self.facts.audio_rate, story, "en", f"{story}, run {run}"
            )
            for story, sound in sounds.items()
        }
        shortest = min(map(len, sounds.values()))
        for subject in (subject for subject, runs in raw.runs.items() if run in runs):
            eeg = raw.eeg(subject, run)
            seconds = self.preparation.seconds(shortest, eeg.shape[1])
            writer.add_recording(recording_name(subject, run), f"Subject{subject:02d}", eeg, EEG_RATE)
            writer.add_trial(self._trial(subject, run, seconds, ids))

    def _trial(self, subject: int, run: int, seconds: float, ids: dict[str, str]) -> Trial:
        name, attended = recording_name(subject, run), attended_story(subject, self.preparation.attention)
        return Trial(name, name, f"Subject{subject:02d}", 0.0, seconds, ids[attended], ids[other_story(attended)])


def sensors() -> Sensors:
    """The 128 sensors of a BioSemi cap, A1 to D32, in MNE's template and in head coordinates."""
    return montage("biosemi128")


def _facts(preparation: Preparation, name: str) -> StudyFacts:
    problems = [
        "a person attends one story in all runs: who listens tells which talker is the target",
        f"who attended which story follows the {preparation.attention}; two tables differ for 16 of 33 people",
        "bad channels are not interpolated and no components are removed: published data had that done by hand",
    ]
    if preparation.drift:
        problems.append("on purpose, sound and EEG drift apart by 0.44 s over a run, as published")
    if not preparation.anti_alias:
        problems.append("on purpose, samples of the sound were dropped without a filter, as published")
    return StudyFacts(
        name=name,
        title="Cocktail Party (Broderick et al. 2018): two stories at once, 128 sensors",
        licence="CC0 1.0",
        citation="Broderick, Anderson, Di Liberto, Crosse, Lalor 2018, Current Biology 28:803; data: Dryad",
        doi="10.5061/dryad.070jc",
        how_to_get="download `Cocktail Party.zip` from Dryad, unpack it, and name its folder in "
        "EEG2SPEECH_COCKTAIL_PARTY; the wav files of both stories go to Stimuli/Full_Audio",
        note=f"real EEG, real speech; {_in_words(preparation)}",
        audio_rate=preparation.store_rate,
        eeg_rate=EEG_RATE,
        known_problems=tuple(problems),
    )


def _in_words(preparation: Preparation) -> str:
    if preparation == PUBLISHED:
        return "prepared as in published code, errors included"
    if preparation == CORRECTED:
        return "prepared without the errors of published code"
    usual = asdict(CORRECTED)
    changed = [f"{name} {value}" for name, value in asdict(preparation).items() if value != usual[name]]
    return f"prepared with {', '.join(changed)}"


published = partial(CocktailParty, PUBLISHED, "cocktail-party-published")
corrected = partial(CocktailParty, CORRECTED, "cocktail-party-corrected")
