"""From scores of segments to numbers of a table, with the failures counted beside the mean."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eeg2speech.errors import BadInput

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Summary:
    """n segments, n_failed of them without a score and why, and the mean of the scored ones (NaN if there is none)."""

    n: int
    n_failed: int
    reasons: dict[str, int]
    mean: float


def summarise(values: Sequence[float] | Values, reasons: Sequence[str | None]) -> Summary:
    """Summary of one metric over segments.

    Args:
        values: [n], NaN where there is no score. reasons: [n], a text where the value is NaN, else None.

    Raises:
        BadInput: lengths differ, or a value is NaN without a reason, or has a reason and is not NaN.
    """
    scores = np.asarray(values, dtype=np.float64)
    if scores.shape != (len(reasons),):
        raise BadInput("summarise", "values", f"{len(reasons)} values, one a reason", scores.shape)
    for index, (value, reason) in enumerate(zip(scores, reasons, strict=True)):
        if math.isnan(value) != (reason is not None):
            raise BadInput("summarise", f"value {index}", "NaN with a reason, or a number without", (value, reason))
    scored = scores[~np.isnan(scores)]
    counts = Counter(reason for reason in reasons if reason is not None)
    mean = float(scored.mean()) if scored.size else math.nan
    return Summary(scores.size, scores.size - scored.size, dict(sorted(counts.items())), mean)


def split_by_selection(scores: Mapping[str, ArrayLike], selected: ArrayLike) -> dict[str, dict[str, Values]]:
    """Scores over all segments, and over those where the right and where the wrong talker was brought out.

    A mean over all mixes two things: how often the choice is right, and how good the sound is when it is.

    Args:
        scores: [n] a metric. selected: [n] of ``target_selected``: 1 right, 0 wrong; a tie (0.5) and a failure (NaN)
            count in "all" only.

    Returns:
        "all", "right", "wrong" -> metric -> values, NaN kept, in order.

    Raises:
        BadInput: lengths differ, or ``selected`` holds anything but 0, 0.5, 1 and NaN.
    """
    choice = np.asarray(selected, dtype=np.float64)
    if not np.all(np.isin(choice, (0.0, 0.5, 1.0)) | np.isnan(choice)):
        raise BadInput("split_by_selection", "selected", "0, 0.5, 1 or NaN", np.unique(choice))
    arrays = {name: np.asarray(values, dtype=np.float64) for name, values in scores.items()}
    for name, values in arrays.items():
        if values.shape != choice.shape:
            raise BadInput("split_by_selection", name, f"shape {choice.shape}", values.shape)
    parts = {"all": np.ones(choice.shape, dtype=bool), "right": choice == 1.0, "wrong": choice == 0.0}
    return {part: {name: values[mask] for name, values in arrays.items()} for part, mask in parts.items()}
