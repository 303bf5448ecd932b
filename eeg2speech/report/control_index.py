"""The index of the control reports: a row a system, over all groups."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import PurePosixPath

from eeg2speech.records.curves import Curve
from eeg2speech.records.verdict import NOISE, SHIFT
from eeg2speech.report.blocks import Block, Heading, Text
from eeg2speech.report.compare import Comparison
from eeg2speech.report.control_curves import curves_of, mesd_cell
from eeg2speech.report.control_twin import Twins, twin_difference, twin_of
from eeg2speech.report.judgement import RULE, audit_verdict, verdict_of
from eeg2speech.report.results import Run
from eeg2speech.report.sections import metric_header
from eeg2speech.report.tables import NOTHING, Table, with_interval
from eeg2speech.report.trace import page_path

INDEX = PurePosixPath("index.md")
HEADER = (
    *("system", "group", "uses the EEG?", "why", "audit of the split", "ranked by", "score"),
    *(f"drop under {NOISE}", f"drop under {SHIFT}", "minus twin", "MESD"),
)
WORDS = frozenset(HEADER[:6])
NOTES = (
    "Drops and the difference to the twin, the same system trained with noise in place of the EEG, are of the metric "
    "in `ranked by`, on the same segments, with their 95 % intervals.",
    "MESD: minimal expected switch duration, from the accuracy at windows of several lengths.",
)


def index_page(
    comparisons: Sequence[Comparison],
    twins: Twins,
    curves: Iterable[Curve],
    linked: Collection[PurePosixPath],
) -> Iterator[Block]:
    """Title, data, rule and table; a system is a link where its page is among ``linked``."""
    notes = sorted({comparison.group.first.study.data_note for comparison in comparisons})
    yield Heading(1, "Control reports")
    yield Text(f"Which systems use the EEG? Made from the records alone. Data: {'; '.join(notes)}.")
    yield from (Text(line, bullet=True) for line in (*RULE, *NOTES))
    known, rows = tuple(curves), []
    for comparison in comparisons:
        for run in (*comparison.ranking, *comparison.references, *comparison.incomplete):
            path = page_path(comparison.group, run)
            name = f"[{run.label}]({path})" if path in linked else run.label
            rows.append((name, *_row(comparison, run, twins, known)))
    yield Table(HEADER, tuple(rows), WORDS)


def _row(comparison: Comparison, run: Run, twins: Twins, curves: tuple[Curve, ...]) -> tuple[str, ...]:
    """All cells but the first. Of a system without EEG, nothing but its score is to be told."""
    group, verdict = comparison.group, verdict_of(comparison, run)
    facts = group.facts(group.headline)
    start = (group.key.title, verdict.answer, verdict.reason, audit_verdict(comparison, run))
    score = (
        metric_header(group.headline, facts),
        with_interval(comparison.result(run, group.headline), facts.decimals),
    )
    if not run.system.uses_eeg:
        return (*start, *score, *[NOTHING] * 4)
    drops = (with_interval(comparison.drop(run, control), facts.decimals) for control in (NOISE, SHIFT))
    twin = NOTHING if run.problem else twin_difference(comparison, run, twin_of(comparison, run, twins))
    return (*start, *score, *drops, twin, mesd_cell(curves_of(run, curves)))
