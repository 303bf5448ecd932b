"""The tables of a control report: means and drops by control, what a verdict rests on, drops by subject."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import stdtrit

from eeg2speech.records.intervals import Interval
from eeg2speech.records.multiple import adjusted_p
from eeg2speech.records.schema import TRUE_EEG
from eeg2speech.records.verdict import NOISE, SHIFT
from eeg2speech.report.chance import chances
from eeg2speech.report.compare import Comparison
from eeg2speech.report.judgement import evidence, measures_of
from eeg2speech.report.results import Group, Run
from eeg2speech.report.sections import metric_header
from eeg2speech.report.tables import NOTHING, Table, metric_cell, number, p_text, with_interval, with_unit
from eeg2speech.report.words import CONTROL_LABELS, in_order, metric_label

MANY = 40
"""Subjects from which on the table of the subjects has no intervals: a report stays short."""


def controls_of(run: Run) -> tuple[str, ...]:
    """Controls that a run has records of, but for the true EEG, in the order of the rows."""
    return in_order(set(run.records) - {TRUE_EEG}, CONTROL_LABELS)


def means_table(comparison: Comparison, run: Run) -> Table:
    """Mean of every metric under every control, the true EEG first; with its interval for the metric that ranks."""
    group, known = comparison.group, chances(comparison.group)
    header = ("control", "EEG given", *(_header(group, name) for name in group.metrics))
    rows = []
    for control in (TRUE_EEG, *controls_of(run)):
        results = {name: comparison.result(run, name, control) for name in group.metrics}
        cells = (metric_cell(result, name == group.headline) for name, result in results.items())
        rows.append((control, CONTROL_LABELS.get(control, ""), *cells))
    if known:
        rows.append(("chance", "an answer at random", *(known.get(name, NOTHING) for name in group.metrics)))
    return Table(header, tuple(rows), frozenset(header[:2]))


def drops_table(comparison: Comparison, run: Run) -> Table:
    """Drop of every metric under every control, its interval, and its p after Holm's correction over the controls."""
    group, controls = comparison.group, controls_of(run)
    columns = [_drop_cells(comparison, run, name) for name in group.metrics]
    header = ("control", *(with_unit(metric_label(name), group.facts(name).unit) for name in group.metrics))
    rows = tuple((control, *(column[control] for column in columns)) for control in controls)
    return Table(header, rows, frozenset({"control"}))


def evidence_table(comparison: Comparison, run: Run) -> Table:
    """The differences that the verdict rests on, with their p before and after the correction over all of them."""
    group, found = comparison.group, evidence(comparison, run)
    adjusted = adjusted_p({" ".join(key): drop for key, drop in found.items()})
    rows = []
    for (metric, control), drop in found.items():
        label = with_unit(metric_label(metric), group.facts(metric).unit)
        p = p_text(None if drop is None else drop.p), p_text(adjusted.get(f"{metric} {control}"))
        rows.append((label, control, with_interval(drop, group.facts(metric).decimals), *p))
    return Table(("metric", "control", "drop", "p", "p, corrected"), tuple(rows), frozenset({"metric", "control"}))


def subject_drops_table(comparison: Comparison, run: Run) -> Table:
    """Drops of the verdict's metrics by subject, under the controls of the verdict that the run has."""
    group = comparison.group
    keys = [(m.name, control) for m in measures_of(group) for control in (NOISE, SHIFT) if control in run.records]
    header = ("subject", "segments", *(_drop_header(group, *key) for key in keys))
    counts = comparison.scores(run, TRUE_EEG)["subject"].astype(str).value_counts()
    columns = [subject_drops(comparison, run, name, control) for name, control in keys]
    pooled = (with_interval(comparison.drop(run, c, name), group.facts(name).decimals) for name, c in keys)
    rows = [("all", str(int(counts.sum())), *pooled)]
    for subject in sorted(counts.index, key=lambda name: (len(name), name)):
        cells = (
            _subject_cell(column.get(subject), group.facts(name).decimals, len(counts) < MANY)
            for (name, _), column in zip(keys, columns, strict=True)
        )
        rows.append((subject, str(counts[subject]), *cells))
    return Table(header, tuple(rows), frozenset({"subject"}))


def subject_drops(comparison: Comparison, run: Run, metric: str, control: str) -> dict[str, Interval]:
    """Drop of a metric by subject; empty if the metric was not asked for. Over several seeds: of their mean."""
    if comparison.drop(run, control, metric) is None:
        return {}
    true, other = comparison.scores(run, TRUE_EEG), comparison.scores(run, control)
    drop = true[metric].to_numpy(np.float64) - other[metric].to_numpy(np.float64)
    frame = pd.DataFrame({"subject": true["subject"].astype(str), "pair": true["pair"].astype(str), "drop": drop})
    known = frame.dropna(subset=["drop"]).groupby("subject")
    return {str(name): interval_over_pairs(rows["drop"].to_numpy(), rows["pair"].to_numpy()) for name, rows in known}


def interval_over_pairs(values: NDArray[np.float64], pairs: NDArray[np.object_], level: float = 0.95) -> Interval:
    """Mean of one subject's ``values`` [n] with a t interval clustered over its stimulus ``pairs`` [n].

    One subject says nothing of how subjects differ: this interval is about that subject alone. Its ends stay within the
    range of the values. There is none with one pair, or if all values are alike.
    """
    mean, n = float(values.mean()), len(values)
    names, places = np.unique(pairs.astype(str), return_inverse=True)
    k, low, high = len(names), float(values.min()), float(values.max())
    if k < 2 or low == high:
        return Interval(mean, None, None, n, 1, k, "only one stimulus pair" if k < 2 else "all alike")
    sums = np.bincount(places, weights=values - mean)
    reach = float(stdtrit(k - 1, (1 + level) / 2) * np.sqrt((sums**2).sum() * k / (k - 1)) / n)
    return Interval(mean, max(low, mean - reach), min(high, mean + reach), n, 1, k)


def _header(group: Group, name: str) -> str:
    facts = group.facts(name)
    return metric_header(name, facts) + ("" if facts.higher_is_better else ", lower is better")


def _drop_header(group: Group, metric: str, control: str) -> str:
    return f"{with_unit(metric_label(metric), group.facts(metric).unit)}, {control}"


def _drop_cells(comparison: Comparison, run: Run, metric: str) -> dict[str, str]:
    """By control: the drop of a metric as text."""
    drops = {control: comparison.drop(run, control, metric) for control in controls_of(run)}
    adjusted, decimals = adjusted_p(drops), comparison.group.facts(metric).decimals
    return {
        control: with_interval(drop, decimals) + (f", p {p_text(adjusted[control])}" if control in adjusted else "")
        for control, drop in drops.items()
    }


def _subject_cell(drop: Interval | None, decimals: int, interval: bool) -> str:
    """The interval is left out where there is none: why is said once, below the table."""
    if drop is None or drop.low is None or not interval:
        return number(None if drop is None else drop.mean, decimals)
    return with_interval(drop, decimals)
