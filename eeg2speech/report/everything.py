"""All that is made from records, in the order in which one leads to another."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from eeg2speech.records.intervals import RESAMPLES
from eeg2speech.records.store import RecordStore
from eeg2speech.report.ablation import render_ablation
from eeg2speech.report.control_report import render_control_reports
from eeg2speech.report.document import SUITE, blocks
from eeg2speech.report.latency import render_latency
from eeg2speech.report.leaderboard import render_leaderboard, write_leaderboard
from eeg2speech.report.page import write_page
from eeg2speech.report.speed import LATENCY
from eeg2speech.report.trace import CONTROLS
from eeg2speech.team import ALONE, Team

ABLATIONS, FIGURES = "ablations", "figures"


def render_run(records_root: Path, folder: Path, suite: str = SUITE, resamples: int = RESAMPLES) -> tuple[Path, Path]:
    """Write ``leaderboard.md``, with its figures, and ``report.html`` of a run into ``folder``; returns their paths.

    The records are read, and figures drawn, once for both. Raises BadInput as ``render_leaderboard`` does.
    """
    link = Path(os.path.relpath(records_root, folder)).as_posix()
    content = tuple(blocks(RecordStore(records_root), suite, resamples, link))
    leaderboard, page = folder / "leaderboard.md", folder / "report.html"
    write_leaderboard(content, leaderboard)
    write_page(content, records_root, page)
    return leaderboard, page


def render_everything(
    results: Path, suites: Path, leaderboard: Path, resamples: int = RESAMPLES, team: Team = ALONE
) -> Iterator[Path]:
    """Write control reports, ablation tables, pages of latency and the leaderboard; yields their paths.

    An ablation is a folder in ``results/ablations`` and the suite of its name in ``suites``. The ``team`` shares
    the leaderboard. Raises BadInput as each of them does.
    """
    from eeg2speech.evaluation.suite import read_suite

    yield from render_control_reports(results, results / CONTROLS, resamples)
    for folder in sorted(path for path in (results / ABLATIONS).glob("*") if path.is_dir()):
        suite = read_suite(suites / f"{folder.name}.yaml")
        yield from render_ablation(suite, RecordStore(folder), folder.parent, resamples)
    yield from render_latency(results / LATENCY)
    render_leaderboard(results, leaderboard, results / FIGURES, resamples=resamples, team=team)
    yield leaderboard
