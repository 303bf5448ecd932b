"""Generation outside a benchmark: speech from an EEG file, to listen to.

EEG longer than the window that a system was trained on is generated window by window. Windows are draws of their own:
they agree about the EEG and not about the sound, so that they overlap by no more than a short cross-fade.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eeg2speech.controls import TRUE_EEG
from eeg2speech.data.eeg_files import fitted
from eeg2speech.data.types import Samples
from eeg2speech.errors import BadInput
from eeg2speech.evaluation.files import (
    DEMO_SPLIT,
    DEMO_STUDY,
    NOISE_CUE,
    EegOptions,
    at_rate,
    check_wav,
    cut,
    load_alone,
    noise_in_place_of,
    read_sensors,
    subject_number,
    weights_told,
    write_wav,
)
from eeg2speech.evaluation.scoring import BATCH, device_of, place
from eeg2speech.evaluation.trained import shipped
from eeg2speech.systems.interface import System, generated, require_task
from eeg2speech.systems.registry import checked, system_class

FADE_SECONDS = 0.04
"""Cross-fade between windows: shorter than a syllable, long enough not to click."""
SHORTEST = 0.5
"""Seconds of EEG under which there is nothing to hear."""
SAMPLING = ("guidance", "steps", "solver", "candidates")
"""Settings that a system can be asked with anew, without training."""
STRANGER = -1


@dataclass(frozen=True)
class Generation:
    """Speech [T] at ``rate`` Hz, as long as the part of the EEG.

    ``weights`` says which they were; ``listener`` whose EEG the system took it for; ``control`` what was done to it.
    ``settings`` are those of sampling, as far as the system has them, and the seed. ``windows`` counts the pieces that
    were joined.
    """

    speech: Samples
    rate: int
    weights: str
    listener: str
    control: str
    settings: dict[str, Any]
    windows: int


def generate_file(
    system: str,
    eeg: Path | str,
    *,
    checkpoint: Path | str | None = None,
    start: float = 0.0,
    seconds: float | None = None,
    out: Path | str | None = None,
    options: EegOptions | None = None,
    subject: str | None = None,
    montage: str | None = None,
    noise: bool = False,
    seed: int = 0,
    device: str = "cpu",
    guidance: float | None = None,
    steps: int | None = None,
    candidates: int | None = None,
) -> Generation:
    """Generate speech from an EEG file.

    Args:
        system: a registered name.
        eeg: a file that ``read_eeg`` reads. Not filtered, no reference changed.
        checkpoint: weights; those trained on ``simulated-clear`` that come with the package if None, a demonstration.
        start: second of the EEG to begin at. seconds: how much of it; to its end if None.
        out: the WAV to write; None writes nothing.
        options: what the EEG file does not say of itself.
        subject: who listens, one of the checkpoint's. Nobody named is a stranger to systems that take one.
        montage: a montage of MNE, for checkpoints that have names of sensors but no positions.
        noise: replace the EEG by the ``noise_cue`` control, drawn with ``seed``.
        seed: of all that is drawn at random; each window has a generator of its own from it.
        device: where a network answers.
        guidance, steps, candidates: in place of the checkpoint's settings, for systems that have them.

    Raises:
        BadInput: anything that cannot be read or does not fit, EEG shorter than the system takes, sampling settings
            that it has not or refuses, or speech that is not finite.
    """
    system_class(system)
    sound, source = None if out is None else Path(out), Path(eeg)
    check_wav(sound, [source])
    _check_numbers(start, seconds, seed)
    path = Path(checkpoint) if checkpoint else shipped(system, DEMO_STUDY, DEMO_SPLIT)
    built, about = load_alone(path, system, montage)
    _require_eeg_alone(built, system)
    _sample_with(built, system, {"guidance": guidance, "steps": steps, "candidates": candidates})
    number = _listener(built, subject, path)
    place(built, device)
    recorded, duration = _part(source, options or EegOptions(), built, start, seconds)
    if noise:
        recorded = noise_in_place_of(recorded, seed)
    rate = built.context.audio_rate
    windows = len(_begins(built, recorded.shape[1]))
    speech = generate_signals(built, recorded, number, seed)[: round(duration * rate)]
    if sound is not None:
        write_wav(sound, speech, rate)
    told = (weights_told(path, about), _words(built, number), NOISE_CUE if noise else TRUE_EEG)
    return Generation(speech, rate, *told, _sampling(built) | {"seed": seed}, windows)


def generate_signals(system: System, eeg: Samples, subject: int = STRANGER, seed: int = 0) -> Samples:
    """Ask a system for speech from EEG of any length.

    Args:
        system: built and trained; it gets what it declares (see ``generated``).
        eeg: [C, N] in microvolt, the context's sensors and EEG rate.
        subject: its place in the context's subjects, -1 for a stranger.
        seed: of all windows. What is drawn for a window depends on it and on the window's number alone.

    Returns:
        Speech [T] at the context's audio rate, as long as the EEG. Windows have the context's length (all of the EEG
        where that is less) and are cross-faded over 40 ms; the last one begins earlier, so that it is whole, and is
        heard from where the one before it ends.

    Raises:
        BadInput: another shape, a length that the system refuses, or speech that is not finite.
    """
    _check_eeg(system, eeg)
    context = system.context
    total = eeg.shape[1]
    size, begins = min(_size(system), total), _begins(system, total)
    windows = [eeg[:, begin : begin + size] for begin in begins]
    waves = _asked(system, windows, subject, seed)
    joined = _joined(waves, [_audio(system, begin) for begin in begins], round(FADE_SECONDS * context.audio_rate))
    speech = fitted(joined, _audio(system, total))
    if not np.isfinite(speech).all():
        raise BadInput(type(system).__name__, "speech", "finite samples", "some that are NaN or infinite")
    return speech


def _size(system: System) -> int:
    """EEG samples of a whole window."""
    return round(system.context.segment_seconds * system.context.eeg_rate)


def _audio(system: System, samples: int) -> int:
    """Samples of audio that last as long as so many of EEG."""
    return round(samples / system.context.eeg_rate * system.context.audio_rate)


def _begins(system: System, total: int) -> list[int]:
    """EEG samples at which windows begin; each overlaps the one before by the cross-fade or more, the last ends at
    ``total``."""
    size = min(_size(system), total)
    # A sample more, for what rounding to samples of audio may take.
    step = size - int(np.ceil(FADE_SECONDS * system.context.eeg_rate)) - 1
    return [*range(0, total - size, step), total - size]


def _asked(system: System, windows: Sequence[Samples], subject: int, seed: int) -> Iterator[Samples]:
    """Speech [T] from each window of EEG [C, N], on the system's own device."""
    device = device_of(system)
    for first in range(0, len(windows), BATCH):
        batch = windows[first : first + BATCH]
        felt = torch.from_numpy(np.stack(batch)).to(device)
        listeners = torch.full((len(batch),), subject, device=device)
        generators = [_generator(seed, first + k) for k in range(len(batch))]
        nothing = torch.zeros(len(batch), _audio(system, felt.shape[-1]), device=device)
        yield from generated(system, felt, listeners, generators, nothing).cpu().numpy()


def _generator(seed: int, window: int) -> torch.Generator:
    digest = hashlib.sha256(f"{seed}:window {window}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def _joined(waves: Iterator[Samples], begins: Sequence[int], fade: int) -> Samples:
    """Waves in a row, each heard from where the one before it ends but for the fade."""
    made = np.array(next(waves))
    # Different draws are not in phase: their powers add up, not their amplitudes.
    rise = np.sin(np.linspace(0, np.pi / 2, fade + 2)[1:-1]).astype(np.float32)
    for begin, wave in zip(begins[1:], waves, strict=True):
        first = len(made) - fade - begin
        faded = made[-fade:] * rise[::-1] + wave[first : first + fade] * rise
        made = np.concatenate([made[:-fade], faded, wave[first + fade :]])
    return made


def _part(
    path: Path, options: EegOptions, system: System, start: float, seconds: float | None
) -> tuple[Samples, float]:
    """The part of a file, [C, N] at the context's EEG rate, and its duration in seconds."""
    file = read_sensors(path, options, system.context)
    left = file.seconds - start
    length = left if seconds is None else seconds
    # Half a sample is what rounding may take.
    if length > left + 0.5 / file.rate or left <= 0:
        wanted = f"{'the rest' if seconds is None else f'{seconds:g} s'} from {start:g} s on"
        raise BadInput(path, "part", f"one within its {file.seconds:.3f} s", wanted)
    if length < SHORTEST:
        raise BadInput(path, "part", f"at least {SHORTEST} s of EEG", f"{length:.3f} s")
    wanted_rate = system.context.eeg_rate
    return at_rate(cut(file.samples, start, length, file.rate), file.rate, wanted_rate, length), length


def _listener(system: System, subject: str | None, path: Path) -> int:
    """A subject's number; that of a stranger where nobody is named and the system takes strangers."""
    if subject is None and system.facts.uses_subject and _takes_strangers(system):
        return STRANGER
    return subject_number(system, subject, path)


def _takes_strangers(system: System) -> bool:
    """Whether its brain encoder says so: its settings are the system's own, or among them."""
    encoder = getattr(system.settings, "encoder", system.settings)
    return getattr(encoder, "unknown_subjects", None) == "average"


def _words(system: System, number: int) -> str:
    if not system.facts.uses_subject:
        return "not asked for by this system"
    return "a stranger" if number == STRANGER else system.context.subjects[number]


def _sample_with(system: System, name: str, wanted: dict[str, Any]) -> None:
    """Replace settings of sampling that are given, by values that the system's settings accept."""
    given = {field: value for field, value in wanted.items() if value is not None}
    for field in given:
        if field not in _sampling(system):
            raise BadInput(name, f"--{field}", "a system that has this setting", "one that has not")
    if given:
        checked(type(system.settings), system.settings.model_dump() | given, name)
        system.settings = system.settings.model_copy(update=given)


def _sampling(system: System) -> dict[str, Any]:
    return {field: getattr(system.settings, field) for field in SAMPLING if hasattr(system.settings, field)}


def _require_eeg_alone(system: System, name: str) -> None:
    require_task(system.facts, "generation", name)
    if system.facts.sees != "mixture":
        raise BadInput(name, "system", "one that generates from EEG alone", f"sees {system.facts.sees!r}")


def _check_numbers(start: float, seconds: float | None, seed: int) -> None:
    if not 0 <= start < float("inf"):
        raise BadInput("part", "--start", "0 s or later", start)
    if seconds is not None and not 0 < seconds < float("inf"):
        raise BadInput("part", "--seconds", "more than 0 s", seconds)
    if seed < 0:
        raise BadInput("generation", "--seed", "at least 0", seed)


def _check_eeg(system: System, eeg: Samples) -> None:
    sensors = len(system.context.sensors)
    if eeg.ndim != 2 or len(eeg) != sensors or eeg.dtype != np.float32 or not eeg.size:
        found = f"{eeg.dtype} {list(eeg.shape)}"
        raise BadInput(type(system).__name__, "eeg", f"float32 [{sensors}, N], not empty", found)
