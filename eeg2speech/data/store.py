"""The store on disk: every recording and every stimulus once, memory-mapped, cut lazily.

Layout::

    STORE/index.json            facts, sensors, recordings, stimuli, trials, settings (written last)
    STORE/stimuli/<hash>.npy    float32 [T]; of a study without sound [F, T]
    STORE/eeg/<recording>.npy   float32 [C, N], microvolt

``index.json`` is written last and by rename, so a store with an index is whole; a folder without one is a
preparation that was interrupted, and is written anew. What is read is a memory map: the memory in use does not
grow with the study.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Container, Iterable
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from eeg2speech.data.types import (
    Cut,
    Index,
    Recording,
    Samples,
    Segment,
    Sensors,
    Stimulus,
    StudyFacts,
    Trial,
    content_hash,
)
from eeg2speech.errors import BadInput, unknown_name

SCHEMA_VERSION = 1
MAPS = 256
"""Files that a store keeps open: each is a descriptor, of which a process has some 1,000."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
"""A name that can be a part of a path on any system."""


class StoreWriter:
    """Writes a store. Signals are checked when they come in; ``close`` checks that the trials fit them."""

    def __init__(self, root: Path, facts: StudyFacts, sensors: Sensors, settings: dict[str, object]) -> None:
        self.root, self.facts, self.sensors, self.settings = Path(root), facts, sensors, settings
        self.stimuli: dict[str, Stimulus] = {}
        self.recordings: dict[str, Recording] = {}
        self.trials: dict[str, Trial] = {}
        for folder in ("stimuli", "eeg"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)

    def add_stimulus(
        self, audio: Samples, rate: float, speaker: str, language: str, title: str, story: str = ""
    ) -> str:
        """Store speech [T], float32 in [-1, 1], or in a study of features [F, T], at the study's audio rate in Hz,
        once; returns its id.

        Raises:
            BadInput: another rate than the study's, an array of another shape, or samples that are not finite.
        """
        audio = np.ascontiguousarray(audio, dtype=np.float32)
        where = f"stimulus {title!r}"
        _require_rate(rate, self.facts.audio_rate, where)
        axes, shape = (1, "[samples]") if self.facts.stimuli == "audio" else (2, "[bands, samples]")
        if audio.ndim != axes or audio.size == 0:
            raise BadInput(where, "shape", shape, list(audio.shape))
        _require_finite(audio, where, self.facts.stimuli)
        identity = content_hash(audio)
        if identity not in self.stimuli:
            _save(self.root / "stimuli" / f"{identity}.npy", audio)
            bands = len(audio) if axes == 2 else 0
            about = (speaker, language, title, story, bands)
            self.stimuli[identity] = Stimulus(identity, audio.shape[-1], self.facts.audio_rate, *about)
        return identity

    def adopt(self, recording: Recording, stimuli: Iterable[Stimulus]) -> None:
        """Take up signals that lie in the store already, checked and written by another writer.

        Raises:
            BadInput: a name used twice, a file that is missing or of another shape.
        """
        _require_new(recording.id, self.recordings)
        _open_map(self.root / "eeg" / f"{recording.id}.npy", (len(self.sensors), recording.samples))
        for stimulus in stimuli:
            if stimulus.id not in self.stimuli:
                _open_map(self.root / "stimuli" / f"{stimulus.id}.npy", stimulus.shape)
                self.stimuli[stimulus.id] = stimulus
        self.recordings[recording.id] = recording

    def add_recording(self, recording: str, subject: str, eeg: Samples, rate: float) -> None:
        """Store one subject's EEG [C, N], float32, microvolt, at the study's EEG rate.

        Raises:
            BadInput: a name used twice or one that cannot be a file's, another rate than the study's, another number
                of channels than sensors, or samples that are not finite.
        """
        where = f"recording {recording!r}"
        eeg = np.ascontiguousarray(eeg, dtype=np.float32)
        if not NAME.fullmatch(recording):
            expected = "a name of letters, digits and _ . + -, the first a letter or digit, for it names a file"
            raise BadInput(where, "id", expected, repr(recording))
        _require_new(recording, self.recordings)
        _require_rate(rate, self.facts.eeg_rate, where)
        if eeg.ndim != 2 or eeg.shape[0] != len(self.sensors):
            raise BadInput(where, "shape", f"[{len(self.sensors)}, samples]", list(eeg.shape))
        _require_finite(eeg, where, "eeg")
        _save(self.root / "eeg" / f"{recording}.npy", eeg)
        self.recordings[recording] = Recording(recording, subject, eeg.shape[1], int(rate), content_hash(eeg))

    def add_trial(self, trial: Trial) -> None:
        """Note a trial.

        Raises:
            BadInput: a trial without its stimulus or recording, of another subject, or longer than either signal.
        """
        if trial.id in self.trials:
            raise BadInput(f"trial {trial.id!r}", "id", "a name used once", "a second trial of that name")
        _check_trial(trial, self.recordings, self.stimuli, "trial")
        self.trials[trial.id] = trial

    def close(self, revision: str | None = None) -> Store:
        """Write the index and open the store. Raises BadInput for a store without trials.

        ``revision`` names the data where something else than its bytes decides it, as settings do for what is computed:
        another processor may round a sample differently, and the data is the same.
        """
        if not self.trials:
            raise BadInput(self.root, "trials", "at least one", 0)
        body: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "study": _told(self.facts, stimuli="audio", splits=()),
            "settings": self.settings,
            "sensors": asdict(self.sensors),
            "recordings": [asdict(r) for r in self.recordings.values()],
            "stimuli": [_told(s, story="", bands=0) for s in self.stimuli.values()],
            "trials": [_told(t, ear="", part="") for t in self.trials.values()],
        }
        body["revision"] = revision or _revision(body)
        _write_index(self.root, body)
        return Store(self.root)


class Store:
    """A prepared study, open for reading. Pickles as its path, so that loader workers open their own maps."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        self.index = _read_index(self.root / "index.json")
        self.recordings = {r.id: r for r in self.index.recordings}
        self.stimuli = {s.id: s for s in self.index.stimuli}
        self.trials = {t.id: t for t in self.index.trials}
        for trial in self.trials.values():
            _check_trial(trial, self.recordings, self.stimuli, f"{self.root / 'index.json'}: trial")
        self._maps: dict[Path, Samples] = {}

    def __reduce__(self) -> tuple[type[Store], tuple[Path]]:
        return Store, (self.root,)

    @property
    def facts(self) -> StudyFacts:
        """The study's facts."""
        return self.index.study

    @cached_property
    def subjects(self) -> tuple[str, ...]:
        """Names of all subjects, sorted; a subject's number is its place in this list."""
        return tuple(sorted({r.subject for r in self.recordings.values()}))

    def trial(self, name: str) -> Trial:
        """A trial by name; an unknown one is refused with the nearest name."""
        if name not in self.trials:
            raise unknown_name(self.root / "index.json", "trial", name, self.trials)
        return self.trials[name]

    @cached_property
    def speakers(self) -> dict[str, str]:
        """Speaker of each stimulus."""
        return {s.id: s.speaker for s in self.stimuli.values()}

    def stimulus(self, identity: str) -> Samples:
        """Speech [T], or in a study of features [F, T], float32, as a read-only memory map."""
        return self._map(self.root / "stimuli" / f"{identity}.npy", self.stimuli[identity].shape)

    def eeg(self, recording: str) -> Samples:
        """EEG [C, N], float32, microvolt, as a read-only memory map."""
        shape = (len(self.index.sensors), self.recordings[recording].samples)
        return self._map(self.root / "eeg" / f"{recording}.npy", shape)

    def cut(self, segment: Segment) -> Cut:
        """The signals of one segment, audio and EEG over exactly the same time.

        Raises:
            BadInput: a segment that leaves its trial, or EEG in it that is not finite.
        """
        trial = self.trial(segment.trial)
        attended = self.cut_audio(trial.attended, segment)
        unattended = None if trial.unattended is None else self.cut_audio(trial.unattended, segment)
        return Cut(segment, attended, unattended, self.cut_eeg(segment))

    def cut_eeg(self, segment: Segment) -> Samples:
        """EEG [C, N] of a segment, a copy in memory."""
        trial = self.trial(segment.trial)
        _check_inside(segment, trial)
        rate = self.facts.eeg_rate
        begin, length = round((trial.start + segment.start) * rate), round(segment.duration * rate)
        eeg = np.array(self.eeg(trial.recording)[:, begin : begin + length])
        _require_finite(eeg, self.root / "eeg" / f"{trial.recording}.npy", f"eeg of {segment}")
        return eeg

    def cut_audio(self, stimulus: str, segment: Segment) -> Samples:
        """Audio [T] of one of the trial's stimuli over the segment's time, a copy in memory."""
        _check_inside(segment, self.trial(segment.trial))
        rate = self.facts.audio_rate
        begin, length = round(segment.start * rate), round(segment.duration * rate)
        return np.array(self.stimulus(stimulus)[..., begin : begin + length])

    def verify(self) -> None:
        """Read every signal and compare it with its hash. Raises BadInput for the first that differs."""
        for stimulus in self.stimuli:
            _compare_hash(self.root / "stimuli" / f"{stimulus}.npy", stimulus, content_hash(self.stimulus(stimulus)))
        for recording in self.recordings.values():
            path = self.root / "eeg" / f"{recording.id}.npy"
            _compare_hash(path, recording.hash, content_hash(self.eeg(recording.id)))

    def _map(self, path: Path, shape: tuple[int, ...]) -> Samples:
        if path not in self._maps:
            self._maps[path] = _open_map(path, shape)
            if len(self._maps) > MAPS:
                del self._maps[next(iter(self._maps))]
        return self._maps[path]


def snap(seconds: float, rate: int) -> float:
    """The nearest time that falls on a sample of a signal at ``rate`` Hz."""
    return round(seconds * rate) / rate


def _open_map(path: Path, shape: tuple[int, ...]) -> Samples:
    if not path.exists():
        raise BadInput(path, "file", "a signal named in index.json", "no such file")
    try:
        array: Samples = np.load(path, mmap_mode="r")
    except Exception as error:  # numpy reads the header as Python: damage in it comes out as nearly any error
        raise BadInput(
            path, "content", f"float32 {list(shape)}", f"a file that is cut short or damaged ({error})"
        ) from error
    if array.shape != shape or array.dtype != np.float32:
        raise BadInput(path, "content", f"float32 {list(shape)}", f"{array.dtype} {list(array.shape)}")
    return array


def _save(path: Path, array: Samples) -> None:
    partial = path.with_suffix(f".{os.getpid()}.tmp")
    with partial.open("wb") as file:
        np.save(file, array)
    partial.replace(path)


def _told(each: StudyFacts | Stimulus | Trial, **usual: object) -> dict[str, Any]:
    """Plain data, without optional fields that are as usual: what a study does not tell is not in its revision."""
    return {name: value for name, value in asdict(each).items() if name not in usual or value != usual[name]}


def _require_new(recording: str, known: Container[str]) -> None:
    if recording in known:
        raise BadInput(f"recording {recording!r}", "id", "a name used once", "a second recording of that name")


def rename_revision(root: Path, revision: str) -> Store:
    """Give a store another name of its data, for a study that knows it to be the same; see ``StoreWriter.close``."""
    path = root / "index.json"
    _read_index(path)
    _write_index(root, json.loads(path.read_text()) | {"revision": revision})
    return Store(root)


def _write_index(root: Path, body: dict[str, Any]) -> None:
    partial = root / f"index.json.{os.getpid()}.tmp"
    whole = {name: value for name, value in body.items() if name != "checksum"}
    partial.write_text(json.dumps(whole | {"checksum": _hash(whole)}, indent=1))
    partial.replace(root / "index.json")


def _revision(body: dict[str, Any]) -> str:
    """Hash of the whole index, which holds the hash of every signal."""
    return _hash({name: value for name, value in body.items() if name not in ("revision", "checksum")})


def _hash(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]


def _read_index(path: Path) -> Index:
    if not path.exists():
        raise BadInput(path, "file", "the index of a prepared study", "no such file (run `eeg2speech prepare` first)")
    try:
        body = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BadInput(path, "content", "JSON", f"a file that is cut short or damaged ({error})") from error
    if body.get("schema_version") != SCHEMA_VERSION:
        raise BadInput(path, "schema_version", SCHEMA_VERSION, body.get("schema_version"))
    _check_untouched(path, body)
    study = body["study"]
    facts = study | {name: tuple(study.get(name, ())) for name in ("known_problems", "splits")}
    sensors = Sensors(tuple(body["sensors"]["names"]), tuple(map(tuple, body["sensors"]["positions"])))
    return Index(
        StudyFacts(**facts),
        body["revision"],
        sensors,
        [Recording(**r) for r in body["recordings"]],
        [Stimulus(**s) for s in body["stimuli"]],
        [Trial(**t) for t in body["trials"]],
        body["settings"],
    )


def _check_untouched(path: Path, body: dict[str, Any]) -> None:
    """An index without a checksum, of older versions, has the hash of its content as revision."""
    if "checksum" not in body and body.get("revision") != _revision(body):
        raise BadInput(path, "revision", _revision(body), body.get("revision"))
    expected = _hash({name: value for name, value in body.items() if name != "checksum"})
    if body.get("checksum", expected) != expected:
        raise BadInput(path, "checksum", expected, body["checksum"])


def _check_trial(trial: Trial, recordings: dict[str, Recording], stimuli: dict[str, Stimulus], label: str) -> None:
    where = f"{label} {trial.id!r}"
    if trial.recording not in recordings:
        raise BadInput(where, "recording", "a recording of this study", repr(trial.recording))
    recording = recordings[trial.recording]
    if recording.subject != trial.subject:
        raise BadInput(where, "subject", f"{recording.subject!r}, whose recording it is", repr(trial.subject))
    # NaN compares false with everything, so finiteness is asked for first.
    if not (math.isfinite(trial.start) and trial.start >= 0):
        raise BadInput(where, "start", "0 s or later", trial.start)
    if not (math.isfinite(trial.duration) and trial.duration > 0):
        raise BadInput(where, "duration", "more than 0 s", trial.duration)
    available = recording.samples / recording.rate
    if trial.start + trial.duration > available + 0.5 / recording.rate:
        raise BadInput(
            where, "duration", f"an end within the recording's {available:.3f} s", trial.start + trial.duration
        )
    for role, identity in (("attended", trial.attended), ("unattended", trial.unattended)):
        if identity is None:
            continue
        if identity not in stimuli:
            raise BadInput(where, role, "a stimulus of this study", repr(identity))
        seconds = stimuli[identity].seconds
        if trial.duration > seconds + 0.5 / stimuli[identity].rate:
            raise BadInput(where, role, f"at least {trial.duration:.3f} s of audio", f"{seconds:.3f} s")


def _check_inside(segment: Segment, trial: Trial) -> None:
    end = segment.start + segment.duration
    if segment.start < 0 or segment.duration <= 0 or end > trial.duration + 1e-6:
        raise BadInput(f"trial {trial.id!r}", "segment", f"a window within 0 to {trial.duration} s", segment)


def _require_rate(found: float, expected: int, where: str) -> None:
    if found != expected:
        raise BadInput(where, "rate", f"{expected} Hz", f"{found} Hz")


def _require_finite(array: Samples, where: object, field: str) -> None:
    bad = int(array.size - np.count_nonzero(np.isfinite(array)))
    if bad:
        raise BadInput(where, field, "finite samples", f"{bad} samples that are NaN or infinite")


def _compare_hash(path: Path, expected: str, found: str) -> None:
    if expected != found:
        raise BadInput(path, "content hash", expected, found)


def trials_of(store: Store, subject: str) -> Iterable[Trial]:
    """All trials of one subject, in the store's order."""
    return (t for t in store.trials.values() if t.subject == subject)
