"""Protocols of the studies of real data, one or two each, named after them.

Extraction where two talkers are heard as sound, in windows of 4 s, ten a test trial; retrieval among all windows of the
test's speech where there is one talker, or features only: 3 s as Defossez et al. (2023), 5 s as the auditory EEG
challenge (features at 64 Hz). With two talkers retrieval says, too, which of the two was nearer: auditory attention
decoding.
"""

from __future__ import annotations

from collections.abc import Iterator

from eeg2speech.metrics.retrieval import ATTENTION, RANK_METRICS

SOUND, SHORT, LONG = 16_000, 3.0, 5.0
TWO_TALKERS = {"cocktail-party": 4.0, "ku-leuven": 4.0, "dtu": 4.0, "folder": 4.0, "neurocodec-hdf5": 254 / 128}
"""Studies with the sound of two talkers, and the seconds of a window; items of 87,552 samples of sound last 1.985 s."""
ONE_TALKER = {"natural-speech": "natural-speech", "brennan2019": "brennan2019", "sparrkulee": "sparrkulee"}
ONE_TALKER |= {"folder": "folder-one-talker"}
"""Studies with the sound of one, and the name of their protocol."""
FEATURES = {
    "cocktail-party-envelopes": (128, 2),
    "natural-speech-envelopes": (128, 1),
    "dtu-features": (64, 2),
    "sparrkulee-envelopes": (64, 1),
    "sparrkulee-mels": (64, 1),
    "folder-envelopes": (64, 1),
    "folder-mels": (64, 1),
}
"""Studies that have features only: their rate, and the talkers."""


def retrieval_metrics(talkers: int) -> tuple[str, ...]:
    """Ranks among the candidates; with two talkers also which of them was nearer."""
    return (*RANK_METRICS, ATTENTION.name) if talkers == 2 else tuple(RANK_METRICS)


def study_protocols() -> Iterator[tuple[str, str, int, float, int, int]]:
    """Name, task, audio rate, seconds of a window, windows a test trial (0: all, side by side), talkers."""
    for name, seconds in TWO_TALKERS.items():
        yield name, "extraction", SOUND, seconds, 10, 2
        yield f"{name}-retrieval", "retrieval", SOUND, min(seconds, SHORT), 0, 2
    for name in ONE_TALKER.values():
        yield name, "retrieval", SOUND, LONG if name == "sparrkulee" else SHORT, 0, 1
        yield f"{name}-generation", "generation", SOUND, 4.0, 10, 1
    for name, (rate, talkers) in FEATURES.items():
        yield name, "retrieval", rate, LONG, 0, talkers
