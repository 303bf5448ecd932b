"""From per-segment scores to the metrics of a record."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

import numpy as np

from eeg2speech.records.intervals import RESAMPLES, Interval, clustered_interval
from eeg2speech.records.schema import MetricResult, Subset
from eeg2speech.records.scores import REASON, check_scores

if TYPE_CHECKING:
    import pandas as pd

SELECTION = "selection_accuracy"
"""Metric that is 1 where the estimate is closer to the attended talker and 0 where it is closer to the other."""
DIGITS = 9
"""Decimals kept: the order in which threads add up must not show in a record."""


class MetricFacts(Protocol):
    """What a record repeats of a metric's declaration."""

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


def summarise(
    scores: pd.DataFrame, metrics: Iterable[MetricFacts], resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, MetricResult]:
    """Result of each of ``metrics``, by name, sorted. Raises BadInput unless ``scores`` are theirs, and good."""
    facts = sorted(metrics, key=lambda metric: metric.name)
    check_scores("scores", scores, [metric.name for metric in facts])
    return {metric.name: metric_result(scores, metric, resamples, seed) for metric in facts}


def metric_result(scores: pd.DataFrame, metric: MetricFacts, resamples: int = RESAMPLES, seed: int = 0) -> MetricResult:
    """Mean, clustered interval, failures with their reasons, and the means over right and wrong selections."""
    values = scores[metric.name].to_numpy(np.float64)
    interval = clustered_interval(values, scores["subject"], scores["pair"], resamples, seed)
    reasons = scores[metric.name + REASON].dropna().astype(str).value_counts()
    right, wrong = (_subset(scores, metric.name, chosen) for chosen in (1.0, 0.0))
    return MetricResult(
        **_rounded(interval),
        unit=metric.unit,
        higher_is_better=metric.higher_is_better,
        decimals=metric.decimals,
        n=interval.n,
        n_failed=len(values) - interval.n,
        reasons={str(reason): int(count) for reason, count in sorted(reasons.items())},
        right=right,
        wrong=wrong,
        no_interval=interval.note,
    )


def _rounded(interval: Interval) -> dict[str, float | None]:
    ends = {"mean": interval.mean, "low": interval.low, "high": interval.high}
    return {name: None if value is None else round(value, DIGITS) for name, value in ends.items()}


def _subset(scores: pd.DataFrame, metric: str, chosen: float) -> Subset | None:
    if SELECTION not in scores.columns or metric == SELECTION:
        return None
    values = scores.loc[scores[SELECTION] == chosen, metric].dropna().to_numpy(np.float64)
    return Subset(mean=round(float(values.mean()), DIGITS) if len(values) else None, n=len(values))
