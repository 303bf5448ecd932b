"""Control reports: for every system that is given EEG, what is known of whether it uses it. From records alone.

A page in Markdown a system and group, with a figure of the drops, and ``index.md`` over all. Beside the records under
``results`` lie the twins (``twins``), the curves (``curves``), the manifests and the audits. The same records give the
same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from eeg2speech.errors import unknown_name
from eeg2speech.records.audits import AUDITS, MANIFESTS, audit_of, place
from eeg2speech.records.curves import Curve
from eeg2speech.records.files import write_atomically
from eeg2speech.records.intervals import RESAMPLES
from eeg2speech.records.schema import TRUE_EEG, Record
from eeg2speech.records.store import RecordStore
from eeg2speech.report.blocks import Block, Code, Heading, Text
from eeg2speech.report.chance import candidates_text
from eeg2speech.report.compare import Comparison
from eeg2speech.report.control_curves import (
    Curves,
    curve_lines,
    curve_table,
    curve_title,
    curves_of,
    read_curves,
)
from eeg2speech.report.control_figure import drops_svg
from eeg2speech.report.control_index import INDEX, index_page
from eeg2speech.report.control_tables import (
    MANY,
    controls_of,
    drops_table,
    evidence_table,
    means_table,
    subject_drops_table,
)
from eeg2speech.report.control_twin import Twin, read_twins, twin_of, twin_table
from eeg2speech.report.judgement import RULE, audit_verdict, verdict_of
from eeg2speech.report.leaderboard import to_markdown
from eeg2speech.report.results import GroupKey, Run, read_groups
from eeg2speech.report.trace import page_path
from eeg2speech.report.window_figure import window_svg
from eeg2speech.report.words import metric_label, what_it_sees

DROPS = (
    "True EEG minus control, by segment, as the mean over segments; in brackets is the 95 % interval, clustered over "
    "subjects and stimulus pairs; p is Holm's over the controls of a column. Where lower is better, a loss is negative."
)
SUBJECTS = (
    "A subject's own interval is clustered over its stimulus pairs alone. It is left out where a subject heard one "
    f"pair, where all its drops are alike, and in tables of {MANY} subjects and more."
)
TWIN = (
    "The twin is the same system, trained with noise in place of the EEG, with the same steps, and tested with the "
    "true EEG. What it reaches takes no EEG to reach."
)
CURVE = (
    "Each window is all that the system is given. The fitted model says how the accuracy grows if windows only add "
    "evidence."
)


NO_FILE = "none of exactly this data and split lies beside the records"


@dataclass(frozen=True)
class Beside:
    """What lies beside the records, and where reports go: ``results`` and ``out`` are folders."""

    results: Path
    out: Path
    twins: Mapping[GroupKey, Comparison]
    curves: tuple[Curve, ...]


@dataclass(frozen=True)
class Page:
    """One report below the folder of reports: the path of its text, and its figures, drawn when asked for."""

    path: PurePosixPath
    text: str
    figures: Mapping[PurePosixPath, Callable[[], str]]


def render_control_reports(
    results: Path, out: Path, resamples: int = RESAMPLES, systems: Collection[str] = ()
) -> list[Path]:
    """Write the reports of ``systems``, or of all, and the index over all, into ``out``; returns the paths.

    Raises BadInput for a system without records, if there are no records, or if some are broken or do not fit together.
    """
    written = []
    for page in control_pages(results, out, resamples, systems):
        texts = {page.path: page.text} | {path: make() for path, make in page.figures.items()}
        for path, text in texts.items():
            write_atomically(out / path, text.encode("utf-8"))
            written.append(out / path)
    return written


def control_reports_stale(results: Path, out: Path, resamples: int = RESAMPLES) -> bool:
    """Whether the reports in ``out`` are not those that the records give today: the texts to the byte, and the names of
    the figures, whose bytes depend on matplotlib's version. A page that no record gives is stale too."""
    pages = control_pages(results, out, resamples)
    texts = {out / page.path: page.text for page in pages}
    figures = {out / path for page in pages for path in page.figures}
    there = {path for pattern in ("*.md", "*.svg") for path in out.rglob(pattern)}
    same = all(path in there and path.read_text(encoding="utf-8") == text for path, text in texts.items())
    return not same or there != {*texts, *figures}


def control_pages(
    results: Path, out: Path, resamples: int = RESAMPLES, systems: Collection[str] = ()
) -> tuple[Page, ...]:
    """The pages, the index last; nothing is written. Raises as ``render_control_reports``."""
    store = RecordStore(results)
    comparisons = [Comparison(store, group, resamples) for group in read_groups(store)]
    _check_known(results, systems, comparisons)
    beside = Beside(results, out, read_twins(results, resamples), read_curves(results))
    pages = []
    for comparison in comparisons:
        for run in comparison.group.runs:
            if run.system.uses_eeg and (not systems or run.system.name in systems):
                pages.append(_page(comparison, run, beside))
    linked = {page.path for page in pages} | {path for path in _old_pages(out) if systems}
    index = index_page(comparisons, beside.twins, beside.curves, linked)
    return (*pages, Page(INDEX, to_markdown(tuple(index), "."), {}))


def _check_known(results: Path, systems: Collection[str], comparisons: Sequence[Comparison]) -> None:
    known = {run.system.name for comparison in comparisons for run in comparison.group.runs if run.system.uses_eeg}
    for name in systems:
        if name not in known:
            raise unknown_name(results, "systems", name, known)


def _old_pages(out: Path) -> Iterator[PurePosixPath]:
    """Pages of an earlier call: when only some systems are asked for, the index still links the others."""
    return (PurePosixPath(path.relative_to(out).as_posix()) for path in out.glob("*/*.md"))


def _page(comparison: Comparison, run: Run, beside: Beside) -> Page:
    path, figures = page_path(comparison.group, run), {}
    curves = curves_of(run, beside.curves)
    if run.problem is None and controls_of(run):
        figures[path.with_suffix(".svg")] = lambda: drops_svg(comparison, run)
    if curves.shown:
        figures[_window_file(path)] = lambda: window_svg(curves.together)
    blocks = tuple(_blocks(comparison, run, curves, beside, path))
    return Page(path, to_markdown(blocks, "."), figures)


def _window_file(path: PurePosixPath) -> PurePosixPath:
    return path.with_name(f"{path.stem}_window.svg")


def _blocks(comparison: Comparison, run: Run, curves: Curves, beside: Beside, path: PurePosixPath) -> Iterator[Block]:
    group = comparison.group
    yield Heading(1, f"{run.label}: does it use the EEG?")
    about = f"Task: {group.task}, ranked by {metric_label(group.headline)}; it sees: {what_it_sees(run.system)}."
    yield Text(f"{group.key.title}. Data: {group.first.study.data_note}. {about}")
    yield from _verdict_blocks(comparison, run)
    if run.problem is None:
        yield from _control_blocks(comparison, run, path)
        yield from _subject_blocks(comparison, run)
        yield from _twin_blocks(comparison, run, twin_of(comparison, run, beside.twins))
    yield from _curve_blocks(curves, path)
    yield from _provenance_blocks(comparison, run, beside, path)


def _verdict_blocks(comparison: Comparison, run: Run) -> Iterator[Block]:
    yield Heading(2, "Verdict")
    verdict = verdict_of(comparison, run)
    yield Text(f"**{verdict.answer[:1].upper()}{verdict.answer[1:]}**: {verdict.reason}.")
    yield Text(f"Audit of the split: {audit_verdict(comparison, run)}.")
    yield Text("The rule:")
    yield from (Text(line, bullet=True) for line in RULE)
    if run.problem is None:
        yield evidence_table(comparison, run)


def _control_blocks(comparison: Comparison, run: Run, path: PurePosixPath) -> Iterator[Block]:
    yield Heading(2, "Controls")
    lacking = [control for control in comparison.group.controls if control not in run.records]
    if lacking:
        yield Text(f"Not evaluated under {', '.join(f'`{control}`' for control in lacking)}.")
    candidates = candidates_text(comparison.group)
    if candidates is not None:
        yield Text(candidates)
    yield means_table(comparison, run)
    if any(result.n_failed for record in run.every_record() for result in record.metrics.values()):
        yield Text("`*`: segments are missing from it, whose score could not be computed.")
    if controls_of(run):
        yield Heading(3, "Drops")
        yield Text(DROPS)
        yield Text(f"![Drops of {run.label} under each control]({path.with_suffix('.svg').name})")
        yield drops_table(comparison, run)


def _subject_blocks(comparison: Comparison, run: Run) -> Iterator[Block]:
    table = subject_drops_table(comparison, run)
    yield Heading(2, "Per subject")
    if len(table.header) == 2:
        yield Text("Neither of the controls of the verdict was evaluated: there is no drop to show.")
        return
    yield table
    yield Text(SUBJECTS)


def _twin_blocks(comparison: Comparison, run: Run, twin: Twin | str) -> Iterator[Block]:
    yield Heading(2, "Twin trained with noise")
    if isinstance(twin, str):
        yield Text(twin)
        return
    yield Text(f"{TWIN} It is `{twin.run.label}`.")
    yield twin_table(comparison, run, twin)


def _curve_blocks(curves: Curves, path: PurePosixPath) -> Iterator[Block]:
    yield Heading(2, "Accuracy and the length of the window")
    yield from map(Text, curves.notes)
    if not curves.shown:
        yield Text("No curve of these weights was measured.")
        return
    yield Text(CURVE)
    yield Text(f"![Accuracy against the length of the window]({_window_file(path).name})")
    for curve in curves.shown:
        yield Text(f"{curve_title(curve)}:")
        yield curve_table(curve)
        yield from (Text(line, bullet=True) for line in curve_lines(curve))


def _provenance_blocks(comparison: Comparison, run: Run, beside: Beside, path: PurePosixPath) -> Iterator[Block]:
    yield Heading(2, "Where it comes from")
    records = run.records.get(TRUE_EEG) or run.every_record()[:1]
    for record in records:
        yield Text(_record_line(comparison, record, beside, path), bullet=True)
    yield from (Text(line, bullet=True) for line in _split_lines(records[0], beside, path))
    yield Text("To repeat it, with all its controls:")
    root = beside.results.resolve().name
    yield Code("\n".join(f"eeg2speech repeat {root}/{record.unit.record_path}" for record in records))


def _record_line(comparison: Comparison, record: Record, beside: Beside, path: PurePosixPath) -> str:
    """Links to a record and its scores, and the code behind it; the other controls lie in the same folder."""
    about = comparison.store.path(record.unit), beside.results / record.unit.folder / record.scores_file
    links = (_link(each, beside, path, word) for word, each in zip(("record", "scores"), about, strict=True))
    changed = ", with uncommitted changes" if record.code.dirty else ""
    code = f"commit {record.code.commit or 'unknown'}{changed}, eeg2speech {record.code.version}"
    return f"Seed {record.seed}: {', '.join(links)}; {code}; {record.created}."


def _split_lines(record: Record, beside: Beside, path: PurePosixPath) -> tuple[str, str]:
    """Links to the manifest and the audit of a record's split, or that there is none."""
    below = place(record.study.name, record.split.kind, record.split.seed)
    manifest, audit = (beside.results / folder / below for folder in (MANIFESTS, AUDITS))
    return (
        f"Manifest: {_link(manifest, beside, path, 'manifest') if manifest.is_file() else NO_FILE}; "
        f"the record's has the hash `{record.split.manifest_hash}`.",
        f"Audit: {_link(audit, beside, path, 'audit') if audit_of(beside.results, record) else NO_FILE}.",
    )


def _link(target: Path, beside: Beside, path: PurePosixPath, word: str) -> str:
    """A link to ``target`` as seen from the folder of a page."""
    return f"[{word}]({Path(os.path.relpath(target, (beside.out / path).parent)).as_posix()})"
