"""Table and figure of an ablation, from records alone: the same records give the same bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from eeg2speech.errors import BadInput
from eeg2speech.records.files import write_atomically
from eeg2speech.records.intervals import RESAMPLES
from eeg2speech.records.schema import TRUE_EEG, MetricResult
from eeg2speech.records.store import RecordStore
from eeg2speech.report.compare import Comparison
from eeg2speech.report.curve import curve
from eeg2speech.report.figures import svg
from eeg2speech.report.results import Group, Run, read_groups
from eeg2speech.report.sections import metric_header
from eeg2speech.report.tables import NOTHING, Table, number, table_to_markdown, with_interval, with_unit
from eeg2speech.report.variation import Variation
from eeg2speech.report.words import BESIDE, NOISE_CUE, metric_label

if TYPE_CHECKING:
    from eeg2speech.evaluation.suite import Suite

NUMBERS = (
    "Made from the records alone. All values were trained with the same budget and scored on the same segments. In "
    "brackets is the 95 % interval: a bootstrap over subjects and stimulus pairs, crossed. The intervals of the means "
    "share what is easy and hard in the segments; whether two values differ is told by the paired difference. One "
    "training is behind a row unless it says otherwise: what another seed would change is not in the intervals."
)
DROP = (
    "`noise-cue drop`: the score with the true EEG minus the score with noise in its place, by segment. It alone says "
    "what the EEG is worth; a score can also rise because the sound is separated better."
)
TRAINING = "`steps` and `minutes` are those of all networks that a row is built on; rows may share one of them."


@dataclass(frozen=True)
class AblationReport:
    """A page in Markdown, and its figures as SVG text by the names of their files."""

    text: str
    figures: dict[str, str]


def ablation_report(suite: Suite, records: RecordStore, resamples: int = RESAMPLES) -> AblationReport:
    """What the records of a suite say of what varies in it.

    Values without records, or with some that are missing, have a row that says so.

    Raises:
        BadInput: a suite in which nothing varies, values of something else than its systems, or no records.
    """
    variation = _variation(suite)
    groups = [group for group in read_groups(records) if _of_suite(group, suite)]
    if not groups:
        raise BadInput(records.root, "records", f"some of suite {suite.name!r}", "none")
    parts, figures = [f"# {suite.name}: {variation.name}", *_top(suite, variation, groups[0])], {}
    for group in groups:
        comparison = Comparison(records, group, resamples)
        file = f"{suite.name}.svg" if len(groups) == 1 else f"{suite.name}_{group.key.slug}.svg"
        complete = [run for run in _runs(group, variation) if run.problem is None]
        parts += [f"## {group.key.title}", f"Data: {group.first.study.data_note}."]
        if complete:
            figures[file] = svg(lambda c=comparison, r=complete: curve(c, variation, r))  # type: ignore[misc]
            parts.append(f"![{metric_label(group.headline)} by {variation.name}, {group.key.title}]({file})")
        parts.append(table_to_markdown(_table(comparison, variation)))
    return AblationReport("\n\n".join([*parts, *_bottom()]) + "\n", figures)


def render_ablation(suite: Suite, records: RecordStore, folder: Path, resamples: int = RESAMPLES) -> list[Path]:
    """Write ``<suite>.md`` and its figures into ``folder``; returns their paths. Raises as ``ablation_report``."""
    report = ablation_report(suite, records, resamples)
    texts = {f"{suite.name}.md": report.text} | report.figures
    for name, text in texts.items():
        write_atomically(folder / name, text.encode("utf-8"))
    return [folder / name for name in texts]


def _variation(suite: Suite) -> Variation:
    where = f"suite {suite.name!r}"
    if suite.varies is None:
        raise BadInput(where, "varies", "what varies, and the value of each system", "nothing")
    suite.varies.check([declaration.label for declaration in suite.declarations], where)
    return suite.varies


def _of_suite(group: Group, suite: Suite) -> bool:
    """Whether a group is of the suite's protocol and splits, and any of its runs one of its systems."""
    key, names = group.key, {declaration.label for declaration in suite.declarations}
    place = f"{key.protocol}-{key.version}" == suite.protocol and key.split in suite.splits
    return place and any(run.system.name in names for run in group.runs)


def _runs(group: Group, variation: Variation) -> list[Run]:
    """Runs of the suite, in the order of the values."""
    return [run for name in variation.values for run in group.runs if run.system.name == name]


def _top(suite: Suite, variation: Variation, group: Group) -> Iterator[str]:
    if variation.asks:
        yield variation.asks
    seeds = f"seed{'s' * (len(suite.seeds) > 1)} {', '.join(map(str, suite.seeds))}"
    yield f"Suite `{suite.name}`, task {group.task}, {seeds}; compared with {variation.text(variation.base)}."


def _bottom() -> list[str]:
    return ["## How to read it", "\n".join(f"- {line}" for line in (NUMBERS, DROP, TRAINING))]


def _table(comparison: Comparison, variation: Variation) -> Table:
    group, header = comparison.group, _header(comparison.group, variation)
    rows: list[tuple[str, ...]] = []
    for name in variation.values:
        runs = [run for run in group.runs if run.system.name == name]
        found = [_row(comparison, variation, run) for run in runs]
        rows += found or [_empty(variation.text(name), "no records", len(header))]
    return Table(header, tuple(rows), frozenset({header[0]} if variation.numbers is None else ()))


def _header(group: Group, variation: Variation) -> tuple[str, ...]:
    facts, label = group.facts(group.headline), metric_label(group.headline)
    noise = with_unit(f"{label} with noise", facts.unit)
    minus = with_unit(f"difference to {variation.text(variation.base)}", facts.unit)
    beside = metric_label(BESIDE[group.task])
    start = (variation.header, metric_header(group.headline, facts), noise)
    return (*start, with_unit("noise-cue drop", facts.unit), minus, beside, "steps", "minutes")


def _row(comparison: Comparison, variation: Variation, run: Run) -> tuple[str, ...]:
    value = variation.text(run.system.name) + run.label.removeprefix(run.system.name)
    if run.problem is not None:
        return _empty(value, run.problem, len(_header(comparison.group, variation)))
    headline, decimals = comparison.group.headline, comparison.group.facts(comparison.group.headline).decimals
    results = [comparison.result(run, headline, control) for control in (TRUE_EEG, NOISE_CUE)]
    return (
        *(value, *(_cell(result) for result in results)),
        *(with_interval(comparison.drop(run, NOISE_CUE), decimals), _difference(comparison, variation, run)),
        *(_beside(comparison, run), *_training(run)),
    )


def _cell(result: MetricResult | None) -> str:
    """Mean and interval; '*' if segments are missing from it."""
    if result is None:
        return NOTHING
    return with_interval(result, result.decimals) + (" *" if result.n_failed else "")


def _difference(comparison: Comparison, variation: Variation, run: Run) -> str:
    """From the value that others are compared with; of itself there is none."""
    base = [other for other in comparison.group.runs if other.system.name == variation.base]
    if len(base) != 1 or base[0] is run:
        return NOTHING
    decimals = comparison.group.facts(comparison.group.headline).decimals
    return with_interval(comparison.difference(run, base[0]), decimals)


def _beside(comparison: Comparison, run: Run) -> str:
    result = comparison.result(run, BESIDE[comparison.group.task])
    return NOTHING if result is None else number(result.mean, result.decimals)


def _training(run: Run) -> tuple[str, str]:
    """Steps and minutes a seed."""
    budgets = [record.budget for record in run.records[TRUE_EEG]]
    steps = sum(budget.steps for budget in budgets) / len(budgets)
    return f"{steps:.0f}", f"{sum(budget.seconds for budget in budgets) / len(budgets) / 60:.1f}"


def _empty(value: str, problem: str, columns: int) -> tuple[str, ...]:
    start: Sequence[str] = (value, problem)
    return (*start, *[NOTHING] * (columns - len(start)))
