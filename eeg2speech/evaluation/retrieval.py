"""Retrieval, scored: for every segment of EEG, where the speech that was attended to comes among all candidates."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from eeg2speech.data.types import Segment
from eeg2speech.errors import BadInput
from eeg2speech.evaluation.candidates import Candidates
from eeg2speech.evaluation.scoring import asked, device_of, frame_of
from eeg2speech.metrics import Score
from eeg2speech.metrics.retrieval import ATTENTION, RANK_METRICS, Place, places, rank_metric, won
from eeg2speech.records import SetMetric
from eeg2speech.systems.interface import System, embedded

NOT_FINITE = "non-finite embedding"


class RetrievalTest:
    """One system on one set of segments; what it makes of the candidates is computed once for all controls."""

    def __init__(self, system: System, candidates: Candidates, seed: int) -> None:
        self.system, self.candidates, self.seed = system, candidates, seed
        self.store = candidates.mixer.store
        self.set_metrics: dict[str, SetMetric] = {}

    def scores(self, control: str, metrics: Sequence[str]) -> pd.DataFrame:
        """Per-segment scores under a control."""
        segments = self.candidates.segments
        queries = self._queries(segments, control)
        table, rows = self._embeddings, self.candidates.rows
        if table.shape[1] != queries.shape[1]:
            found = f"{queries.shape[1]} of EEG, {table.shape[1]} of speech"
            raise BadInput(type(self.system).__name__, "embeddings", "as many numbers of both", found)
        attention = self._attention(queries, table, rows, metrics)
        found_places = places(queries, table[: len(self.candidates.windows)], rows)
        scores = [_scores(*pair, metrics) for pair in zip(found_places, attention, strict=True)]
        return frame_of(self.store, segments, scores)

    def _attention(
        self, queries: NDArray[np.float32], table: NDArray[np.float32], rows: Sequence[int], metrics: Sequence[str]
    ) -> NDArray[np.float64]:
        others = self.candidates.other_rows
        if others is not None:
            return won(queries, table, rows, others)
        if ATTENTION.name in metrics:
            expected = "two talkers in every segment (or a protocol without it)"
            raise BadInput(f"study {self.store.facts.name!r}", f"metric {ATTENTION.name}", expected, "one talker")
        return np.full(len(queries), np.nan)

    def chances(self, metrics: Sequence[str]) -> dict[str, float]:
        """What guessing earns, by metric."""
        return {name: rank_metric(name).chance(len(self.candidates.windows)) for name in metrics}

    def _queries(self, segments: Sequence[Segment], control: str) -> np.ndarray:
        batches = asked(self.store, segments, control, self.seed, device_of(self.system))
        found = [embedded(self.system, batch.eeg, batch.subject).flatten(1).cpu().numpy() for batch in batches]
        return np.concatenate(found)

    @cached_property
    def _embeddings(self) -> NDArray[np.float32]:
        return self.candidates.embeddings(self.system)


def _scores(place: Place | None, attention: float, metrics: Sequence[str]) -> dict[str, Score]:
    return {name: _score(name, place, attention) for name in metrics}


def _score(name: str, place: Place | None, attention: float) -> Score:
    if name == ATTENTION.name:
        return Score(float(attention), NOT_FINITE if np.isnan(attention) else None)
    if place is None:
        return Score(float("nan"), NOT_FINITE)
    return Score(RANK_METRICS[name].function(place))
