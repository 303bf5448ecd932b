"""From a record back to the run that made it: its suite, and the same run once more beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from eeg2speech.errors import BadInput, unknown_name
from eeg2speech.evaluation.protocol import PROTOCOLS, protocol
from eeg2speech.evaluation.run import run_suite, unit_of
from eeg2speech.evaluation.suite import Machine, Suite, works
from eeg2speech.records.schema import MetricResult, Record
from eeg2speech.records.verify import differences, read_record
from eeg2speech.systems.registry import Declaration, declare, system_class
from eeg2speech.training.budget import BudgetName

TOLERANCE = 1e-4
"""By which a mean may differ, in its unit, and still be the same: last bits of floats differ between machines."""
Outcome = Literal["identical", "same means", "within intervals", "different"]


@dataclass(frozen=True)
class Repetition:
    """A record and its repetition. ``metrics`` are those of both, ``first`` is the first difference, None without one.

    Times, machine, code and date are not compared, see ``Record.repeatable``.
    """

    record: Record
    again: Record
    path: Path
    first: str | None

    @property
    def outcome(self) -> Outcome:
        """How far the repetition agrees.

        ``identical``: in every byte that can be. ``same means``: every metric within ``TOLERANCE``, as on another
        machine. ``within intervals``: every new mean in the record's interval, as after a training that took another
        course. ``different``: some mean outside, or metrics that only one of them has.
        """
        if self.first is None:
            return "identical"
        if {*self.record.metrics} != {*self.again.metrics}:
            return "different"
        pairs = [(result, self.again.metrics[name]) for name, result in self.record.metrics.items()]
        if all(_same_mean(*pair) for pair in pairs):
            return "same means"
        return "within intervals" if all(_within(*pair) for pair in pairs) else "different"


def declaration_of(record: Record) -> Declaration:
    """The declaration of a record's system.

    Raises:
        BadInput: a system that is not installed (with the nearest), or another version of it than the record's.
    """
    told = record.system.declaration
    name, where = str(told.get("system")), f"record of {record.system.name}"
    version = system_class(name).version
    if "version" not in told:
        raise BadInput(where, "system.declaration", "that of a registered system", f"a callable, {name!r}")
    if told["version"] != version:
        raise BadInput(where, "system.declaration.version", f"{version}, that of this code", told["version"])
    entry: dict[str, Any] = {key: told[key] for key in ("system", "settings", "steps", "conditions") if key in told}
    return declare(entry | ({"name": record.system.name} if record.system.name != name else {}), where)


def suite_of(record: Record, study: str | None = None) -> Suite:
    """The suite of one system that gives a record: all of its controls, on its study, split and seed.

    Args:
        record: a record of ``eeg2speech run`` or of a registered system in ``eeg2speech.evaluate``.
        study: folder of its prepared study; the record's name of it if None.

    Raises:
        BadInput: an unknown protocol or budget, a seed of the split that is not the protocol's, or a system as
            ``declaration_of`` refuses it.
    """
    label = f"{record.protocol.name}-{record.protocol.version}"
    chosen, where = protocol(label), f"record of {record.system.name}"
    if record.split.seed != chosen.split_seed:
        raise BadInput(where, "split.seed", f"{chosen.split_seed} ({label})", record.split.seed)
    return Suite(
        name=f"repeat-{record.system.name}",
        protocol=label,
        studies=[study or record.study.name],
        splits=[record.split.kind],
        seeds=[record.seed],
        controls=list(record.controls or (record.control,)),
        metrics=[name for name in record.metrics if name not in PROTOCOLS[label].metrics],
        budget=_budget(record, where),
        systems=[declaration_of(record).model_dump(exclude_defaults=True)],
    )


def repeat(
    path: Path | str,
    out: Path,
    study: str | None = None,
    machine: Machine | None = None,
    tell: Callable[[str], None] = print,
) -> Repetition:
    """Make a record once more, with all controls of its system, and compare.

    Args:
        path: the record.
        out: folder for trainings and new records; what is in it already is taken up.
        study: folder of the prepared study; that of the record's name in the cache if None.
        machine: as in ``run_suite``. tell: is given a line as the run goes on.

    Raises:
        BadInput: no record, or one that ``suite_of`` refuses; data of another revision are told as a difference.
    """
    record, schema = read_record(Path(path))
    if record is None:
        raise BadInput(path, "record", "one of the schema", schema.detail)
    suite = suite_of(record, study)
    records = run_suite(suite, out, machine, tell)
    made = records.path(unit_of(works(suite)[0], record.control))
    again = records.read(made)
    first = next(differences(record.repeatable(), again.repeatable(), tolerance=0.0), None)
    return Repetition(record, again, made, first)


def told(found: Repetition) -> str:
    """What ``eeg2speech repeat`` prints: the outcome, the first difference, and the means of both, a line a metric."""
    lines = [f"{found.path}: {found.outcome}"]
    lines += [] if found.first is None else [f"first difference: {found.first}"]
    for name, result in found.record.metrics.items():
        other = found.again.metrics.get(name)
        lines.append(f"  {name:22} {_number(result)} {_number(other)}")
    return "\n".join(lines)


def _budget(record: Record, where: str) -> BudgetName:
    """A system that has nothing to learn names none: then any will do."""
    name = record.system.declaration.get("budget", "demo")
    if name not in get_args(BudgetName):
        raise unknown_name(where, "system.declaration.budget", str(name), get_args(BudgetName))
    return cast(BudgetName, name)


def _same_mean(one: MetricResult, other: MetricResult) -> bool:
    if one.mean is None or other.mean is None:
        return one.mean == other.mean
    return abs(one.mean - other.mean) <= TOLERANCE


def _within(one: MetricResult, other: MetricResult) -> bool:
    if one.low is None or one.high is None or other.mean is None:
        return _same_mean(one, other)
    return one.low <= other.mean <= one.high


def _number(result: MetricResult | None) -> str:
    if result is None or result.mean is None:
        return "none"
    return f"{result.mean:.{result.decimals + 2}f}"
