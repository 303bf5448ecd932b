"""Numbers of runs: results over seeds, and differences between runs or controls on the same segments."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from eeg2speech.records.audits import Audit, audit_of
from eeg2speech.records.columns import Segments
from eeg2speech.records.intervals import (
    RESAMPLES,
    Interval,
    check_same_segments,
    clustered_interval,
    difference_of,
    paired_difference,
)
from eeg2speech.records.latency import Latency
from eeg2speech.records.multiple import RankRange, rank_ranges
from eeg2speech.records.schema import TRUE_EEG, MetricResult, SetMetric, Subset
from eeg2speech.records.store import RecordStore
from eeg2speech.records.summary import StatedFacts, metric_result, result_of
from eeg2speech.report.results import Group, Run
from eeg2speech.report.words import BESIDE

if TYPE_CHECKING:
    import pandas as pd

SUBSETS = ("right", "wrong")


@dataclass(frozen=True, eq=False)
class Rows:
    """Scores [seeds, n] of a run in one metric, and the segments [n] that they are about."""

    segments: Segments
    scores: NDArray[np.float64]


@dataclass
class Comparison:
    """The numbers of one group; what takes a bootstrap is computed once, and what lies in files read once.

    ``latencies`` are of any systems.
    """

    store: RecordStore
    group: Group
    resamples: int = RESAMPLES
    latencies: tuple[Latency, ...] = ()
    _scores: dict[tuple[str, str], pd.DataFrame] = field(default_factory=dict)
    _seeds: dict[tuple[str, str], list[pd.DataFrame]] = field(default_factory=dict)
    _rows: dict[tuple[str, str, str], Rows] = field(default_factory=dict)
    _segments: Segments | None = None
    _results: dict[tuple[str, str, str], MetricResult] = field(default_factory=dict)
    _differences: dict[tuple[str, str, str, str, str], Interval] = field(default_factory=dict)

    @cached_property
    def ranking(self) -> tuple[Run, ...]:
        """Complete runs that see no more than their task gives, the best first."""
        return self._sorted([run for run in self.group.runs if run.ranked])

    @cached_property
    def references(self) -> tuple[Run, ...]:
        """Complete floors and ceilings, the best first."""
        return self._sorted([run for run in self.group.runs if run.problem is None and not run.ranked])

    @cached_property
    def incomplete(self) -> tuple[Run, ...]:
        """Runs that lack something."""
        return tuple(run for run in self.group.runs if run.problem is not None)

    def result(self, run: Run, metric: str, control: str = TRUE_EEG) -> MetricResult | None:
        """Result of a complete run. Over several seeds: of each segment's mean over the seeds."""
        records = run.records.get(control, ())
        if run.problem is not None or not records or metric not in records[0].metrics:
            return None
        if len(records) == 1:
            return records[0].metrics[metric]
        key = (run.label, metric, control)
        if key not in self._results:
            self._results[key] = self._over_seeds(run, metric, control)
        return self._results[key]

    def drop(self, run: Run, control: str, metric: str | None = None) -> Interval | None:
        """A metric, the headline's unless told, with the true EEG minus with ``control``, on the same segments."""
        return self._difference((run, TRUE_EEG), (run, control), metric or self.group.headline)

    def difference(self, first: Run, second: Run, metric: str | None = None) -> Interval | None:
        """A metric, the headline's unless told, of ``first`` minus that of ``second``, both with the true EEG, on the
        same segments."""
        return self._difference((first, TRUE_EEG), (second, TRUE_EEG), metric or self.group.headline)

    @cached_property
    def rank_ranges(self) -> dict[str, RankRange]:
        """Ranks of the ranked runs that the paired differences leave possible, by label."""
        headline = self.group.headline
        runs = {run.label: run for run in self.ranking if self._has(run, TRUE_EEG, headline)}

        def difference(one: str, other: str) -> Interval:
            # Which of two is better is told by p, which takes no resampling.
            return self._paired((runs[one], TRUE_EEG), (runs[other], TRUE_EEG), headline, resamples=2)

        return rank_ranges([*runs], difference, self.group.facts(headline).higher_is_better)

    @cached_property
    def audit(self) -> Audit | None:
        """The audit of the group's split that lies beside the records; None if there is none of exactly this data."""
        return audit_of(self.store.root, self.group.first)

    def set_result(self, run: Run, name: str) -> tuple[SetMetric, ...]:
        """A measure of the whole set with the true EEG, one a seed; empty if incomplete or if a seed lacks it."""
        records = run.records.get(TRUE_EEG, ())
        found = tuple(record.set_metrics[name] for record in records if name in record.set_metrics)
        return found if run.problem is None and len(found) == len(records) else ()

    def check_rest(self) -> None:
        """Check the scores that nothing here has asked for. Raises BadInput if a file is not the one recorded."""
        known = {(label, control) for label, control, _ in self._rows} | {*self._seeds}
        for run in self.group.runs:
            for control, records in run.records.items():
                if (run.label, control) not in known:
                    self.store.check_scores_of(records)

    def scores(self, run: Run, control: str) -> pd.DataFrame:
        """Scores of a run, sorted by segment; over several seeds the mean a segment, NaN if any seed's is."""
        key = (run.label, control)
        if key not in self._scores:
            self._scores[key] = _mean_over_seeds(self.seeds(run, control), run.records[control][0].metrics)
        return self._scores[key]

    def seeds(self, run: Run, control: str) -> list[pd.DataFrame]:
        """Scores of a run, a frame a seed."""
        key = (run.label, control)
        if key not in self._seeds:
            self._seeds[key] = [self.store.scores(record) for record in run.records[control]]
        return self._seeds[key]

    def rows(self, run: Run, control: str, metric: str) -> Rows:
        """Scores of a run in one metric. Raises BadInput if its seeds are not about the same segments."""
        key = (run.label, control, metric)
        if key not in self._rows:
            self._read_rows(run, control, self._read_together(run, control, metric))
        return self._rows[key]

    def _read_together(self, run: Run, control: str, metric: str) -> list[str]:
        """Metrics that are read when one is: to open a file takes longest. All are wanted where seeds are pooled."""
        records = run.records[control]
        pooled = control == TRUE_EEG and len(records) > 1
        usual = {self.group.headline, BESIDE[self.group.task]} & {*records[0].metrics}
        return sorted(records[0].metrics if pooled else {metric} | usual)

    def _read_rows(self, run: Run, control: str, metrics: list[str]) -> None:
        seeds = []
        for record in run.records[control]:
            seeds.append(self.store.columns(record, metrics, self._segments))
            self._segments = self._segments or seeds[-1].segments
        segments = seeds[0].segments
        for seed in seeds[1:]:
            if seed.segments is not segments and not seed.segments.table.equals(segments.table):
                check_same_segments(segments.table.to_pandas(), seed.segments.table.to_pandas())
        for name in metrics:
            scores = np.stack([seed.scores[name] for seed in seeds])
            self._rows[run.label, control, name] = Rows(segments, scores)

    def _has(self, run: Run, control: str, metric: str) -> bool:
        """Whether the run is complete and the metric was asked for under ``control``."""
        records = run.records.get(control, ())
        return run.problem is None and bool(records) and metric in records[0].metrics

    def _over_seeds(self, run: Run, metric: str, control: str) -> MetricResult:
        known = self.group.facts(metric)
        facts = StatedFacts(metric, known.unit, known.higher_is_better, known.decimals, known.aggregate)
        rows = self.rows(run, control, metric)
        if np.isnan(rows.scores).any():
            # Reasons lie in the frames.
            about = self.scores(run, control), facts, self.resamples
            result = metric_result(*about, chance=known.chance, seeds=self.seeds(run, control))
        else:
            clusters = rows.segments.subjects, rows.segments.pairs
            interval = clustered_interval(rows.scores, *clusters, self.resamples, statistic=known.aggregate)
            result = result_of(interval, rows.scores.shape[1], facts, known.chance)
        parts = [record.metrics[metric] for record in run.records[control]]
        subsets = {name: _pooled([getattr(part, name) for part in parts]) for name in SUBSETS}
        return result.model_copy(update=subsets)

    def _difference(self, first: tuple[Run, str], second: tuple[Run, str], metric: str) -> Interval | None:
        if not all(self._has(*one, metric) for one in (first, second)):
            return None
        key = (first[0].label, first[1], second[0].label, second[1], metric)
        if key not in self._differences:
            self._differences[key] = self._paired(first, second, metric, self.resamples)
        return self._differences[key]

    def _paired(self, first: tuple[Run, str], second: tuple[Run, str], metric: str, resamples: int) -> Interval:
        one, other = self.rows(*first, metric), self.rows(*second, metric)
        same = first[0].label == second[0].label
        if one.segments is not other.segments:
            # Refused, with what differs, unless it is but the order of the rows.
            return paired_difference(self.seeds(*first), self.seeds(*second), metric, resamples, same_seeds=same)
        clusters = one.segments.subjects, one.segments.pairs
        return difference_of(one.scores, other.scores, *clusters, resamples, same_seeds=same)

    def _sorted(self, runs: list[Run]) -> tuple[Run, ...]:
        """By the headline metric in its direction; a run without a mean last; equal ones by label."""
        higher_is_better = self.group.facts(self.group.headline).higher_is_better

        def place(run: Run) -> tuple[bool, float, str]:
            result = self.result(run, self.group.headline)
            mean = None if result is None else result.mean
            return mean is None, (-1 if higher_is_better else 1) * (mean or 0.0), run.label

        return tuple(sorted(runs, key=place))


def eeg_runs(comparison: Comparison, every_control: bool = True) -> tuple[Run, ...]:
    """Complete runs of systems that are given EEG, ranked ones first; those alone that have all the group's controls,
    unless told otherwise."""
    runs = tuple(run for run in (*comparison.ranking, *comparison.references) if run.system.uses_eeg)
    return tuple(run for run in runs if not every_control or len(run.records) == len(comparison.group.controls))


def controls_runs(comparison: Comparison) -> tuple[Run, ...]:
    """Those of them in the figure of the controls: the ranked ones, or all if none is ranked."""
    runs = eeg_runs(comparison)
    return tuple(run for run in runs if run.ranked) or runs


def _pooled(subsets: list[Subset | None]) -> Subset | None:
    """One mean over the segments of all seeds: which segments are right differs from seed to seed."""
    means = [(subset.mean, subset.n) for subset in subsets if subset is not None and subset.mean is not None]
    if not means:
        return None
    total = sum(n for _, n in means)
    return Subset(mean=sum(mean * n for mean, n in means) / total, n=total)


def _mean_over_seeds(frames: list[pd.DataFrame], metrics: Iterable[str]) -> pd.DataFrame:
    first, *others = frames
    for other in others:
        check_same_segments(first, other)
    if not others:
        return first
    mean = first.copy()
    for name in metrics:
        mean[name] = np.mean([frame[name].to_numpy(np.float64) for frame in frames], axis=0)
        for other in others:
            mean[f"{name}_reason"] = mean[f"{name}_reason"].fillna(other[f"{name}_reason"])
    return mean
