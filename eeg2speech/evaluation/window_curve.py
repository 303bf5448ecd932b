"""Measuring how often a system is right about the attended talker, against the length of the window it is given.

Unlike in ``windowed``, a system has nothing but the window: so much mixture (or speech) and so much EEG. All lengths
have windows of the same trials, and as many of each where the trials are long enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from eeg2speech.controls import TRUE_EEG
from eeg2speech.controls import control as known_control
from eeg2speech.data.mixing import Mixer
from eeg2speech.data.store import Store
from eeg2speech.data.studies.registry import prepare
from eeg2speech.data.types import Segment
from eeg2speech.data.windows import even_segments
from eeg2speech.errors import BadInput
from eeg2speech.evaluation.candidates import Candidates
from eeg2speech.evaluation.conditions import view_of
from eeg2speech.evaluation.protocol import Protocol, protocol, protocol_for
from eeg2speech.evaluation.retrieval import NOT_FINITE
from eeg2speech.evaluation.scoring import ExtractionTest, asked, device_of, frame_of, place
from eeg2speech.evaluation.trained import Trained, taken_up
from eeg2speech.metrics import Score, Scorer
from eeg2speech.metrics.retrieval import ATTENTION, won
from eeg2speech.metrics.switching import COMFORT, CONFIDENCE, minimal_switch_duration
from eeg2speech.metrics.window_curve import fit_fisher_difference, fit_normal_difference
from eeg2speech.records import ProtocolRef, SplitRef, StudyRef, clustered_interval, code_reference
from eeg2speech.records.curves import FISHER, NORMAL, Curve, CurvePoint, CurveStore, ModelCurve, SwitchingRef
from eeg2speech.records.summary import DIGITS, SELECTION
from eeg2speech.splits import make_split
from eeg2speech.splits.manifest import Split
from eeg2speech.systems.interface import System, embedded, require_task
from eeg2speech.systems.registry import system_class

WINDOWS = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Seconds."""
ATTENDED, UNATTENDED, FRAMES = "cosine_attended", "cosine_unattended", "frames"
"""Columns of retrieval: how well what is read from the EEG fits the two talkers, and over how many frames."""
BEING_RIGHT = {"extraction": SELECTION, "retrieval": ATTENTION.name}
"""By task, the column that is 1 where a system is right about the attended talker."""
FITTED = "fitted to the counts at all lengths: what it is compared with is what it was fitted to"
COSINES = "predicted from the cosines between embeddings, taken for correlations, in windows of {window:g} s"
NO_CORRELATIONS = "decisions of this task come without the correlations that it would be predicted from"
ALL_ALIKE = "all decisions were right, or all were wrong: no finite parameter is the likeliest"


@dataclass(frozen=True)
class _Given:
    """What all lengths share: who is asked, about which data, under which control."""

    system: System
    store: Store
    mixer: Mixer
    scorer: Scorer
    control: str
    seed: int


def window_curve(
    trained: Trained,
    store: Store,
    split: Split,
    protocol: Protocol,
    windows: Sequence[float] = WINDOWS,
    per_span: int = 2,
    control: str = TRUE_EEG,
    seed: int | None = None,
    jobs: int = 1,
) -> pd.DataFrame:
    """Score of every window of the test part, a row a window; ``duration`` is its length.

    Columns beside those that say what a window is, each with its ``_reason``: ``selection_accuracy`` of extraction, or
    ``attention_accuracy``, ``cosine_attended``, ``cosine_unattended`` and ``frames`` (of an embedding) of retrieval.

    Args:
        protocol: task, mixing and seeds; its windows are not used.
        windows: lengths in seconds, rising. per_span: windows of each length in a test trial or its test part, at most.
        control: what to do to the EEG. seed: of the control; the protocol's if None.
        jobs: processes that compute the metric of extraction.

    Raises:
        BadInput: an unknown control, lengths that do not rise or are longer than a test trial, a system that does not
            answer the protocol's task or was trained for windows of its own, or a task in which nothing is attended.
    """
    known_control(control)
    _check_windows(windows)
    if protocol.task not in BEING_RIGHT:
        raise BadInput("window curve", "task", " or ".join(BEING_RIGHT), protocol.task)
    require_task(trained.system.facts, protocol.task, type(trained.system).__name__)
    if trained.conditions.window is not None:
        raise BadInput("window curve", "conditions.window", "none: windows are cut here", trained.conditions.window)
    view, seed = view_of(trained.conditions, store), protocol.evaluation_seed if seed is None else seed
    cut = [even_segments(split.parts["test"], seconds, per_span, store.facts.eeg_rate) for seconds in windows]
    measured = _selection if protocol.task == "extraction" else _attention
    with Scorer((SELECTION,), protocol.audio_rate, jobs) as scorer:
        mixer = Mixer(view, protocol.target_to_interferer_db)
        given = _Given(trained.system, view, mixer, scorer, control, seed)
        frame = pd.concat([measured(given, segments) for segments in cut], ignore_index=True)
    return frame.assign(segment=np.arange(len(frame)))


def measure_curve(
    label: str,
    study: str | Store = "simulated-clear",
    split: str = "stimulus",
    checkpoint: Path | str | None = None,
    out: Path | str = "curves",
    windows: Sequence[float] = WINDOWS,
    per_span: int = 2,
    control: str = TRUE_EEG,
    protocol_name: str | None = None,
    jobs: int = 1,
    device: str | None = None,
    allow_other_split: bool = False,
) -> Curve:
    """Measure a registered system's curve and write it under ``out``, with the score of every window beside it.

    Args:
        label: name of the system. study: a study's name, or an open store. split: kind of split.
        checkpoint: a safetensors file; if None, the weights that come with the package.
        protocol_name: ``name-version``; the first whose task the system answers if None.
        device: where a network answers; None leaves it where it is.
        allow_other_split: take weights that were trained on other data or another split.

    Raises:
        BadInput: as ``window_curve``; an unknown name; or weights of another system, data or split.
    """
    chosen = protocol(protocol_name or protocol_for(system_class(label).facts.tasks))
    store = prepare(study) if isinstance(study, str) else study
    made = make_split(store.index, split, chosen.split_seed)
    found = taken_up(label, store, made, chosen, checkpoint, allow_other_split)
    trained, seed = found.trained, found.seed
    if device is not None:
        place(trained.system, device)
    scores = window_curve(trained, store, made, chosen, windows, per_span, control, jobs=jobs)
    curve = Curve(
        protocol=ProtocolRef(name=chosen.name, version=chosen.version),
        task=chosen.task,
        metric=BEING_RIGHT[chosen.task],
        study=StudyRef(name=store.facts.name, revision=store.index.revision, data_note=store.facts.note),
        split=SplitRef(kind=made.kind, seed=made.seed, manifest_hash=made.hash),
        system=label,
        checkpoint_hash=trained.checkpoint_hash,
        control=control,
        seed=seed,
        evaluation_seed=chosen.evaluation_seed,
        per_span=per_span,
        **_results(scores, BEING_RIGHT[chosen.task]),
        code=code_reference(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return CurveStore(out).write(curve, scores)


def model_curves(scores: pd.DataFrame, metric: str) -> tuple[ModelCurve, ModelCurve]:
    """The model curves of scores as ``window_curve`` gives them: of any system, and of correlations.

    Raises:
        BadInput: scores without the column of ``metric``.
    """
    if metric not in scores.columns:
        raise BadInput("window curve", "scores", f"a column {metric}", sorted(scores.columns))
    return _normal(scores, metric), _fisher(scores)


def _selection(given: _Given, segments: Sequence[Segment]) -> pd.DataFrame:
    test = ExtractionTest(given.system, segments, given.mixer, given.scorer, given.seed)
    return test.scores(given.control, (SELECTION,))


def _attention(given: _Given, segments: Sequence[Segment]) -> pd.DataFrame:
    """Which talker is nearer to what is read from the EEG, how near both are, and over how many frames."""
    batches = asked(given.store, segments, given.control, given.seed, device_of(given.system))
    read = [embedded(given.system, batch.eeg, batch.subject).cpu() for batch in batches]
    queries = np.concatenate([part.flatten(1).numpy() for part in read])
    candidates = Candidates.of(given.store, segments, given.mixer)
    table, rows, others = candidates.embeddings(given.system), candidates.rows, candidates.other_rows
    if others is None:
        raise BadInput(f"study {given.store.facts.name!r}", "window curve", "two talkers in every segment", "one")
    columns = {
        ATTENTION.name: won(queries, table, rows, others),
        ATTENDED: _cosines(queries, table[rows]),
        UNATTENDED: _cosines(queries, table[others]),
        FRAMES: np.full(len(queries), float(read[0].shape[-1])),
    }
    scores = [{name: _score(values[k]) for name, values in columns.items()} for k in range(len(queries))]
    return frame_of(given.store, segments, scores)


def _cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Cosine of each row [n, K] with its like, [n]; a row of zeros fits nothing, and is 0."""
    left, right = first.astype(np.float64), second.astype(np.float64)
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    products = np.einsum("nk,nk->n", left, right)
    with np.errstate(invalid="ignore"):
        found: np.ndarray = np.clip(products / np.where(lengths == 0, 1, lengths), -1, 1)
    return found


def _score(value: float) -> Score:
    return Score(float(value), None if np.isfinite(value) else NOT_FINITE)


def _results(scores: pd.DataFrame, metric: str) -> dict[str, Any]:
    """Fields of a curve that are computed from its scores."""
    points = tuple(_point(seconds, part, metric) for seconds, part in scores.groupby("duration"))
    return {"points": points, "models": model_curves(scores, metric), "switching": _switching(points)}


def _point(seconds: object, part: pd.DataFrame, metric: str) -> CurvePoint:
    found = clustered_interval(part[metric], part["subject"], part["pair"])
    return CurvePoint(
        window=float(str(seconds)),
        n=found.n,
        n_failed=len(part) - found.n,
        accuracy=_rounded(found.mean),
        low=_rounded(found.low),
        high=_rounded(found.high),
        no_interval=found.note,
    )


def _normal(scores: pd.DataFrame, metric: str) -> ModelCurve:
    scored = scores.dropna(subset=[metric]).groupby("duration")[metric]
    model = fit_normal_difference(scored.sum().index.to_numpy(), scored.sum(), scored.count()) if len(scored) else None
    if model is None:
        return ModelCurve(
            form=NORMAL, parameters={}, accuracy=None, note=ALL_ALIKE if len(scored) else "nothing scored"
        )
    predicted = model.accuracy(_lengths(scores))
    return ModelCurve(form=NORMAL, parameters={"d": round(model.d, DIGITS)}, accuracy=_listed(predicted), note=FITTED)


def _fisher(scores: pd.DataFrame) -> ModelCurve:
    """From the middle one of the lengths, the lower of two: the paper predicts all others from any one of them."""
    if ATTENDED not in scores.columns:
        return ModelCurve(form=FISHER, parameters={}, accuracy=None, note=NO_CORRELATIONS)
    lengths = _lengths(scores)
    window = float(lengths[(len(lengths) - 1) // 2])
    part = scores[scores["duration"] == window].dropna(subset=[ATTENDED, UNATTENDED])
    if len(part) < 2 or np.ptp(part[ATTENDED] - part[UNATTENDED]) == 0:
        note = f"no two windows of {window:g} s with cosines that differ"
        return ModelCurve(form=FISHER, parameters={}, accuracy=None, note=note)
    model = fit_fisher_difference(part[ATTENDED], part[UNATTENDED], window, float(part[FRAMES].iloc[0]) / window)
    parameters = {name: round(float(value), DIGITS) for name, value in vars(model).items()}
    note = COSINES.format(window=window)
    return ModelCurve(form=FISHER, parameters=parameters, accuracy=_listed(model.accuracy(lengths)), note=note)


def _switching(points: Sequence[CurvePoint]) -> SwitchingRef:
    """Of those lengths at which something was scored."""
    known = {point.window: point.accuracy for point in points if point.accuracy is not None}
    fixed: dict[str, Any] = {"confidence": CONFIDENCE, "comfort": COMFORT}
    nothing = {"seconds": None, "window": None, "accuracy": None, "levels": None}
    if not known:
        return SwitchingRef(**nothing, **fixed, note="nothing scored")
    found = minimal_switch_duration([*known], [*known.values()])
    if found.point is None:
        return SwitchingRef(**nothing, **fixed, note=found.note)
    values = {name: round(value, DIGITS) for name, value in vars(found.point).items()}
    return SwitchingRef(**values, **fixed, note=found.note)


def _check_windows(windows: Sequence[float]) -> None:
    rising = all(earlier < later for earlier, later in zip(windows, windows[1:], strict=False))
    if not windows or not rising or not windows[0] > 0:
        raise BadInput("window curve", "windows", "positive numbers of seconds that rise", [*windows])


def _lengths(scores: pd.DataFrame) -> np.ndarray:
    return np.unique(scores["duration"].to_numpy(np.float64))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DIGITS)


def _listed(values: np.ndarray) -> tuple[float, ...]:
    return tuple(round(float(value), DIGITS) for value in values)
