"""Whether a record that somebody sends is of the study, the split and the protocol that it names: all of ``verify``.

What JSON and Parquet tell by themselves is asked by ``eeg2speech.records.verify``, sound by ``rescore``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from eeg2speech.controls import CONTROLS
from eeg2speech.data.mixing import Mixer
from eeg2speech.data.store import Store
from eeg2speech.data.studies.registry import prepare, study_names
from eeg2speech.data.types import Segment
from eeg2speech.errors import BadInput
from eeg2speech.evaluation.audit import audit_split
from eeg2speech.evaluation.candidates import Candidates
from eeg2speech.evaluation.protocol import PROTOCOLS, Protocol, measure
from eeg2speech.evaluation.scoring import frame_of
from eeg2speech.metrics.retrieval import ATTENTION, RANK_METRICS, SPOKEN, rank_metric
from eeg2speech.records.intervals import IDENTITY
from eeg2speech.records.schema import Record
from eeg2speech.records.verify import Check, differences, outcome, read_record, read_scores
from eeg2speech.records.verify import verify as verify_alone
from eeg2speech.splits import make_split
from eeg2speech.splits.manifest import Split

SECONDS = 1e-6
"""By which the begin and the length of a segment may differ."""


def verify(path: Path | str, store: Store | None = None, audio: Path | str | None = None, jobs: int = 1) -> list[Check]:
    """Every check of a record: by itself, against its study, and, given the predicted audio, scored again.

    Args:
        path: the record's JSON, with its scores and the records of its other controls beside it.
        store: its study, prepared; the one of that name in the cache if None, which is prepared when it is not there.
        audio: folder of predicted audio, see ``eeg2speech.evaluation.rescore``; None: it is not scored again.
        jobs: processes that compute metrics.

    Returns:
        The checks in their order. A record that is none, or of a study that nobody knows, gets no further ones.
    """
    path = Path(path)
    checks, (record, _) = verify_alone(path), read_record(path)
    if record is None:
        return checks
    found, known = (store, None) if store else _store(record)
    if found is None:
        return [*checks, Check("study", False, str(known))]
    checks += against_study(record, read_scores(path, record)[0], found)
    if audio is None:
        return checks
    from eeg2speech.evaluation.rescore import rescore

    return [*checks, *rescore(path, audio, found, jobs)]


def told(checks: Iterable[Check]) -> str:
    """A line a check, and what comes of them: what ``eeg2speech verify`` prints."""
    lines = list(checks)
    failed = sum(not check.passed for check in lines)
    sentence = f"{failed} of {len(lines)} checks failed" if failed else f"all {len(lines)} checks passed"
    return "\n".join([*map(str, lines), sentence])


def against_study(record: Record, scores: pd.DataFrame | None, store: Store) -> list[Check]:
    """The checks that take the prepared study. ``scores`` None: those of the segments are left out."""
    checks = _study(record, store)
    label = f"{record.protocol.name}-{record.protocol.version}"
    chosen = PROTOCOLS.get(label)
    if chosen is None:
        return [*checks, Check("protocol", False, f"{label!r} is none of {', '.join(sorted(PROTOCOLS))}")]
    checks += [_protocol(record, chosen), _metrics(record, chosen)]
    return checks + _refused("split", lambda: _of_split(record, scores, store, chosen))


def split_of(record: Record, store: Store) -> Split:
    """The split that a record names, of the prepared study. Raises BadInput for one that cannot be made of it."""
    return make_split(store.index, record.split.kind, record.split.seed)


def _refused(name: str, ask: Callable[[], list[Check]]) -> list[Check]:
    """The checks, or, where the study refuses what the record names, that refusal as a check that failed."""
    try:
        return ask()
    except BadInput as error:
        return [Check(name, False, str(error))]


def _store(record: Record) -> tuple[Store | None, str | None]:
    """The study of that name, or why there is none."""
    if record.study.name not in study_names():
        return None, f"{record.study.name!r} is none of {', '.join(study_names())}"
    try:
        return prepare(record.study.name), None
    except (BadInput, OSError) as error:
        return None, f"{record.study.name} cannot be prepared here: {error}"


def _study(record: Record, store: Store) -> list[Check]:
    """Name and note of the study, and apart from them the very data."""
    facts, given, revision = store.facts, record.study, store.index.revision
    names = differences({"name": facts.name, "data_note": facts.note}, given.model_dump(include={"name", "data_note"}))
    return [
        outcome("study", names, given.name),
        outcome("revision", differences(revision, given.revision, "revision"), revision),
    ]


def _protocol(record: Record, chosen: Protocol) -> Check:
    here = {"task": chosen.task, "split.seed": chosen.split_seed, "evaluation_seed": chosen.evaluation_seed}
    given = {"task": record.task, "split.seed": record.split.seed, "evaluation_seed": record.evaluation_seed}
    unknown = sorted({record.control, *(record.controls or ())} - {*CONTROLS})
    wrong = [*differences(here, given), *(f"control {name!r} is unknown" for name in unknown)]
    return outcome("protocol", wrong, chosen.label)


def _metrics(record: Record, chosen: Protocol) -> Check:
    """All metrics of the protocol, as they are declared here. Others beside them are told."""
    asked = chosen.metrics_under(record.control)
    wrong = [f"{name} is missing" for name in asked if name not in record.metrics]
    for name, result in record.metrics.items():
        wrong += _declared(name, result.model_dump())
    more = sorted({*record.metrics} - {*asked})
    return outcome("metrics", wrong, f"all {len(asked)}" + (f", and {', '.join(more)}" if more else ""))


def _declared(name: str, given: dict[str, Any]) -> list[str]:
    try:
        known = measure(name)
    except BadInput as error:
        return [str(error)]
    here = {field: getattr(known, field) for field in ("unit", "higher_is_better", "decimals")}
    here["aggregate"] = getattr(known, "aggregate", "mean")
    return list(differences(here, {field: given[field] for field in here}, name))


def _of_split(record: Record, scores: pd.DataFrame | None, store: Store, chosen: Protocol) -> list[Check]:
    split = split_of(record, store)
    # A manifest names its data: of another revision, which has its own check, the same spans have another hash.
    wanted = replace(split, revision=record.study.revision).hash
    hashes = differences(wanted, record.split.manifest_hash, "manifest_hash")
    checks = [outcome("split", hashes, f"{split.kind}, seed {split.seed}, manifest {wanted}")]
    # A fatal leak is a fact of the data and the split, not of who sends a record: a reader judges it. To say otherwise
    # than the audit does is another matter.
    found = audit_split(store, split).verdict
    checks.append(outcome("audit", [] if record.audit is None else differences(found, record.audit, "audit"), found))
    segments = chosen.test_segments(store, split)
    count = differences(len(segments), record.n_segments_expected, "n_segments_expected")
    wrong = [*count, *(_other_segments(frame_of(store, segments, [{}] * len(segments)), scores))]
    checks.append(outcome("segments", wrong, f"the {len(segments)} test segments of the protocol"))
    return checks if chosen.task == "extraction" else [*checks, _candidates(record, store, segments, chosen)]


def _other_segments(expected: pd.DataFrame, scores: pd.DataFrame | None) -> Iterator[str]:
    """In which columns the scores are about other segments, and in how many rows."""
    if scores is None:
        return
    found = scores.sort_values("segment", kind="stable").reset_index(drop=True)
    if found["segment"].tolist() != expected["segment"].tolist():
        yield f"segment: expected 0 to {len(expected) - 1}, found {len(found)} rows of others"
        return
    for column in IDENTITY:
        other = ~_same(expected[column], found[column])
        if other.any():
            place = int(np.argmax(other))
            example = f"segment {place} has {found[column][place]!r}, expected {expected[column][place]!r}"
            yield f"{column}: {int(other.sum())} rows differ, {example}"


def _same(expected: pd.Series[Any], found: pd.Series[Any]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    if expected.dtype.kind == "f":
        close: np.ndarray[Any, np.dtype[np.bool_]] = np.isclose(
            expected.to_numpy(np.float64), pd.to_numeric(found, errors="coerce").to_numpy(np.float64), 0, SECONDS
        )
        return close
    same: np.ndarray[Any, np.dtype[np.bool_]] = ((expected == found) | (expected.isna() & found.isna())).to_numpy(bool)
    return same


def _candidates(record: Record, store: Store, segments: list[Segment], chosen: Protocol) -> Check:
    """The candidates are those of the test segments, and chance is what guessing among them gives."""
    here = Candidates.of(store, segments, Mixer(store, chosen.target_to_interferer_db)).reference
    given = None if record.candidates is None else record.candidates.model_dump()
    wrong = list(differences(here.model_dump(), given, "candidates"))
    for name, result in record.metrics.items():
        wrong += differences(_chance(name, here.n), result.chance, f"{name}.chance")
    return outcome("candidates", wrong, f"{here.n} of {here.seconds:g} s")


def _chance(name: str, count: int) -> float | None:
    """What guessing among ``count`` candidates gives; None for a metric of sound."""
    if name in SPOKEN:
        return round(RANK_METRICS[SPOKEN[name]].chance(count), 9)
    if name in RANK_METRICS or name == ATTENTION.name:
        return round(rank_metric(name).chance(count), 9)
    return None
