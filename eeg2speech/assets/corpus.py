"""The embedded speech corpus: real voices, about a hundred minutes of wideband speech in five languages.

The audio is one Ogg Opus track per language; ``manifest.json`` says where in its track each utterance lies. Source,
credits and licences: ``speech/ATTRIBUTION.md``; the program that built it: ``build_corpus.py``.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eeg2speech.errors import BadInput

RATE = 16_000
"""Sample rate of every track in Hz."""

FOLDER = Path(__file__).parent / "speech"
"""Folder of the tracks, the manifest and the attribution."""


@dataclass(frozen=True)
class Track:
    """One language's audio: who speaks, under which licence, and the file with its hash and length in samples."""

    track: str
    speaker: str
    speaker_name: str
    language: str
    licence: str
    file: str
    sha256: str
    samples: int
    seconds: float
    source_package: str
    source_version: str


@dataclass(frozen=True)
class Utterance:
    """One recorded prompt: samples ``start`` (inclusive) to ``stop`` (exclusive) of ``track``.

    ``sha256`` is that of the little-endian int16 samples before the lossy encoding; ``source_file`` is the path inside
    the track's source package.
    """

    utterance: str
    track: str
    start: int
    stop: int
    seconds: float
    sha256: str
    source_file: str


@cache
def _manifest() -> dict[str, Any]:
    where = FOLDER / "manifest.json"
    manifest: dict[str, Any] = json.loads(where.read_text(encoding="utf-8"))
    for field, expected in (("schema_version", 1), ("rate", RATE)):
        if manifest.get(field) != expected:
            raise BadInput(where, field, expected, manifest.get(field))
    return manifest


@cache
def tracks() -> tuple[Track, ...]:
    """All tracks, in the manifest's order (by language)."""
    return tuple(Track(**entry) for entry in _manifest()["tracks"])


@cache
def utterances() -> tuple[Utterance, ...]:
    """All utterances, by track and then by time."""
    return tuple(Utterance(**entry) for entry in _manifest()["utterances"])


def load_track(track: Track, folder: Path | None = None) -> NDArray[np.float32]:
    """Decode a track.

    Args:
        track: one of ``tracks()``.
        folder: where its file lies; the package's own folder by default.

    Returns:
        float32 [samples] in [-1, 1] at 16 kHz, mono; utterance positions index it directly.

    Raises:
        BadInput: the file is missing, its bytes are not those of the manifest, or it decodes to another length, rate
            or number of channels.
    """
    import soundfile

    path = (FOLDER if folder is None else folder) / track.file
    if not path.is_file():
        raise BadInput(path, "file", "an Ogg Opus file", "nothing")
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != track.sha256:
        raise BadInput(path, "sha256", track.sha256, found)
    signal, rate = soundfile.read(io.BytesIO(content), dtype="float32")
    if rate != RATE:
        raise BadInput(path, "rate", RATE, rate)
    if signal.shape != (track.samples,):
        raise BadInput(path, "shape", (track.samples,), signal.shape)
    return np.clip(np.asarray(signal, dtype=np.float32), -1.0, 1.0)


def corpus_hash() -> str:
    """First 16 hex digits of the SHA-256 over the tracks' hashes: the identity of the audio."""
    return hashlib.sha256("".join(track.sha256 for track in tracks()).encode()).hexdigest()[:16]
