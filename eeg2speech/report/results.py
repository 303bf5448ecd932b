"""Records gathered into groups that may be compared, and their runs: what a row of a table is about.

A group is one protocol, study and split. Records in it that are not about the same data, or runs of a system that are
not of the same system, are refused: a table of them would compare what cannot be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from eeg2speech.errors import BadInput
from eeg2speech.records.schema import Record, SystemRef
from eeg2speech.records.store import RecordStore
from eeg2speech.report.words import CONTROL_LABELS, METRIC_LABELS, in_order

HEADLINE = "si_sdr"
"""The metric that ranks and that the differences are about; where a group lacks it, its first metric."""


@dataclass(frozen=True, order=True)
class GroupKey:
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
        """Whether it is complete and is given no more of the sound than the mixture."""
        return self.problem is None and self.system.sees == "mixture"

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

    @property
    def first(self) -> Record:
        """Any record of the group, for what all its records share."""
        return self.runs[0].every_record()[0]

    @property
    def headline(self) -> str:
        """Name of the metric that ranks."""
        return HEADLINE if HEADLINE in self.metrics else self.metrics[0]

    def facts(self, metric: str) -> tuple[str, bool, int]:
        """Unit, whether higher is better, and decimals of ``metric``."""
        records = (record for run in self.runs for record in run.every_record())
        result = next(record.metrics[metric] for record in records if metric in record.metrics)
        return result.unit, result.higher_is_better, result.decimals


def read_groups(store: RecordStore) -> tuple[Group, ...]:
    """All groups, sorted. Raises BadInput when there are no records, or records that do not fit together."""
    records = sorted(store.read_all(), key=_key)
    if not records:
        raise BadInput(store.root, "records", "at least one", "none")
    return tuple(_group(store, key, tuple(members)) for key, members in groupby(records, key=_key))


def _key(record: Record) -> GroupKey:
    unit = record.unit
    return GroupKey(unit.protocol, unit.protocol_version, unit.study, unit.split, unit.split_seed)


def _group(store: RecordStore, key: GroupKey, records: tuple[Record, ...]) -> Group:
    place = _places(store)
    _check_same(place, records, _shared_by_all)
    _check_metrics(place, records)
    controls = in_order({record.control for record in records}, CONTROL_LABELS)
    metrics = in_order({name for record in records for name in record.metrics}, METRIC_LABELS)
    by_system = groupby(sorted(records, key=lambda record: record.unit), key=lambda record: record.system.name)
    runs = tuple(run for _, members in by_system for run in _runs(place, tuple(members), controls))
    return Group(key, runs, controls, metrics)


def _runs(place: Callable[[Record], Path], records: tuple[Record, ...], controls: tuple[str, ...]) -> Iterable[Run]:
    """One run for the system if all its seeds are complete, else one a seed."""
    _check_same(place, records, _shared_by_seeds)
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
    }


def _shared_by_seeds(record: Record) -> dict[str, Any]:
    return {"system.declaration": record.system.declaration, "system.sees": record.system.sees,
            "budget.name": record.budget.name, "metrics": sorted(record.metrics)}  # fmt: skip


def _shared_by_controls(record: Record) -> dict[str, Any]:
    return {"system.checkpoint_hash": record.system.checkpoint_hash, "system": record.system.model_dump()}


def _places(store: RecordStore) -> Callable[[Record], Path]:
    return lambda record: store.path(record.unit)


def _check_same(
    place: Callable[[Record], Path], records: Iterable[Record], shared: Callable[[Record], dict[str, Any]]
) -> None:
    first, *others = records
    expected = shared(first)
    for record in others:
        for field, value in shared(record).items():
            if value != expected[field]:
                raise BadInput(place(record), field, f"{expected[field]}, as in {place(first)}", value)


def _check_metrics(place: Callable[[Record], Path], records: Iterable[Record]) -> None:
    """One unit, direction and number of decimals a metric."""
    facts: dict[str, tuple[str, bool, int]] = {}
    for record in records:
        for name, result in record.metrics.items():
            found = (result.unit, result.higher_is_better, result.decimals)
            if facts.setdefault(name, found) != found:
                raise BadInput(place(record), f"metrics.{name}", f"unit, direction, decimals {facts[name]}", found)
