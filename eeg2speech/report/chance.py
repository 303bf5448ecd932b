"""Retrieval's candidates, and what an answer at random gives: a row, a sentence, a verdict."""

from __future__ import annotations

from eeg2speech.records.schema import MetricResult
from eeg2speech.report.results import Group
from eeg2speech.report.tables import NOTHING, number
from eeg2speech.report.words import metric_label, of_aggregate

CHANCE = "chance"
"""First cell of the row of chance."""


def chances(group: Group) -> dict[str, str]:
    """The chance of each metric that has one, as text, in the order of the columns."""
    facts = {name: group.facts(name) for name in group.metrics}
    return {name: number(fact.chance, fact.decimals) for name, fact in facts.items() if fact.chance is not None}


def chance_row(group: Group, columns: int) -> tuple[str, ...] | None:
    """A row of ``columns`` cells, the metrics after the first four; None if no metric has a chance."""
    known = chances(group)
    if not known:
        return None
    start = (CHANCE, NOTHING, "an answer at random", NOTHING, *(known.get(name, NOTHING) for name in group.metrics))
    return (*start, *[NOTHING] * (columns - len(start)))


def candidates_text(group: Group) -> str | None:
    """A sentence on the candidates and on chance; None for a group without either."""
    candidates, known = group.first.candidates, chances(group)
    parts = []
    if candidates is not None:
        counted = f"duplicates by content, counted once: {candidates.duplicates}"
        about = f"{candidates.n} distinct ones of {candidates.seconds:g} s"
        parts.append(f"Candidates: {about} ({counted}), set `{candidates.hash}`.")
    if known:
        named = (
            f"{of_aggregate(metric_label(name), group.facts(name).aggregate)} {text}" for name, text in known.items()
        )
        parts.append(f"Chance: {', '.join(named)}.")
    return " ".join(parts) or None


def against_chance(result: MetricResult | None) -> str:
    """Whether the interval of ``result`` contains its chance."""
    if result is None or result.chance is None or result.low is None or result.high is None:
        return "none"
    if result.low <= result.chance <= result.high:
        return "contains chance"
    return "better than chance" if (result.low > result.chance) == result.higher_is_better else "worse than chance"
