"""Whether a record that somebody sends is sound, as far as its JSON and its Parquet can tell by themselves.

What takes the study (its revision, the split, the very segments) or sound is asked by ``eeg2speech.evaluation.verify``.
A check never raises for what it finds: a record from elsewhere is looked at whole, and all that is wrong is told.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from eeg2speech.errors import BadInput
from eeg2speech.records.files import content_hash
from eeg2speech.records.intervals import METHOD
from eeg2speech.records.schema import GIVEN, SCHEMA_VERSION, TRUE_EEG, MetricResult, Record
from eeg2speech.records.scores import check_scores, from_parquet
from eeg2speech.records.summary import StatedFacts, metric_result

if TYPE_CHECKING:
    import pandas as pd

TOLERANCE = 1e-6
"""By which a recomputed number may differ, in its unit: what is left of the order in which numbers are added up."""
INTERVAL = ("low", "high", "no_interval")
SHOWN = 3
"""Differences told by name; of more, their number."""


@dataclass(frozen=True)
class Check:
    """One question and its answer; ``detail`` says what was found. What is told for a reader to judge passes."""

    name: str
    passed: bool
    detail: str

    def __str__(self) -> str:
        return f"{'ok' if self.passed else 'FAILED':6} {self.name}: {self.detail}"


def verify(path: Path | str) -> list[Check]:
    """All checks of the record at ``path`` that need nothing but it and what lies beside it.

    A check whose ground is missing, such as the aggregates without scores, is left out: what is missing has failed.
    """
    path = Path(path)
    record, schema = read_record(path)
    if record is None:
        return [schema]
    scores, of_scores = read_scores(path, record)
    found = [schema, _place(path, record), *of_scores]
    if scores is not None:
        found += [_complete(record, scores), *_aggregates(record, scores)]
    return [*found, _system(record), _controls(path, record), _origin(record)]


def read_record(path: Path) -> tuple[Record | None, Check]:
    """The record at ``path``, None if it is none, and the check that says why."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return None, Check("schema", False, f"not a JSON document: {error}")
    try:
        return Record.model_validate(content), Check("schema", True, f"version {SCHEMA_VERSION}")
    except ValidationError as error:
        told = [f"{'.'.join(map(str, one['loc'])) or 'record'}: {one['msg']}" for one in error.errors()]
        return None, Check("schema", False, some(told))


def read_scores(path: Path, record: Record) -> tuple[pd.DataFrame | None, list[Check]]:
    """The per-segment scores beside the record, None if they cannot be used, and the checks that say why."""
    # A name with a folder in it would be looked for elsewhere.
    beside = path.parent / Path(record.scores_file).name
    if not record.scores_file or beside.name != record.scores_file or not beside.is_file():
        return None, [Check("scores file", False, f"no file {record.scores_file!r} beside the record")]
    content = beside.read_bytes()
    same = content_hash(content) == record.scores_hash
    told = "the record's SHA-256" if same else f"SHA-256 {content_hash(content)}, the record has {record.scores_hash}"
    file = Check("scores file", same, told)
    try:
        scores = from_parquet(beside.name, content)
        check_scores(beside.name, scores, record.metrics)
    except (BadInput, ValueError, TypeError) as error:
        return None, [file, Check("scores", False, str(error))]
    return scores, [file, Check("scores", True, f"{len(scores)} rows, {len(record.metrics)} metrics")]


def some(found: Iterable[str]) -> str:
    """The first few of what was found, and how many more there are."""
    words = list(found)
    more = f"; and {len(words) - SHOWN} more" if len(words) > SHOWN else ""
    return "; ".join(words[:SHOWN]) + more


def outcome(name: str, wrong: Iterable[str], right: str) -> Check:
    """A check that passes where nothing is wrong."""
    told = list(wrong)
    return Check(name, not told, some(told) if told else right)


def differences(expected: Any, found: Any, field: str = "", tolerance: float = TOLERANCE) -> Iterator[str]:
    """Where two trees of plain data differ: a line a leaf, numbers by more than ``tolerance``."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for name in sorted({*expected, *found}):
            place = f"{field}.{name}" if field else str(name)
            yield from differences(expected.get(name), found.get(name), place, tolerance)
    elif isinstance(expected, float) and isinstance(found, float):
        # Written so that NaN, which no record holds, differs.
        if not abs(expected - found) <= tolerance:
            yield f"{field}: expected {expected}, found {found}"
    elif expected != found:
        yield f"{field}: expected {expected!r}, found {found!r}"


def recomputed(scores: pd.DataFrame, name: str, result: MetricResult) -> MetricResult:
    """A metric's result from the per-segment scores; unit, direction, aggregate and chance are the record's word."""
    facts = StatedFacts(name, result.unit, result.higher_is_better, result.decimals, result.aggregate)
    return metric_result(scores, facts, chance=result.chance)


def _place(path: Path, record: Record) -> Check:
    wanted = record.unit.record_path
    lies = path.resolve().parts[-len(wanted.parts) :] == wanted.parts
    return Check("place", lies, str(wanted) if lies else f"a store has this record at {wanted}")


def _complete(record: Record, scores: pd.DataFrame) -> Check:
    counts = {"in the record": record.n_segments, "scored": len(scores)}
    wrong = [f"{n} {word} of {record.n_segments_expected}" for word, n in counts.items()]
    whole = {*counts.values()} == {record.n_segments_expected}
    return outcome("complete", [] if whole else wrong, f"{len(scores)} segments")


def _aggregates(record: Record, scores: pd.DataFrame) -> list[Check]:
    """Of every metric: what is counted, and apart from it the interval, whose method may change with the package."""
    wrong: dict[bool, list[str]] = {False: [], True: []}
    for name, result in record.metrics.items():
        again, given = (each.model_dump() for each in (recomputed(scores, name, result), result))
        for field in given:
            wrong[field in INTERVAL] += differences(again[field], given[field], f"{name}.{field}")
    right = f"those of the scores, within {TOLERANCE:g}"
    if record.interval_method != METHOD:
        wrong[True] = [f"made by {record.interval_method!r}, which this code ({METHOD!r}) cannot make again"]
    return [outcome("aggregates", wrong[False], right), outcome("intervals", wrong[True], right)]


def _system(record: Record) -> Check:
    """Facts that cannot all be true."""
    system = record.system
    wrong: list[str] = []
    if record.budget.steps and system.checkpoint_hash is None:
        wrong.append(f"{record.budget.steps} steps of training, but no checkpoint")
    if system.parameters and system.checkpoint_hash is None:
        wrong.append(f"{system.parameters} learned parameters, but no checkpoint")
    ranked = "ranked" if system.sees in GIVEN[record.task] else "a reference, not ranked"
    eeg = "uses EEG" if system.uses_eeg else "is given no EEG"
    return outcome("system", wrong, f"{system.name} sees {system.sees!r} ({ranked}), {eeg}")


def _controls(path: Path, record: Record) -> Check:
    """The record's controls, each with its record beside it, all of one network and one request."""
    asked = record.controls or dict.fromkeys((TRUE_EEG, record.control))
    wrong = [] if TRUE_EEG in asked else [f"{TRUE_EEG} was not asked for"]
    for control in asked:
        other, schema = read_record(path.with_name(f"{control}.json"))
        wrong += [f"{control}: {schema.detail}"] if other is None else list(_unlike(record, other, control))
    said = "" if record.controls else " (the record does not say which were asked for)"
    return outcome("controls", wrong, f"{', '.join(asked)}{said}")


def _unlike(record: Record, other: Record, control: str) -> Iterator[str]:
    """What controls of one network cannot differ in."""
    if other.control != control:
        yield f"{control}: a record of {other.control}"
    one, two = (_network(each) for each in (record, other))
    yield from (f"{control}: {line}" for line in differences(one, two))
    if not record.system.uses_eeg and {*record.metrics} == {*other.metrics} and record.scores_hash != other.scores_hash:
        yield f"{control}: other scores, though no EEG is given"


def _network(record: Record) -> dict[str, Any]:
    fields = {"protocol", "study", "split", "system", "seed", "evaluation_seed", "controls", "n_segments_expected"}
    return record.model_dump(mode="json", include=fields)


def _origin(record: Record) -> Check:
    """Told, not judged: nobody can see from here what a commit holds."""
    code = record.code
    commit = "no commit" if code.commit is None else f"commit {code.commit}"
    changes = ", with changes that are not in it" if code.dirty else ""
    return Check("code", True, f"{commit}{changes}, version {code.version}")
