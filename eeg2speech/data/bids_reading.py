"""From a BIDS data set that ``export_bids`` wrote to a store."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from eeg2speech.data.bids_tables import (
    BLOCK,
    EVENTS,
    FORMAT,
    KEY,
    SCANS,
    SPACE,
    STIMULI,
    digest,
    number,
    quiet,
    sound_name,
    table,
    text,
    whole,
)
from eeg2speech.data.store import Store, StoreWriter
from eeg2speech.data.types import Index, Recording, Samples, Sensors, Stimulus, StudyFacts, Trial
from eeg2speech.errors import BadInput

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")


def read_bids(folder: Path, root: Path, changed: bool = False) -> Store:
    """Make a store in ``root`` of a data set that ``export_bids`` wrote: the same signals, trials and revision.

    Tables that were changed since are refused; with ``changed`` they are taken up, under a revision of their own.

    Raises:
        BadInput: no such data set, a file or column that is missing, tables that say something else than was exported,
            samples that differ from their hash, or a ``root`` that is a store already.
    """
    folder, root = Path(folder), Path(root)
    if (root / "index.json").exists():
        raise BadInput(root, "folder", "one without a store", "a store (delete it, or name another folder)")
    index, files, expected = _read_tables(folder)
    same = digest(index) == expected
    if not same and not changed:
        found = "tables, facts or settings that were changed since"
        raise BadInput(folder, "content", f"what was exported ({expected})", found)
    writer = StoreWriter(root, index.study, index.sensors, index.settings)
    for stimulus in index.stimuli:
        _take_stimulus(writer, stimulus, folder / "stimuli")
    for recording in index.recordings:
        _take_recording(writer, recording, files[recording.id], index.sensors)
    for trial in index.trials:
        writer.add_trial(trial)
    return writer.close(index.revision if same else None)


def _read_tables(folder: Path) -> tuple[Index, dict[str, Path], str]:
    """All that is not a signal; the header of each recording; the digest that was exported."""
    about = _read_description(folder / "dataset_description.json")
    facts = _facts(folder / "dataset_description.json", about["facts"])
    recordings: list[tuple[int, Recording]] = []
    trials: list[tuple[int, Trial]] = []
    files: dict[str, Path] = {}
    sensors: Sensors | None = None
    for row in table(folder / "participants.tsv", ("participant_id", "subject")):
        home, label, subject = folder / row["participant_id"], row["participant_id"], text(row["subject"])
        if not re.fullmatch(r"sub-[A-Za-z0-9]+", label):
            raise BadInput(folder / "participants.tsv", "participant_id", "sub- and letters or digits", repr(label))
        sensors = _sensors(home / "eeg" / f"{label}_space-{SPACE}_electrodes.tsv", sensors)
        scans = home / f"{label}_scans.tsv"
        for scan in table(scans, ("filename", *SCANS)):
            place, recording = _recording(scans, scan, subject, facts)
            if recording.id in files:
                raise BadInput(scans, "recording", "a name used once", repr(recording.id))
            recordings.append((place, recording))
            files[recording.id] = _header(scans, scan["filename"], label)
            trials += _trials(files[recording.id], recording)
    if sensors is None:
        raise BadInput(folder / "participants.tsv", "rows", "at least one participant", 0)
    stimuli = _stimuli(folder / "stimuli" / "stimuli.tsv")
    found = Index(facts, about["revision"], sensors, _ordered(recordings), stimuli, _ordered(trials), about["settings"])
    return found, files, about["digest"]


def _ordered(placed: list[tuple[int, T]]) -> list[T]:
    return [each for _, each in sorted(placed, key=lambda pair: pair[0])]


def _read_description(path: Path) -> dict[str, Any]:
    kinds = {"format": int, "facts": dict, "settings": dict, "revision": str, "digest": str}
    if not path.is_file():
        raise BadInput(path, "file", "the description of a BIDS data set", "no such file")
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(path, "content", "JSON", f"a file that is cut short or damaged ({error})") from error
    about = body.get(KEY) if isinstance(body, dict) else None
    if not isinstance(about, dict):
        raise BadInput(path, KEY, "facts and settings, as `eeg2speech bids export` writes them", "none")
    for name, kind in kinds.items():
        if not isinstance(about.get(name), kind):
            raise BadInput(path, f"{KEY}.{name}", kind.__name__, repr(about.get(name)))
    if about["format"] != FORMAT:
        raise BadInput(path, f"{KEY}.format", FORMAT, about["format"])
    return about


@cache
def _reader_of_facts() -> TypeAdapter[StudyFacts]:
    from pydantic import TypeAdapter

    return TypeAdapter(StudyFacts)


def _facts(path: Path, told: dict[str, Any]) -> StudyFacts:
    from pydantic import ValidationError

    try:
        facts = _reader_of_facts().validate_json(json.dumps(told), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join((KEY, "facts", *map(str, first["loc"])))
        raise BadInput(path, field, first["msg"], repr(first.get("input"))) from error
    for name in ("audio_rate", "eeg_rate"):
        if getattr(facts, name) < 1:
            raise BadInput(path, f"{KEY}.facts.{name}", "at least 1 Hz", getattr(facts, name))
    return facts


def _sensors(path: Path, before: Sensors | None) -> Sensors:
    rows = table(path, ("name", "x", "y", "z"))
    places = [tuple(number(path, row, axis, float("nan")) for axis in "xyz") for row in rows]
    found = Sensors(tuple(row["name"] for row in rows), tuple((x, y, z) for x, y, z in places))
    # As text: NaN, of a sensor without a place, is never equal to itself.
    if before is not None and repr(before) != repr(found):
        raise BadInput(path, "electrodes", "those of the other subjects", "others")
    return found


def _recording(path: Path, row: dict[str, str], subject: str, facts: StudyFacts) -> tuple[int, Recording]:
    samples, place = whole(path, row, "samples"), whole(path, row, "place")
    return place, Recording(row["recording"], subject, samples, facts.eeg_rate, row["content_hash"])


def _header(scans: Path, name: str, label: str) -> Path:
    """The header of a recording, which lies in its subject's folder."""
    if not re.fullmatch(rf"eeg/{label}_[A-Za-z0-9_-]+_eeg\.vhdr", name):
        raise BadInput(scans, "filename", f"eeg/{label}_..._eeg.vhdr", repr(name))
    return scans.parent / name


def _trials(header: Path, recording: Recording) -> list[tuple[int, Trial]]:
    path = header.with_name(header.name.replace("_eeg.vhdr", "_events.tsv"))
    found = []
    for row in table(path, tuple(EVENTS)):
        span = number(path, row, "onset"), number(path, row, "duration")
        heard = row["attended"], text(row["unattended"]) or None
        trial = Trial(row["trial"], recording.id, recording.subject, *span, *heard, text(row["ear"]), text(row["part"]))
        found.append((whole(path, row, "place"), trial))
    return found


def _stimuli(path: Path) -> list[Stimulus]:
    found = []
    for row in table(path, tuple(STIMULI)):
        if not re.fullmatch(r"[0-9a-f]{16}", row["stimulus"]):
            raise BadInput(path, "stimulus", "16 hex digits", repr(row["stimulus"]))
        speaker, language, title, story = (text(row[name]) for name in ("speaker", "language", "title", "story"))
        samples, rate, bands = (whole(path, row, name) for name in ("samples", "rate", "bands"))
        found.append(Stimulus(row["stimulus"], samples, rate, speaker, language, title, story, bands))
    return found


def _take_stimulus(writer: StoreWriter, stimulus: Stimulus, folder: Path) -> None:
    path = folder / sound_name(stimulus)
    samples, rate = _sound(path, stimulus)
    about = (stimulus.speaker, stimulus.language, stimulus.title, stimulus.story)
    found = writer.add_stimulus(samples, rate, *about)
    if found != stimulus.id or writer.stimuli[found] != stimulus:
        raise BadInput(path, "content hash", f"{stimulus.id}, of {list(stimulus.shape)}", f"{found}, {samples.shape}")


def _sound(path: Path, stimulus: Stimulus) -> tuple[Samples, float]:
    from scipy.io import wavfile

    if not path.is_file():
        raise BadInput(path, "file", "a stimulus named in stimuli.tsv", "no such file")
    try:
        with quiet():
            rate, samples = (stimulus.rate, np.load(path)) if stimulus.bands else wavfile.read(path)
    except Exception as error:  # a damaged file comes out of the readers as nearly any error
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise BadInput(path, "content", "a signal", f"a file that is cut short or damaged ({reason})") from error
    if samples.dtype != np.float32 or samples.shape != stimulus.shape:
        raise BadInput(path, "content", f"float32 {list(stimulus.shape)}", f"{samples.dtype} {list(samples.shape)}")
    return samples, rate


def _take_recording(writer: StoreWriter, recording: Recording, path: Path, sensors: Sensors) -> None:
    writer.add_recording(recording.id, recording.subject, _eeg(path, recording, sensors), recording.rate)
    found = writer.recordings[recording.id].hash
    if found != recording.hash:
        raise BadInput(path.with_suffix(".eeg"), "content hash", recording.hash, found)


def _eeg(path: Path, recording: Recording, sensors: Sensors) -> Samples:
    """EEG [C, N] in microvolt, read by MNE."""
    import mne

    if not path.is_file():
        raise BadInput(path, "file", "a recording named in scans.tsv", "no such file")
    with _damage_refused(path):
        raw = mne.io.read_raw_brainvision(path, eog=(), misc=(), verbose="ERROR")
    found = tuple(raw.ch_names), raw.n_times, round(float(raw.info["sfreq"]), 6)
    for field, known, here in zip(
        ("channels", "samples", "rate"), (sensors.names, recording.samples, recording.rate), found, strict=True
    ):
        if here != known:
            raise BadInput(path, field, known, here)
    eeg = np.empty((len(sensors), recording.samples), np.float32)
    with _damage_refused(path):
        for begin in range(0, recording.samples, BLOCK):
            # MNE gives volts in double precision: times a million, the nearest float32 is the one in the file.
            eeg[:, begin : begin + BLOCK] = raw.get_data(start=begin, stop=min(begin + BLOCK, recording.samples)) * 1e6
    return eeg


@contextmanager
def _damage_refused(path: Path) -> Iterator[None]:
    try:
        with quiet():
            yield
    except Exception as error:  # a damaged file comes out of MNE as nearly any error
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise BadInput(path, "content", "BrainVision", f"a file that is cut short or damaged ({reason})") from error
