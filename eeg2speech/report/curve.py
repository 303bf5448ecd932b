"""The figure of an ablation: a score against what varies, with the true EEG and with noise in its place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from eeg2speech.records.schema import TRUE_EEG, MetricResult
from eeg2speech.report.compare import Comparison
from eeg2speech.report.figures import DOTTED, axis_label, group_title, palette
from eeg2speech.report.results import Run
from eeg2speech.report.variation import Variation
from eeg2speech.report.words import NOISE_CUE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

SIZE, APART, MARGIN = (6.4, 3.9), 2.5, 0.08
"""Inches; points by which the two dots of a value stand apart; free share of the axes around all dots."""


class _Dot(NamedTuple):
    x: float
    mean: float
    ends: tuple[float, float] | None


def curve(comparison: Comparison, variation: Variation, runs: Sequence[Run]) -> Canvas:
    """The headline metric of complete runs; numbers have a scale and are joined by lines, words stand side by side."""
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=SIZE)
    axes = canvas.add_subplot()
    places = _places(variation, runs)
    _scale(axes, variation, places)
    blue, orange, *_ = palette()
    ends: list[float] = []
    for control, colour, side in ((TRUE_EEG, blue, -APART), (NOISE_CUE, orange, APART)):
        dots = _dots(comparison, control, runs, places)
        _series(axes, dots, colour, side, joined=variation.numbers is not None)
        ends += [end for dot in dots for end in (dot.mean, *(dot.ends or ()))]
    chance = comparison.group.facts(comparison.group.headline).chance
    if chance is not None:
        axes.axhline(chance, **DOTTED)
        ends.append(chance)
    axes.set_ylim(*_around(ends))
    _dress(axes, comparison, variation, chance)
    return canvas


def _dots(comparison: Comparison, control: str, runs: Sequence[Run], places: dict[str, float]) -> list[_Dot]:
    headline = comparison.group.headline
    found = [_dot(places[run.system.name], comparison.result(run, headline, control)) for run in runs]
    return sorted(dot for dot in found if dot is not None)


def _dot(x: float, result: MetricResult | None) -> _Dot | None:
    if result is None or result.mean is None:
        return None
    ends = None if result.low is None or result.high is None else (result.low, result.high)
    return _Dot(x, result.mean, ends)


def _places(variation: Variation, runs: Sequence[Run]) -> dict[str, float]:
    """Where each system stands: at its number, or in the order of the values."""
    names = [name for name in variation.values if any(run.system.name == name for run in runs)]
    numbers = variation.numbers or {name: float(place) for place, name in enumerate(names)}
    return {name: numbers[name] for name in names}


def _scale(axes: Axes, variation: Variation, places: dict[str, float]) -> None:
    from matplotlib.ticker import NullLocator

    if variation.logarithmic:
        axes.set_xscale("log", base=2)
        low, high = min(places.values()), max(places.values())
        reach = (high / low) ** MARGIN if high > low else 2.0
        axes.set_xlim(low / reach, high * reach)
    else:
        axes.set_xlim(*_around(list(places.values())))
    axes.set_xticks(list(places.values()), [variation.text(name) for name in places])
    axes.xaxis.set_minor_locator(NullLocator())


def _series(axes: Axes, dots: Sequence[_Dot], colour: str, side: float, joined: bool) -> None:
    """Dots with their intervals, some points to the side, as those of two series would else hide each other."""
    from matplotlib.transforms import offset_copy

    aside = offset_copy(axes.transData, axes.get_figure(root=True), x=side, units="points")
    options: dict[str, Any] = {"color": colour, "transform": aside, "zorder": 3}
    if joined:
        axes.plot([dot.x for dot in dots], [dot.mean for dot in dots], linewidth=0.9, **options | {"zorder": 2})
    for x, mean, ends in dots:
        if ends is not None:
            axes.plot([x, x], list(ends), linewidth=2.0, solid_capstyle="round", **options)
        axes.plot([x], [mean], marker="o", markersize=6.5, markeredgecolor="white", **options)


def _around(ends: Sequence[float]) -> tuple[float, float]:
    """Limits of an axis with some room at both ends."""
    low, high = (min(ends), max(ends)) if ends else (0.0, 0.0)
    room = MARGIN * (high - low) or 1.0
    return low - room, high + room


def _dress(axes: Axes, comparison: Comparison, variation: Variation, chance: float | None) -> None:
    from matplotlib.lines import Line2D

    blue, orange, *_ = palette()
    axes.set_xlabel(variation.header)
    axes.set_ylabel(axis_label(comparison), fontsize=9)
    axes.set_title(group_title(comparison), loc="left", fontsize=10, color="#333333")
    axes.grid(axis="x", visible=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    series = ((blue, "with the true EEG"), (orange, "with noise in its place"))
    handles = [Line2D([], [], color=colour, marker="o", linewidth=2, label=label) for colour, label in series]
    handles += [] if chance is None else [Line2D([], [], label="chance", **DOTTED)]
    axes.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(0, -0.16), ncols=len(handles), frameon=False, fontsize=8
    )
