"""``leaderboard.md`` and its figures, from records alone: the same records give the same bytes."""

from __future__ import annotations

import os
from pathlib import Path

from eeg2speech.records.files import write_atomically
from eeg2speech.records.intervals import RESAMPLES
from eeg2speech.records.store import RecordStore
from eeg2speech.report.blocks import Block, Code, Figure, Heading, Text
from eeg2speech.report.document import SUITE, blocks
from eeg2speech.report.tables import Table, table_to_markdown
from eeg2speech.team import ALONE, Team


def render_leaderboard(
    records_root: Path,
    out: Path,
    figures: Path | None = None,
    suite: str = SUITE,
    resamples: int = RESAMPLES,
    records: str | None = None,
    team: Team = ALONE,
) -> str:
    """Write the Markdown file ``out`` and its figures; returns the text.

    Figures go into the folder ``figures`` (default: 'figures' beside ``out``) and are linked relative to ``out``.
    ``suite`` is the file named in the command that repeats the run, ``records`` the folder of the records in links, as
    it lies from ``out`` unless told. The ``team`` shares the groups: worth it for hundreds of records. Raises BadInput
    if there are no records, or if they are broken or do not fit together.
    """
    kept = records or Path(os.path.relpath(records_root, out.parent)).as_posix()
    content = tuple(blocks(RecordStore(records_root), suite, resamples, kept, team))
    return write_leaderboard(content, out, figures)


def write_leaderboard(content: tuple[Block, ...], out: Path, figures: Path | None = None) -> str:
    """Write what ``document.blocks`` has found, as ``render_leaderboard`` does; returns the text."""
    folder = figures if figures is not None else out.parent / "figures"
    link = Path(os.path.relpath(folder, out.parent)).as_posix()
    for block in content:
        if isinstance(block, Figure):
            write_atomically(folder / block.file, block.svg.encode("utf-8"))
    text = to_markdown(content, link)
    write_atomically(out, text.encode("utf-8"))
    return text


def to_markdown(content: tuple[Block, ...], figures: str) -> str:
    """The blocks as Markdown; ``figures`` is the folder of the figures as seen from the file."""
    parts = []
    for block, following in zip(content, (*content[1:], None), strict=True):
        in_list = isinstance(block, Text) and block.bullet and isinstance(following, Text) and following.bullet
        parts.append(_markdown(block, figures) + ("\n" if in_list else "\n\n"))
    return "".join(parts).rstrip("\n") + "\n"


def _markdown(block: Block, figures: str) -> str:
    match block:
        case Heading(level, text):
            return f"{'#' * level} {text}"
        case Text(text, bullet):
            return f"- {text}" if bullet else text
        case Code(text):
            return f"```sh\n{text}\n```"
        case Figure():
            return f"![{block.alt}]({figures}/{block.file})"
        case Table():
            return table_to_markdown(block)
