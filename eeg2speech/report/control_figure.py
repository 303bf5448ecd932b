"""The figure of a control report: what each control takes away. The same records give the same bytes."""

from __future__ import annotations

from math import nan
from typing import TYPE_CHECKING, Any

from eeg2speech.records.intervals import Interval
from eeg2speech.report.compare import Comparison
from eeg2speech.report.control_tables import controls_of
from eeg2speech.report.figures import DOTTED, ROW, palette, svg
from eeg2speech.report.judgement import measures_of
from eeg2speech.report.results import Run
from eeg2speech.report.tables import with_unit
from eeg2speech.report.words import metric_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas


def drops_svg(comparison: Comparison, run: Run) -> str:
    """Drops of the verdict's metrics, a panel each and a row a control, as SVG text."""
    return svg(lambda: _draw(comparison, run))


def _draw(comparison: Comparison, run: Run) -> Canvas:
    from matplotlib.figure import Figure as Canvas

    group, controls = comparison.group, controls_of(run)
    names = [measure.name for measure in measures_of(group)]
    canvas = Canvas(figsize=(1.8 + 2.7 * len(names), 1.2 + 0.8 * ROW * len(controls)), layout="constrained")
    grid = canvas.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for axes, name in zip(grid, names, strict=True):
        drops = [comparison.drop(run, control, name) for control in controls]
        _panel(axes, with_unit(f"drop of {metric_label(name)}", group.facts(name).unit), drops)
    grid[0].set_yticks(range(len(controls)), list(controls))
    grid[0].set_ylim(len(controls) - 0.5, -0.5)
    title = f"{run.label}: true EEG minus control, 95 % interval; dotted: no drop"
    canvas.suptitle(f"{title}\n{group.key.title}; {group.first.study.data_note}", fontsize=8, color="#333333")
    return canvas


def _panel(axes: Axes, label: str, drops: list[Interval | None]) -> None:
    """Intervals as one line with gaps, and means as one set of markers: a line each would double the file."""
    blue, *_ = palette()
    known = [(row, drop) for row, drop in enumerate(drops) if drop is not None and drop.mean is not None]
    ends = [(row, end) for row, drop in known for end in (drop.low, drop.high, None)]
    options: dict[str, Any] = {"color": blue, "zorder": 2}
    axes.axvline(0.0, **DOTTED)
    axes.plot([nan if end is None else end for _, end in ends], [row for row, _ in ends], linewidth=2.0, **options)
    means, rows = [drop.mean or 0.0 for _, drop in known], [row for row, _ in known]
    axes.plot(means, rows, marker="o", markersize=6.0, linestyle="none", markeredgecolor="white", **options)
    axes.set_xlabel(label, fontsize=9)
    axes.locator_params(axis="x", nbins=4)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
