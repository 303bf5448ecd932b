"""From per-segment scores to the metrics of a record."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

import numpy as np

from eeg2speech.errors import BadInput, unknown_name
from eeg2speech.records.intervals import RESAMPLES, Interval, clustered_interval
from eeg2speech.records.schema import Aggregate, MetricResult, Subset
from eeg2speech.records.scores import REASON, check_scores

if TYPE_CHECKING:
    import pandas as pd

SELECTION = "selection_accuracy"
"""Metric that is 1 where the estimate is closer to the attended talker and 0 where it is closer to the other."""
DIGITS = 9
"""Decimals kept: the order in which threads add up must not show in a record."""
NO_CHANCES: Mapping[str, float] = MappingProxyType({})
NO_REASONS: Mapping[str, int] = MappingProxyType({})


class MetricFacts(Protocol):
    """What a record repeats of a metric's declaration.

    It may also have ``aggregate``, "mean" or "median": what the metric's one number is. Without it, that is the mean.
    """

    @property
    def name(self) -> str:
        """Its column in the scores."""

    @property
    def unit(self) -> str:
        """Unit; empty if it has none."""

    @property
    def higher_is_better(self) -> bool:
        """Direction."""

    @property
    def decimals(self) -> int:
        """Decimals to show."""


@dataclass(frozen=True)
class StatedFacts:
    """Facts of a metric as a record states them, whoever declared it."""

    name: str
    unit: str
    higher_is_better: bool
    decimals: int
    aggregate: Aggregate = "mean"


def summarise(
    scores: pd.DataFrame,
    metrics: Iterable[MetricFacts],
    resamples: int = RESAMPLES,
    seed: int = 0,
    chances: Mapping[str, float] = NO_CHANCES,
) -> dict[str, MetricResult]:
    """Result of each of ``metrics``, by name, sorted; ``chances`` are what an answer at random gives, by metric.

    Raises BadInput unless ``scores`` are theirs, and good, and every chance is finite and of one of them.
    """
    facts = sorted(metrics, key=lambda metric: metric.name)
    names = [metric.name for metric in facts]
    check_scores("scores", scores, names)
    _check_chances(chances, names)
    return {metric.name: metric_result(scores, metric, resamples, seed, chances.get(metric.name)) for metric in facts}


def metric_result(
    scores: pd.DataFrame,
    metric: MetricFacts,
    resamples: int = RESAMPLES,
    seed: int = 0,
    chance: float | None = None,
    seeds: Sequence[pd.DataFrame] = (),
) -> MetricResult:
    """Mean (or median), clustered interval, failures with their reasons, and the means over right and wrong selections.

    ``seeds`` are the scores of each seed, in the same order, where ``scores`` are their means: then the interval knows
    how far they are apart. Raises BadInput if the metric's aggregate is neither of the two.
    """
    values = scores[metric.name].to_numpy(np.float64)
    runs = np.stack([frame[metric.name].to_numpy(np.float64) for frame in seeds]) if seeds else values
    aggregate: Aggregate = getattr(metric, "aggregate", "mean")
    clusters = scores["subject"], scores["pair"]
    interval = clustered_interval(runs, *clusters, resamples, seed, statistic=aggregate)
    reasons = scores[metric.name + REASON].dropna().astype(str).value_counts()
    right, wrong = (_subset(scores, metric.name, chosen) for chosen in (1.0, 0.0))
    counted = {str(reason): int(count) for reason, count in sorted(reasons.items())}
    result = result_of(interval, len(values), metric, chance, counted)
    return result.model_copy(update={"right": right, "wrong": wrong})


def result_of(
    interval: Interval,
    rows: int,
    metric: MetricFacts,
    chance: float | None = None,
    reasons: Mapping[str, int] = NO_REASONS,
) -> MetricResult:
    """The result that an interval over so many ``rows`` is; ``reasons`` count why some of them have no score."""
    return MetricResult(
        **_rounded(interval),
        aggregate=getattr(metric, "aggregate", "mean"),
        chance=None if chance is None else round(chance, DIGITS),
        unit=metric.unit,
        higher_is_better=metric.higher_is_better,
        decimals=metric.decimals,
        n=interval.n,
        n_failed=rows - interval.n,
        reasons=dict(reasons),
        no_interval=interval.note,
    )


def _check_chances(chances: Mapping[str, float], names: list[str]) -> None:
    for name, chance in chances.items():
        if name not in names:
            raise unknown_name("scores", "chances", name, names)
        if not math.isfinite(chance):
            raise BadInput("scores", f"chances.{name}", "a finite number", chance)


def _rounded(interval: Interval) -> dict[str, float | None]:
    ends = {"mean": interval.mean, "low": interval.low, "high": interval.high}
    return {name: None if value is None else round(value, DIGITS) for name, value in ends.items()}


def _subset(scores: pd.DataFrame, metric: str, chosen: float) -> Subset | None:
    if SELECTION not in scores.columns or metric == SELECTION:
        return None
    values = scores.loc[scores[SELECTION] == chosen, metric].dropna().to_numpy(np.float64)
    return Subset(mean=round(float(values.mean()), DIGITS) if len(values) else None, n=len(values))
