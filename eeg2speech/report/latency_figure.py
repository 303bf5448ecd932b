"""Figures of latency: cost curves, and quality against speed. The same records give the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from eeg2speech.records.latency import Growth, Latency
from eeg2speech.report.compare import Comparison
from eeg2speech.report.figures import axis_label, group_title, limits, palette, svg
from eeg2speech.report.latency import AXES, slope
from eeg2speech.report.results import Run
from eeg2speech.report.speed import latency_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

SIZE = (6.8, 4.4)
"""Inches."""
APART = 0.03
"""Least distance of two labels, as a share of the height."""
FAR = 5.0
"""How far below the median a point may lie, as a multiple of the best point's distance from it."""
MARKS = "osD^vP*X"
"""After the colours have all been used, the next mark."""


def growth_svg(latencies: Sequence[Latency], axis: str) -> str:
    """Time along an axis, both on logarithmic scales, a line a system; the legend has the fitted exponents."""
    found = [(latency, growth) for latency in latencies for growth in latency.growth if growth.axis == axis]
    return svg(lambda: _growth(found, axis))


def speed_canvas(comparison: Comparison, device: str) -> Canvas:
    """The headline metric of every ranked system against its real-time factor on a device."""
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=SIZE)
    axes = canvas.add_subplot()
    axes.set_xscale("log")
    points = speed_points(comparison, device)
    # What has failed altogether must not squeeze the others together; its row in the table says where it is.
    means = sorted(mean for *_, mean in points)
    middle = means[len(means) // 2]
    low = middle - FAR * (means[-1] - middle) if means[-1] > middle else means[0] - 1
    blue, orange, *_ = palette()
    for run, x, mean in points:
        colour = blue if run.system.uses_eeg else orange
        axes.plot([x], [mean], marker="o", markersize=6.5, color=colour, markeredgecolor="white", linestyle="none")
    axes.axvline(1.0, color="#555555", linewidth=1.0, linestyle=":")
    shown = [mean for *_, mean in points if mean > low] or [mean for *_, mean in points]
    axes.set_ylim(*limits(shown, comparison.group.facts(comparison.group.headline).unit))
    _label(axes, points)
    axes.set_xlabel(f"real-time factor, {device} (left of the dotted line a system keeps up); blue: given EEG")
    axes.set_ylabel(axis_label(comparison))
    axes.set_title(group_title(comparison), loc="left", fontsize=10, color="#333333")
    _bare(axes)
    return canvas


def speed_points(comparison: Comparison, device: str) -> list[tuple[Run, float, float]]:
    """Ranked runs with a record of latency on a device: real-time factor and mean of the headline metric."""
    found = []
    for run in comparison.ranking:
        latency = latency_of(comparison.latencies, run, device, comparison.group.task)
        result = comparison.result(run, comparison.group.headline)
        factor = None if latency is None else latency.standard.real_time_factor
        if factor is not None and result is not None and result.mean is not None:
            found.append((run, factor, result.mean))
    return found


def _label(axes: Axes, points: Sequence[tuple[Run, float, float]]) -> None:
    """Names to the right of the points, from the lowest up, moved up where they would cover each other."""
    low, high = axes.get_ylim()
    step, last = APART * (high - low), low - (high - low)
    for run, x, mean in sorted(points, key=lambda point: point[2]):
        if not low <= mean <= high:
            continue
        last = max(mean, last + step)
        axes.annotate(run.label, (x, mean), (x * 1.12, last), fontsize=7, va="center", color="#333333")


def _growth(found: Sequence[tuple[Latency, Growth]], axis: str) -> Canvas:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=SIZE)
    axes = canvas.add_subplot()
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    colours = palette()
    for number, (latency, growth) in enumerate(found):
        fitted = slope(growth, growth.seconds)
        name = latency.label if fitted is None else f"{latency.label}: {fitted.exponent:.2f}"
        mark = MARKS[number // len(colours) % len(MARKS)]
        colour = colours[number % len(colours)]
        axes.plot(growth.values, growth.seconds, marker=mark, markersize=4, linewidth=1.2, color=colour, label=name)
    values = sorted({value for _, growth in found for value in growth.values})
    axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.set_xlabel(AXES[axis])
    axes.set_ylabel(f"{found[0][1].what} (s)")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=7, title="fitted exponent")
    _bare(axes)
    return canvas


def _bare(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
