"""Records gathered into groups that may be compared, and their runs: what a row of a table is about.

A group is one protocol, study and split. Records in it that are not about the same data, or runs of a system that are
not of the same system, are refused: a table of them would compare what cannot be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from eeg2speech.errors import BadInput
from eeg2speech.records.schema import GIVEN, Aggregate, MetricResult, Record, SetMetric, SystemRef
from eeg2speech.records.store import RecordStore
from eeg2speech.report.words import COLUMNS, CONTROL_LABELS, HEADLINES, TASKS, in_order


class Facts(NamedTuple):
    """What all results of a metric in a group share."""

    unit: str
    higher_is_better: bool
    decimals: int
    aggregate: Aggregate = "mean"
    chance: float | None = None

    @classmethod
    def of(cls, result: MetricResult | SetMetric) -> Facts:
        """Those of one result; a measure of the whole set has no chance."""
        about = (result.unit, result.higher_is_better, result.decimals)
        return cls(*about, result.aggregate, result.chance) if isinstance(result, MetricResult) else cls(*about)


class GroupKey(NamedTuple):
    """What may be compared."""

    protocol: str
    version: int
    study: str
    split: str
    split_seed: int

    @property
    def slug(self) -> str:
        """Part of the names of the group's figures."""
        return f"{self.protocol}-{self.version}_{self.study}_{self.split}-s{self.split_seed}"

    @property
    def title(self) -> str:
        """Heading of the group."""
        return f"{self.protocol}-{self.version}, {self.study}, split {self.split} (seed {self.split_seed})"


@dataclass(frozen=True)
class Run:
    """A row: one system with one seed, or with all of its seeds when all are complete.

    ``records`` holds per control a record a seed; ``problem`` says what is missing, and then nothing is averaged.
    """

    label: str
    system: SystemRef
    records: Mapping[str, tuple[Record, ...]]
    problem: str | None = None

    @property
    def ranked(self) -> bool:
        """Whether it is complete and is given no more of the sound than its task gives."""
        return self.problem is None and self.system.sees in GIVEN[self.first.task]

    @property
    def first(self) -> Record:
        """Any of its records, for what all share."""
        return next(iter(self.records.values()))[0]

    def every_record(self) -> tuple[Record, ...]:
        """The records of all controls and seeds."""
        return tuple(record for records in self.records.values() for record in records)


@dataclass(frozen=True)
class Group:
    """All runs that may be compared, sorted by label; ``controls`` are those that any system has."""

    key: GroupKey
    runs: tuple[Run, ...]
    controls: tuple[str, ...]
    metrics: tuple[str, ...]
    set_metrics: tuple[str, ...] = ()

    @property
    def first(self) -> Record:
        """Any record of the group, for what all its records share."""
        return self.runs[0].first

    @property
    def headline(self) -> str:
        """Name of the metric that ranks."""
        known = HEADLINES[self.task]
        return known if known in self.metrics else self.metrics[0]

    @property
    def task(self) -> str:
        """Name of the task."""
        return self.first.task

    def records(self) -> Iterator[Record]:
        """Every record of every run."""
        return (record for run in self.runs for seeds in run.records.values() for record in seeds)

    def facts(self, metric: str) -> Facts:
        """What is known of ``metric``, or of a measure of the whole set."""
        results = (record.metrics.get(metric) or record.set_metrics.get(metric) for record in self.records())
        return Facts.of(next(result for result in results if result is not None))


def read_groups(store: RecordStore, folder: str = "*/*/*", with_scores: bool = True) -> tuple[Group, ...]:
    """All groups, or that of one of the store's folders, by task and key; ``with_scores`` as for ``read_all``. Raises
    BadInput when there are no records, or some that do not fit together."""
    # By their units, and so by their keys, with which a unit begins, and then by system and seed.
    records = store.read_all(folder, with_scores)
    if not records:
        raise BadInput(store.root, "records", "at least one", "none")
    groups = [_group(store, key, tuple(members)) for key, members in groupby(records, key=_key)]
    return tuple(sorted(groups, key=lambda group: (TASKS.index(group.task), group.key)))


def _key(record: Record) -> GroupKey:
    unit = record.unit
    return GroupKey(unit.protocol, unit.protocol_version, unit.study, unit.split, unit.split_seed)


def _group(store: RecordStore, key: GroupKey, records: tuple[Record, ...]) -> Group:
    place = _places(store)
    _check_same(place, records, _shared_by_all)
    _check_metrics(place, records)
    controls = in_order({record.control for record in records}, CONTROL_LABELS)
    metrics = in_order({name for record in records for name in record.metrics}, COLUMNS[records[0].task])
    set_metrics = tuple(sorted({name for record in records for name in record.set_metrics}))
    by_system = groupby(records, key=lambda record: record.system.name)
    runs = tuple(run for _, members in by_system for run in _runs(place, tuple(members), controls))
    return Group(key, runs, controls, metrics, set_metrics)


def _runs(place: Callable[[Record], Path], records: tuple[Record, ...], controls: tuple[str, ...]) -> Iterable[Run]:
    """One run for the system if all its seeds are complete, else one a seed."""
    _check_same(place, records, _shared_by_seeds)
    for control in controls:
        _check_same(place, [record for record in records if record.control == control], _shared_by_control)
    seeds = {seed: tuple(members) for seed, members in groupby(records, key=lambda record: record.seed)}
    for members in seeds.values():
        _check_same(place, members, _shared_by_controls)
    problems = {seed: _problem(members, controls) for seed, members in seeds.items()}
    name, system = records[0].system.name, records[0].system
    if not any(problems.values()):
        label = name if len(seeds) == 1 else f"{name} (mean of {len(seeds)} seeds)"
        return [Run(label, system, _by_control(records, controls))]
    labels = {seed: name if len(seeds) == 1 else f"{name} (seed {seed})" for seed in seeds}
    return [Run(labels[seed], system, _by_control(seeds[seed], controls), problems[seed]) for seed in seeds]


def _by_control(records: tuple[Record, ...], controls: tuple[str, ...]) -> dict[str, tuple[Record, ...]]:
    found = {control: tuple(record for record in records if record.control == control) for control in controls}
    return {control: members for control, members in found.items() if members}


def _problem(records: tuple[Record, ...], controls: tuple[str, ...]) -> str | None:
    """What one system and seed lacks: records of controls that were asked for, or segments."""
    asked = {control for record in records for control in record.controls or controls}
    if len(records) < len(asked):
        return f"incomplete ({len(records)} of {len(asked)} controls)"
    short = next((record for record in records if not record.complete), None)
    if short is None:
        return None
    return f"incomplete ({short.n_segments} of {short.n_segments_expected} segments of {short.control})"


def _shared_by_all(record: Record) -> dict[str, Any]:
    return {
        "task": record.task,
        "study.revision": record.study.revision,
        "study.data_note": record.study.data_note,
        "split.manifest_hash": record.split.manifest_hash,
        "n_segments_expected": record.n_segments_expected,
        "evaluation_seed": record.evaluation_seed,
        "candidates": record.candidates,
    }


def _shared_by_seeds(record: Record) -> dict[str, Any]:
    return {"system.declaration": record.system.declaration, "system.sees": record.system.sees,
            "budget.name": record.budget.name}  # fmt: skip


def _shared_by_control(record: Record) -> dict[str, Any]:
    """Of one system and control over seeds: a costly metric may be left out under some controls, not for some seeds."""
    return {"metrics": sorted(record.metrics)}


def _shared_by_controls(record: Record) -> dict[str, Any]:
    return {"system.checkpoint_hash": record.system.checkpoint_hash, "system": record.system.model_dump()}


def _places(store: RecordStore) -> Callable[[Record], Path]:
    return lambda record: store.path(record.unit)


def _check_same(
    place: Callable[[Record], Path], records: Sequence[Record], shared: Callable[[Record], dict[str, Any]]
) -> None:
    expected = shared(records[0]) if records else {}
    for record in records[1:]:
        for field, value in shared(record).items():
            if value != expected[field]:
                raise BadInput(place(record), field, f"{expected[field]}, as in {place(records[0])}", value)


def _check_metrics(place: Callable[[Record], Path], records: Iterable[Record]) -> None:
    """One unit, direction, number of decimals, aggregate and chance a metric."""
    facts: dict[str, Facts] = {}
    for record in records:
        measures: dict[str, MetricResult | SetMetric] = {**record.metrics, **record.set_metrics}
        for name, result in measures.items():
            found = Facts.of(result)
            if facts.setdefault(name, found) != found:
                kind = "metrics" if name in record.metrics else "set_metrics"
                raise BadInput(place(record), f"{kind}.{name}", f"{facts[name]}, as in other records", found)
