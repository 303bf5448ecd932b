"""The table of the subjects: does a system work for most, or for a few?"""

from __future__ import annotations

import re
from collections import Counter

import numpy as np

from eeg2speech.records.schema import TRUE_EEG
from eeg2speech.report.compare import Comparison
from eeg2speech.report.results import Run
from eeg2speech.report.tables import NOTHING, Table, number, with_interval


def subjects_table(comparison: Comparison) -> Table:
    """Headline metric of the ranked systems by subject, under the pooled value and the mean over subjects.

    No rows if no system is ranked. A subject without a scored segment has a dash, and no part in the mean.
    """
    runs = [run for run in comparison.ranking if comparison.result(run, comparison.group.headline) is not None]
    header = ("subject", "segments", *(run.label for run in runs))
    if not runs:
        return Table(header, ())
    first = comparison.rows(runs[0], TRUE_EEG, comparison.group.headline)
    counts = Counter(first.segments.subjects.tolist())
    columns = [_by_subject(comparison, run) for run in runs]
    decimals = comparison.group.facts(comparison.group.headline).decimals
    pooled = (with_interval(comparison.result(run, comparison.group.headline), decimals) for run in runs)
    means = (number(float(np.mean([*column.values()])) if column else None, decimals) for column in columns)
    rows = [("all, pooled", str(counts.total()), *pooled), ("mean over subjects", NOTHING, *means)]
    for name in sorted(counts, key=_natural):
        rows.append((name, str(counts[name]), *(number(column.get(name), decimals) for column in columns)))
    return Table(header, tuple(rows), frozenset({"subject"}))


def _by_subject(comparison: Comparison, run: Run) -> dict[str, float]:
    headline = comparison.group.headline
    rows = comparison.rows(run, TRUE_EEG, headline)
    scores = rows.scores.mean(axis=0)
    scored = ~np.isnan(scores)
    average = np.median if comparison.group.facts(headline).aggregate == "median" else np.mean
    names = np.unique(rows.segments.subjects[scored])
    return {str(name): float(average(scores[scored & (rows.segments.subjects == name)])) for name in names}


def _natural(name: str) -> list[tuple[int, str]]:
    """A key by which s2 comes before s10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name) if part]
