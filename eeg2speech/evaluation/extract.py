"""Extraction outside a benchmark: from a mixture and an EEG file, or of a few segments of a study, to listen to.

A checkpoint says for which sensors, rates and subjects it was trained; what a file holds is brought to them, and what
cannot be is refused. Estimates are written as 32-bit float WAV, which neither clips nor needs a gain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch

from eeg2speech.controls import TRUE_EEG
from eeg2speech.data.eeg_files import EegFile, fitted, resample
from eeg2speech.data.mixing import LEVEL, Mixer
from eeg2speech.data.store import Store
from eeg2speech.data.studies.registry import prepare
from eeg2speech.data.types import Samples, Segment
from eeg2speech.data.windows import even_segments
from eeg2speech.errors import BadInput, unknown_name
from eeg2speech.evaluation.files import (
    DEMO_PROTOCOL,
    DEMO_SPLIT,
    DEMO_STUDY,
    NOISE_CUE,
    EegOptions,
    at_rate,
    check_file,
    check_folder,
    check_wav,
    cut,
    load_alone,
    loaded,
    noise_in_place_of,
    read_sensors,
    said,
    subject_number,
    weights_told,
    write_wav,
)
from eeg2speech.evaluation.protocol import Protocol, protocol
from eeg2speech.evaluation.scoring import device_of, estimates, place
from eeg2speech.evaluation.trained import shipped
from eeg2speech.metrics import Score, Unscorable, si_sdr
from eeg2speech.report.panels import check_format, save_panels
from eeg2speech.splits import make_split
from eeg2speech.splits.manifest import PARTS, Split
from eeg2speech.systems.interface import Context, System, answer
from eeg2speech.systems.registry import build, declare, system_class
from eeg2speech.training.checkpoint import load_weights, require_match

TOLERANCE = 0.02
"""Seconds by which audio and EEG of one part may differ in length."""
WHOLE_SECONDS, WINDOW_SECONDS, FADE_SECONDS = 60.0, 30.0, 1.0
"""Up to which length a mixture is extracted in one piece; windows and cross-fade of longer ones."""
MIXTURE_LEVEL = LEVEL * 2**0.5
"""Root mean square of two talkers as ``Mixer`` mixes them: systems are asked at the level that they were trained at."""


@dataclass(frozen=True)
class Part:
    """Which part to extract, in seconds: from ``start`` of the audio, for ``duration`` (to the end if None).

    ``eeg_start`` is where in the EEG file the audio begins.
    """

    start: float = 0.0
    duration: float | None = None
    eeg_start: float = 0.0

    def __post_init__(self) -> None:
        for field in ("start", "eeg_start"):
            if not 0 <= getattr(self, field) < float("inf"):
                raise BadInput("part", _option(field), "0 s or later", getattr(self, field))
        if self.duration is not None and not 0 < self.duration < float("inf"):
            raise BadInput("part", "--duration", "more than 0 s", self.duration)


@dataclass(frozen=True)
class Audio:
    """One channel of an audio file: samples [T] at ``rate`` Hz, full scale 1.0."""

    path: Path
    samples: Samples
    rate: int

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return len(self.samples) / self.rate


@dataclass(frozen=True)
class Extraction:
    """What came of two files: mixture, estimate and, if it was given, target, each [T] at ``rate``, the mixture's.

    ``si_sdr`` has the estimate and the mixture against the target, scored at the system's audio rate; it is empty
    without a target. ``weights`` says which they were.
    """

    mixture: Samples
    estimate: Samples
    target: Samples | None
    rate: int
    si_sdr: dict[str, Score]
    weights: str

    @property
    def signals(self) -> dict[str, Samples]:
        """What there is, by name, for panels."""
        given = {"mixture": self.mixture, "estimate": self.estimate}
        return given if self.target is None else given | {"target": self.target}


@dataclass(frozen=True)
class Sample:
    """A segment of a study, its sound in ``folder``.

    ``si_sdr`` has the estimate and the mixture against the target; ``weights`` says which they were.
    """

    folder: Path
    title: str
    si_sdr: dict[str, Score]
    weights: str


def extract_files(
    system: str,
    audio: Path | str,
    eeg: Path | str,
    *,
    checkpoint: Path | str | None = None,
    target: Path | str | None = None,
    out: Path | None = None,
    plot: Path | None = None,
    options: EegOptions | None = None,
    part: Part | None = None,
    channel: int | None = None,
    subject: str | None = None,
    window: float | None = None,
    montage: str | None = None,
    noise: bool = False,
    seed: int = 0,
    device: str = "cpu",
) -> Extraction:
    """Extract the attended speech of an audio file with the help of an EEG file.

    Args:
        system: a registered name.
        audio: the mixture, WAV or FLAC; its rate and length are the estimate's.
        eeg: a file that ``read_eeg`` reads. Not filtered, no reference changed.
        checkpoint: weights; those trained on ``simulated-clear`` that come with the package if None, a demonstration.
        target: clean speech, to score and to plot beside the estimate.
        out: the WAV to write. plot: the panels to write (png, svg or pdf). None writes nothing.
        options: what the EEG file does not say of itself.
        part: which part of the files; without a duration they must end together.
        channel: of an audio file with several, from 1.
        subject: who listens, one of the checkpoint's; needed by systems that use it.
        window: seconds a system is asked about at a time, see ``extract_signals``.
        montage: a montage of MNE, for checkpoints that have names of sensors but no positions.
        noise: replace the EEG by the ``noise_cue`` control, drawn with ``seed``.
        device: where a network answers.

    Raises:
        BadInput: anything that cannot be read or does not fit, before the system is asked.
    """
    system_class(system)
    _check_outputs(out, plot, [Path(path) for path in (audio, eeg, target) if path is not None])
    path = Path(checkpoint) if checkpoint else shipped(system, DEMO_STUDY, DEMO_SPLIT)
    built, about = load_alone(path, system, montage)
    _require_mixture_only(built, system)
    number = subject_number(built, subject, path)
    place(built, device)
    part = part or Part()
    heard = read_audio(audio, channel)
    felt = read_sensors(eeg, options or EegOptions(), built.context)
    mixture, recorded = _common_part(heard, felt, part, built.context.eeg_rate)
    clean = None if target is None else _target(read_audio(target, channel), heard, part, len(mixture))
    if noise:
        recorded = noise_in_place_of(recorded, seed)
    rate = built.context.audio_rate
    seen = resample(mixture, heard.rate, rate)
    found = extract_signals(built, seen, recorded, number, window)
    estimate = fitted(resample(found, rate, heard.rate), len(mixture))
    scores = {} if clean is None else _scores(resample(clean, heard.rate, rate), found, seen)
    done = Extraction(mixture, estimate, clean, heard.rate, scores, weights_told(path, about))
    if out is not None:
        write_wav(out, estimate, heard.rate)
    if plot is not None:
        _plot(plot, done, rate, f"{system}: {heard.path.name}" + (", noise cue" if noise else ""))
    return done


def extract_study(
    system: str,
    study: str | Store = DEMO_STUDY,
    split: str = DEMO_SPLIT,
    *,
    out: Path,
    subset: str = "test",
    count: int = 3,
    checkpoint: Path | str | None = None,
    noise: bool = False,
    plot: str | None = None,
    device: str = "cpu",
    protocol_name: str = DEMO_PROTOCOL,
) -> list[Sample]:
    """Extract a few segments of a study, evenly spread over a part of a split, and write their sound.

    Segments, mixing and the noise of the ``noise_cue`` control are those of the protocol: a test segment's SI-SDR is
    what an evaluation finds. Each gets a folder ``<out>/<its number>`` with ``mixture.wav``, ``target.wav`` and
    ``estimate.wav`` (``estimate_noise_cue.wav`` with ``noise``), and panels if ``plot`` names a file for them.

    Raises:
        BadInput: unknown names, more segments than there are, or weights of another study or split.
    """
    if subset not in PARTS:
        raise unknown_name("splits", "--subset", subset, PARTS)
    if plot is not None:
        _check_plot_name(plot)
    check_folder(out, "--out")
    system_class(system)
    chosen = protocol(protocol_name)
    store = prepare(study) if isinstance(study, str) else study
    made = make_split(store.index, split, chosen.split_seed)
    segments = _some_segments(store, made, chosen, subset, count)
    built, weights = _of_study(system, store, made, chosen, checkpoint)
    place(built, device)
    control, suffix = (NOISE_CUE, f"_{NOISE_CUE}") if noise else (TRUE_EEG, "")
    rate = chosen.audio_rate
    mixer = Mixer(store, chosen.target_to_interferer_db)
    answers = estimates(built, store, list(segments.values()), mixer, control, chosen.evaluation_seed)
    samples = []
    for number, (scene, estimate) in zip(segments, answers, strict=True):
        title = f"{system}, {control}: {_words(store, scene.segment)}"
        folder = out / f"{number:04}"
        # A bad sample is silenced in the file; the score says that it was there.
        sound = {"mixture": scene.mixture, "estimate": np.nan_to_num(estimate), "target": scene.target}
        for name, wave in sound.items():
            write_wav(folder / (f"estimate{suffix}.wav" if name == "estimate" else f"{name}.wav"), wave, rate)
        if plot is not None:
            panels = folder / f"{Path(plot).stem}{suffix}{Path(plot).suffix}"
            save_panels(panels, sound, rate, f"{title}\n{store.facts.note}")
        samples.append(Sample(folder, title, _scores(scene.target, estimate, scene.mixture), weights))
    return samples


def extract_signals(
    system: System, mixture: Samples, eeg: Samples, subject: int = 0, window: float | None = None
) -> Samples:
    """Ask a system for the attended speech in a mixture of any length.

    The mixture is brought to the level of training and the estimate back by the same factor, so that the gain of a
    recording does not matter.

    Args:
        system: built and trained; it gets what it declares (see ``answer``).
        mixture: [T] at the context's audio rate.
        eeg: [C, N] in microvolt, the context's sensors and EEG rate, over the same time.
        subject: its place in the context's subjects.
        window: seconds a system is asked about at a time; neighbouring windows are cross-faded over 1 s (a quarter of
            the window if that is less). None is the whole mixture up to 60 s, and 30 s in longer ones.

    Returns:
        The estimate [T].

    Raises:
        BadInput: shapes or durations that do not fit, a silent mixture, an estimate that is not finite.
    """
    _check_signals(system, mixture, eeg)
    context = system.context
    seconds = len(mixture) / context.audio_rate
    # A whole number of EEG samples, as in training: audio and EEG then cover exactly the same time.
    length = int(np.ceil(seconds * context.eeg_rate - 1e-6))
    gain = MIXTURE_LEVEL / _audible(mixture)
    padding = max(0, round(length * context.audio_rate / context.eeg_rate) - len(mixture))
    heard = np.pad(np.float32(gain) * mixture, (0, padding))
    step = round(_window(window, seconds) * context.eeg_rate)
    estimate = _overlapped(system, heard, fitted(eeg, length), subject, step)[: len(mixture)] / np.float32(gain)
    if not np.isfinite(estimate).all():
        raise BadInput(type(system).__name__, "estimate", "finite samples", "some that are NaN or infinite")
    return estimate


def read_audio(path: Path | str, channel: int | None = None) -> Audio:
    """Read WAV, FLAC or whatever else libsndfile knows.

    Args:
        channel: which one of several, from 1.

    Raises:
        BadInput: no such file, not audio, empty, not finite, or several channels and none chosen.
    """
    path = Path(path)
    if not path.is_file():
        raise BadInput(path, "audio", "a WAV or FLAC file", "no such file")
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise BadInput(path, "audio", "a WAV or FLAC file", str(error)) from error
    count = samples.shape[1]
    if channel is None and count > 1:
        raise BadInput(path, "--channel", f"which one to take, 1 to {count}", f"{count} channels and none chosen")
    if channel is not None and not 1 <= channel <= count:
        raise BadInput(path, "--channel", f"1 to {count}", channel)
    wave = np.ascontiguousarray(samples[:, (channel or 1) - 1])
    if len(wave) == 0 or not np.isfinite(wave).all():
        raise BadInput(path, "audio", "finite samples", "none" if len(wave) == 0 else "some that are NaN or infinite")
    return Audio(path, wave, int(rate))


def _option(field: str) -> str:
    return f"--{field.replace('_', '-')}"


def _check_outputs(out: Path | None, plot: Path | None, inputs: Sequence[Path]) -> None:
    """Refuse, before anything is computed, files that cannot be written or would replace what is read."""
    check_wav(out, inputs)
    if plot is not None:
        check_format(plot)
    check_file(plot, "--plot", inputs)


def _check_plot_name(plot: str) -> None:
    check_format(Path(plot))
    if Path(plot).name != plot:
        raise BadInput("--study", "--plot", "a file name, for the panels in each sample's folder", repr(plot))


def _require_mixture_only(system: System, name: str) -> None:
    facts = system.facts
    if "extraction" not in facts.tasks or facts.sees != "mixture":
        found = f"tasks {', '.join(sorted(facts.tasks))}, sees {facts.sees!r}"
        raise BadInput(name, "system", "one that extracts from mixture and EEG alone", found)


def _common_part(heard: Audio, eeg: EegFile, part: Part, eeg_rate: int) -> tuple[Samples, Samples]:
    """Audio [T] at its own rate and EEG [C, N] at ``eeg_rate``, over the same time."""
    audio_left, eeg_left = heard.seconds - part.start, eeg.seconds - part.eeg_start - part.start
    found = f"{heard.seconds:.3f} s of audio and {eeg.seconds:.3f} s of EEG"
    where = f"{heard.path.name} and EEG"
    if part.duration is None and abs(audio_left - eeg_left) > TOLERANCE:
        cure = "--duration (with --start, --eeg-start) chooses what they have in common"
        raise BadInput(where, "durations", f"the same within {TOLERANCE * 1000:.0f} ms; {cure}", found)
    length = audio_left if part.duration is None else part.duration
    if length <= 0 or length > min(audio_left, eeg_left) + TOLERANCE:
        wanted = f"{length:.3f} s from {part.start:g} s of the audio, {part.eeg_start + part.start:g} s of the EEG"
        raise BadInput(where, "part", "one that both hold", f"{wanted}, of {found}")
    recorded = cut(eeg.samples, part.eeg_start + part.start, length, eeg.rate)
    mixture = cut(heard.samples, part.start, length, heard.rate)
    if not mixture.size or not recorded.size:
        found = f"{mixture.shape[-1]} of the audio and {recorded.shape[-1]} of the EEG"
        raise BadInput(where, "part", "at least one sample of each", found)
    return mixture, at_rate(recorded, eeg.rate, eeg_rate, length)


def _target(clean: Audio, heard: Audio, part: Part, length: int) -> Samples:
    """The target over the same part, at the mixture's rate."""
    if abs(clean.seconds - heard.seconds) > TOLERANCE:
        raise BadInput(clean.path, "--target", f"{heard.seconds:.3f} s, as the mixture", f"{clean.seconds:.3f} s")
    same = resample(clean.samples, clean.rate, heard.rate)[round(part.start * heard.rate) :]
    if not same.size:
        raise BadInput(clean.path, "--target", f"sound from {part.start:g} s on", f"{clean.seconds:.3f} s in all")
    return fitted(same, length)


def _check_signals(system: System, mixture: Samples, eeg: Samples) -> None:
    context, where = system.context, type(system).__name__
    if mixture.ndim != 1 or mixture.dtype != np.float32:
        raise BadInput(where, "mixture", "float32 [T]", f"{mixture.dtype} {list(mixture.shape)}")
    if eeg.ndim != 2 or len(eeg) != len(context.sensors) or eeg.dtype != np.float32:
        raise BadInput(where, "eeg", f"float32 [{len(context.sensors)}, N]", f"{eeg.dtype} {list(eeg.shape)}")
    heard, recorded = len(mixture) / context.audio_rate, eeg.shape[1] / context.eeg_rate
    # A sample is what resampling may add.
    if abs(heard - recorded) > TOLERANCE + 1 / context.eeg_rate:
        raise BadInput(where, "durations", "mixture and EEG of the same", f"{heard:.3f} s and {recorded:.3f} s")


def _audible(mixture: Samples) -> float:
    """Root mean square of the mixture; a silent one is refused."""
    level = float(np.sqrt(np.mean(np.square(mixture, dtype=np.float64)))) if len(mixture) else 0.0
    if not level > 1e-6:
        raise BadInput("mixture", "level", "audible sound", f"root mean square {level:.1e}")
    return level


def _window(window: float | None, seconds: float) -> float:
    if window is None:
        return seconds + 1 if seconds <= WHOLE_SECONDS else WINDOW_SECONDS
    if not 1 <= window < float("inf"):
        raise BadInput("windows", "--window", "1 s or more", window)
    return window


def _overlapped(system: System, mixture: Samples, eeg: Samples, subject: int, step: int) -> Samples:
    """Answers to windows of ``step`` EEG samples, cross-faded. The last one ends with the mixture, so it overlaps more.

    Weights rise and fall at both ends of a window and are divided by their sum: where windows agree, nothing changes.
    """
    total = eeg.shape[1]
    if step >= total:
        return _ask(system, mixture, eeg, subject)
    ratio = system.context.audio_rate / system.context.eeg_rate
    size, fade = round(step * ratio), min(round(FADE_SECONDS * system.context.eeg_rate), step // 4)
    away = np.arange(1, size + 1)
    weight = np.minimum(1.0, np.minimum(away, away[::-1]) / (round(fade * ratio) + 1))
    answers, weights = np.zeros(len(mixture)), np.zeros(len(mixture))
    for begin in [*range(0, total - step, step - fade), total - step]:
        first = min(round(begin * ratio), len(mixture) - size)
        within = slice(first, first + size)
        answers[within] += weight * _ask(system, mixture[within], eeg[:, begin : begin + step], subject)
        weights[within] += weight
    return (answers / weights).astype(np.float32)


def _ask(system: System, mixture: Samples, eeg: Samples, subject: int) -> Samples:
    """[T], [C, N] -> [T], on the system's own device."""
    heard, recorded = (torch.from_numpy(np.ascontiguousarray(signal))[None] for signal in (mixture, eeg))
    inputs = (heard, recorded, torch.tensor([subject]), heard[:, None].expand(-1, 2, -1))
    device = device_of(system)
    found: Samples = answer(system, *(tensor.to(device) for tensor in inputs))[0].cpu().numpy()
    return found


def _scores(target: Samples, estimate: Samples, mixture: Samples) -> dict[str, Score]:
    return {"mixture": _si_sdr(target, mixture), "estimate": _si_sdr(target, estimate)}


def _si_sdr(target: Samples, estimate: Samples) -> Score:
    try:
        return Score(si_sdr(target, estimate))
    except Unscorable as error:
        return Score(float("nan"), error.reason)


def _plot(path: Path, done: Extraction, rate: int, title: str) -> None:
    # What a system at 16 kHz answers has nothing above 8 kHz: most of the panels of a recording at 44.1 kHz.
    shown = min(rate, done.rate)
    save_panels(path, {name: resample(wave, done.rate, shown) for name, wave in done.signals.items()}, shown, title)


def _some_segments(store: Store, split: Split, chosen: Protocol, subset: str, count: int) -> dict[int, Segment]:
    """``count`` segments by their number in the part, evenly spread."""
    spans = split.parts[subset]
    segments = even_segments(spans, chosen.segment_seconds, chosen.segments_per_span, store.facts.eeg_rate)
    if not 1 <= count <= len(segments):
        raise BadInput(f"split {split.kind!r}", "--n-samples", f"1 to {len(segments)}, the segments of {subset}", count)
    return {int(k): segments[int(k)] for k in np.linspace(0, len(segments) - 1, count).round()}


def _of_study(
    name: str, store: Store, split: Split, chosen: Protocol, checkpoint: Path | str | None
) -> tuple[System, str]:
    """A system for the study it was trained on, and its weights in words; weights of other data are refused."""
    context = Context.of(store, chosen.segment_seconds)
    if checkpoint is None and system_class(name).fit is System.fit:
        return build(declare(name), context), "none: nothing to learn"
    path = Path(checkpoint) if checkpoint else shipped(name, store.facts.name, split.kind)
    about = load_weights(path)[1]
    here = {"study": store.facts.name, "revision": store.index.revision, "split": split.hash}
    require_match(path, about, {"system": name} | here)
    said(path, about)
    return loaded(path, name, context), weights_told(path, about)


def _words(store: Store, segment: Segment) -> str:
    trial = store.trial(segment.trial)
    attended = store.speakers[trial.attended]
    return f"{trial.subject} attends {attended}, {segment.duration:g} s from {segment.start:.1f} s of trial {trial.id}"
