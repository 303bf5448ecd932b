"""From records to what people read: the leaderboard, its figures and the page. Imports no torch."""

from eeg2speech.report.leaderboard import render_leaderboard
from eeg2speech.report.page import render_page

__all__ = ["render_leaderboard", "render_page"]
