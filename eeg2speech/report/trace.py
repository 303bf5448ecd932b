"""From a number to where it comes from: record, scores, manifest, audit, control report, and how it is repeated."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath

from eeg2speech.records.audits import AUDITS, MANIFESTS, place
from eeg2speech.records.schema import TRUE_EEG, Record
from eeg2speech.report.compare import Comparison
from eeg2speech.report.judgement import audit_verdict
from eeg2speech.report.results import Group, Run
from eeg2speech.report.tables import NOTHING, Table

CONTROLS = "controls"
"""Folder of the control reports beside the records."""


def group_audit(comparison: Comparison) -> str:
    """Verdicts of the audit over all runs of a group, which is one where all were audited."""
    return " / ".join(sorted({audit_verdict(comparison, run) for run in comparison.group.runs}))


def trace_texts(comparison: Comparison, link: str) -> Iterable[str]:
    """Where the split of a group is written down, and how a number is repeated. ``link`` is the folder of the records,
    as seen from the page."""
    group, root = comparison.group, comparison.store.root
    split, where = group.first.split, place(group.key.study, group.key.split, group.key.split_seed)
    kept = [(name, f"{name}/{where}") for name in (MANIFESTS, AUDITS) if (root / name / where).exists()]
    named = "".join(f", [{name.removesuffix('s')}]({link}/{path})" for name, path in kept)
    yield f"Split: manifest `{split.manifest_hash}` of revision `{group.first.study.revision}`{named}."
    yield (
        "Each row below leads from the numbers of a system to its record and to its scores by segment; the records of "
        f"the controls lie beside it. `eeg2speech repeat {link}/RECORD` does it again, "
        f"`eeg2speech verify {link}/RECORD` checks it."
    )


def trace_table(comparison: Comparison, link: str) -> Table:
    """Of every complete run and seed: its record, scores, control report and commit."""
    header = ("system", "record", "scores", "controls", "commit")
    runs = (*comparison.ranking, *comparison.references)
    rows = tuple(_row(comparison, run, record, link) for run in runs for record in run.records[TRUE_EEG])
    return Table(header, rows, frozenset(header))


def _row(comparison: Comparison, run: Run, record: Record, link: str) -> tuple[str, ...]:
    folder, commit = record.unit.folder, (record.code.commit or "unknown")[:10]
    report = f"{CONTROLS}/{page_path(comparison.group, run)}"
    named = f"{record.system.name} (seed {record.seed})" if record.seed else record.system.name
    controls = f"[report]({link}/{report})" if (comparison.store.root / report).exists() else NOTHING
    scores = f"[scores]({link}/{folder}/{record.scores_file})"
    return named, f"[record]({link}/{record.unit.record_path})", scores, controls, commit


def page_path(group: Group, run: Run) -> PurePosixPath:
    """Where the report of a run lies below the folder of reports; one of several of a system names its seed."""
    name = run.system.name
    several = sum(other.system.name == name for other in group.runs) > 1
    file = f"{name}-s{run.every_record()[0].seed}" if several else name
    return PurePosixPath(group.key.slug, f"{file}.md")
