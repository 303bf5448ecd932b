"""Whether a committed leaderboard is what its records give today."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from eeg2speech.report.leaderboard import render_leaderboard
from eeg2speech.team import ALONE, Team


def is_stale(records_root: Path, leaderboard: Path, figures: Path, team: Team = ALONE) -> bool:
    """Render into a temporary folder and compare: the text to the byte, and the names of the figures.

    The figures' bytes depend on matplotlib's version, which is not part of what they say. The ``team``
    shares the groups.
    """
    with tempfile.TemporaryDirectory() as name:
        # Links in the text are relative, so the temporary copy must lie as the real one does.
        relative = os.path.relpath(figures, leaderboard.parent)
        records = Path(os.path.relpath(records_root, leaderboard.parent)).as_posix()
        out = Path(name) / "a" / leaderboard.name
        text = render_leaderboard(records_root, out, figures=out.parent / relative, records=records, team=team)
        drawn = {path.name for path in (out.parent / relative).glob("*.svg")}
    there = {path.name for path in figures.glob("*.svg")}
    return not leaderboard.exists() or leaderboard.read_text(encoding="utf-8") != text or not drawn <= there
