"""How large a test must be: which differences between systems it can find, from the variance in existing records.

A difference on a segment, of two systems or of one system with and without its EEG, is taken as mean + subject +
stimulus pair + trial (the cell of a subject and a pair) + segment, all four random (crossed random effects: Searle,
Casella and McCulloch 1992, Variance Components). Their variances are estimated by moments (Henderson 1953, Biometrics
9(2), 226-252, method I, which knows unbalanced designs); the mean of a planned test has a standard error from them, and
degrees of freedom after Satterthwaite (1946, Biometrics Bulletin 2(6), 110-114). Power is the chance that a two-sided
t-test finds the difference with its sign, from the noncentral t.

Means only: nothing is said of a metric whose one number is a median.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eeg2speech.errors import BadInput

if TYPE_CHECKING:
    pass

Floats = NDArray[np.float64]
NAMES = ("subject", "pair", "trial", "segment")
POWER, ALPHA = 0.8, 0.05
MOST = 10_000
"""Subjects or pairs beyond which nobody plans."""
GRID_SUBJECTS, GRID_PAIRS = (8, 16, 32, 64, 128), (5, 10, 20, 40, 80)
MOST_RATIO = 1e5
"""Largest difference looked for, in standard errors: with one degree of freedom some tens are needed."""


@dataclass(frozen=True)
class Components:
    """Variances of a difference, in its unit squared, between subjects, stimulus pairs, trials and segments of a trial.

    ``zeroed`` names those whose estimate was negative, and so taken as 0. ``note`` says what the data could not tell.
    """

    subject: float
    pair: float
    trial: float
    segment: float
    zeroed: tuple[str, ...] = ()
    note: str | None = None

    def __post_init__(self) -> None:
        for name in NAMES:
            if not 0 <= getattr(self, name) < math.inf:
                raise BadInput("variance components", name, "a finite number, 0 or more", getattr(self, name))


@dataclass(frozen=True)
class Design:
    """A planned test: each subject hears ``pairs_per_subject`` of the pairs, each pair is heard equally often, and
    ``segments_per_trial`` segments are scored of each trial. The last two may be averages of what is there."""

    n_subjects: int
    n_pairs: int
    pairs_per_subject: float
    segments_per_trial: float

    def __post_init__(self) -> None:
        for name in ("n_subjects", "n_pairs"):
            if getattr(self, name) < 2:
                raise BadInput("design", name, "at least 2, or nothing is known of their spread", getattr(self, name))
        if not 1 <= self.pairs_per_subject <= self.n_pairs:
            raise BadInput("design", "pairs_per_subject", f"1 to {self.n_pairs}, all", self.pairs_per_subject)
        if self.trials < self.n_pairs - 1e-9:
            raise BadInput("design", "pairs_per_subject", f"{self.n_pairs} trials or more", f"{self.trials:g}")
        if self.segments_per_trial < 1:
            raise BadInput("design", "segments_per_trial", "at least 1", self.segments_per_trial)

    @property
    def trials(self) -> float:
        """Number of test trials."""
        return self.n_subjects * self.pairs_per_subject

    def resized(self, n_subjects: int, n_pairs: int) -> Design:
        """With other numbers of subjects and pairs, each subject hearing the same share of the pairs, at least one, and
        each pair being heard by somebody."""
        share = self.pairs_per_subject / self.n_pairs
        each = min(n_pairs, max(1.0, share * n_pairs, n_pairs / n_subjects))
        return replace(self, n_subjects=n_subjects, n_pairs=n_pairs, pairs_per_subject=each)


@dataclass(frozen=True)
class Plan:
    """One way to reach a power: the design, or why none of the kind does (``design`` is None)."""

    design: Design | None
    note: str | None = None


@dataclass(frozen=True)
class Needed:
    """Smallest numbers that give the power: of subjects with the pairs as they are, of pairs with the subjects as they
    are, and of trials when both are free. Each subject hears the same share of the pairs in all of them."""

    subjects: Plan
    pairs: Plan
    trials: Plan


def variance_components(values: ArrayLike, subjects: ArrayLike, pairs: ArrayLike) -> Components:
    """Variance components of ``values`` [n] (NaN: not scored, left out), of ``subjects`` [n] and ``pairs`` [n].

    Where no trial has two segments, trial and segment cannot be told apart: both stand in ``trial``, with a note.

    Raises:
        BadInput: lengths that differ, infinite values, fewer than two subjects or pairs, or a design in which subjects
            and pairs cannot be told apart, such as one pair a subject.
    """
    sums, squares, numbers = _cells(values, subjects, pairs)
    matrix, moments = _equations(sums, squares, numbers)
    alone = bool((numbers <= 1).all())
    size = 3 if alone else 4
    if np.linalg.matrix_rank(matrix[:size, :size]) < size:
        told = f"{numbers.shape[0]} subjects, {numbers.shape[1]} pairs, {int((numbers > 0).sum())} trials"
        raise BadInput("variance components", "design", "subjects and pairs that are crossed", told)
    solved = np.linalg.solve(matrix[:size, :size], moments[:size])
    # What is nothing but rounding has no sign.
    solved[np.abs(solved) < 1e-12 * squares] = 0.0
    subject, pair, trial, segment = (float(value) for value in (*solved, 0.0)[:4])
    estimates = dict(zip(NAMES, (subject, pair, trial, segment), strict=True))
    zeroed = tuple(name for name, value in estimates.items() if value < 0)
    note = "one segment a trial: the spread of segments is part of that of trials" if alone else None
    return Components(**{name: max(0.0, value) for name, value in estimates.items()}, zeroed=zeroed, note=note)


def standard_error(
    components: Components, n_subjects: int, n_pairs: int, pairs_per_subject: float, segments_per_trial: float
) -> float:
    """Standard error of the mean difference in a planned test (the arguments are those of ``Design``), in its unit."""
    of_subjects, of_pairs, rest = shares(components, Design(n_subjects, n_pairs, pairs_per_subject, segments_per_trial))
    return math.sqrt(of_subjects + of_pairs + rest)


def degrees_of_freedom(components: Components, design: Design) -> float:
    """Satterthwaite's, of the estimate of that standard error: at least 1.

    The variance of the mean is (MS_subject + MS_pair - MS_trial) / n. Where pairs carry the spread, there are as many
    degrees of freedom as pairs less one, however many subjects hear them.
    """
    of_subjects, of_pairs, rest = shares(components, design)
    # A floor without spread: its ratio is that of equal parts of nothing.
    rest = rest or 1e-300 if of_subjects + of_pairs == 0 else rest
    total = of_subjects + of_pairs + rest
    free = design.n_subjects - 1, design.n_pairs - 1
    crossed = max(1.0, design.trials - design.n_subjects - design.n_pairs + 1)
    parts = ((of_subjects + rest) / total) ** 2 / free[0], ((of_pairs + rest) / total) ** 2 / free[1]
    return max(1.0, 1 / (sum(parts) + (rest / total) ** 2 / crossed))


def power_of(components: Components, design: Design, difference: float, alpha: float = ALPHA) -> float:
    """Chance that a planned test finds a true ``difference``, at a two-sided level ``alpha``."""
    error = error_of(components, design)
    if error == 0:
        return 1.0 if difference else alpha / 2
    return _power(abs(difference) / error, degrees_of_freedom(components, design), alpha)


def detectable(components: Components, design: Design, power: float = POWER, alpha: float = ALPHA) -> float:
    """Smallest true difference that a planned test finds with chance ``power``, in the unit of the differences.

    Raises BadInput unless 0 < ``alpha`` < ``power`` < 1.
    """
    _check_chances(power, alpha)
    return _ratio(degrees_of_freedom(components, design), power, alpha) * error_of(components, design)


def needed(
    components: Components, difference: float, design: Design, power: float = POWER, alpha: float = ALPHA
) -> Needed:
    """What it takes to find a true ``difference``, starting from ``design``, see ``Needed``.

    Where no number of subjects suffices, as each pair has its own difference and there are too few pairs, the plan says
    so, and the other way round. Raises BadInput for a difference of 0, and as ``detectable``.
    """
    _check_chances(power, alpha)
    if not 0 < abs(difference) < math.inf:
        raise BadInput("power", "difference", "a finite number other than 0", difference)

    goal = _Goal(components, difference, power, alpha)
    return Needed(_more_subjects(goal, design), _more_pairs(goal, design), _fewest_trials(goal, design))


def grid(
    components: Components,
    design: Design,
    subjects: Iterable[int] = GRID_SUBJECTS,
    pairs: Iterable[int] = GRID_PAIRS,
    power: float = POWER,
    alpha: float = ALPHA,
) -> dict[tuple[int, int], float]:
    """Smallest detectable difference by (subjects, pairs); share of pairs and segments a trial as in ``design``."""
    columns = tuple(pairs)
    sizes = [(rows, column) for rows in subjects for column in columns]
    return {size: detectable(components, design.resized(*size), power, alpha) for size in sizes}


def _cells(values: ArrayLike, subjects: ArrayLike, pairs: ArrayLike) -> tuple[Floats, float, Floats]:
    """Sums of the scored values in cells [subjects, pairs], the sum of all squares, and the numbers in the cells."""
    scores, subject, pair = np.asarray(values, np.float64), np.asarray(subjects), np.asarray(pairs)
    if not scores.shape == subject.shape == pair.shape or scores.ndim != 1:
        shapes = f"{scores.shape}, {subject.shape}, {pair.shape}"
        raise BadInput("variance components", "values, subjects, pairs", "three sequences of one length", shapes)
    if np.isinf(scores).any():
        raise BadInput("variance components", "values", "finite numbers, or NaN where not scored", "an infinite one")
    scored = ~np.isnan(scores)
    (rows, row), (columns, column) = (np.unique(x[scored].astype(str), return_inverse=True) for x in (subject, pair))
    if len(rows) < 2 or len(columns) < 2:
        found = f"{len(rows)} and {len(columns)}"
        raise BadInput("variance components", "subjects, pairs", "at least two of each with scores", found)
    # The variances do not know the mean; without it their sums lose fewer digits.
    centred = scores[scored] - scores[scored].mean()
    sums, numbers = np.zeros((len(rows), len(columns))), np.zeros((len(rows), len(columns)))
    np.add.at(sums, (row, column), centred)
    np.add.at(numbers, (row, column), 1.0)
    return sums, float((centred**2).sum()), numbers


def _equations(sums: Floats, squares: float, numbers: Floats) -> tuple[Floats, Floats]:
    """Henderson's sums of squares, of subjects, pairs and trials above the mean and of segments within trials, and the
    matrix [4, 4] of their expectations: a row a sum, a column a component."""
    n, (by_row, by_column) = numbers.sum(), (numbers.sum(1), numbers.sum(0))
    filled = numbers > 0
    of_mean = sums.sum() ** 2 / n
    of_rows, of_columns = (sums.sum(1) ** 2 / by_row).sum(), (sums.sum(0) ** 2 / by_column).sum()
    of_cells = (sums[filled] ** 2 / numbers[filled]).sum()
    in_rows, in_columns = (numbers**2).sum(1) / by_row, (numbers**2).sum(0) / by_column
    mean = np.array([(by_row**2).sum() / n, (by_column**2).sum() / n, (numbers**2).sum() / n, 1.0])
    rows = np.array([n, in_rows.sum(), in_rows.sum(), len(by_row)])
    columns = np.array([in_columns.sum(), n, in_columns.sum(), len(by_column)])
    cells = np.array([n, n, n, filled.sum()])
    within = np.array([0.0, 0.0, 0.0, n - filled.sum()])
    matrix = np.stack([rows - mean, columns - mean, cells - mean, within])
    return matrix, np.array([of_rows - of_mean, of_columns - of_mean, of_cells - of_mean, squares - of_cells])


def shares(components: Components, design: Design) -> tuple[float, float, float]:
    """What subjects, pairs, and trials with their segments add to the variance of the mean."""
    rest = components.trial + components.segment / design.segments_per_trial
    return components.subject / design.n_subjects, components.pair / design.n_pairs, rest / design.trials


def error_of(components: Components, design: Design) -> float:
    """Standard error of the mean in a planned test."""
    return math.sqrt(sum(shares(components, design)))


def _check_chances(power: float, alpha: float) -> None:
    if not 0 < alpha < power < 1:
        raise BadInput("power", "alpha, power", "0 < alpha < power < 1", f"{alpha}, {power}")


def _power(ratio: float, freedom: float, alpha: float) -> float:
    """Power of the two-sided t-test where the true difference is ``ratio`` standard errors, a finding of the wrong sign
    not counted."""
    from scipy.special import nctdtr, stdtrit

    return 1.0 - float(nctdtr(freedom, ratio, float(stdtrit(freedom, 1 - alpha / 2))))


@lru_cache(maxsize=4096)
def _ratio(freedom: float, power: float, alpha: float) -> float:
    """Difference, in standard errors, at which the t-test has that power."""
    from scipy.optimize import brentq

    high = 4.0
    while _power(high, freedom, alpha) < power and high < MOST_RATIO:
        high *= 2
    return float(brentq(lambda ratio: _power(ratio, freedom, alpha) - power, 0.0, high, xtol=1e-9))


@dataclass(frozen=True)
class _Goal:
    """What is to be found, and how surely."""

    components: Components
    difference: float
    power: float
    alpha: float

    def met(self, design: Design) -> bool:
        """Whether a design finds the difference with the power."""
        return power_of(self.components, design, self.difference, self.alpha) >= self.power

    def why_not(self, what: str, others: str, variance: float, count: int) -> Plan:
        """No design: what the ``count`` of the others alone leave, however many there are of ``what``."""
        floor = _ratio(count - 1.0, self.power, self.alpha) * math.sqrt(variance / count)
        if floor < abs(self.difference):
            return Plan(None, f"more than {MOST} {what}")
        return Plan(None, f"no number of {what}: with {count} {others}, nothing below {floor:.3g} is found")


def _more_subjects(goal: _Goal, design: Design) -> Plan:
    # Each pair must be heard by somebody.
    least = max(2, math.ceil(design.n_pairs / design.pairs_per_subject - 1e-9))
    number = _smallest(lambda count: goal.met(replace(design, n_subjects=count)), least)
    if number is not None:
        return Plan(replace(design, n_subjects=number))
    return goal.why_not("subjects", "stimulus pairs", goal.components.pair, design.n_pairs)


def _more_pairs(goal: _Goal, design: Design) -> Plan:
    number = _smallest(lambda count: goal.met(design.resized(design.n_subjects, count)), 2)
    if number is not None:
        return Plan(design.resized(design.n_subjects, number))
    return goal.why_not("stimulus pairs", "subjects", goal.components.subject, design.n_subjects)


def _fewest_trials(goal: _Goal, design: Design) -> Plan:
    best: Design | None = None
    subjects = 2
    while subjects <= MOST and (best is None or design.resized(subjects, 2).trials < best.trials):
        found = _fewer_trials(goal, design, subjects, best)
        best = found or best
        # As long as so few subjects leave too much, the next ones are passed over faster.
        subjects += 1 if best is not None else max(1, subjects // 8)
    return Plan(best, None if best else f"more than {MOST} subjects or pairs")


def _fewer_trials(goal: _Goal, design: Design, subjects: int, best: Design | None) -> Design | None:
    """The smallest design with so many subjects, if it has fewer trials than the best so far."""
    most = MOST if best is None else _largest_below(design, subjects, best.trials)
    pairs = _smallest(lambda count: goal.met(design.resized(subjects, count)), 2, most)
    return None if pairs is None else design.resized(subjects, pairs)


def _largest_below(design: Design, subjects: int, trials: float) -> int:
    """Most pairs with which so many subjects have fewer than so many trials."""
    more = _smallest(lambda count: design.resized(subjects, count).trials >= trials, 2)
    return MOST if more is None else more - 1


def _smallest(enough: Callable[[int], bool], least: int, most: int = MOST) -> int | None:
    """Smallest number from ``least`` to ``most`` that is enough; None if none is. What is enough stays it."""
    if most < least or not enough(most):
        return None
    low, high = least - 1, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
