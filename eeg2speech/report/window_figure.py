"""The figure of accuracy against the length of the window: the same curves give the same bytes.

Dots are what was measured, with their intervals; lines are the model curves; a star is the working point of the minimal
expected switch duration (MESD).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from eeg2speech.errors import BadInput
from eeg2speech.metrics.window_curve import FisherDifference, NormalDifference
from eeg2speech.records.curves import FISHER, NORMAL, Curve, ModelCurve
from eeg2speech.records.schema import TRUE_EEG
from eeg2speech.report.figures import DOTTED, palette, svg
from eeg2speech.report.words import metric_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

SIZE, APART, REACH, STEPS = (6.4, 4.2), 4.0, 1.12, 200
"""Inches; points between the dots of two curves; free share beside the lengths; points of a model curve."""
DASHES: Any = {NORMAL: "-", FISHER: "--"}
FORMS = {NORMAL: "fit: normal difference", FISHER: "prediction: correlations at one length"}
SHARED = ("study", "split", "protocol", "metric", "windows")
"""What curves must have in common to stand in one figure."""


def window_svg(curves: Sequence[Curve]) -> str:
    """Curves of several systems, or controls, as SVG text.

    Raises:
        BadInput: no curves, more than there are colours, or curves of different data, splits, protocols, metrics or
            lengths.
    """
    _check(curves)
    return svg(lambda: _draw(curves))


def _draw(curves: Sequence[Curve]) -> Canvas:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=SIZE)
    axes = canvas.add_subplot()
    _scale(axes, curves[0])
    axes.axhline(0.5, **DOTTED)
    for place, (curve, colour) in enumerate(zip(curves, palette(), strict=False)):
        for model in curve.models:
            _model(axes, curve, model, colour)
        _points(axes, curve, colour, APART * (place - (len(curves) - 1) / 2))
        _star(axes, curve, colour)
    _dress(axes, curves)
    return canvas


def _scale(axes: Axes, curve: Curve) -> None:
    from matplotlib.ticker import NullLocator

    windows = curve.windows
    axes.set_xscale("log", base=2)
    axes.set_xlim(windows[0] / REACH, windows[-1] * REACH)
    axes.set_xticks(list(windows), [f"{window:g}" for window in windows])
    axes.xaxis.set_minor_locator(NullLocator())


def _points(axes: Axes, curve: Curve, colour: str, side: float) -> None:
    """Dots with their intervals, some points to the side, as those of two curves would else hide each other."""
    from matplotlib.transforms import offset_copy

    aside = offset_copy(axes.transData, axes.get_figure(root=True), x=side, units="points")
    options: dict[str, Any] = {"color": colour, "transform": aside, "zorder": 3}
    for point in curve.points:
        if point.low is not None and point.high is not None:
            axes.plot([point.window] * 2, [point.low, point.high], linewidth=2.0, solid_capstyle="round", **options)
        if point.accuracy is not None:
            axes.plot([point.window], [point.accuracy], marker="o", markersize=6.5, markeredgecolor="white", **options)


def _model(axes: Axes, curve: Curve, model: ModelCurve, colour: str) -> None:
    """Between the lengths as well, from the parameters that the curve keeps."""
    if model.accuracy is None:
        return
    build: Any = {NORMAL: NormalDifference, FISHER: FisherDifference}[model.form]
    lengths = np.geomspace(curve.windows[0], curve.windows[-1], STEPS)
    predicted = build(**model.parameters).accuracy(lengths)
    axes.plot(lengths, predicted, color=colour, linewidth=1.1, linestyle=DASHES[model.form], zorder=2)


def _star(axes: Axes, curve: Curve, colour: str) -> None:
    at = curve.switching
    if at.window is not None and at.accuracy is not None:
        options: dict[str, Any] = {"markeredgecolor": "#333333", "markeredgewidth": 0.7, "clip_on": False, "zorder": 4}
        axes.plot([at.window], [at.accuracy], marker="*", markersize=13, color=colour, **options)


def _dress(axes: Axes, curves: Sequence[Curve]) -> None:
    first = curves[0]
    axes.set_xlabel("window, s")
    axes.set_ylabel(f"{metric_label(first.metric)}, 95 % interval")
    axes.set_ylim(min(0.4, *(_lowest(curve) for curve in curves)) - 0.02, 1.02)
    title = f"{first.study.name}, {first.split.kind} split, {first.protocol.name}-{first.protocol.version}"
    axes.set_title(f"{title}\n{first.study.data_note}", loc="left", fontsize=10, color="#333333")
    axes.grid(axis="x", visible=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(handles=_handles(curves), loc="upper left", bbox_to_anchor=(0, -0.14), frameon=False, fontsize=8)


def _lowest(curve: Curve) -> float:
    return min((end for point in curve.points for end in (point.accuracy, point.low) if end is not None), default=0.5)


def _handles(curves: Sequence[Curve]) -> list[Any]:
    from matplotlib.lines import Line2D

    named = [
        Line2D([], [], color=colour, marker="o", linewidth=2, label=f"{_label(curve)}; {_switch_text(curve)}")
        for curve, colour in zip(curves, palette(), strict=False)
    ]
    forms = [form for form in FORMS if any(_predicts(curve, form) for curve in curves)]
    lines = [Line2D([], [], color="#555555", linestyle=DASHES[form], label=FORMS[form]) for form in forms]
    star: dict[str, Any] = {"marker": "*", "linestyle": "none", "color": "#999999", "markeredgecolor": "#333333"}
    stars = [Line2D([], [], label="working point of the MESD", **star)] if any(_switches(c) for c in curves) else []
    return [*named, *lines, *stars, Line2D([], [], label="chance", **DOTTED)]


def _label(curve: Curve) -> str:
    return curve.system if curve.control == TRUE_EEG else f"{curve.system}, {curve.control}"


def _switch_text(curve: Curve) -> str:
    at = curve.switching
    if at.seconds is None:
        return "no MESD"
    return f"MESD {at.seconds:.1f} s (windows of {at.window:.1f} s, {at.levels} levels)"


def _switches(curve: Curve) -> bool:
    return curve.switching.seconds is not None


def _predicts(curve: Curve, form: str) -> bool:
    model = curve.model(form)
    return model is not None and model.accuracy is not None


def _check(curves: Sequence[Curve]) -> None:
    if not 1 <= len(curves) <= len(palette()):
        raise BadInput("window figure", "curves", f"1 to {len(palette())}", len(curves))
    for name in SHARED:
        found = [getattr(curve, name) for curve in curves]
        if any(value != found[0] for value in found):
            raise BadInput("window figure", name, "the same of all curves", f"{len(found)} that differ")
