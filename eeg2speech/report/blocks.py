"""What pages are made of: blocks that Markdown and HTML can either write."""

from __future__ import annotations

from dataclasses import dataclass

from eeg2speech.report.tables import Table


@dataclass(frozen=True)
class Heading:
    """A heading; level 1 is the title."""

    level: int
    text: str


@dataclass(frozen=True)
class Text:
    """A paragraph, or with ``bullet`` an item of a list; `code` between backticks."""

    text: str
    bullet: bool = False


@dataclass(frozen=True)
class Code:
    """Lines for the shell."""

    text: str


@dataclass(frozen=True)
class Figure:
    """A figure as SVG text, the name of its file, and what is said in its place where it cannot be seen."""

    file: str
    svg: str
    alt: str


Block = Heading | Text | Code | Figure | Table
