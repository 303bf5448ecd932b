"""Numbers of runs: results over seeds, and differences between runs or controls on the same segments."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from eeg2speech.records.intervals import RESAMPLES, Interval, check_same_segments, paired_difference
from eeg2speech.records.latency import Latency
from eeg2speech.records.multiple import RankRange, rank_ranges
from eeg2speech.records.schema import TRUE_EEG, MetricResult, SetMetric, Subset
from eeg2speech.records.store import RecordStore
from eeg2speech.records.summary import StatedFacts, metric_result
from eeg2speech.report.results import Group, Run

if TYPE_CHECKING:
    import pandas as pd

SUBSETS = ("right", "wrong")


@dataclass
class Comparison:
    """The numbers of one group; what takes a bootstrap is computed once. ``latencies`` are of any systems."""

    store: RecordStore
    group: Group
    resamples: int = RESAMPLES
    latencies: tuple[Latency, ...] = ()
    _scores: dict[tuple[str, str], pd.DataFrame] = field(default_factory=dict)
    _seeds: dict[tuple[str, str], list[pd.DataFrame]] = field(default_factory=dict)
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
        frames = {run.label: self.seeds(run, TRUE_EEG) for run in self.ranking if self._has(run, TRUE_EEG, headline)}

        def difference(one: str, other: str) -> Interval:
            # Which of two is better is told by p, which takes no resampling.
            return paired_difference(frames[one], frames[other], headline, resamples=2)

        return rank_ranges([*frames], difference, self.group.facts(headline).higher_is_better)

    def set_result(self, run: Run, name: str) -> tuple[SetMetric, ...]:
        """A measure of the whole set with the true EEG, one a seed; empty if incomplete or if a seed lacks it."""
        records = run.records.get(TRUE_EEG, ())
        found = tuple(record.set_metrics[name] for record in records if name in record.set_metrics)
        return found if run.problem is None and len(found) == len(records) else ()

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

    def _has(self, run: Run, control: str, metric: str) -> bool:
        """Whether the run is complete and the metric was asked for under ``control``."""
        records = run.records.get(control, ())
        return run.problem is None and bool(records) and metric in records[0].metrics

    def _over_seeds(self, run: Run, metric: str, control: str) -> MetricResult:
        known = self.group.facts(metric)
        facts = StatedFacts(metric, known.unit, known.higher_is_better, known.decimals, known.aggregate)
        about = self.scores(run, control), facts, self.resamples
        result = metric_result(*about, chance=known.chance, seeds=self.seeds(run, control))
        parts = [record.metrics[metric] for record in run.records[control]]
        subsets = {name: _pooled([getattr(part, name) for part in parts]) for name in SUBSETS}
        return result.model_copy(update=subsets)

    def _difference(self, first: tuple[Run, str], second: tuple[Run, str], metric: str) -> Interval | None:
        if not all(self._has(*one, metric) for one in (first, second)):
            return None
        key = (first[0].label, first[1], second[0].label, second[1], metric)
        if key not in self._differences:
            frames, same = (self.seeds(*first), self.seeds(*second)), first[0].label == second[0].label
            self._differences[key] = paired_difference(*frames, metric, self.resamples, same_seeds=same)
        return self._differences[key]

    def _sorted(self, runs: list[Run]) -> tuple[Run, ...]:
        """By the headline metric in its direction; a run without a mean last; equal ones by label."""
        higher_is_better = self.group.facts(self.group.headline).higher_is_better

        def place(run: Run) -> tuple[bool, float, str]:
            result = self.result(run, self.group.headline)
            mean = None if result is None else result.mean
            return mean is None, (-1 if higher_is_better else 1) * (mean or 0.0), run.label

        return tuple(sorted(runs, key=place))


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
