"""Figures as SVG: the same numbers give the same bytes (with one version of matplotlib).

Text stays text, identifiers come from a fixed salt, and no date is written.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from eeg2speech.records.schema import TRUE_EEG, MetricResult
from eeg2speech.report.compare import Comparison, controls_runs
from eeg2speech.report.results import Run
from eeg2speech.report.sections import metric_header
from eeg2speech.report.tables import with_interval
from eeg2speech.report.words import EXTRACTION, GENERATION, RETRIEVAL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas
    from matplotlib.transforms import BboxBase

ROW, COLUMNS, GREY = 0.34, 3, "#8a8a8a"
"""Inches a row; panels side by side; colour of what is not ranked."""
PANEL, BESIDE, BELOW = 2.4, 0.25, 0.6
"""Inches: width of a panel, what is free beside it, and what its title and its axis take below another."""
DOTTED: Any = {"color": "#555555", "linewidth": 1.0, "linestyle": ":", "zorder": 1}
"""How chance is drawn."""
_PLACES = re.compile(r' (?:d|x|y|width|height|viewBox|transform)="[^"]*"')
"""Attributes of an SVG that say where something is."""
_LONG, _UNTURNED = re.compile(r"\d+\.\d{3,}"), re.compile(r' transform="rotate\(-?0 [^"]*\)"')
REACH = 0.6
"""How far an axis goes beyond the ranked systems, as a share of their range; what lies further gets an arrow."""
ROOM = 0.08
"""Room around all that an axis shows, as a share of their range."""
PADDING = 0.1
"""Inches around a figure."""
SCALE = 0.8 * 1.1
"""Of text and lines: seaborn's context "paper", and a tenth more for text."""
TICKS = {
    f"{axis}tick.{name}": value
    for axis in ("x", "y")
    for name, value in {
        "color": ".15",
        "labelsize": 11 * SCALE,
        "major.size": 6 * 0.8,
        "major.width": 1.25 * 0.8,
        "minor.size": 4 * 0.8,
        "minor.width": 1 * 0.8,
    }.items()
}
STYLE: Any = {
    # Points an inch of an SVG: text is measured as it will be drawn.
    "figure.dpi": 72,
    "svg.hashsalt": "eeg2speech",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Helvetica", "Arial"],
    "font.size": 12 * SCALE,
    "text.color": ".15",
    "axes.axisbelow": True,
    "axes.edgecolor": "#c0c0c0",
    "axes.grid": True,
    "axes.labelcolor": "#333333",
    "axes.labelsize": 12 * SCALE,
    "axes.linewidth": 1.25 * 0.8,
    "axes.titlesize": 12 * SCALE,
    # Where it would come anyway: to find out measures every label of every axis, each time anew.
    "axes.titley": 1.0,
    "grid.color": "#e6e6e6",
    "legend.fontsize": 11 * SCALE,
    "legend.title_fontsize": 12 * SCALE,
    "lines.linewidth": 1.5 * 0.8,
    "lines.markersize": 6 * 0.8,
    "lines.solid_capstyle": "round",
    "patch.edgecolor": "w",
    "patch.force_edgecolor": True,
    "patch.linewidth": 1 * 0.8,
    "xtick.bottom": False,
    "ytick.left": False,
    **TICKS,
}
"""seaborn's theme "whitegrid" in the context "paper", with lighter lines; written out, for to import seaborn takes
longer than to draw a figure."""
COLOURS = ("#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#ca9161", "#fbafe4", "#949494", "#ece133", "#56b4e9")
"""seaborn's palette "colorblind"."""

FRACTION = "fraction"
"""Unit of what lies between 0 and 1: the axis ends there."""
GIVEN_MORE = {EXTRACTION: "clean speech", RETRIEVAL: "more than candidates", GENERATION: "true speech"}
"""What floors and ceilings of each task are given."""


class Dot(NamedTuple):
    """A point with its interval; ``right`` is written at the right-hand side."""

    label: str
    result: MetricResult
    colour: str
    right: str = ""


def figure_svg(comparison: Comparison, kind: str, device: str = "") -> str:
    """A figure of a comparison as SVG text: 'systems', 'controls' or 'speed', of a ``device``."""
    return svg(lambda: draw(comparison, kind, device))


def svg(make: Callable[[], Canvas]) -> str:
    """What ``make`` draws, in this module's style, as SVG text."""
    with _style():
        canvas = make()
        # Told "tight", matplotlib draws everything once more, without a trace, in case that moves something.
        box = _extent(canvas).padded(PADDING) if canvas.get_layout_engine() is None else "tight"
        sink = io.StringIO()
        canvas.savefig(sink, format="svg", metadata={"Date": None, "Creator": "eeg2speech"}, bbox_inches=box)
    return "\n".join(line.rstrip() for line in _compact(sink.getvalue()).splitlines()) + "\n"


def _compact(text: str) -> str:
    """Places in hundredths of a point, which no eye tells from matplotlib's millionths, and no text turned by nothing:
    an eighth less to keep. What is written in the figure is left as it is."""
    places = _PLACES.sub(lambda found: _LONG.sub(_hundredths, found[0]), text)
    return _UNTURNED.sub("", places)


def _hundredths(found: re.Match[str]) -> str:
    return f"{float(found[0]):.2f}".rstrip("0").rstrip(".")


def _extent(canvas: Canvas) -> BboxBase:
    """What it covers, in inches. matplotlib's own renderer for that, by way of an exception, would keep alive all that
    the callers hold, such as thousands of records."""
    from matplotlib.backends.backend_svg import RendererSVG

    width, height = canvas.get_size_inches() * canvas.dpi
    measuring = RendererSVG(width, height, io.StringIO())  # type: ignore[no-untyped-call]
    return canvas.get_tightbbox(measuring)


def draw(comparison: Comparison, kind: str, device: str = "") -> Canvas:
    """The figure as matplotlib has it."""
    if kind == "speed":
        from eeg2speech.report.latency_figure import speed_canvas

        return speed_canvas(comparison, device)
    return {"systems": _systems, "controls": _controls}[kind](comparison)


@contextmanager
def _style() -> Iterator[None]:
    import matplotlib

    with matplotlib.rc_context():
        # From the defaults: a user's own matplotlibrc must not show in the bytes.
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def palette() -> list[str]:
    """Colours of what is given EEG, of what is not, and more."""
    return [*COLOURS]


def _systems(comparison: Comparison) -> Canvas:
    """The headline metric of every complete system: ranked ones coloured by whether they are given EEG, others grey."""
    from matplotlib.figure import Figure as Canvas

    ranked = _dots(comparison, comparison.ranking)
    dots = [*ranked, *_dots(comparison, comparison.references)]
    canvas = Canvas(figsize=(7.2, 1.1 + ROW * len(dots)))
    axes = canvas.add_subplot()
    chance = _chance(comparison)
    _limit(axes, ranked or dots, chance, comparison.group.facts(comparison.group.headline).unit)
    _chance_line(axes, chance)
    _whiskers(axes, dots)
    if 0 < len(ranked) < len(dots):
        axes.axhline(len(ranked) - 0.5, color="#c0c0c0", linewidth=0.8)
    axes.set_xlabel(axis_label(comparison))
    axes.set_title(group_title(comparison), loc="left", fontsize=10, color="#333333")
    _legend(axes, dots, chance, comparison.group.task)
    return canvas


def _controls(comparison: Comparison) -> Canvas:
    """A panel a system that is given EEG, a row a control; dashed is the score with the true EEG, dotted is chance.

    Panels span the same range, so that a drop looks as large as it is. Systems that are given clean speech have other
    ranges and are left to the tables, unless there are no others.
    """
    runs, controls = controls_runs(comparison), comparison.group.controls
    canvas, panels = _panels(len(runs), ROW * 0.8 * len(controls))
    rows = [_control_dots(comparison, run) for run in runs]
    chance = _chance(comparison)
    ranges = [_range(dots, chance) for dots in rows]
    span = max(high - low for low, high in ranges) or 1.0
    for place, (axes, run, dots, (low, high)) in enumerate(zip(panels, runs, rows, ranges, strict=True)):
        axes.set_xlim((low + high) / 2 - 0.6 * span, (low + high) / 2 + 0.6 * span)
        _chance_line(axes, chance)
        _control_panel(axes, run.label, dots, labelled=place % COLUMNS == 0)
    height = canvas.get_size_inches()[1]
    canvas.suptitle(group_title(comparison), y=1 + 0.35 / height, va="bottom", fontsize=10, color="#333333")
    lines = "dashed: with the true EEG" + ("; dotted: chance" if chance is not None else "")
    label = f"{axis_label(comparison)}; {lines}"
    canvas.supxlabel(label, y=-0.4 / height, va="top", fontsize=9, color="#333333")
    return canvas


def _panels(count: int, height: float) -> tuple[Canvas, list[Axes]]:
    """Panels of a ``height`` in inches, side by side and in rows; what is written around them lies outside the figure.

    Placed by hand: all are alike, and matplotlib's layout engine takes as long to find that out as it does to draw.
    """
    from matplotlib.figure import Figure as Canvas

    columns = min(COLUMNS, count)
    rows = -(-count // columns)
    inches = columns * (PANEL + BESIDE) - BESIDE, rows * (height + BELOW) - BELOW
    edges = {"left": 0.0, "right": 1.0, "bottom": 0.0, "top": 1.0}
    canvas = Canvas(figsize=inches)
    grid = canvas.add_gridspec(rows, columns, wspace=BESIDE / PANEL, hspace=BELOW / height, **edges)
    return canvas, [canvas.add_subplot(grid[divmod(place, columns)]) for place in range(count)]


def _control_dots(comparison: Comparison, run: Run) -> list[Dot]:
    blue, orange, *_ = palette()
    results = {name: comparison.result(run, comparison.group.headline, name) for name in comparison.group.controls}
    return [Dot(name, result, blue if name == TRUE_EEG else orange) for name, result in results.items() if result]


def _control_panel(axes: Axes, title: str, dots: list[Dot], labelled: bool) -> None:
    for dot in dots:
        if dot.label == TRUE_EEG and dot.result.mean is not None:
            axes.axvline(dot.result.mean, color=dot.colour, linewidth=0.9, linestyle="--", zorder=1)
    _whiskers(axes, dots, labelled)
    axes.set_title(title, loc="left", fontsize=9, color="#333333")


def _dots(comparison: Comparison, runs: tuple[Run, ...]) -> list[Dot]:
    blue, orange, *_ = palette()
    dots = []
    for run in runs:
        result = comparison.result(run, comparison.group.headline)
        if result is not None:
            colour = GREY if not run.ranked else blue if run.system.uses_eeg else orange
            dots.append(Dot(run.label, result, colour, with_interval(result, result.decimals)))
    return dots


def _chance(comparison: Comparison) -> float | None:
    return comparison.group.facts(comparison.group.headline).chance


def _chance_line(axes: Axes, chance: float | None) -> None:
    if chance is not None:
        axes.axvline(chance, **DOTTED)


def _range(dots: list[Dot], chance: float | None = None) -> tuple[float, float]:
    """From the lowest to the highest end of all intervals, and chance if there is one."""
    values = [value for _, result, *_ in dots for value in (result.mean, result.low, result.high)]
    ends = [end for end in (*values, chance) if end is not None]
    return (min(ends), max(ends)) if ends else (0.0, 0.0)


def _limit(axes: Axes, dots: list[Dot], chance: float | None, unit: str) -> None:
    """Fit the axis to ``dots`` and a share of their range: an oracle far off must not squeeze the systems together."""
    axes.set_xlim(*_around(_range(dots, chance), REACH, unit))


def limits(values: Sequence[float], unit: str) -> tuple[float, float]:
    """Ends of an axis that shows all values, with a little room; what is a fraction ends at 0 and 1."""
    return _around(values, ROOM, unit)


def _around(values: Sequence[float], share: float, unit: str) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = share * (high - low) or 1.0
    left, right = low - margin, high + margin
    return (max(left, -0.03), min(right, 1.03)) if unit == FRACTION else (left, right)


def _whiskers(axes: Axes, dots: list[Dot], labelled: bool = True) -> None:
    """A row a dot, ``labelled`` on the left."""
    draw_intervals(axes, dots)
    for row, dot in enumerate(dots):
        if dot.right:
            text: Any = {"transform": axes.get_yaxis_transform(), "va": "center", "fontsize": 8, "color": "#555555"}
            axes.text(1.02, row, dot.right, **text)
    axes.set_ylim(len(dots) - 0.5, -0.5)
    if labelled:
        axes.set_yticks(range(len(dots)), [dot.label for dot in dots])
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
    else:
        axes.yaxis.set_visible(False)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def draw_intervals(axes: Axes, dots: list[Dot]) -> None:
    """Means with their intervals, or arrows at the edges where means lie outside the axis.

    All as one set of lines and one of markers a kind: a line each takes three times as long.
    """
    left, right = axes.get_xlim()
    rows, colours = np.arange(len(dots)), np.array([dot.colour for dot in dots])
    results = [(dot.result.mean, dot.result.low, dot.result.high) for dot in dots]
    means, lows, highs = np.array(results, np.float64).reshape(-1, 3).T
    inside = (left <= means) & (means <= right)
    wide = inside & ~np.isnan(lows)
    axes.hlines(rows[wide], lows[wide], highs[wide], colors=[*colours[wide]], linewidth=2.0, capstyle="round", zorder=3)
    kinds: tuple[tuple[Any, Any, float, dict[str, Any]], ...] = (
        (inside, "o", 6.5, {"edgecolors": "white"}),
        (means < left, "<", 7.0, {"clip_on": False}),
        (means > right, ">", 7.0, {"clip_on": False}),
    )
    for which, marker, points, options in kinds:
        if which.any():
            x, looks = np.clip(means[which], left, right), {"marker": marker, "linewidths": 0.8, "zorder": 3, **options}
            axes.scatter(x, rows[which], s=points**2, c=colours[which], **looks)


def group_title(comparison: Comparison) -> str:
    """The group and what its data is: a figure is passed on without the page around it."""
    return f"{comparison.group.key.title}\n{comparison.group.first.study.data_note}"


def axis_label(comparison: Comparison) -> str:
    """The headline metric, its direction and what its intervals are."""
    headline = comparison.group.headline
    facts = comparison.group.facts(headline)
    direction = "higher is better" if facts.higher_is_better else "lower is better"
    return f"{metric_header(headline, facts)}, {direction}, 95 % interval"


def _legend(axes: Axes, dots: list[Dot], chance: float | None, task: str) -> None:
    from matplotlib.lines import Line2D

    blue, orange, *_ = palette()
    names = {blue: "given EEG", orange: "not given EEG", GREY: f"floor or ceiling, given {GIVEN_MORE[task]}"}
    used = [colour for colour in names if any(dot.colour == colour for dot in dots)]
    handles = [Line2D([], [], color=colour, marker="o", linewidth=2, label=names[colour]) for colour in used]
    handles += [] if chance is None else [Line2D([], [], label="chance", **DOTTED)]
    # Below the axis in inches, not in shares of it: figures with few and with many rows must look alike.
    below = -0.55 / (axes.get_position().height * axes.get_figure(root=True).get_size_inches()[1])  # type: ignore[union-attr]
    axes.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(0, below), ncols=len(handles), frameon=False, fontsize=8
    )
