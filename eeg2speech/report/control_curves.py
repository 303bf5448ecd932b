"""The curves of accuracy against the length of the window that belong to a run, and what they say.

Curves lie in a store of their own, ``<results>/curves``. One that was measured with other weights or on other data is
told and not shown: it would be another system's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from eeg2speech.records.curves import FISHER, NORMAL, Curve, CurvePoint, CurveStore, ModelCurve
from eeg2speech.records.schema import TRUE_EEG, Record
from eeg2speech.report.results import Run
from eeg2speech.report.tables import NOTHING, Table, number
from eeg2speech.report.window_figure import SHARED
from eeg2speech.report.words import metric_label

CURVES = "curves"
"""Folder of the store of curves, beside the records."""
MODELS = {NORMAL: "model (normal difference)", FISHER: "model (from correlations)"}
"""Headers of the model curves."""
DECIMALS = 3
SWITCHING = "Minimal expected switch duration (Geirnaert et al. 2020, doi:10.1109/TNSRE.2019.2952724)"


@dataclass(frozen=True)
class Curves:
    """Curves of a run, the true EEG and the first seed first, and a note on each that is not shown."""

    shown: tuple[Curve, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def first(self) -> Curve | None:
        """The curve with the true EEG; None if there is none."""
        return next((curve for curve in self.shown if curve.control == TRUE_EEG), None)

    @property
    def together(self) -> tuple[Curve, ...]:
        """Those of the first seed that can share a figure with the first of them."""
        head = self.shown[0]
        return tuple(
            curve
            for curve in self.shown
            if curve.seed == head.seed and all(getattr(curve, name) == getattr(head, name) for name in SHARED)
        )


def read_curves(results: Path) -> tuple[Curve, ...]:
    """All curves below ``results``; empty if there are none. Raises BadInput for one that is broken."""
    return CurveStore(results / CURVES).read_all()


def curves_of(run: Run, curves: Iterable[Curve]) -> Curves:
    """The curves of a run: of the same protocol, study, split, system and seed, and of the same weights and data."""
    records = {record.unit._replace(control=""): record for record in run.every_record()}
    about = [(curve, records.get(curve.unit._replace(control=""))) for curve in curves]
    found = [(curve, _problem(curve, record)) for curve, record in about if record is not None]
    shown = [curve for curve, problem in found if problem is None]
    notes = tuple(
        f"A curve (`{curve.control}`, seed {curve.seed}) is not shown: {told}." for curve, told in found if told
    )
    return Curves(tuple(sorted(shown, key=lambda each: (each.control != TRUE_EEG, each.seed, each.control))), notes)


def curve_title(curve: Curve) -> str:
    """Which of the curves it is, and how its windows were cut."""
    cut = f"at most {curve.per_span} windows of each length in a test trial"
    return f"`{curve.control}`, seed {curve.seed}, {cut}"


def curve_table(curve: Curve) -> Table:
    """Accuracy by length, with its interval, beside what the model curves give."""
    models = [model for form in MODELS if (model := curve.model(form)) is not None and model.accuracy is not None]
    header = ("window (s)", "windows", "failed", metric_label(curve.metric), *(MODELS[model.form] for model in models))
    rows = tuple(_row(place, point, models) for place, point in enumerate(curve.points))
    return Table(header, rows)


def curve_lines(curve: Curve) -> tuple[str, ...]:
    """The minimal expected switch duration with its working point, and what is to be said of each model curve."""
    lines = [f"{SWITCHING}: {_mesd(curve)}"]
    for model in curve.models:
        told = ", ".join(f"{name} {value:.4g}" for name, value in sorted(model.parameters.items()))
        parts = [part for part in (told, model.note) if part]
        lines.append(f"{MODELS[model.form]}: {'; '.join(parts) or 'no parameters'}.")
    return tuple(lines)


def mesd_cell(curves: Curves) -> str:
    """The MESD with the true EEG, for a cell."""
    seconds = None if curves.first is None else curves.first.switching.seconds
    return NOTHING if seconds is None else f"{seconds:.1f} s"


def _mesd(curve: Curve) -> str:
    at = curve.switching
    note = f" {at.note[:1].upper()}{at.note[1:]}." if at.note else ""
    if at.seconds is None:
        return f"none.{note}"
    point = f"windows of {at.window:.2g} s, accuracy {number(at.accuracy, DECIMALS)}, {at.levels} levels of gain"
    comfort = f"the gain is at least {at.comfort:g} for {at.confidence:.0%} of the time"
    return f"**{at.seconds:.1f} s**, at {point}; {comfort}.{note}"


def _row(place: int, point: CurvePoint, models: Sequence[ModelCurve]) -> tuple[str, ...]:
    predicted = (number(model.accuracy[place], DECIMALS) for model in models if model.accuracy is not None)
    return (f"{point.window:g}", str(point.n), str(point.n_failed), _accuracy(point), *predicted)


def _accuracy(point: CurvePoint) -> str:
    if point.low is None or point.high is None:
        note = f" (no interval: {point.no_interval})" if point.accuracy is not None else ""
        return number(point.accuracy, DECIMALS) + note
    ends = f"[{number(point.low, DECIMALS)}, {number(point.high, DECIMALS)}]"
    return f"{number(point.accuracy, DECIMALS)} {ends}"


def _problem(curve: Curve, record: Record) -> str | None:
    """Why a curve is not of the run of ``record``; None if it is."""
    pairs = {
        "weights": (curve.checkpoint_hash, record.system.checkpoint_hash),
        "study's revision": (curve.study.revision, record.study.revision),
        "manifest": (curve.split.manifest_hash, record.split.manifest_hash),
    }
    for name, (found, expected) in pairs.items():
        if found != expected:
            return f"its {name} {'are' if name == 'weights' else 'is'} `{found}`, the record's `{expected}`"
    return None
