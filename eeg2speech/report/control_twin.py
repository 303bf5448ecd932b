"""The twin of a system: the same one trained with noise in place of the EEG, and how far the system is above it.

What a twin reaches takes no EEG to reach. Twins lie in a store of their own, ``<results>/twins``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eeg2speech.records.intervals import RESAMPLES, Interval, paired_difference
from eeg2speech.records.schema import TRUE_EEG, MetricResult, Record
from eeg2speech.records.store import RecordStore
from eeg2speech.report.compare import Comparison
from eeg2speech.report.judgement import measures_of
from eeg2speech.report.results import GroupKey, Run, read_groups
from eeg2speech.report.tables import NOTHING, Table, with_interval, with_unit
from eeg2speech.report.words import metric_label

TWINS = "twins"
"""Folder of the store of twins, beside the records."""
Twins = Mapping[GroupKey, Comparison]
"""Twins by the group that they belong to."""


@dataclass(frozen=True)
class Twin:
    """A run that is the twin of another, among the twins of its group."""

    comparison: Comparison
    run: Run

    def result(self, metric: str) -> MetricResult | None:
        """What it reaches with the true EEG, which it never learned from."""
        return self.comparison.result(self.run, metric)

    def difference(self, comparison: Comparison, run: Run, metric: str) -> Interval | None:
        """``metric`` of a ``run`` minus the twin's, both with the true EEG, on the same segments; None if one lacks
        it."""
        if any(each is None for each in (self.result(metric), comparison.result(run, metric))):
            return None
        frames = comparison.seeds(run, TRUE_EEG), self.comparison.seeds(self.run, TRUE_EEG)
        return paired_difference(*frames, metric, comparison.resamples)


def read_twins(results: Path, resamples: int = RESAMPLES) -> dict[GroupKey, Comparison]:
    """All twins below ``results``; empty if there are none. Raises BadInput for records that do not fit together."""
    store = RecordStore(results / TWINS)
    groups = read_groups(store) if any(store.root.glob("*/*/*/*/*.json")) else ()
    return {group.key: Comparison(store, group, resamples) for group in groups}


def twin_of(comparison: Comparison, run: Run, twins: Twins) -> Twin | str:
    """The twin of a complete run, or why there is none to compare it with."""
    there = twins.get(comparison.group.key)
    found = [] if there is None else [other for other in there.group.runs if _is_twin(other.system.declaration, run)]
    if there is None or not found:
        return "No twin of this system was trained: what it would reach without EEG is not known."
    problems = {other.label: _problem(other, run) for other in found}
    fit = next((other for other in found if problems[other.label] is None), None)
    if fit is not None:
        return Twin(there, fit)
    return " ".join(f"The twin `{label}` is not compared: {problem}." for label, problem in problems.items())


def twin_table(comparison: Comparison, run: Run, twin: Twin) -> Table:
    """What system and twin reach, and the paired difference, in the metrics of the verdict."""
    group, rows = comparison.group, []
    for measure in measures_of(group):
        facts = group.facts(measure.name)
        both = comparison.result(run, measure.name), twin.result(measure.name)
        cells = (
            with_interval(each, facts.decimals) for each in (*both, twin.difference(comparison, run, measure.name))
        )
        rows.append((with_unit(metric_label(measure.name), facts.unit), *cells))
    return Table(("metric", "system", "twin", "system minus twin"), tuple(rows), frozenset({"metric"}))


def twin_difference(comparison: Comparison, run: Run, twin: Twin | str) -> str:
    """The difference in the metric that ranks, for a cell."""
    if isinstance(twin, str):
        return NOTHING
    headline = comparison.group.headline
    return with_interval(twin.difference(comparison, run, headline), comparison.group.facts(headline).decimals)


def _is_twin(declaration: Mapping[str, Any], run: Run) -> bool:
    """Whether it is of the same system and settings, and learned from noise alone."""
    own, noise = run.system.declaration, _conditions(declaration).get("noise_share")
    same = all(declaration.get(name) == own.get(name) for name in ("system", "settings"))
    return same and noise == 1.0


def _conditions(declaration: Mapping[str, Any]) -> Mapping[str, Any]:
    """None are told where none are given."""
    return declaration.get("conditions") or {}


def _problem(other: Run, run: Run) -> str | None:
    """What forbids to compare a twin with its system; None if nothing does."""
    if other.problem is not None:
        return other.problem
    first, second = (_shared(each.every_record()[0]) for each in (other, run))
    differing = next((name for name in first if first[name] != second[name]), None)
    if differing is None:
        return None
    return f"its {differing} is {_told(first[differing])}, the system's is {_told(second[differing])}"


def _shared(record: Record) -> dict[str, Any]:
    """What a twin must have in common with its system, besides system and settings."""
    declaration: Mapping[str, Any] = record.system.declaration
    conditions = {name: value for name, value in _conditions(declaration).items() if name != "noise_share"}
    return {
        "study.revision": record.study.revision,
        "split.manifest_hash": record.split.manifest_hash,
        "evaluation_seed": record.evaluation_seed,
        **{f"declaration.{name}": declaration.get(name) for name in ("version", "budget", "steps")},
        "conditions but for the noise": conditions,
        "budget": record.budget.name,
        "system.sees": record.system.sees,
    }


def _told(value: object) -> str:
    return f"`{value}`"
