"""Power: known variances are found again, planned tests have the power they were planned for, and limits are told."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from eeg2speech.errors import BadInput
from eeg2speech.records import power as module
from eeg2speech.records.power import (
    Components,
    Design,
    degrees_of_freedom,
    detectable,
    grid,
    needed,
    power_of,
    standard_error,
    variance_components,
)
from eeg2speech.report.power import power_text, read_differences

RESULTS = Path(__file__).parent.parent / "results"
SPREAD = Components(subject=0.5, pair=1.0, trial=2.0, segment=1.5)
HALF = Design(n_subjects=12, n_pairs=10, pairs_per_subject=5, segments_per_trial=2)


def crossed(design: Design) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Subject and pair of each segment: subjects go round the pairs, so that each pair is heard equally often."""
    each = int(design.pairs_per_subject)
    subject = np.repeat(np.arange(design.n_subjects), each)
    pair = np.arange(len(subject)) % design.n_pairs
    return tuple(np.repeat(x, int(design.segments_per_trial)) for x in (subject, pair))  # type: ignore[return-value]


def simulated(
    spread: Components, subject: np.ndarray[Any, Any], pair: np.ndarray[Any, Any], seed: int, mean: float = 0.0
) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    cells, cell = np.unique(subject * 1000 + pair, return_inverse=True)
    parts = (
        (spread.subject, rng.normal(size=subject.max() + 1)[subject]),
        (spread.pair, rng.normal(size=pair.max() + 1)[pair]),
        (spread.trial, rng.normal(size=len(cells))[cell]),
        (spread.segment, rng.normal(size=len(subject))),
    )
    return mean + sum(math.sqrt(variance) * drawn for variance, drawn in parts)


def unbalanced(seed: int, subjects: int = 30, pairs: int = 25) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """A random half of the cells, with one to four segments each."""
    rng = np.random.default_rng(seed)
    heard = np.argwhere(rng.random((subjects, pairs)) < 0.5)
    rows = np.repeat(heard, rng.integers(1, 5, len(heard)), axis=0)
    return rows[:, 0], rows[:, 1]


def test_known_variances_are_found_again_in_an_unbalanced_design() -> None:
    subject, pair = unbalanced(0)
    found = [variance_components(simulated(SPREAD, subject, pair, seed), subject, pair) for seed in range(150)]
    for name in module.NAMES:
        values = [getattr(one, name) for one in found]
        error = np.std(values) / math.sqrt(len(values))
        assert abs(np.mean(values) - getattr(SPREAD, name)) < 4 * error < 0.25, name


def test_moments_are_those_of_the_analysis_of_variance_in_a_balanced_design() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(size=(6, 5, 3)) + rng.normal(size=(6, 1, 1)) + 2 * rng.normal(size=(1, 5, 1))
    subject, pair, _ = (index.ravel() for index in np.indices(values.shape))
    found = variance_components(values.ravel(), subject, pair)
    cells, rows, columns = values.mean(2), values.mean((1, 2)), values.mean((0, 2))
    of_trials = 3 * ((cells - rows[:, None] - columns + values.mean()) ** 2).sum() / (5 * 4)
    of_segments = ((values - cells[..., None]) ** 2).sum() / (30 * 2)
    assert found.segment == pytest.approx(of_segments)
    assert found.trial == pytest.approx(max(0.0, (of_trials - of_segments) / 3))
    assert found.subject == pytest.approx((15 * rows.var(ddof=1) - of_trials) / 15)
    assert found.pair == pytest.approx((18 * columns.var(ddof=1) - of_trials) / 18)


def test_neither_order_nor_names_nor_the_mean_nor_unscored_segments_change_the_variances() -> None:
    subject, pair = unbalanced(1)
    values = simulated(SPREAD, subject, pair, 1)
    found = variance_components(values, subject, pair)
    order = np.random.default_rng(0).permutation(len(values))
    extra = [np.append(values[order] + 1e3, np.nan), np.append(subject[order], 999), np.append(pair[order], 999)]
    other = variance_components(extra[0], [f"S{k}" for k in extra[1]], [f"P{k}" for k in extra[2]])
    for name in module.NAMES:
        assert getattr(other, name) == pytest.approx(getattr(found, name), abs=1e-7)


def test_a_negative_estimate_is_zero_and_told() -> None:
    # Subjects whose means are more alike than chance makes them.
    subject, pair = (index.ravel() for index in np.indices((4, 4)))
    values = np.where((subject + pair) % 2, 1.0, -1.0)
    found = variance_components(np.repeat(values, 2), np.repeat(subject, 2), np.repeat(pair, 2))
    assert found.subject == found.pair == found.segment == 0 and found.zeroed == ("subject", "pair")
    assert found.trial > 0


def test_one_segment_a_trial_leaves_segments_in_the_trials() -> None:
    subject, pair = (index.ravel() for index in np.indices((40, 40)))
    found = variance_components(simulated(SPREAD, subject, pair, 0), subject, pair)
    assert found.segment == 0 and "one segment a trial" in str(found.note)
    assert found.trial == pytest.approx(SPREAD.trial + SPREAD.segment, rel=0.15)


@pytest.mark.parametrize(
    ("values", "subjects", "pairs", "message"),
    [
        ([1.0, 2.0], [0, 1], [0], "three sequences of one length"),
        ([1.0, np.inf], [0, 1], [0, 1], "infinite"),
        ([1.0, 2.0, np.nan], [0, 0, 1], [0, 1, 1], "at least two of each.*found 1 and 2"),
        ([1.0, 2.0, 3.0, 5.0], [0, 0, 1, 1], [0, 0, 1, 1], "that are crossed.*found 2 subjects, 2 pairs, 2 trials"),
    ],
)
def test_what_tells_no_variances_is_refused(values: Any, subjects: Any, pairs: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        variance_components(values, subjects, pairs)


def test_the_standard_error_is_that_of_simulated_means() -> None:
    subject, pair = crossed(HALF)
    means = [simulated(SPREAD, subject, pair, seed).mean() for seed in range(3000)]
    assert standard_error(SPREAD, 12, 10, 5, 2) == pytest.approx(np.std(means), rel=0.05)


def share_found(design: Design, difference: float, runs: int = 800) -> float:
    """How often an analysis that must estimate the variances itself finds a difference, with its sign."""
    from scipy.stats import t

    subject, pair = crossed(design)
    hits = 0
    for seed in range(runs):
        values = simulated(SPREAD, subject, pair, seed, difference)
        own = variance_components(values, subject, pair)
        ratio = values.mean() / module.error_of(own, design)
        hits += bool(ratio > t.isf(0.025, degrees_of_freedom(own, design)))
    return hits / runs


@pytest.mark.parametrize("design", [HALF, Design(30, 8, 8, 1), Design(8, 24, 12, 2)])
def test_a_planned_test_has_about_the_power_it_was_planned_for(design: Design) -> None:
    difference = detectable(SPREAD, design)
    assert power_of(SPREAD, design, difference) == pytest.approx(0.8, abs=1e-6)
    assert 0.75 <= share_found(design, difference) <= 0.85


def test_without_a_difference_little_is_found() -> None:
    assert share_found(HALF, 0.0) <= 0.04
    assert power_of(SPREAD, HALF, 0.0) == pytest.approx(0.025)


def test_one_component_alone_is_the_t_test_over_its_units() -> None:
    subjects = Components(4.0, 0.0, 0.0, 0.0)
    design = Design(9, 20, 20, 2)
    assert degrees_of_freedom(subjects, design) == pytest.approx(8)
    values = np.random.default_rng(0).normal(1, 2, 9)
    assert standard_error(subjects, 9, 20, 20, 2) == pytest.approx(2 / 3)
    assert ttest_1samp(values, 0).df == 8
    assert degrees_of_freedom(Components(0.0, 4.0, 0.0, 0.0), Design(500, 5, 5, 2)) == pytest.approx(4)


def test_few_degrees_of_freedom_cost_more_than_the_normal_quantiles() -> None:
    pairs = Components(0.0, 1.0, 0.0, 0.0)
    few, many = (detectable(pairs, Design(100, n, n, 1)) * math.sqrt(n) for n in (3, 400))
    assert many == pytest.approx(1.96 + 0.842, rel=0.01) and few > 1.8 * many


def test_more_of_anything_never_hurts_and_more_power_costs() -> None:
    for field, more in (("n_subjects", 24), ("pairs_per_subject", 10), ("segments_per_trial", 4)):
        assert detectable(SPREAD, Design(**(vars(HALF) | {field: more}))) < detectable(SPREAD, HALF)
    assert detectable(SPREAD, HALF.resized(12, 20)) < detectable(SPREAD, HALF)
    assert detectable(SPREAD, HALF, power=0.9) > detectable(SPREAD, HALF) > detectable(SPREAD, HALF, alpha=0.2)
    table = grid(SPREAD, HALF, (8, 16, 32), (6, 12, 24))
    for (rows, columns), value in table.items():
        assert value >= table.get((2 * rows, columns), 0) and value >= table.get((rows, 2 * columns), 0)


def plans(design: Design, difference: float) -> Iterator[Design]:
    found = needed(SPREAD, difference, design)
    for plan in (found.subjects, found.pairs, found.trials):
        assert plan.design is not None, plan.note
        yield plan.design


def test_what_is_needed_is_enough_and_no_smaller_number_is() -> None:
    subjects, pairs, trials = plans(HALF, 1.5)
    assert (subjects.n_pairs, pairs.n_subjects) == (HALF.n_pairs, HALF.n_subjects)
    for design in (subjects, pairs, trials):
        assert power_of(SPREAD, design, 1.5) >= 0.8
    assert power_of(SPREAD, Design(subjects.n_subjects - 1, 10, 5, 2), 1.5) < 0.8
    assert power_of(SPREAD, HALF.resized(12, pairs.n_pairs - 1), 1.5) < 0.8
    assert trials.trials <= min(subjects.trials, pairs.trials)
    smaller = (HALF.resized(rows, columns) for rows in range(2, 40) for columns in range(2, 40))
    assert not any(power_of(SPREAD, one, 1.5) >= 0.8 for one in smaller if one.trials < trials.trials - 1e-9)


def test_what_no_number_of_subjects_or_pairs_can_do_is_told() -> None:
    found = needed(SPREAD, 0.5, HALF)
    assert found.subjects.design is None and "no number of subjects: with 10 stimulus pairs" in str(found.subjects.note)
    assert found.pairs.design is None and "no number of stimulus pairs: with 12 subjects" in str(found.pairs.note)
    assert found.trials.design is not None
    floor = detectable(SPREAD, Design(10**7, 10, 5, 2))
    assert f"below {floor:.3g} is found" in str(found.subjects.note)
    assert needed(SPREAD, floor * 1.1, HALF).subjects.design is not None
    assert "more than 10000 subjects" in str(needed(Components(0.5, 0.0, 0.0, 1e6), 0.5, HALF).subjects.note)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Design(1, 10, 5, 2), "n_subjects: expected at least 2"),
        (lambda: Design(12, 10, 11, 2), "pairs_per_subject: expected 1 to 10"),
        (lambda: Design(3, 10, 2, 2), "expected 10 trials or more, found 6"),
        (lambda: Design(12, 10, 5, 0), "segments_per_trial"),
        (lambda: Components(-1.0, 0, 0, 0), "subject: expected a finite number, 0 or more"),
        (lambda: detectable(SPREAD, HALF, power=0.01), "0 < alpha < power < 1"),
        (lambda: needed(SPREAD, 0.0, HALF), "other than 0"),
        (lambda: read_differences(RESULTS, "dprn"), "did you mean 'dprnn'"),
        (lambda: read_differences(RESULTS, "dprnn", "ridge_mel"), "both, on one split"),
        (lambda: read_differences(RESULTS, "dprnn", metric="loudness"), "with the metric 'loudness'"),
    ],
)
def test_bad_questions_are_refused(call: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        call()


def test_a_committed_comparison_is_told_with_its_records_and_commit() -> None:
    found = read_differences(RESULTS, "basen", "mixture")[0]
    record = found.records[0]
    assert found.values.mean() == pytest.approx(
        record.metrics["si_sdr"].mean - found.records[1].metrics["si_sdr"].mean, abs=1e-6
    )
    text = power_text(RESULTS, "basen", "mixture", difference=2.0)
    assert "## basen minus mixture: si_sdr, demo-1, simulated-clear, split stimulus (seed 0)" in text
    assert str(record.unit.record_path) in text and str(record.code.commit)[:12] in text
    assert "To find 2 dB" in text and "simulated EEG" in text
    assert "minus dprnn under noise_cue" in power_text(RESULTS, "dprnn")


@pytest.mark.parametrize(("system", "other"), [("dprnn", "dprnn_blind"), ("basen", "mixture")])
def test_the_tables_of_the_document_are_those_of_the_records(system: str, other: str) -> None:
    document = (RESULTS.parent / "docs" / "power.md").read_text()
    for line in power_text(RESULTS, system, other).splitlines():
        assert not line.startswith(("|", "Mean difference")) or line in document, line
