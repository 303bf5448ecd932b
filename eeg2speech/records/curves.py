"""Curves: how often a system is right about the attended talker, against the length of the window it is given.

A curve is one JSON document, with the score of every window in Parquet beside it, a row a window: its ``duration`` is
the length. Both lie where a record of the same unit of work would lie, under a root of their own. Numbers are finite or
null, never NaN; what could not be computed has a reason in its place.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from eeg2speech.errors import BadInput
from eeg2speech.records.files import content_hash, write_atomically
from eeg2speech.records.schema import CodeRef, Count, Name, ProtocolRef, SplitRef, StudyRef, refusal
from eeg2speech.records.scores import REASON, from_parquet, to_parquet
from eeg2speech.records.unit import Unit

if TYPE_CHECKING:
    import pandas as pd

CURVE_SCHEMA_VERSION = 1
NORMAL, FISHER = "normal_difference", "fisher_difference"
"""Forms of the model curve, as ``eeg2speech.metrics.window_curve`` has them."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class CurvePoint(_Part):
    """What was measured at one length."""

    window: float = Field(gt=0, description="Length, in seconds.")
    n: Count = Field(description="Number of windows scored.")
    n_failed: Count = Field(description="Number of windows that could not be scored.")
    accuracy: float | None = Field(description="Share that was right, a tie half a one; null if none was scored.")
    low: float | None = Field(description="Lower end of the 95 % interval clustered over subjects and stimulus pairs.")
    high: float | None = Field(description="Upper end of that interval.")
    no_interval: str | None = Field(default=None, description="Why there is no interval; null if there is one.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.accuracy is None) != (self.n == 0):
            raise ValueError(f"accuracy must be null exactly when n is 0, not {self.accuracy} with n = {self.n}")
        if (self.low is None) != (self.high is None) or (self.low is None) != (self.no_interval is not None):
            raise ValueError("low and high must both be given, or both be null with no_interval saying why")
        return self


class ModelCurve(_Part):
    """A model of the curve."""

    form: Literal["normal_difference", "fisher_difference"] = Field(
        description="'normal_difference': Phi(d sqrt(window)), d fitted to the counts at all lengths. "
        "'fisher_difference': predicted from the correlations at one length (arXiv:2503.09349)."
    )
    parameters: dict[str, float] = Field(description="What was fitted or measured; empty if nothing could be.")
    accuracy: tuple[float, ...] | None = Field(description="Predicted at each length of the curve; null with a note.")
    note: str | None = Field(default=None, description="Why there is no prediction, or how it is to be read.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.accuracy is None and not self.note:
            raise ValueError("a model without a prediction needs a note that says why")
        return self


class SwitchingRef(_Part):
    """The minimal expected switch duration (Geirnaert et al. 2020, doi:10.1109/TNSRE.2019.2952724)."""

    seconds: float | None = Field(description="The MESD; null if the measured curve has none.")
    window: float | None = Field(description="Length of window at its working point, in seconds.")
    accuracy: float | None = Field(description="Accuracy there, on the straight lines between the measured points.")
    levels: int | None = Field(description="Levels of gain there.")
    confidence: float = Field(description="Share of the time that the gain has to be comfortable.")
    comfort: float = Field(description="Relative gain that is comfortable.")
    note: str | None = Field(default=None, description="Why there is none, or how it is to be read.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        missing = {value is None for value in (self.seconds, self.window, self.accuracy, self.levels)}
        if len(missing) != 1 or (self.seconds is None and not self.note):
            raise ValueError("seconds, window, accuracy and levels must all be given, or all be null with a note")
        return self


class Curve(_Part):
    """One curve. See the module's docstring."""

    schema_version: Literal[1] = Field(default=1, description="Version of this schema.")
    protocol: ProtocolRef = Field(description="Protocol: mixing, rates and seeds. Its windows are not used.")
    task: Literal["extraction", "retrieval"] = Field(description="Task.")
    metric: Name = Field(description="What being right is: its column in the scores.")
    study: StudyRef = Field(description="Data.")
    split: SplitRef = Field(description="Split; its test part was scored.")
    system: Name = Field(description="Label of the system.")
    checkpoint_hash: str | None = Field(description="Hash of the weights used; null if it has none.")
    control: Name = Field(description="What was done to the EEG.")
    seed: int = Field(description="Seed of the training.")
    evaluation_seed: int = Field(description="Seed of the control.")
    per_span: int = Field(ge=1, description="Windows of each length in a test trial or its test part, at most.")
    points: tuple[CurvePoint, ...] = Field(min_length=1, description="What was measured, the lengths rising.")
    models: tuple[ModelCurve, ...] = Field(description="Model curves, each form at most once.")
    switching: SwitchingRef = Field(description="Minimal expected switch duration of the measured curve.")
    code: CodeRef = Field(description="Code.")
    created: str = Field(description="Time at which it was written, ISO 8601 in UTC.")
    scores_file: str = Field(default="", description="Name of the Parquet file beside it, a row a window.")
    scores_hash: str = Field(default="", description="SHA-256 of that file's bytes.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        windows = self.windows
        if any(later <= earlier for earlier, later in zip(windows, windows[1:], strict=False)):
            raise ValueError(f"lengths must rise, not be {windows}")
        if len({model.form for model in self.models}) != len(self.models):
            raise ValueError("a form of the model curve is given twice")
        for model in self.models:
            if model.accuracy is not None and len(model.accuracy) != len(windows):
                raise ValueError(f"{model.form} must predict {len(windows)} lengths, not {len(model.accuracy)}")
        return self

    @property
    def windows(self) -> tuple[float, ...]:
        """Lengths, in seconds."""
        return tuple(point.window for point in self.points)

    @property
    def unit(self) -> Unit:
        """The unit of work that this is the result of, which says where it lies."""
        protocol, split = self.protocol, self.split
        about = (protocol.name, protocol.version, self.study.name, split.kind, split.seed)
        return Unit(*about, self.system, self.seed, self.control)

    def model(self, form: str) -> ModelCurve | None:
        """The model curve of a form, or None."""
        return next((model for model in self.models if model.form == form), None)


class CurveStore:
    """Curves under ``root``. Every refusal is a BadInput that names the file and the field."""

    def __init__(self, root: Path | str) -> None:
        """Nothing is read or written before it is asked for."""
        self.root = Path(root)

    def path(self, curve: Curve) -> Path:
        """Where a curve lies once it is written."""
        return self.root / curve.unit.record_path

    def write(self, curve: Curve, scores: pd.DataFrame) -> Curve:
        """Store a curve and its ``scores``; returns it with the name and the hash of the scores filled in.

        The scores are written first, and a curve that is written anew is taken away before that: a kill in between
        leaves no curve with the scores of another.
        """
        path, unit = self.path(curve), curve.unit
        _check_counts(path, curve, scores)
        content = to_parquet(scores)
        full = curve.model_copy(update={"scores_file": unit.scores_path.name, "scores_hash": content_hash(content)})
        path.unlink(missing_ok=True)
        write_atomically(self.root / unit.scores_path, content)
        text = json.dumps(full.model_dump(mode="json"), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
        write_atomically(path, (text + "\n").encode("utf-8"))
        return full

    def read(self, path: Path | str) -> Curve:
        """The curve at ``path``, checked against the schema, its place under ``root`` and its scores."""
        path = Path(path)
        curve = read_curve(path)
        if self.path(curve).resolve() != path.resolve():
            raise BadInput(path, "path", curve.unit.record_path, path.name)
        _check_counts(path, curve, self.scores(curve))
        return curve

    def scores(self, curve: Curve) -> pd.DataFrame:
        """Score of every window of a curve. Raises BadInput if the file is not the one that the curve names."""
        path = self.root / curve.unit.folder / curve.scores_file
        if not curve.scores_file or not path.is_file():
            raise BadInput(self.path(curve), "scores_file", "a file beside the curve", curve.scores_file or "none")
        content = path.read_bytes()
        if content_hash(content) != curve.scores_hash:
            raise BadInput(path, "scores_hash", curve.scores_hash, content_hash(content))
        return from_parquet(path, content)

    def read_all(self) -> tuple[Curve, ...]:
        """All curves, sorted by their units."""
        curves = (self.read(path) for path in self.root.glob("*/*/*/*/*.json"))
        return tuple(sorted(curves, key=lambda curve: curve.unit))


def read_curve(path: Path) -> Curve:
    """The curve at ``path``, checked against the schema alone; BadInput names the first field that is wrong."""
    try:
        return Curve.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise BadInput(path, "file", "a curve", "no such file") from error
    except ValidationError as error:
        raise refusal(path, error, "curve") from error


def _check_counts(path: Path, curve: Curve, scores: pd.DataFrame) -> None:
    """Refuse a curve whose counts are not those of the scores."""
    if curve.metric not in scores.columns or curve.metric + REASON not in scores.columns:
        raise BadInput(path, "metric", f"{curve.metric} among the columns of the scores", sorted(scores.columns))
    lengths = sorted(scores["duration"].unique().tolist())
    if lengths != [*curve.windows]:
        raise BadInput(path, "points", f"the lengths of the scores, {lengths}", list(curve.windows))
    for point in curve.points:
        values = scores.loc[scores["duration"] == point.window, curve.metric]
        counts = (int(values.notna().sum()), int(values.isna().sum()))
        if counts != (point.n, point.n_failed):
            expected = f"n, n_failed = {counts}, as in the scores"
            raise BadInput(path, f"points, {point.window:g} s", expected, (point.n, point.n_failed))
