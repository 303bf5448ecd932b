"""Properties of the embedded speech corpus and its loader."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from eeg2speech.assets import corpus
from eeg2speech.assets.build_corpus import active_rms_db, speech_facts
from eeg2speech.errors import BadInput

TRACKS = [pytest.param(track, id=track.track) for track in corpus.tracks()]


def audio(name: str) -> NDArray[np.float32]:
    """Decoded samples of the track ``name``."""
    return corpus.load_track(next(track for track in corpus.tracks() if track.track == name))


def of_track(track: corpus.Track) -> list[corpus.Utterance]:
    """Utterances of one track."""
    return [utterance for utterance in corpus.utterances() if utterance.track == track.track]


@pytest.mark.parametrize("track", TRACKS)
def test_a_track_decodes_to_its_declared_length_without_clipping(track: corpus.Track) -> None:
    signal = audio(track.track)
    assert signal.dtype == np.float32
    assert signal.shape == (track.samples,)
    assert track.seconds == pytest.approx(track.samples / corpus.RATE, abs=1e-3)
    assert np.isfinite(signal).all()
    assert 0.1 < np.abs(signal).max() < 0.99


@pytest.mark.parametrize("track", TRACKS)
def test_utterances_lie_in_their_track_apart_and_long_enough(track: corpus.Track) -> None:
    own = of_track(track)
    assert own
    assert own[0].start >= 0
    assert own[-1].stop <= track.samples
    assert all(first.stop < second.start for first, second in pairwise(own))
    assert all(u.stop - u.start > 1.5 * corpus.RATE for u in own)
    assert all(u.seconds == pytest.approx((u.stop - u.start) / corpus.RATE, abs=1e-3) for u in own)


@pytest.mark.parametrize("track", TRACKS)
def test_utterances_are_equally_loud_speech_at_their_declared_places(track: corpus.Track) -> None:
    signal = audio(track.track)
    own = of_track(track)
    for first, second in list(pairwise(own))[::12]:
        piece = signal[first.start : first.stop]
        assert active_rms_db(piece) == pytest.approx(-26.0, abs=1.5), first.utterance
        flatness, variation, beep = speech_facts(piece)
        assert flatness < 0.4 and variation > 0.35 and beep < 0.15, first.utterance
        gap = signal[first.stop + 400 : second.start - 400]  # the pause after it, less 25 ms of codec ringing
        assert np.sqrt(np.mean(gap**2)) < 0.05 * np.sqrt(np.mean(piece**2)), first.utterance


def test_names_are_unique_and_no_recording_is_there_twice() -> None:
    names = [utterance.utterance for utterance in corpus.utterances()]
    hashes = [utterance.sha256 for utterance in corpus.utterances()]
    assert len(set(names)) == len(names)
    assert len(set(hashes)) == len(hashes)


def test_speakers_licences_and_amount() -> None:
    speakers = defaultdict(set)
    for track in corpus.tracks():
        speakers[track.speaker].add(track.language)
    assert speakers["allison-smith"] == {"en", "es"}
    assert len(speakers) == 4
    assert {t.language: t.licence for t in corpus.tracks()} == {
        **dict.fromkeys(("en", "es", "fr"), "CC-BY-SA-3.0"),
        **dict.fromkeys(("it", "ru"), "CC-BY-3.0"),
    }
    assert sum(utterance.seconds for utterance in corpus.utterances()) >= 85 * 60
    assert sum(path.stat().st_size for path in corpus.FOLDER.iterdir()) <= 14e6


def test_the_attribution_names_every_package_and_licence() -> None:
    text = (corpus.FOLDER / "ATTRIBUTION.md").read_text(encoding="utf-8")
    for track in corpus.tracks():
        assert f"`{track.source_package}` | {track.source_version}" in text
        assert track.licence in text


def test_the_manifest_is_what_the_loader_reads() -> None:
    manifest = json.loads((corpus.FOLDER / "manifest.json").read_text(encoding="utf-8"))
    assert len(manifest["utterances"]) == len(corpus.utterances())
    assert len(corpus.corpus_hash()) == 16


def test_a_tampered_or_missing_file_and_a_wrong_length_are_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("speech")
    track = min(corpus.tracks(), key=lambda t: t.samples)
    with pytest.raises(BadInput, match="file: expected an Ogg Opus file"):
        corpus.load_track(track, folder)
    content = bytearray((corpus.FOLDER / track.file).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / track.file).write_bytes(content)
    with pytest.raises(BadInput, match=f"{track.file}: sha256: expected {track.sha256}"):
        corpus.load_track(track, folder)
    with pytest.raises(BadInput, match="shape"):
        corpus.load_track(replace(track, samples=track.samples + 1))
