"""Generation, scored: speech made from EEG alone against the speech that was attended to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from eeg2speech.data.mixing import Mixer
from eeg2speech.data.types import Samples, Segment
from eeg2speech.evaluation.candidates import Candidates
from eeg2speech.evaluation.scoring import asked, device_of, frame_of
from eeg2speech.metrics import Score, Scorer, Signals, Unscorable, frechet_distance, log_mel, partial_embeddings
from eeg2speech.metrics.retrieval import RANK_METRICS, SPOKEN, Place, Rows, places
from eeg2speech.records import SetMetric
from eeg2speech.systems.interface import System, generated

FLAT = 1e-6
FRECHET = "frechet_resemblyzer"


class GenerationTest:
    """One system on one set of segments."""

    def __init__(self, system: System, candidates: Candidates, scorer: Scorer, seed: int) -> None:
        self.system, self.candidates, self.scorer, self.seed = system, candidates, scorer, seed
        self.store = candidates.mixer.store
        self.set_metrics: dict[str, SetMetric] = {}

    def scores(self, control: str, metrics: Sequence[str]) -> pd.DataFrame:
        """Per-segment scores under a control; leaves the measures of the whole set in ``set_metrics``."""
        rate, segments = self.store.facts.audio_rate, self.candidates.segments
        pairs = list(speech(self.system, self.candidates.mixer, segments, control, self.seed))
        measured = self.scorer.score(
            (Signals(target, estimate) for target, estimate in pairs), [name for name in metrics if name not in SPOKEN]
        )
        rows = np.stack([mel_row(estimate, rate) for _, estimate in pairs])
        found = places(rows, self._mel_candidates, self.candidates.rows)
        self.set_metrics = {FRECHET: _frechet(pairs, rate)}
        ranks = [_ranks(place, [name for name in metrics if name in SPOKEN]) for place in found]
        return frame_of(self.store, segments, [one | other for one, other in zip(measured, ranks, strict=True)])

    def chances(self, metrics: Sequence[str]) -> dict[str, float]:
        """What guessing earns, by metric, for those for which that is known."""
        n = len(self.candidates.windows)
        return {name: RANK_METRICS[SPOKEN[name]].chance(n) for name in metrics if name in SPOKEN}

    @cached_property
    def _mel_candidates(self) -> Rows:
        rate, mixer = self.store.facts.audio_rate, self.candidates.mixer
        return np.stack([mel_row(window.sound(mixer), rate) for window in self.candidates.windows.values()])


def speech(
    system: System, mixer: Mixer, segments: Sequence[Segment], control: str, seed: int
) -> Iterator[tuple[Samples, Samples]]:
    """True speech and what a system generates [T], in the segments' order.

    What is drawn at random depends on seed and segment alone: all controls of a system start from the same noise.
    """
    store, device = mixer.store, device_of(system)
    for batch in asked(store, segments, control, seed, device):
        targets = [mixer.scene(segment).target for segment in batch.segments]
        truth = torch.from_numpy(np.stack(targets)).to(device)
        generators = [generator_of(segment, seed) for segment in batch.segments]
        found = generated(system, batch.eeg, batch.subject, generators, truth).cpu().numpy()
        yield from zip(targets, found, strict=True)


def generator_of(segment: Segment, seed: int) -> torch.Generator:
    """The generator of a segment's own."""
    words = f"{seed}:{segment.trial}:{segment.start:.6f}:{segment.duration:.6f}"
    number = int.from_bytes(hashlib.sha256(words.encode()).digest()[:8], "big") >> 1
    return torch.Generator().manual_seed(number)


def mel_row(wave: Samples, rate: int) -> NDArray[np.float32]:
    """The log mel spectrogram of a wave, each band with mean 0 and deviation 1 over time, as one row [64 F].

    The cosine of two such rows is the mean of the correlations of their bands, where neither has a flat band (which is
    zeros). NaN stays.
    """
    mel = log_mel(wave, rate)
    centred = mel - mel.mean(1, keepdims=True)
    deviation = centred.std(1, keepdims=True)
    row: NDArray[np.float64] = np.where(deviation < FLAT, 0 * centred, centred / np.maximum(deviation, FLAT))
    return row.astype(np.float32).ravel()


def _ranks(place: Place | None, names: Sequence[str]) -> dict[str, Score]:
    if place is None:
        return {name: Score(float("nan"), "non-finite estimate") for name in names}
    return {name: Score(RANK_METRICS[SPOKEN[name]].function(place)) for name in names}


def _frechet(pairs: Sequence[tuple[Samples, Samples]], rate: int) -> SetMetric:
    """Between true and generated speech, over the partial utterances of all segments that can be heard."""
    embedded = [found for pair in pairs if (found := _partials(pair, rate)) is not None]
    value: float | None = None
    if len(embedded) > 1:
        true, made = (np.concatenate([pair[k] for pair in embedded]) for k in (0, 1))
        value = round(float(frechet_distance(true, made)), 6)
    left_out = len(pairs) - len(embedded)
    note = "partial utterances of 1.6 s in the space of resemblyzer" + (f"; {left_out} left out" if left_out else "")
    return SetMetric(value=value, unit="", higher_is_better=False, decimals=3, n=len(embedded), note=note)


def _partials(pair: tuple[Samples, Samples], rate: int) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Embeddings of true and generated speech; None where one of them is silent or not finite."""
    if not np.isfinite(pair[1]).all():
        return None
    try:
        return partial_embeddings(pair[0], rate), partial_embeddings(pair[1], rate)
    except Unscorable:
        return None
