"""How large a test must be, told in Markdown from the variance in records that are there."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from eeg2speech.errors import BadInput, unknown_name
from eeg2speech.records.intervals import check_same_segments
from eeg2speech.records.power import (
    ALPHA,
    NAMES,
    POWER,
    Components,
    Design,
    Needed,
    Plan,
    degrees_of_freedom,
    detectable,
    error_of,
    grid,
    needed,
    shares,
    variance_components,
)
from eeg2speech.records.schema import TRUE_EEG, Record
from eeg2speech.records.store import RecordStore

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Differences:
    """Differences of two systems, or of one under two controls, on the same segments of one protocol, study and split.

    ``values`` [n] are in ``unit``, NaN where one of the two has no score. ``records`` are those behind them.
    """

    title: str
    metric: str
    unit: str
    decimals: int
    values: NDArray[np.float64]
    subjects: tuple[str, ...]
    pairs: tuple[str, ...]
    records: tuple[Record, ...]

    @property
    def scored(self) -> NDArray[np.bool_]:
        """Which segments both have a score for [n]."""
        return ~np.isnan(self.values)

    @property
    def components(self) -> Components:
        """Their variance components."""
        return variance_components(self.values, self.subjects, self.pairs)

    @property
    def design(self) -> Design:
        """The test that they come from, with averages where it is not balanced."""
        who, what = np.asarray(self.subjects)[self.scored], np.asarray(self.pairs)[self.scored]
        trials = len(set(zip(who.tolist(), what.tolist(), strict=True)))
        n_subjects, n_pairs = len(set(who.tolist())), len(set(what.tolist()))
        return Design(n_subjects, n_pairs, trials / n_subjects, len(who) / trials)


def read_differences(
    root: Path | str, system: str, other: str | None = None, metric: str = "si_sdr", control: str = "noise_cue"
) -> list[Differences]:
    """``system`` minus ``other`` with the true EEG; with ``other`` None, the drop of ``system`` under ``control``.

    One entry a protocol, study and split that has both, sorted. Several seeds of a system: each segment's mean.

    Raises:
        BadInput: no record of a system (with the nearest that there is), no protocol, study and split with both and the
            metric, or records of other segments or data.
    """
    store = RecordStore(root)
    first = _by_group(store, system, TRUE_EEG)
    second = _by_group(store, other or system, TRUE_EEG if other else control)
    title = f"{system} minus {other}" if other else f"{system} minus {system} under {control}"
    shared = [key for key in sorted(set(first) & set(second)) if _have(metric, (*first[key], *second[key]))]
    if not shared:
        found = f"none for {title} ({len(first)} and {len(second)} splits with records)"
        raise BadInput(store.root, "records", f"both, on one split, with the metric {metric!r}", found)
    return [_differences(store, title, metric, first[key], second[key]) for key in shared]


def power_text(
    root: Path | str,
    system: str,
    other: str | None = None,
    difference: float = 1.0,
    metric: str = "si_sdr",
    power: float = POWER,
    alpha: float = ALPHA,
) -> str:
    """What ``eeg2speech power`` prints, in Markdown: see ``read_differences`` and ``needed``, and their errors."""
    found = read_differences(root, system, other, metric)
    return "\n\n".join(_told(Path(root), each, difference, power, alpha) for each in found) + "\n"


def _by_group(store: RecordStore, system: str, control: str) -> dict[tuple[object, ...], tuple[Record, ...]]:
    """Records of a system under a control, all seeds, by protocol, study and split. Raises BadInput without any."""
    paths = sorted(store.root.glob(f"*/*/*/{system}-s*/{control}.json"))
    records = [record for record in map(store.read, paths) if record.system.name == system]
    if not records:
        raise unknown_name(store.root, f"system with {control}", system, _names(store.root, control))
    groups: dict[tuple[object, ...], tuple[Record, ...]] = {}
    for record in records:
        key = (record.unit.protocol, record.unit.protocol_version, *record.unit.folder.parts[1:3])
        groups[key] = (*groups.get(key, ()), record)
    return groups


def _names(root: Path, control: str) -> set[str]:
    return {path.parent.name.rpartition("-s")[0] for path in root.glob(f"*/*/*/*/{control}.json")}


def _have(metric: str, records: Iterable[Record]) -> bool:
    return all(metric in record.metrics for record in records)


def _differences(
    store: RecordStore, title: str, metric: str, first: Sequence[Record], second: Sequence[Record]
) -> Differences:
    records = (*first, *second)
    for record in records[1:]:
        if record.study.revision != records[0].study.revision:
            raise BadInput(store.path(record.unit), "study.revision", records[0].study.revision, record.study.revision)
    one, other = (_mean_over_seeds([store.scores(record) for record in some], metric) for some in (first, second))
    check_same_segments(one, other)
    values = one[metric].to_numpy(np.float64) - other[metric].to_numpy(np.float64)
    about, facts = first[0].unit, first[0].metrics[metric]
    where = f"{about.protocol}-{about.protocol_version}, {about.study}, split {about.split} (seed {about.split_seed})"
    subjects, pairs = tuple(one["subject"].astype(str)), tuple(one["pair"].astype(str))
    shown = (f"{title}: {metric}, {where}", metric, facts.unit, facts.decimals)
    return Differences(*shown, values, subjects, pairs, records)


def _mean_over_seeds(frames: Sequence[pd.DataFrame], metric: str) -> pd.DataFrame:
    ordered = [frame.sort_values("segment", kind="stable").reset_index(drop=True) for frame in frames]
    for other in ordered[1:]:
        check_same_segments(ordered[0], other)
    mean = ordered[0].copy()
    mean[metric] = np.mean([frame[metric].to_numpy(np.float64) for frame in ordered], axis=0)
    return mean


def _told(root: Path, found: Differences, difference: float, power: float, alpha: float) -> str:
    components, design = found.components, found.design
    error, freedom = error_of(components, design), degrees_of_freedom(components, design)
    smallest = detectable(components, design, power, alpha)
    mean, digits = float(found.values[found.scored].mean()), found.decimals
    unit = f" {found.unit}" if found.unit else ""
    lines = [
        f"## {found.title}",
        f"Mean difference {mean:.{digits}f}{unit} over {int(found.scored.sum())} segments: {_size(design)}. "
        f"Standard error {error:.{digits + 1}f}{unit}, {freedom:.1f} degrees of freedom: this test finds "
        f"{smallest:.{digits}f}{unit} with power {power:g} (two-sided level {alpha:g}).",
        _components_table(components, design, found.unit),
        f"To find {difference:g}{unit}, each subject hearing {design.pairs_per_subject / design.n_pairs:.0%} of the "
        f"pairs and {design.segments_per_trial:g} segments a trial:",
        _needed_table(needed(components, difference, design, power, alpha)),
        f"Smallest difference{unit and f' ({found.unit})'} found, by subjects (rows) and stimulus pairs (columns):",
        _grid_table(grid(components, design, power=power, alpha=alpha), digits),
        _source(root, found.records),
    ]
    return "\n\n".join(lines)


def _size(design: Design) -> str:
    return f"{design.n_subjects} subjects, {design.n_pairs} stimulus pairs, {_whole(design.trials)} trials"


def _whole(trials: float) -> int:
    """Trials are whole; a share of pairs may ask for a part of one."""
    return math.ceil(trials - 1e-9)


def _components_table(components: Components, design: Design, unit: str) -> str:
    of_subjects, of_pairs, _ = shares(components, design)
    of_trials = components.trial / design.trials
    of_segments = components.segment / (design.trials * design.segments_per_trial)
    parts = dict(zip(NAMES, (of_subjects, of_pairs, of_trials, of_segments), strict=True))
    total = sum(parts.values()) or 1.0
    names = {"subject": "subjects", "pair": "stimulus pairs", "trial": "trials", "segment": "segments of a trial"}
    rows = [
        (names[name], f"{math.sqrt(getattr(components, name)):.3g}", f"{part / total:.0%}")
        for name, part in parts.items()
    ]
    header = ("spread between", f"standard deviation{unit and f' ({unit})'}", "share of the variance of the mean")
    zeroed = [names[name] for name in components.zeroed]
    notes = [components.note] if components.note else []
    notes += [f"estimates below 0 were taken as 0: {', '.join(zeroed)}"] if zeroed else []
    return "\n\n".join([_table(header, rows), *(f"Note: {note}." for note in notes)])


def _needed_table(plans: Needed) -> str:
    named = {"more subjects": plans.subjects, "more stimulus pairs": plans.pairs, "fewest trials": plans.trials}
    return _table(
        ("what is free", "subjects", "stimulus pairs", "test trials"),
        [(name, *_plan_cells(plan)) for name, plan in named.items()],
    )


def _plan_cells(plan: Plan) -> tuple[str, str, str]:
    if plan.design is None:
        return plan.note or "none", "", ""
    return str(plan.design.n_subjects), str(plan.design.n_pairs), str(_whole(plan.design.trials))


def _grid_table(found: dict[tuple[int, int], float], digits: int) -> str:
    subjects, pairs = (list(dict.fromkeys(size[k] for size in found)) for k in (0, 1))
    rows = [(str(row), *(f"{found[row, column]:.{digits}f}" for column in pairs)) for row in subjects]
    return _table(("", *map(str, pairs)), rows)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, [":---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _source(root: Path, records: Sequence[Record]) -> str:
    commits = sorted({f"{(record.code.commit or 'none')[:12]}{_dirty(record)}" for record in records})
    paths = ", ".join(f"`{(root / record.unit.record_path).as_posix()}`" for record in records)
    return f"From {paths}; made at commit {', '.join(commits)}. {records[0].study.data_note}"


def _dirty(record: Record) -> str:
    return " (with changes)" if record.code.dirty else ""
