"""What every use outside a benchmark needs: a system from its checkpoint alone, EEG from a file, sound to a file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import soundfile
from pydantic import BaseModel, ConfigDict

from eeg2speech.controls import Place, noise_cue
from eeg2speech.data.eeg_files import EegFile, arranged, fitted, read_eeg, resample
from eeg2speech.data.types import Samples, Sensors
from eeg2speech.errors import BadInput, unknown_name
from eeg2speech.evaluation.protocol import protocol
from eeg2speech.records.files import write_atomically
from eeg2speech.systems.interface import Context, System
from eeg2speech.systems.registry import build, checked, declare
from eeg2speech.training.checkpoint import load_weights, require_match

DEMO_STUDY, DEMO_SPLIT, DEMO_PROTOCOL = "simulated-clear", "stimulus", "demo-1"
NOISE_CUE = "noise_cue"


@dataclass(frozen=True)
class EegOptions:
    """What an EEG file may not say of itself: rate in Hz, unit (V, mV, uV), name of the data set (HDF5)."""

    rate: float | None = None
    unit: str | None = None
    key: str | None = None


class _Said(BaseModel):
    """What a checkpoint says of itself, as far as it is needed here. Older ones have no positions and no window."""

    model_config = ConfigDict(frozen=True)

    audio_rate: int
    eeg_rate: int
    sensors: tuple[str, ...]
    subjects: tuple[str, ...]
    settings: dict[str, Any]
    study: str
    split_kind: str
    segment_seconds: float | None = None
    positions: tuple[tuple[float, float, float], ...] | None = None


def load_alone(path: Path, name: str, montage: str | None = None) -> tuple[System, dict[str, Any]]:
    """A trained system from its checkpoint alone, without its study, and what the checkpoint says of itself.

    Raises:
        BadInput: a checkpoint of another system, or one without positions of its sensors (see ``context_of``).
    """
    about = load_weights(path)[1]
    require_match(path, about, {"system": name})
    return loaded(path, name, context_of(path, about, montage)), about


def loaded(path: Path, name: str, context: Context) -> System:
    """A system with a checkpoint's settings and weights, for a context that is known.

    Raises BadInput for one that was trained under conditions: whoever asks it here would not keep to them.
    """
    state, about = load_weights(path)
    if conditions := about.get("conditions"):
        raise BadInput(path, "conditions", "none (ask it with `eeg2speech evaluate --checkpoint`)", conditions)
    system = build(declare({"system": name, "settings": about["settings"]}, path), context)
    system.load_state(state)
    return system


def context_of(path: Path, about: dict[str, Any], montage: str | None = None) -> Context:
    """The context that a checkpoint was made for.

    Checkpoints that were written before positions were kept take them from ``montage``, or from the simulated studies
    if they have its very sensors.

    Raises:
        BadInput: positions that nobody knows, a montage that is unknown, has not all sensors, or is not needed.
    """
    told = said(path, about)
    sensors = Sensors(told.sensors, _positions(path, told, montage))
    seconds = told.segment_seconds or protocol(DEMO_PROTOCOL).segment_seconds
    return Context(told.audio_rate, told.eeg_rate, sensors, told.subjects, seconds)


def said(path: Path, about: dict[str, Any]) -> _Said:
    """What a checkpoint says of itself, checked. Raises BadInput for one that ``train`` did not write."""
    missing = [name for name, field in _Said.model_fields.items() if field.is_required() and name not in about]
    if missing:
        raise BadInput(path, "checkpoint", "one from `eeg2speech train`", f"one without {', '.join(missing)}")
    return checked(_Said, {name: about[name] for name in _Said.model_fields if name in about}, path)


def weights_told(path: Path, about: dict[str, Any]) -> str:
    """Which weights they were, in words."""
    return f"{path}, trained on {about['study']}, split {about['split_kind']}"


def subject_number(system: System, subject: str | None, path: Path) -> int:
    """A listener's place in the context's subjects; 0 where nobody is named and the system does not ask.

    Raises:
        BadInput: a name that the checkpoint ``path`` does not know, or none for a system that uses it.
    """
    known = system.context.subjects
    if subject is None:
        if system.facts.uses_subject:
            raise BadInput(path, "--subject", f"one of {', '.join(known)}, for this system uses it", "none")
        return 0
    if subject not in known:
        raise unknown_name(path, "--subject", subject, known)
    return known.index(subject)


def read_sensors(path: Path | str, options: EegOptions, context: Context) -> EegFile:
    """A file's EEG [C, N] in microvolt with the context's sensors, still at its own rate.

    Raises:
        BadInput: what ``read_eeg`` refuses, or a file without all sensors.
    """
    names = context.sensors.names
    file = read_eeg(path, options.rate, options.unit, options.key, names)
    return EegFile(arranged(file, names, path), file.rate, names)


def cut(signal: Samples, start: float, length: float, rate: float) -> Samples:
    """``length`` seconds of [..., N] at ``rate`` Hz, from ``start`` seconds on."""
    begin = round(start * rate)
    return signal[..., begin : begin + round(length * rate)]


def at_rate(recorded: Samples, rate: float, wanted: int, seconds: float) -> Samples:
    """EEG [C, N] at ``rate`` Hz -> at ``wanted`` Hz, the fewest whole samples that cover ``seconds``."""
    same = resample(recorded, rate, wanted, "line")
    # Beside a whole number, rounding errors of the product would ask for one sample more.
    return fitted(same, int(np.ceil(seconds * wanted - 1e-6)))


def noise_in_place_of(eeg: Samples, seed: int) -> Samples:
    """The ``noise_cue`` control of a file's EEG [C, N], drawn with ``seed``."""
    # The control looks nowhere else in a study, so it needs no place in one.
    return noise_cue(eeg, cast(Place, None), np.random.default_rng(seed))


def write_wav(path: Path, wave: Samples, rate: int) -> None:
    """Write [T] as 32-bit float WAV, whole or not at all."""
    content = io.BytesIO()
    soundfile.write(content, wave, rate, format="WAV", subtype="FLOAT")
    write_atomically(path, content.getvalue())


def check_wav(out: Path | None, inputs: Sequence[Path]) -> None:
    """Refuse, before anything is computed, a WAV that cannot be written or would replace what is read."""
    if out is not None and out.suffix.lower() != ".wav":
        raise BadInput(out, "--out", "a file ending in .wav", repr(out.suffix))
    check_file(out, "--out", inputs)


def check_file(path: Path | None, field: str, inputs: Sequence[Path]) -> None:
    """Refuse a file to write that is one of ``inputs``, or a folder, or within what cannot be a folder."""
    if path is None:
        return
    if path.resolve() in [given.resolve() for given in inputs]:
        raise BadInput(path, field, "another file than those that are read", "one of them")
    if path.is_dir():
        raise BadInput(path, field, "a file", "a folder")
    check_folder(path.parent, field)


def check_folder(folder: Path, field: str) -> None:
    """Refuse a folder that is not one and cannot be made."""
    there = next(place for place in (folder, *folder.parents) if place.exists() or place == place.parent)
    if there.exists() and not there.is_dir():
        raise BadInput(folder, field, "a folder", f"{there} is a file")


def _positions(path: Path, told: _Said, montage: str | None) -> tuple[tuple[float, float, float], ...]:
    names = told.sensors
    if told.positions is not None:
        if montage is not None:
            raise BadInput(path, "--montage", "none, for the checkpoint has positions", repr(montage))
        return told.positions
    if montage is not None:
        return _of_montage(names, montage)
    from eeg2speech.data import forward_model

    simulated = forward_model.sensors()
    if simulated.names != names:
        raise BadInput(path, "positions", "--montage, a montage of MNE with the checkpoint's sensors", "none")
    return simulated.positions


def _of_montage(names: Sequence[str], montage: str) -> tuple[tuple[float, float, float], ...]:
    """Positions in metres, in head coordinates."""
    import mne

    if montage not in mne.channels.get_builtin_montages():
        raise unknown_name("mne", "--montage", montage, mne.channels.get_builtin_montages())
    made = mne.channels.make_standard_montage(montage)
    missing = sorted(set(names) - set(made.ch_names))
    if missing:
        raise BadInput(montage, "--montage", "a montage with all sensors", f"none named {', '.join(missing)}")
    info = mne.create_info(list(names), 1.0, "eeg", verbose="ERROR")
    info.set_montage(made, verbose="ERROR")
    return tuple((float(x), float(y), float(z)) for x, y, z in (channel["loc"][:3] for channel in info["chs"]))
