"""Predicted audio that comes with a record: scored again, segment by segment, and compared with its scores.

One file a test segment, named by its number in the scores: ``0.wav``, ``1.wav``, ... (or ``.flac``), one channel, at
the protocol's rate, as long as the segment. 32-bit float WAV gives the scores back. Integers of 16 or 24 bits are taken
as well; ``TOLERANCES`` says what their rounding may change.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
import torch
from torch import Tensor

from eeg2speech.data.store import Store
from eeg2speech.data.studies.registry import prepare
from eeg2speech.data.types import Samples, Segment
from eeg2speech.errors import BadInput
from eeg2speech.evaluation.conditions import context_of
from eeg2speech.evaluation.files import check_folder, write_wav
from eeg2speech.evaluation.generation import GenerationTest, speech
from eeg2speech.evaluation.protocol import Protocol, protocol
from eeg2speech.evaluation.repeat import declaration_of
from eeg2speech.evaluation.run import Bench, scorer_of
from eeg2speech.evaluation.scoring import ExtractionTest
from eeg2speech.evaluation.trained import Trained, load
from eeg2speech.evaluation.verify import split_of
from eeg2speech.records.schema import TRUE_EEG, Record
from eeg2speech.records.scores import REASON
from eeg2speech.records.verify import Check, outcome, read_record, read_scores
from eeg2speech.systems.interface import Context, Facts, NoSettings, System
from eeg2speech.systems.registry import build
from eeg2speech.training.budget import Training

SUFFIXES = (".wav", ".flac")
EXACT = 1e-3
"""Tolerance of metrics but ``RATIOS``, in their unit, where all the sound is 32-bit float: sound that was predicted on
another processor than the record's is taken."""
RATIOS = ("si_sdr", "si_sdri", "sdr", "si_sdr_voiced", "sdr_voiced")
TOLERANCES = {
    **dict.fromkeys(RATIOS, 0.01),
    **dict.fromkeys(("pesq_wb", "pesq_nb", "pesq_nb_8k"), 0.1),
    **dict.fromkeys(("stoi", "estoi"), 0.001),
    **dict.fromkeys(("mel_correlation", "envelope_correlation"), 0.005),
    **{"log_spectral_distance": 0.1, "mcd": 0.02, "speaker_similarity": 0.002, "dnsmos": 0.01, "f0_correlation": 0.25},
}
"""What rounding to 16 bits may change in one segment, in the metric's unit: at least twice the largest change that was
measured (docs/submitting.md). Other metrics have ``EXACT``. That of ``RATIOS`` holds for floats too. Pitch jumps
between voiced and unvoiced at the least touch, and so does PESQ's alignment of sound that is not the reference at all.
"""
CEILING = 40.0
"""Decibel beyond which ratios are not told apart where sound is rounded: rounding alone ends them near 75 dB."""
FLOATS = ("FLOAT", "DOUBLE")


def rescore(path: Path | str, audio: Path | str, store: Store, jobs: int = 1) -> list[Check]:
    """Score predicted audio again and compare it with the scores beside the record.

    Args:
        path: the record's JSON. audio: folder with a file a segment, see the module's docstring.
        store: the record's study, prepared. jobs: processes that compute metrics.

    Returns:
        ``audio``: what is missing or of another form; only if it passes, then a check a metric of sound. A record of
        retrieval has no sound: that is told as a check that failed.
    """
    record, schema = read_record(Path(path))
    if record is None:
        return [schema]
    try:
        return _rescore(record, read_scores(Path(path), record)[0], Path(audio), store, jobs)
    except BadInput as error:
        return [Check("audio", False, str(error))]


def save_predictions(trained: Trained, bench: Bench, control: str, folder: Path) -> int:
    """Write what a system answers to each test segment under a control, in the form that ``rescore`` takes.

    Returns how many files were written: 32-bit float WAV at the protocol's rate. Raises BadInput for a task without
    sound, or a folder that cannot be one.
    """
    check_folder(folder, "audio")
    number = -1
    for number, estimate in enumerate(_answers(trained, bench, control)):
        write_wav(folder / f"{number}.wav", estimate, bench.protocol.audio_rate)
    return number + 1


def predictions_of(path: Path | str, checkpoint: Path | str | None, folder: Path, store: Store | None = None) -> int:
    """As ``save_predictions``, for the system and the control of a record.

    Args:
        path: the record. folder: where the files go.
        checkpoint: the weights behind it, ``system.safetensors`` of its training; None for a system without weights.
        store: its study, prepared; that of its name in the cache if None.

    Raises:
        BadInput: no record, a system that is not installed, or other weights than the record's.
    """
    record, schema = read_record(Path(path))
    if record is None:
        raise BadInput(path, "record", "one of the schema", schema.detail)
    store = store or prepare(record.study.name)
    chosen = protocol(f"{record.protocol.name}-{record.protocol.version}")
    trained = _trained(record, checkpoint, store, chosen)
    if trained.checkpoint_hash != record.system.checkpoint_hash:
        raise BadInput(checkpoint, "weights", record.system.checkpoint_hash, trained.checkpoint_hash)
    with scorer_of(chosen, 1) as scorer:
        return save_predictions(trained, Bench(store, split_of(record, store), chosen, scorer), record.control, folder)


class Played(System):
    """Sound that was made elsewhere, in the place of a system: it gives one segment after the other, in their order."""

    facts = Facts(
        title="sound from files",
        licence="unknown",
        source="files",
        tasks=frozenset({"extraction", "generation"}),
        uses_eeg=False,
    )

    def __init__(self, context: Context, waves: Iterator[Samples]) -> None:
        super().__init__(context, NoSettings())
        self.waves = waves

    def extract(self, mixture: Tensor, eeg: Tensor, subject: Tensor) -> Tensor:
        """The next ones."""
        return self._next(len(mixture))

    def generate(self, eeg: Tensor, subject: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """The next ones."""
        return self._next(len(eeg))

    def _next(self, count: int) -> Tensor:
        return torch.from_numpy(np.stack([next(self.waves) for _ in range(count)]))


@dataclass(frozen=True)
class _Sent:
    """The files of a folder, in the segments' order, checked."""

    paths: tuple[Path, ...]
    exact: bool

    def waves(self) -> Iterator[Samples]:
        """The sound of each [T], float32."""
        for path in self.paths:
            yield soundfile.read(path, dtype="float32")[0]


def _rescore(record: Record, scores: pd.DataFrame | None, folder: Path, store: Store, jobs: int) -> list[Check]:
    chosen = protocol(f"{record.protocol.name}-{record.protocol.version}")
    if chosen.task == "retrieval":
        return [Check("audio", False, "retrieval predicts no sound: nothing to score again")]
    if scores is None:
        return [Check("audio", False, "no scores to compare with")]
    with scorer_of(chosen, jobs) as scorer:
        bench = Bench(store, split_of(record, store), chosen, scorer)
        sent, wrong = _sent(folder, bench.segments, chosen.audio_rate)
        kind = "32-bit float" if sent.exact else "some of integers, which round"
        checks = [outcome("audio", wrong, f"{len(bench.segments)} files of {chosen.audio_rate} Hz, {kind}")]
        if wrong:
            return checks
        names = [name for name in record.metrics if name in chosen.metrics_under(record.control)]
        system = Played(Context.of(store, chosen.segment_seconds), sent.waves())
        found = bench.test(Trained(system, Training.none(), None)).scores(TRUE_EEG, names)
    stored = scores.sort_values("segment", kind="stable").reset_index(drop=True)
    return [*checks, *(_compared(name, stored, found, sent.exact) for name in names)]


def _sent(folder: Path, segments: Sequence[Segment], rate: int) -> tuple[_Sent, list[str]]:
    """The files, and what is wrong with them."""
    paths: list[Path] = []
    wrong: list[str] = []
    exact = True
    for number, segment in enumerate(segments):
        path = next((folder / f"{number}{end}" for end in SUFFIXES if (folder / f"{number}{end}").is_file()), None)
        if path is None:
            wrong.append(f"{number}.wav is missing")
            continue
        fault, floats = _fault(path, rate, round(segment.duration * rate))
        paths.append(path)
        wrong += [] if fault is None else [f"{path.name}: {fault}"]
        exact = exact and floats
    return _Sent(tuple(paths), exact), wrong


def _fault(path: Path, rate: int, length: int) -> tuple[str | None, bool]:
    """What is wrong with a file, None if nothing, and whether it holds floats."""
    try:
        about = soundfile.info(str(path))
    except (soundfile.LibsndfileError, OSError) as error:
        return str(error), False
    expected, found = (1, rate, length), (about.channels, about.samplerate, about.frames)
    for one, other, word in zip(expected, found, ("channels", "Hz", "samples"), strict=True):
        if one != other:
            return f"{other} {word}, expected {one}", False
    return None, about.subtype in FLOATS


def _compared(name: str, stored: pd.DataFrame, found: pd.DataFrame, exact: bool) -> Check:
    """Scores and reasons of a metric, segment by segment."""
    tolerance = EXACT if exact and name not in RATIOS else TOLERANCES.get(name, EXACT)
    one, other = (frame[name].to_numpy(np.float64) for frame in (stored, found))
    most = CEILING if name in RATIOS and not exact else np.inf
    apart = np.abs(np.minimum(one, most) - np.minimum(other, most))
    failed = np.isnan(one) & np.isnan(other) & (stored[name + REASON] == found[name + REASON]).to_numpy(bool)
    wrong = np.flatnonzero(~((apart <= tolerance) | failed))
    lines = [f"segment {k} has {one[k]:.6g}, scored again {other[k]:.6g}" for k in wrong]
    largest = float(np.nanmax(apart)) if np.isfinite(apart).any() else 0.0
    return outcome(f"rescored {name}", lines, f"largest difference {largest:.2g}, allowed {tolerance:g}")


def _answers(trained: Trained, bench: Bench, control: str) -> Iterator[Samples]:
    test = bench.test(trained)
    if isinstance(test, ExtractionTest):
        yield from (signals.estimate for signals in test.signals(control))
    elif isinstance(test, GenerationTest):
        about = (trained.system, test.candidates.mixer, test.candidates.segments, control, test.seed)
        yield from (estimate for _, estimate in speech(*about))
    else:
        raise BadInput(f"protocol {bench.protocol.label}", "task", "one that answers with sound", bench.protocol.task)


def _trained(record: Record, checkpoint: Path | str | None, store: Store, chosen: Protocol) -> Trained:
    declaration = declaration_of(record)
    if checkpoint is not None:
        return load(Path(checkpoint), declaration, store, chosen)
    system = build(declaration, context_of(declaration.conditions, store, chosen))
    return Trained(system, Training.none(), None, declaration.conditions)
