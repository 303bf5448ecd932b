"""What the leaderboard and the page say, as blocks that either can write: one content, two formats."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from eeg2speech.records.intervals import RESAMPLES
from eeg2speech.records.store import RecordStore
from eeg2speech.report.blocks import Block, Code, Heading, Text
from eeg2speech.report.chapter import Chapter, read_chapters
from eeg2speech.report.tables import Table
from eeg2speech.report.words import EXTRACTION, GENERATION, RETRIEVAL, how_to_read
from eeg2speech.team import ALONE, Team

SUITE = "benchmarks/leaderboard.yaml"
OTHER_SUITES = {
    EXTRACTION: ("benchmarks/masking.yaml", "benchmarks/neurocodec.yaml"),
    RETRIEVAL: ("benchmarks/retrieval.yaml",),
    GENERATION: ("benchmarks/generation.yaml", "benchmarks/generation-baselines.yaml"),
}
"""By task, what repeats the rest of the committed leaderboard."""


def blocks(
    store: RecordStore, suite: str = SUITE, resamples: int = RESAMPLES, link: str = "results", team: Team = ALONE
) -> Iterator[Block]:
    """Everything the records in ``store`` have to say, in order; ``link`` leads from the page to their folder.

    The ``team`` shares the groups.
    """
    chapters = read_chapters(store, resamples, link, team)
    yield Heading(1, "EEG2Speech leaderboard")
    yield from _top(chapters, suite)
    for chapter in chapters:
        yield from chapter.blocks


def _top(chapters: Sequence[Chapter], suite: str) -> Iterable[Block]:
    notes = sorted({chapter.data_note for chapter in chapters})
    yield Text(f"Data: {'; '.join(notes)}.")
    yield _overview(chapters)
    yield Text("Made from the records alone. To repeat it:")
    tasks = {chapter.task for chapter in chapters} if suite == SUITE else set()
    suites = [suite, *(name for task, names in OTHER_SUITES.items() if task in tasks for name in names)]
    yield Code("\n".join([*(f"eeg2speech run {name}" for name in suites), "eeg2speech leaderboard"]))
    yield Text(_made_by(chapters))
    yield Heading(2, "How to read it")
    special = {name for chapter in chapters for name in chapter.special}
    lines = how_to_read({chapter.task for chapter in chapters}, special)
    yield from (Text(line, bullet=True) for line in lines)


def _overview(chapters: Sequence[Chapter]) -> Table:
    header = ("protocol", "study", "data", "split", "audit", "segments", "subjects", "stimulus pairs", "systems")
    rows = tuple(chapter.overview for chapter in chapters)
    return Table((*header, "incomplete"), rows, frozenset(header[:5]))


def _made_by(chapters: Sequence[Chapter]) -> str:
    code = [record for chapter in chapters for record in chapter.code]
    versions = ", ".join(sorted({version for version, *_ in code}))
    commits = ", ".join(sorted({commit for _, commit, _ in code}))
    dirty = sum(changed for *_, changed in code)
    changed = f"; {dirty} of them with uncommitted changes" if dirty else ""
    return f"{len(code)} records, by eeg2speech {versions}, commit {commits}{changed}."
