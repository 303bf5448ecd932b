"""Sound of a few test segments, kept beside the records for the page to play."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from scipy.signal import resample_poly

from eeg2speech.controls import TRUE_EEG
from eeg2speech.data.mixing import Mixer, Scene
from eeg2speech.data.store import Store
from eeg2speech.data.types import Samples, Segment
from eeg2speech.evaluation.generation import speech
from eeg2speech.evaluation.protocol import Protocol
from eeg2speech.evaluation.scoring import estimates
from eeg2speech.metrics import mel_correlation, si_sdr
from eeg2speech.metrics.checks import Unscorable
from eeg2speech.records.files import write_atomically
from eeg2speech.splits.manifest import Split
from eeg2speech.systems.interface import System

OPUS_RATES = (8_000, 12_000, 16_000, 24_000, 48_000)
PEAK = 0.9
"""All clips of a segment share one gain, which brings the mixture to this peak; a louder estimate gets its own."""


@dataclass(frozen=True)
class Clips:
    """Clips of ``count`` test segments of a task that makes sound, spread evenly.

    ``<folder>/<segment>/<system>.ogg``, Opus, at the protocol's rate or the next that Opus knows. ``index.json`` beside
    them has a title, which data it is, and for each system a note (how close it comes) and the hash of its checkpoint.
    It is written after the clip: what it names is there.
    """

    folder: Path
    store: Store
    split: Split
    protocol: Protocol
    count: int

    def kept(self, label: str, checkpoint_hash: str | None) -> bool:
        """Whether all clips of these weights are there."""
        indices = [self._index(self._place(number)) for number in self._segments()]
        return all(label in index["notes"] and index["checkpoints"][label] == checkpoint_hash for index in indices)

    def keep(self, label: str, system: System, checkpoint_hash: str | None) -> None:
        """Write a system's clips, in place of older ones; mixture, target and interferer where they are missing."""
        segments = self._segments()
        for number, (scene, estimate) in zip(segments, self._answers(system, list(segments.values())), strict=True):
            place = self._place(number)
            index = self._index(place)
            given = self._given(scene)
            gain = np.float32(PEAK / max(float(np.abs(wave).max()) for wave in (*given.values(), np.array([1e-6]))))
            if not index["notes"]:
                # Clips without an index are of other data, or of a run that was killed.
                for old in place.glob("*.ogg"):
                    old.unlink()
                for name, wave in given.items():
                    self._write(place / f"{name}.ogg", gain * wave)
            loudest = gain * np.abs(np.nan_to_num(estimate)).max()
            self._write(place / f"{label}.ogg", gain / np.float32(max(1.0, loudest)) * estimate)
            index["title"] = _title(self.store, scene.segment)
            index["notes"][label] = self._note(scene.target, estimate)
            index["checkpoints"][label] = checkpoint_hash
            write_atomically(place / "index.json", json.dumps(index, indent=1, sort_keys=True).encode())

    def _answers(self, system: System, segments: list[Segment]) -> Iterator[tuple[Scene, Samples]]:
        mixer = Mixer(self.store, self.protocol.target_to_interferer_db)
        seed = self.protocol.evaluation_seed
        if self.protocol.task == "generation":
            made = speech(system, mixer, segments, TRUE_EEG, seed)
            return ((mixer.scene(segment), wave) for segment, (_, wave) in zip(segments, made, strict=True))
        return estimates(system, self.store, segments, mixer, TRUE_EEG, seed)

    def _given(self, scene: Scene) -> dict[str, Samples]:
        if self.protocol.task == "generation":
            return {"target": scene.target}
        return {"mixture": scene.mixture, "target": scene.target, "interferer": scene.interferer}

    def _note(self, target: Samples, estimate: Samples) -> str:
        if not np.isfinite(estimate).all():
            return "holds samples that are not finite (silenced here)"
        rate = self.protocol.audio_rate
        try:
            if self.protocol.task == "generation":
                return f"mel correlation {mel_correlation(target, estimate, rate):.2f}"
            return f"SI-SDR {si_sdr(target, estimate):.1f} dB"
        except Unscorable as reason:
            return f"no score ({reason})"

    def _segments(self) -> dict[int, Segment]:
        """The segments by their number among all that are scored."""
        if self.count == 0:
            return {}
        segments = self.protocol.test_segments(self.store, self.split)
        return {int(k): segments[int(k)] for k in np.linspace(0, len(segments) - 1, self.count).round()}

    def _place(self, number: int) -> Path:
        return self.folder / f"{number:04}"

    def _index(self, place: Path) -> dict[str, Any]:
        """What is there of this very data and protocol; an empty index where there is nothing, or of other data."""
        data = [self.protocol.label, self.store.index.revision, self.split.hash]
        path = place / "index.json"
        index: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return index if index.get("data") == data else {"data": data, "notes": {}, "checkpoints": {}}

    def _write(self, path: Path, wave: Samples) -> None:
        content = io.BytesIO()
        # The one place where a bad sample is replaced: a file cannot hold NaN, and the note says that it was there.
        sound, rate = np.nan_to_num(wave), self.protocol.audio_rate
        # Opus knows a few rates alone.
        heard = min(known for known in OPUS_RATES if known >= min(rate, OPUS_RATES[-1]))
        sound = sound if heard == rate else resample_poly(sound, heard // gcd(heard, rate), rate // gcd(heard, rate))
        soundfile.write(content, sound, heard, format="OGG", subtype="OPUS")
        write_atomically(path, content.getvalue())


def _title(store: Store, segment: Segment) -> str:
    trial = store.trial(segment.trial)
    return (
        f"{store.facts.name}: {trial.subject} attends {store.speakers[trial.attended]}, "
        f"{segment.duration:g} s from {segment.start:.1f} s of trial {trial.id}"
    )
