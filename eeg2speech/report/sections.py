"""The tables of one group."""

from __future__ import annotations

from collections.abc import Iterable

from eeg2speech.records.intervals import Interval
from eeg2speech.records.multiple import ALPHA, adjusted_p
from eeg2speech.records.schema import TRUE_EEG, MetricResult, Subset
from eeg2speech.records.summary import SELECTION
from eeg2speech.records.verdict import Verdict
from eeg2speech.report.chance import against_chance, chance_row, chances
from eeg2speech.report.compare import Comparison
from eeg2speech.report.judgement import audit_verdict, verdict_of
from eeg2speech.report.results import Facts, Group, Run
from eeg2speech.report.speed import speed_cells, speed_header
from eeg2speech.report.tables import (
    NOTHING,
    Table,
    metric_cell,
    number,
    p_text,
    size,
    with_count,
    with_interval,
    with_unit,
)
from eeg2speech.report.words import (
    BESIDE,
    CONTROL_LABELS,
    MIXTURE,
    NOISE_CUE,
    PAIRS,
    metric_label,
    of_aggregate,
    what_it_sees,
)


def ranked_table(comparison: Comparison) -> Table:
    """All runs: ranked ones, then chance, then floors and ceilings ('ref'), then incomplete ones (no numbers)."""
    header = _ranked_header(comparison)
    chance = chance_row(comparison.group, len(header))
    rows = [_ranked_row(comparison, run, str(rank)) for rank, run in enumerate(comparison.ranking, start=1)]
    rows += [] if chance is None else [chance]
    rows += [_ranked_row(comparison, run, "ref") for run in comparison.references]
    rows += [_incomplete_row(run, len(header)) for run in comparison.incomplete]
    return Table(header, tuple(rows), frozenset({"rank", "ranks", "system", "sees", "uses EEG", "audit", "training"}))


def controls_table(comparison: Comparison, run: Run) -> Table:
    """Every control of one complete run: headline metric and the one beside it, against chance where they have one, and
    the drop from the true EEG."""
    group = comparison.group
    names = [name for name in dict.fromkeys((group.headline, BESIDE[group.task])) if name in group.metrics]
    verdicts = [name for name in names if name in chances(group)]
    words = ("drop's interval", *(f"{metric_label(name)} against chance" for name in verdicts))
    metrics = (metric_header(name, group.facts(name)) for name in names)
    header = ("control", "EEG given", *metrics, with_unit("drop", group.facts(group.headline).unit), *words)
    rows = tuple(_control_row(comparison, run, control, names, verdicts) for control in group.controls)
    return Table(header, rows, frozenset({"control", "EEG given", *words}))


def differences_table(comparison: Comparison) -> Table:
    """Paired differences of the headline metric between complete runs, on the same segments."""
    unit, decimals = _headline(comparison).unit, _headline(comparison).decimals
    words = ("difference", "interval", "after Holm")
    header = (words[0], with_unit(metric_label(comparison.group.headline), unit), "segments", words[1], "p", words[2])
    pairs = {
        f"{one.label} minus {other.label}": comparison.difference(one, other) for one, other in compared(comparison)
    }
    found = {name: each for name, each in pairs.items() if each is not None}
    adjusted = adjusted_p(found)
    rows = tuple(
        (name, with_interval(each, decimals), str(each.n), _verdict(each), *_after_holm(adjusted.get(name)))
        for name, each in found.items()
    )
    return Table(header, rows, frozenset(words))


def _after_holm(p: float | None) -> tuple[str, str]:
    """Adjusted p and what it says."""
    return p_text(p), "none" if p is None else "differs" if p < ALPHA else "may be equal"


def failures_table(comparison: Comparison) -> Table:
    """Every reason for which scores failed, by system, seed and metric, counted over controls; no rows if none did."""
    counts: dict[tuple[str, str, str], dict[str, int]] = {}
    for record in (record for run in comparison.group.runs for record in run.every_record()):
        for name, result in record.metrics.items():
            for reason, count in result.reasons.items():
                key = (f"{record.system.name} (seed {record.seed})", metric_label(name), reason)
                counts.setdefault(key, {})[record.control] = count
    header = ("system", "metric", "reason", "failed", "controls (failed)")
    rows = tuple((*key, str(sum(found.values())), _by_control(found)) for key, found in sorted(counts.items()))
    return Table(header, rows, frozenset({*header} - {"failed"}))


def compared(comparison: Comparison) -> Iterable[tuple[Run, Run]]:
    """Which runs are compared, each pair once: named pairs, variants, each with the mixture, each rank with the next.

    A name that goes on after another's and a hyphen, as ``neurocodec-short-relu`` does, is a variant of it.
    """
    runs = {run.system.name: run for run in comparison.ranking}
    every = runs | {run.system.name: run for run in comparison.references}
    pairs = [(every[first], every[second]) for first, second in PAIRS if first in every and second in every]
    pairs += [(run, runs[base]) for name, run in runs.items() if (base := _base(name, runs)) is not None]
    mixture = runs.get(MIXTURE)
    pairs += [(run, mixture) for run in comparison.ranking if mixture is not None and run is not mixture]
    pairs += list(zip(comparison.ranking, comparison.ranking[1:], strict=False))
    seen: set[frozenset[str]] = set()
    for first, second in pairs:
        names = frozenset((first.label, second.label))
        if names not in seen:
            seen.add(names)
            yield first, second


def _base(name: str, names: Iterable[str]) -> str | None:
    """The longest of ``names`` of which ``name`` is a variant."""
    return max((other for other in names if name.startswith(f"{other}-")), key=len, default=None)


def metric_header(name: str, facts: Facts) -> str:
    """Header of a metric's column: its label, with its aggregate if that is no mean, and its unit."""
    return with_unit(of_aggregate(metric_label(name), facts.aggregate), facts.unit)


def uses_eeg(verdict: Verdict) -> str:
    """The verdict in a word."""
    return {"uses the EEG": "yes", "does not": "no"}.get(verdict.answer, verdict.answer)


def _ranked_header(comparison: Comparison) -> tuple[str, ...]:
    group = comparison.group
    unit, label = group.facts(group.headline).unit, metric_label(group.headline)
    columns = (metric_header(name, group.facts(name)) for name in (*group.metrics, *group.set_metrics))
    parts = (with_unit(f"{label} {part}", unit) for part in _parts(group))
    drop = with_unit("noise-cue drop", unit)
    start, end = ("rank", "ranks", "system", "sees"), ("uses EEG", "audit", "failed scores", "parameters", "training")
    return (*start, *columns, *parts, drop, *end, *speed_header(comparison.latencies))


def _parts(group: Group) -> tuple[str, ...]:
    """Parts of the segments with a column of their own: those that a selection makes, where there is one."""
    return ("right", "wrong") if SELECTION in group.metrics else ()


def _headline(comparison: Comparison) -> Facts:
    return comparison.group.facts(comparison.group.headline)


def _ranked_row(comparison: Comparison, run: Run, rank: str) -> tuple[str, ...]:
    group, decimals = comparison.group, _headline(comparison).decimals
    results = {name: comparison.result(run, name) for name in group.metrics}
    drop = comparison.drop(run, NOISE_CUE)
    failed = sum(result.n_failed for record in run.records[TRUE_EEG] for result in record.metrics.values())
    return (
        *(rank, str(comparison.rank_ranges.get(run.label, NOTHING)), run.label, what_it_sees(run.system)),
        *(metric_cell(result, name == group.headline) for name, result in results.items()),
        *(_set_cell(comparison, run, name) for name in group.set_metrics),
        *(with_count(_subset(results[group.headline], part), decimals) for part in _parts(group)),
        *(with_interval(drop, decimals), uses_eeg(verdict_of(comparison, run)), audit_verdict(comparison, run)),
        *(str(failed), size(run.system.parameters), _training(run)),
        *speed_cells(comparison.latencies, run, group.task),
    )


def _set_cell(comparison: Comparison, run: Run, name: str) -> str:
    """Value of a measure of the whole set, over several seeds their mean; a dash if any has none."""
    values = [result.value for result in comparison.set_result(run, name)]
    known = [value for value in values if value is not None]
    mean = sum(known) / len(known) if known and len(known) == len(values) else None
    return number(mean, comparison.group.facts(name).decimals)


def _incomplete_row(run: Run, columns: int) -> tuple[str, ...]:
    start = (NOTHING, NOTHING, run.label, what_it_sees(run.system), run.problem or "")
    return (*start, *[NOTHING] * (columns - len(start)))


def _control_row(
    comparison: Comparison, run: Run, control: str, metrics: list[str], verdicts: list[str]
) -> tuple[str, ...]:
    results = {name: comparison.result(run, name, control) for name in metrics}
    cells = [metric_cell(result, interval=True) for result in results.values()]
    drop = None if control == TRUE_EEG else comparison.drop(run, control)
    verdict = NOTHING if drop is None else _verdict(drop)
    found = (control, CONTROL_LABELS.get(control, ""), *cells, with_interval(drop, _headline(comparison).decimals))
    return (*found, verdict, *(against_chance(results[name]) for name in verdicts))


def _by_control(counts: dict[str, int]) -> str:
    return ", ".join(f"{control} ({count})" for control, count in counts.items())


def _verdict(interval: Interval) -> str:
    if interval.low is None:
        return "none"
    return "excludes 0" if interval.excludes_zero else "includes 0"


def _subset(result: MetricResult | None, part: str) -> Subset | None:
    found: Subset | None = None if result is None else getattr(result, part)
    return found


def _training(run: Run) -> str:
    """Steps and minutes of training, a seed."""
    budgets = [record.budget for record in run.records[TRUE_EEG]]
    steps = sum(budget.steps for budget in budgets) / len(budgets)
    seconds = sum(budget.seconds for budget in budgets) / len(budgets)
    if steps == 0 and seconds == 0:
        return "none"
    return f"{steps:.0f} steps, {seconds / 60:.1f} min, {budgets[0].device}"
