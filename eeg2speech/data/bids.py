"""A prepared study as a BIDS data set, and back.

::

    FOLDER/dataset_description.json     name, licence, source, citation; under EEG2Speech all facts and settings
    FOLDER/participants.tsv             participant_id, and subject: its name in the store
    FOLDER/stimuli/stimuli.tsv          each stimulus once: speaker, language, title, story, rate
    FOLDER/stimuli/<hash>.wav           float32, mono; of a study without sound <hash>.npy [bands, samples]
    FOLDER/sub-X/sub-X_scans.tsv        recordings: recording is the name in the store
    FOLDER/sub-X/eeg/sub-X_task-listening_run-NN_eeg.vhdr, .eeg, .vmrk, .json, _channels.tsv
    FOLDER/sub-X/eeg/..._events.tsv     trials: when, what was attended and what was not
    FOLDER/sub-X/eeg/sub-X_space-CapTrak_electrodes.tsv, ..._coordsystem.json

EEG is BrainVision, float32 in microvolt at a resolution of 1: the very numbers of the store, to the bit. BIDS labels
have letters and digits only; a subject's label is its name without the rest, or where that is not unique, a number.
What is empty is "n/a" in tables. Sensor positions are MNE's head coordinates, which BIDS calls CapTrak; where the ears
and the nose are, a store does not know.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import tempfile
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from eeg2speech.data.bids_reading import read_bids
from eeg2speech.data.bids_tables import (
    BLOCK,
    EVENTS,
    FORMAT,
    KEY,
    MISSING,
    SCANS,
    SPACE,
    STIMULI,
    TASK,
    digest,
    quiet,
    sound_name,
    write_json,
    write_table,
)
from eeg2speech.data.store import Store
from eeg2speech.data.types import Index, Recording, StudyFacts, Trial
from eeg2speech.errors import BadInput

__all__ = ["export_bids", "read_bids"]


@dataclass(frozen=True)
class _Place:
    """Where a recording lies in a data set."""

    recording: Recording
    label: str
    run: int

    @property
    def stem(self) -> str:
        return f"sub-{self.label}_task-{TASK}_run-{self.run:02d}"

    @property
    def header(self) -> str:
        """Path of its header below the subject's folder."""
        return f"eeg/{self.stem}_eeg.vhdr"


def export_bids(store: Store, folder: Path) -> list[Path]:
    """Write a store as a BIDS data set; needs mne-bids. Returns the EEG's headers, in the order of the recordings.

    The data set bears its name when it is whole; before, it lies in a hidden folder beside it.

    Raises:
        BadInput: mne-bids is not installed, a folder that holds something already, a name or text that BIDS cannot
            hold, a store whose signals differ from their hashes.
    """
    _require_package()
    folder = Path(folder).absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput(folder, "folder", "a new or an empty one", "one that holds something")
    _require_expressible(store.index)
    store.verify()
    partial = folder.with_name(f".{folder.name}.bids-partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    places = _places(store.index)
    (partial / "README").write_text(_readme(store.facts), encoding="utf-8")
    _write_stimuli(store, partial)
    for place in places:
        _write_recording(store, place, partial)
    for label in dict.fromkeys(place.label for place in places):
        _write_subject(store.index, [place for place in places if place.label == label], partial)
    _write_participants(places, partial)
    _write_description(store.index, partial)
    if folder.exists():
        folder.rmdir()
    partial.rename(folder)
    return [folder / f"sub-{place.label}" / place.header for place in places]


def _require_package() -> None:
    if find_spec("mne_bids") is None:
        raise BadInput("BIDS", "package", "mne-bids: pip install 'eeg2speech[bids]'", "not installed")


def _places(index: Index) -> list[_Place]:
    labels = _labels([recording.subject for recording in index.recordings])
    runs = dict.fromkeys(labels.values(), 0)
    places = []
    for recording in index.recordings:
        label = labels[recording.subject]
        runs[label] += 1
        places.append(_Place(recording, label, runs[label]))
    return places


def _labels(subjects: Iterable[str]) -> dict[str, str]:
    """A label for each subject: of letters and digits, and no two that differ by case only."""
    names = [*dict.fromkeys(subjects)]
    plain = [re.sub(r"[^A-Za-z0-9]", "", name.removeprefix("sub-")) for name in names]
    if not all(plain) or len({label.casefold() for label in plain}) < len(plain):
        width = max(2, len(str(len(names))))
        plain = [f"{number:0{width}d}" for number in range(1, len(names) + 1)]
    return dict(zip(names, plain, strict=True))


def _require_expressible(index: Index) -> None:
    for kind, rows in (("recording", index.recordings), ("stimulus", index.stimuli), ("trial", index.trials)):
        for row in map(asdict, rows):
            for name, value in row.items():
                if isinstance(value, str) and not _fits_cell(value):
                    expected = f"text in one line, other than {MISSING!r}, as tables of BIDS can hold it"
                    raise BadInput(f"{kind} {row['id']!r}", name, expected, repr(value))
    names = index.sensors.names
    for name in names:
        if not name.isprintable() or name != name.strip() or name in ("", MISSING) or names.count(name) > 1:
            raise BadInput("sensors", "name", "printable text, used once, without blanks around it", repr(name))
    for value in (value for position in index.sensors.positions for value in position):
        if math.isinf(value):
            raise BadInput("sensors", "position", "a finite number of metres", value)


def _fits_cell(value: str) -> bool:
    return value != MISSING and not any(unicodedata.category(sign) in ("Cc", "Cs") for sign in value)


def _write_stimuli(store: Store, root: Path) -> None:
    from scipy.io import wavfile

    folder = root / "stimuli"
    folder.mkdir()
    rows = []
    for stimulus in store.stimuli.values():
        file, samples = folder / sound_name(stimulus), store.stimulus(stimulus.id)
        if stimulus.bands:
            np.save(file, samples)
        else:
            wavfile.write(file, stimulus.rate, samples)
        rows.append(asdict(stimulus) | {"stimulus": stimulus.id, "stim_file": file.name})
    write_table(folder / "stimuli.tsv", STIMULI, rows)


def _write_recording(store: Store, place: _Place, root: Path) -> None:
    """Everything about a recording as mne-bids writes it from a header; then the samples, which no one converts."""
    import mne
    from mne_bids import BIDSPath, update_sidecar_json, write_raw_bids

    trials = [(k, trial) for k, trial in enumerate(store.trials.values()) if trial.recording == place.recording.id]
    path = BIDSPath(subject=place.label, task=TASK, run=f"{place.run:02d}", datatype="eeg", root=root)
    with tempfile.TemporaryDirectory() as loose, quiet():
        header = _write_header(Path(loose), store.index.sensors.names, place.recording)
        raw = mne.io.read_raw_brainvision(header, eog=(), misc=(), verbose="ERROR")
        if tuple(raw.ch_names) != store.index.sensors.names:
            raise BadInput("sensors", "name", "names that BrainVision can hold", list(store.index.sensors.names))
        raw.set_annotations(None)
        written = write_raw_bids(raw, path, readme=False, verbose="ERROR")
        about = _about_recording(store.index, len(trials))
        update_sidecar_json(written.copy().update(extension=".json"), about, verbose="ERROR")
    _write_samples(store, place.recording, written.fpath.with_suffix(".eeg"))
    events = written.copy().update(suffix="events", extension=".tsv").fpath
    write_table(events, EVENTS, [_event(store, k, trial) for k, trial in sorted(trials, key=_onset)])


def _about_recording(index: Index, trials: int) -> dict[str, Any]:
    steps = index.settings.get("steps")
    known = steps if isinstance(steps, dict) else {}
    return {
        "TaskDescription": "Listening to speech",
        "Manufacturer": MISSING,
        "EEGReference": str(known.get("reference", MISSING)),
        "SoftwareFilters": {"preparation": known} if known else MISSING,
        # Trials of a prepared study lie end to end, whatever was between them.
        "RecordingType": "discontinuous" if trials > 1 else "continuous",
    }


def _event(store: Store, place: int, trial: Trial) -> dict[str, Any]:
    names = {"onset": trial.start, "trial": trial.id, "trial_type": _kind(trial), "place": place}
    return asdict(trial) | names | {"stim_file": sound_name(store.stimuli[trial.attended])}


def _onset(numbered: tuple[int, Trial]) -> float:
    return numbered[1].start


def _kind(trial: Trial) -> str:
    return "one-talker" if trial.unattended is None else "two-talkers"


def _write_header(folder: Path, names: Sequence[str], recording: Recording) -> Path:
    """A BrainVision header, its markers, and as many zeros as there will be samples; the zeros take no room on disk."""
    channels = "\n".join(f"Ch{k}={name.replace(',', chr(92) + '1')},,1,µV" for k, name in enumerate(names, 1))
    common = "[Common Infos]\nCodepage=UTF-8\nDataFile=recording.eeg\n"
    (folder / "recording.vhdr").write_text(
        f"BrainVision Data Exchange Header File Version 1.0\n\n{common}MarkerFile=recording.vmrk\n"
        f"DataFormat=BINARY\nDataOrientation=MULTIPLEXED\nNumberOfChannels={len(names)}\n"
        f"SamplingInterval={1e6 / recording.rate!r}\n\n[Binary Infos]\nBinaryFormat=IEEE_FLOAT_32\n\n"
        f"[Channel Infos]\n{channels}\n",
        encoding="utf-8",
    )
    (folder / "recording.vmrk").write_text(
        f"BrainVision Data Exchange Marker File, Version 1.0\n\n{common}\n[Marker Infos]\nMk1=New Segment,,1,1,0,0\n",
        encoding="utf-8",
    )
    with (folder / "recording.eeg").open("wb") as file:
        file.truncate(4 * len(names) * recording.samples)
    return folder / "recording.vhdr"


def _write_samples(store: Store, recording: Recording, path: Path) -> None:
    eeg = store.eeg(recording.id)
    with path.open("wb") as file:
        for begin in range(0, recording.samples, BLOCK):
            file.write(np.ascontiguousarray(eeg[:, begin : begin + BLOCK].T, "<f4").data)


def _write_subject(index: Index, places: Sequence[_Place], root: Path) -> None:
    folder = root / f"sub-{places[0].label}"
    order = {recording.id: k for k, recording in enumerate(index.recordings)}
    rows: list[dict[str, Any]] = []
    for place in places:
        names = {"filename": place.header, "acq_time": "", "recording": place.recording.id}
        about = {"content_hash": place.recording.hash, "place": order[place.recording.id]}
        rows.append(names | about | {"samples": place.recording.samples})
    about_all = {"filename": "", "acq_time": ""} | SCANS
    write_table(folder / f"{folder.name}_scans.tsv", about_all, rows)
    electrodes = folder / "eeg" / f"{folder.name}_space-{SPACE}_electrodes.tsv"
    positions = zip(index.sensors.names, index.sensors.positions, strict=True)
    rows = [{"name": name, "x": x, "y": y, "z": z} for name, (x, y, z) in positions]
    write_table(electrodes, dict.fromkeys(("name", "x", "y", "z"), ""), rows)
    system = {f"EEGCoordinate{part}": text for part, text in (("System", SPACE), ("Units", "m"))}
    write_json(electrodes.with_name(f"{folder.name}_space-{SPACE}_coordsystem.json"), system)


def _write_participants(places: Sequence[_Place], root: Path) -> None:
    subjects = {place.label: place.recording.subject for place in places}
    rows = [{"participant_id": f"sub-{label}", "subject": subject} for label, subject in subjects.items()]
    about = {"participant_id": "", "subject": "Name of the subject in the store"}
    write_table(root / "participants.tsv", about, rows)


def _write_description(index: Index, root: Path) -> None:
    from mne_bids import make_dataset_description

    facts = index.study
    maker = {"Name": "eeg2speech", "Version": metadata.version("eeg2speech"), "Description": facts.note}
    make_dataset_description(
        path=root,
        name=facts.title or facts.name,
        data_license=facts.licence,
        how_to_acknowledge=facts.citation,
        references_and_links=[facts.citation, *([f"https://doi.org/{facts.doi}"] if facts.doi else [])],
        generated_by=[maker],
        source_datasets=[{"DOI": f"doi:{facts.doi}"}] if facts.doi else None,
        overwrite=True,
        verbose="ERROR",
    )
    path = root / "dataset_description.json"
    about = {"format": FORMAT, "facts": asdict(facts), "settings": index.settings, "revision": index.revision}
    body = json.loads(path.read_text(encoding="utf-8"))
    del body["Authors"]  # made up where they are not given; the citation names them
    write_json(path, body | {KEY: about | {"digest": digest(index)}})


def _readme(facts: StudyFacts) -> str:
    problems = "".join(f"- {problem}\n" for problem in facts.known_problems)
    return (
        f"{facts.title}\n\nEEG and the speech heard, as the eeg2speech benchmark prepared them: {facts.note}.\n"
        f"EEG is resampled and cleaned by the steps in dataset_description.json, under {KEY}.\n\n"
        f"Licence: {facts.licence}\nSource: {facts.doi or 'none'}\nCite: {facts.citation}\n"
        + (f"\nKnown problems:\n{problems}" if problems else "")
    )
