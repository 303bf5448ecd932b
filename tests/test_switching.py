"""The expected switch duration is that of the chain: against its matrix, a linear system and a simulation of it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from eeg2speech.errors import BadInput
from eeg2speech.metrics import switching
from eeg2speech.metrics.switching import (
    expected_switch_duration,
    fewest_levels,
    lowest_usual_level,
    minimal_switch_duration,
    steady_state,
    steps_to,
    target_level,
)

Values = NDArray[np.float64]
CHAINS = [(0.51, 5), (0.6, 7), (0.75, 12), (0.9, 5), (0.99, 30), (1.0, 5)]


def transitions(p: float, levels: int) -> Values:
    """The chain as a matrix, a row a level."""
    matrix = np.zeros((levels, levels))
    for level in range(levels):
        matrix[level, min(level + 1, levels - 1)] += p
        matrix[level, max(level - 1, 0)] += 1 - p
    return matrix


def simulated(p: float, levels: int, walks: int, rng: np.random.Generator) -> Values:
    """Decisions until the target, of gains that had long followed the other talker and were not there yet."""
    gain = np.zeros(walks, dtype=np.int64)
    for _ in range(100 * levels):
        gain = np.clip(gain - np.where(rng.random(walks) < p, 1, -1), 0, levels - 1)
    steps, target = np.zeros(walks), target_level(levels)
    walking = gain < target
    started = walking.copy()
    while walking.any():
        move = np.where(rng.random(walks) < p, 1, -1)
        gain = np.where(walking, np.clip(gain + move, 0, levels - 1), gain)
        steps += walking
        walking &= gain < target
    return steps[started]


@pytest.mark.parametrize(("p", "levels"), CHAINS)
def test_the_steady_state_is_what_the_chain_settles_in(p: float, levels: int) -> None:
    settled = np.full(levels, 1 / levels) @ np.linalg.matrix_power(transitions(p, levels), 100_000)
    np.testing.assert_allclose(steady_state(p, levels), settled, atol=1e-9)


@pytest.mark.parametrize(("p", "levels"), CHAINS)
def test_steps_solve_the_linear_system_of_the_chain(p: float, levels: int) -> None:
    target = target_level(levels)
    below = transitions(p, levels)[:target, :target]
    np.testing.assert_allclose(steps_to(p, target), np.linalg.solve(np.eye(target) - below, np.ones(target)), rtol=1e-9)


@pytest.mark.parametrize(("p", "levels"), [(0.55, 8), (0.65, 5), (0.8, 10)])
def test_the_duration_is_that_of_a_simulated_device(p: float, levels: int) -> None:
    walks = simulated(p, levels, 20_000, np.random.default_rng(levels))
    error = walks.std(ddof=1) / np.sqrt(len(walks))
    assert expected_switch_duration(p, 1.0, levels) == pytest.approx(walks.mean(), abs=4 * error)
    assert error < 0.02 * walks.mean(), "too few walks to tell"


def test_the_lowest_usual_level_holds_its_share_and_the_next_does_not() -> None:
    for p, levels in [*CHAINS, (0.505, 200), (0.7, 1000)]:
        level, shares = lowest_usual_level(p, levels, 0.8), steady_state(p, levels)
        assert shares[level:].sum() >= 0.8 - 1e-8
        assert level == levels - 1 or shares[level + 1 :].sum() < 0.8


def test_the_fewest_levels_are_comfortable_and_fewer_are_not() -> None:
    for p in (0.51, 0.55, 0.58, 0.62, 0.7, 0.95, 1.0):
        levels = fewest_levels(p)
        assert levels is not None and levels >= 5
        comfortable = [lowest_usual_level(p, n) >= 0.65 * (n - 1) - 1e-9 for n in range(5, levels + 1)]
        assert comfortable[-1] and not any(comfortable[:-1])
    assert fewest_levels(0.6) is not None and fewest_levels(0.6, fewest=40) == 40
    assert fewest_levels(0.500001) is None


def test_better_decisions_switch_sooner_and_slower_ones_later_in_proportion() -> None:
    durations = [expected_switch_duration(p, 2.0, 9) for p in np.linspace(0.51, 1.0, 50)]
    assert np.all(np.diff(durations) < 0)
    assert expected_switch_duration(0.7, 6.0, 9) == pytest.approx(3 * expected_switch_duration(0.7, 2.0, 9))


def test_a_device_that_is_always_right_walks_straight_to_the_target() -> None:
    assert expected_switch_duration(1.0, 2.0, 5) == 2.0 * target_level(5) == 6.0
    assert steady_state(1.0, 5).tolist() == [0, 0, 0, 0, 1]
    found = minimal_switch_duration([1, 2, 4], [0.9, 1.0, 1.0]).point
    assert found is not None and found.levels == 5


def test_the_minimum_is_the_one_that_the_authors_print_for_their_example() -> None:
    # "Algorithm 1" of the demonstration that comes with the authors' MESD toolbox, with the defaults of the paper.
    windows, accuracies = [1, 5, 10, 20, 30, 60], [0.53, 0.61, 0.69, 0.76, 0.84, 0.9]
    found = minimal_switch_duration(windows, accuracies)
    assert found.point is not None and found.note is None
    assert found.point.seconds == pytest.approx(49.528608, abs=1e-6)
    assert found.point.window == pytest.approx(9.504505, abs=1e-6)
    assert found.point.accuracy == pytest.approx(0.682072, abs=1e-6)
    assert found.point.levels == 5


def test_the_minimum_is_below_every_point_of_the_curve_and_scales_with_time() -> None:
    windows, accuracies = np.array([1.0, 4.0, 30.0]), [0.55, 0.7, 0.95]
    point = minimal_switch_duration(windows, accuracies).point
    assert point is not None
    for tau, p in zip(windows, accuracies, strict=True):
        levels = fewest_levels(p)
        assert levels is not None and point.seconds <= expected_switch_duration(p, tau, levels)
    slower = minimal_switch_duration(3 * windows, accuracies).point
    assert slower is not None and slower.seconds == pytest.approx(3 * point.seconds)


def test_a_curve_at_chance_has_no_minimum_but_a_reason() -> None:
    chance = minimal_switch_duration([1, 2, 4], [0.5, 0.42, 0.5])
    assert chance.point is None and "0.500" in str(chance.note) and "more often than wrong" in str(chance.note)
    near = minimal_switch_duration([1, 2], [0.5, 0.50001])
    assert near.point is None and str(switching.MOST_LEVELS) in str(near.note)
    partly = minimal_switch_duration([1, 2, 4], [0.4, 0.5, 0.8])
    assert partly.point is not None and partly.point.window > 2 and "longest" in str(partly.note)


def test_a_minimum_at_an_end_says_so() -> None:
    assert "shortest" in str(minimal_switch_duration([1, 2], [0.9, 0.91]).note)
    assert "only" in str(minimal_switch_duration([4], [0.9]).note)


@pytest.mark.parametrize(
    ("windows", "accuracies", "field"),
    [
        ([2, 1], [0.6, 0.7], "windows"),
        ([0, 1], [0.6, 0.7], "windows"),
        ([1, 2], [0.6, 1.1], "accuracies"),
        ([1, 2], [0.6, float("nan")], "accuracies"),
        ([1, 2], [0.6], "windows, accuracies"),
        ([], [], "windows, accuracies"),
    ],
)
def test_what_is_no_curve_is_refused(windows: list[float], accuracies: list[float], field: str) -> None:
    with pytest.raises(BadInput, match=f"switching: {field}: expected"):
        minimal_switch_duration(windows, accuracies)


@pytest.mark.parametrize("p", [0.5, 0.2, 1.01, float("nan")])
def test_a_chain_without_a_drift_to_the_right_is_refused(p: float) -> None:
    with pytest.raises(BadInput, match=r"switching: p: expected more than 0.5, at most 1"):
        expected_switch_duration(p, 1.0, 5)
    with pytest.raises(BadInput, match="tau"):
        expected_switch_duration(0.7, 0.0, 5)
