"""Tables and number formats. The same values give the same text, whatever the locale."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass

from eeg2speech.records.intervals import Interval
from eeg2speech.records.schema import MetricResult, Subset

NOTHING = "\N{EN DASH}"
"""What a cell without a value shows."""


@dataclass(frozen=True)
class Table:
    """Rows of texts under ``header``. Columns named in ``words`` are aligned left, the others, numbers, right."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Refuse a ragged table: it would show a number under another column's name."""
        if any(len(row) != len(self.header) for row in self.rows):
            raise ValueError(f"every row needs {len(self.header)} cells")


def number(value: float | None, decimals: int) -> str:
    """Fixed number of decimals; no negative zero; a dash for None."""
    if value is None:
        return NOTHING
    text = f"{value:.{decimals}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def with_interval(value: MetricResult | Interval | None, decimals: int) -> str:
    """``mean [low, high]``, or the mean with the reason why there is no interval."""
    if value is None or value.mean is None:
        return NOTHING
    note = value.no_interval if isinstance(value, MetricResult) else value.note
    if value.low is None or value.high is None:
        return f"{number(value.mean, decimals)} (no interval: {note})"
    return f"{number(value.mean, decimals)} [{number(value.low, decimals)}, {number(value.high, decimals)}]"


def with_count(subset: Subset | None, decimals: int) -> str:
    """``mean (n)`` of a subset of the segments."""
    return NOTHING if subset is None or subset.mean is None else f"{number(subset.mean, decimals)} ({subset.n})"


def p_text(p: float | None) -> str:
    """A probability; a dash for None."""
    if p is None:
        return NOTHING
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def metric_cell(result: MetricResult | None, interval: bool) -> str:
    """The mean, with its ``interval`` or without; '*' if segments are missing from it."""
    if result is None:
        return NOTHING
    text = with_interval(result, result.decimals) if interval else number(result.mean, result.decimals)
    return f"{text} *" if result.n_failed else text


def with_unit(label: str, unit: str) -> str:
    """A header with its unit."""
    return f"{label} ({unit})" if unit else label


def size(count: int) -> str:
    """A number of parameters: 950, 12.3 k, 4.56 M."""
    if count < 1_000:
        return str(count)
    return f"{count / 1e3:.1f} k" if count < 1_000_000 else f"{count / 1e6:.2f} M"


def table_to_markdown(table: Table) -> str:
    """The table in GitHub's Markdown."""
    rule = [":---" if name in table.words else "---:" for name in table.header]
    lines = [list(table.header), rule, *([_cell(text) for text in row] for row in table.rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def table_to_html(table: Table) -> str:
    """The table in HTML; a row's class is 'ref' (chance too) or 'incomplete' by its first cell."""
    words = [name in table.words for name in table.header]
    head = _html_row("th", table.header, words)
    classes = {"ref": ' class="ref"', "chance": ' class="ref"', NOTHING: ' class="incomplete"'}
    body = "\n".join(f"<tr{classes.get(row[0], '')}>{_html_row('td', row, words)}</tr>" for row in table.rows)
    return f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'


def text_to_html(text: str) -> str:
    """A line of text with `code` and [links](to) in it."""
    coded = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))
    return re.sub(r"\[([^\]]+)\]\(([^)\s]+)\)", r'<a href="\2">\1</a>', coded)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _html_row(tag: str, cells: tuple[str, ...], words: list[bool]) -> str:
    kinds = (' class="word"' if word else "" for word in words)
    return "".join(f"<{tag}{kind}>{text_to_html(cell)}</{tag}>" for cell, kind in zip(cells, kinds, strict=True))
