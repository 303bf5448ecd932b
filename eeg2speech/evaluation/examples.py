"""Sound of a few test segments, kept beside the records for the page to play."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import soundfile

from eeg2speech.controls import TRUE_EEG
from eeg2speech.data.mixing import Mixer
from eeg2speech.data.store import Store
from eeg2speech.data.types import Samples, Segment
from eeg2speech.evaluation.protocol import Protocol
from eeg2speech.evaluation.scoring import estimates
from eeg2speech.metrics import si_sdr
from eeg2speech.metrics.checks import Unscorable
from eeg2speech.splits.manifest import Split
from eeg2speech.systems.interface import System

PEAK = 0.9
"""All clips of a segment share one gain, which brings the mixture to this peak; a louder estimate gets its own."""


def keep_examples(
    folder: Path, label: str, system: System, store: Store, split: Split, protocol: Protocol, count: int
) -> None:
    """Write ``<folder>/<segment>/<label>.ogg`` for ``count`` test segments, with mixture, target and interferer.

    ``index.json`` beside them holds a title and, for each clip, what it is and its SI-SDR. Opus, 16 kHz.
    """
    segments = protocol.test_segments(store, split)
    numbers = [int(k) for k in np.linspace(0, len(segments) - 1, count).round()] if count else []
    chosen = [segments[k] for k in numbers]
    mixer = Mixer(store, protocol.target_to_interferer_db)
    found = estimates(system, store, chosen, mixer, TRUE_EEG, protocol.evaluation_seed)
    for number, (scene, estimate) in zip(numbers, found, strict=True):
        place = folder / f"{number:04}"
        place.mkdir(parents=True, exist_ok=True)
        gain = np.float32(PEAK / max(float(np.abs(scene.mixture).max()), 1e-6))
        clips = {"mixture": scene.mixture, "target": scene.target, "interferer": scene.interferer}
        for name, wave in clips.items():
            _write(place / f"{name}.ogg", gain * wave, protocol.audio_rate)
        loudest = gain * np.abs(np.nan_to_num(estimate)).max()
        _write(place / f"{label}.ogg", gain / np.float32(max(1.0, loudest)) * estimate, protocol.audio_rate)
        _describe(place / "index.json", store, scene.segment, label, _note(scene.target, estimate))


def _write(path: Path, wave: Samples, rate: int) -> None:
    if not path.exists():
        # The one place where a bad sample is replaced: a file cannot hold NaN, and the note says that it was there.
        soundfile.write(path, np.nan_to_num(wave), rate, format="OGG", subtype="OPUS")


def _note(target: Samples, estimate: Samples) -> str:
    if not np.isfinite(estimate).all():
        return "holds samples that are not finite (silenced here)"
    try:
        return f"SI-SDR {si_sdr(target, estimate):.1f} dB"
    except Unscorable as reason:
        return str(reason)


def _describe(path: Path, store: Store, segment: Segment, label: str, note: str) -> None:
    trial = store.trial(segment.trial)
    index = json.loads(path.read_text()) if path.exists() else {"notes": {}}
    index["title"] = (
        f"{store.facts.name}: {trial.subject} attends {store.speakers[trial.attended]}, "
        f"{segment.duration:g} s from {segment.start:.1f} s of trial {trial.id}"
    )
    index["notes"][label] = note
    partial = path.with_suffix(".tmp")
    partial.write_text(json.dumps(index, indent=1, sort_keys=True))
    partial.replace(path)


def kept(folder: Path, label: str, count: int) -> bool:
    """Whether a system's clips are all there."""
    return len(list(folder.glob(f"*/{label}.ogg"))) >= count
