"""Which utterances of the embedded corpus a pretrained part (codec, vocoder, autoencoder) may hear: a fixed partition.

An utterance is held out when any of it lies in a stimulus that the split ``stimulus`` (seed 0) of the embedded study
keeps for validation or test. ``pretraining.json`` says which; ``python benchmarks/pretraining_partition.py`` makes it
anew.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eeg2speech.assets.corpus import Track, load_track, tracks, utterances

PARTITION = Path(__file__).parent / "speech" / "pretraining.json"


@cache
def held_out() -> frozenset[str]:
    """Names of the utterances that no pretrained part has heard."""
    return frozenset(json.loads(PARTITION.read_text(encoding="utf-8"))["held_out"])


def heard(track: str, start: int, stop: int) -> bool:
    """Whether pretrained parts have heard anything between these samples of a track."""
    open_to_all = (u for u in utterances() if u.track == track and u.utterance not in held_out())
    return any(u.start < stop and u.stop > start for u in open_to_all)


def pretraining_audio(kept_out: bool = False) -> dict[str, list[NDArray[np.float32]]]:
    """Speech by track, as consecutive stretches [samples] at 16 kHz: what may be heard, or what was kept out."""
    return {track.track: _cut(track, kept_out) for track in tracks()}


def stretches(track: str, kept_out: bool = False) -> list[tuple[int, int]]:
    """First sample and sample after the last of every stretch of a track that may be heard, or that was kept out.

    Neighbouring utterances of one side of the partition are one stretch, pauses included.
    """
    spans: list[tuple[int, int]] = []
    previous: bool | None = None
    for utterance in (u for u in utterances() if u.track == track):
        side = utterance.utterance in held_out()
        if side == kept_out:
            start = spans.pop()[0] if previous == side else utterance.start
            spans.append((start, utterance.stop))
        previous = side
    return spans


def _cut(track: Track, kept_out: bool) -> list[NDArray[np.float32]]:
    audio = load_track(track)
    return [audio[start:stop] for start, stop in stretches(track.track, kept_out)]
