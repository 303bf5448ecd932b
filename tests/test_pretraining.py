"""What pretrained parts may hear, whether a record says what they have heard, and how the codec is trained."""

import runpy
import shutil
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch
from eeg2speech_baselines.ceilings import CodecMixture, CodecSettings
from typer.testing import CliRunner

from eeg2speech import cli
from eeg2speech.assets.corpus import load_track, tracks, utterances
from eeg2speech.assets.pretraining import PARTITION, heard, held_out, pretraining_audio, stretches
from eeg2speech.data import Store
from eeg2speech.data.studies.registry import prepare
from eeg2speech.data.studies.simulated import SimulatedStudy, corpus_range
from eeg2speech.data.types import Stimulus, StudyFacts
from eeg2speech.errors import BadInput
from eeg2speech.evaluation import codec as quality
from eeg2speech.evaluation.api import evaluate
from eeg2speech.evaluation.codec import QUALITY, codec_quality, speech_pieces, train_codec
from eeg2speech.evaluation.protocol import protocol
from eeg2speech.splits import make_split
from eeg2speech.systems import codecs
from eeg2speech.systems.interface import Context
from eeg2speech.systems.registry import build, declare
from eeg2speech.training import codec as training
from eeg2speech.training.checkpoint import load_weights, save_weights

TINY = partial(
    training.CodecSettings,
    encoder_hidden_size=4,
    decoder_hidden_size=16,
    n_codebooks=2,
    codebook_size=16,
    codebook_dim=3,
)


def speech(kept_out: bool = False) -> training.Audio:
    """As ``pretraining_audio``, decoded once: that takes longer than what is tested."""
    return decoded(kept_out)


decoded = cache(pretraining_audio)


@pytest.fixture(scope="session")
def tiny() -> Iterator[None]:
    """The codec's training, small and on speech that is there already."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "CodecSettings", TINY)
        patch.setattr(training, "pretraining_audio", speech)
        patch.setattr(quality, "pretraining_audio", speech)
        yield


@pytest.fixture(scope="session")
def trained(tiny: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny codec after two steps."""
    return train_codec(tmp_path_factory.mktemp("codec"), steps=2, device="cpu", say=lambda line: None)


def test_the_partition_has_two_sides_and_names_what_there_is() -> None:
    names = {utterance.utterance for utterance in utterances()}
    assert held_out() and held_out() < names
    for track in tracks():
        assert stretches(track.track) and stretches(track.track, kept_out=True)


def test_no_stretch_overlaps_an_utterance_of_the_other_side() -> None:
    for utterance in utterances():
        out = utterance.utterance in held_out()
        for start, stop in stretches(utterance.track, kept_out=not out):
            assert utterance.stop <= start or utterance.start >= stop
        assert any(a <= utterance.start and utterance.stop <= b for a, b in stretches(utterance.track, kept_out=out))
        assert heard(utterance.track, utterance.start, utterance.stop) != out


def test_stretches_are_cut_from_their_track() -> None:
    for kept_out in (False, True):
        for name, parts in speech(kept_out).items():
            assert [len(part) for part in parts] == [stop - start for start, stop in stretches(name, kept_out)]


@pytest.mark.slow
def test_the_partition_is_what_its_rule_gives_for_the_embedded_study(tmp_path: Path) -> None:
    script = runpy.run_path(str(Path(__file__).parent.parent / "benchmarks" / "pretraining_partition.py"))
    store = prepare("simulated-clear")
    assert script["json"].loads(PARTITION.read_text()) == script["partition"](store)
    split = make_split(store.index, "stimulus", 0)
    stimuli = {stimulus.id: stimulus for stimulus in store.index.stimuli}
    for span in split.parts["test"]:
        trial = store.trial(span.trial)
        assert not any(heard(*corpus_range(stimuli[name])) for name in (trial.attended, trial.unattended) if name)


def test_where_a_stimulus_lies_is_where_its_sound_is(store: Store) -> None:
    stimulus = store.index.stimuli[0]
    track, start, stop = corpus_range(stimulus)
    audio = load_track(next(known for known in tracks() if known.track == track))
    np.testing.assert_array_equal(audio[start:stop], store.stimulus(stimulus.id))


def direct_count(store: Store, split: str) -> int:
    """Test segments with anything heard in either stimulus, from the partition alone."""
    ranges = {stimulus.id: corpus_range(stimulus) for stimulus in store.index.stimuli}
    free = [u for u in utterances() if u.utterance not in held_out()]

    def touched(name: str) -> bool:
        track, start, stop = ranges[name]
        return any(u.track == track and u.start < stop and u.stop > start for u in free)

    chosen = protocol("demo-1")
    segments = chosen.test_segments(store, make_split(store.index, split, chosen.split_seed))
    trials = [store.trial(segment.trial) for segment in segments]
    return sum(touched(trial.attended) or touched(str(trial.unattended)) for trial in trials)


def codec_mixture(store: Store, path: Path) -> CodecMixture:
    return CodecMixture(Context.of(store, 4.0), CodecSettings(codec=str(path), books=0))


@pytest.mark.parametrize("split", ["trial", "stimulus"])
def test_the_record_counts_the_segments_that_were_heard(store: Store, trained: Path, split: str) -> None:
    result = evaluate(codec_mixture(store, trained), store, split, controls=["true_eeg"])
    record = result.records["true_eeg"]
    assert record.system.segments_heard == direct_count(store, split)
    assert 0 < direct_count(store, split) <= record.n_segments_expected


def test_the_record_of_a_system_without_pretrained_parts_says_nothing(store: Store) -> None:
    result = evaluate("mixture", store, "trial", controls=["true_eeg"])
    assert result.records["true_eeg"].system.segments_heard is None


def heard_names(store: Store, path: Path, facts: StudyFacts | None = None) -> set[str]:
    study = facts or store.facts
    return {stimulus.id for stimulus in store.index.stimuli if codecs.codec_heard(path, stimulus, study)}


def test_a_copy_of_the_embedded_codec_under_another_name_is_known(
    store: Store, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, about = load_weights(trained)
    silent = tmp_path / "silent.safetensors"
    save_weights(silent, state, {"codec": about["codec"]}, half=True)
    monkeypatch.setattr(codecs, "DEMO", tmp_path / "none.safetensors")
    assert not heard_names(store, silent)
    codecs._learned_from_corpus.cache_clear()
    monkeypatch.setattr(codecs, "DEMO", trained)
    assert (
        heard_names(store, silent)
        == heard_names(store, trained)
        == heard_names(store, Path(shutil.copy(trained, tmp_path)))
    )
    assert heard_names(store, trained)
    codecs._learned_from_corpus.cache_clear()


def test_other_codecs_and_other_studies_are_not_meant(store: Store, trained: Path, tmp_path: Path) -> None:
    state, about = load_weights(trained)
    other = tmp_path / "other.safetensors"
    save_weights(other, {name: tensor + 1 for name, tensor in state.items()}, {"codec": about["codec"]})
    assert not heard_names(store, other)
    strange = StudyFacts(**{**vars(store.facts), "name": "of-people"})
    assert not heard_names(store, trained, strange)


def test_neurocodec_and_both_round_trips_ask_the_codec(store: Store, trained: Path) -> None:
    stimuli: list[Stimulus] = list(store.index.stimuli)
    expected = [heard(*corpus_range(stimulus)) for stimulus in stimuli]
    for name in ("neurocodec", "neurocodec_blind", "neurocodec_separator", "codec_target", "codec_mixture"):
        system = build(declare({"system": name, "settings": {"codec": str(trained)}}), Context.of(store, 4.0))
        assert [system.heard_before(stimulus, store.facts) for stimulus in stimuli] == expected


def test_a_stimulus_is_found_whatever_its_length() -> None:
    for seconds in (2.0, 7.5, 60.0):
        study = SimulatedStudy(trial_seconds=seconds)
        for pair in study._pairs()[:20]:
            for piece in pair:
                samples = piece.stop - piece.start
                stimulus = Stimulus("x", samples, 16_000, piece.track.speaker, piece.track.language, piece.title)
                assert corpus_range(stimulus) == (piece.track.track, piece.start, piece.stop)


def test_quality_says_what_a_codec_costs(trained: Path) -> None:
    table = codec_quality(codecs.load_codec(trained), count=4)
    assert list(table.index) == ["unquantised", "all codebooks", "mixtures, unquantised"]
    assert list(table.columns) == [*QUALITY, "pieces", "failed"] and (table["pieces"] == 4).all()
    assert (table["failed"] == 0).all() and np.isfinite(table.to_numpy(float)).all()
    assert table["estoi"].max() < 0.5


class Perfect(torch.nn.Module):
    """A codec that loses nothing."""

    rate = 16_000

    def __init__(self) -> None:
        super().__init__()
        self.place = torch.nn.Parameter(torch.zeros(()))

    def round_trip(self, wave: torch.Tensor, books: int | None = None) -> torch.Tensor:
        return wave


def test_a_perfect_codec_has_perfect_quality(tiny: None) -> None:
    table = codec_quality(Perfect(), count=5)  # type: ignore[arg-type]
    assert table["si_sdr"].min() > 60 and table["stoi"].min() > 0.999 and table["pesq_wb"].min() > 4.5


def test_pieces_are_spread_and_at_one_level() -> None:
    pieces = speech_pieces(speech(True), 40, 4.0)
    assert {piece.track for piece in pieces} == {track.track for track in tracks()}
    levels = [np.sqrt(np.mean(np.square(piece.wave, dtype=float))) for piece in pieces]
    np.testing.assert_allclose(levels, 0.05, rtol=1e-4)
    with pytest.raises(BadInput, match="count: expected 1 to"):
        speech_pieces(speech(True), 10**6, 4.0)


def test_the_command_trains_the_codec_and_prints_its_quality(tiny: None, tmp_path: Path) -> None:
    words = ["train", "codec", "--out", str(tmp_path), "--steps", "2", "--device", "cpu"]
    shown = CliRunner().invoke(cli.app, words, catch_exceptions=False).output
    path = Path(shown.strip().rpartition(": ")[2])
    assert path.name == "codec.safetensors" and path.is_relative_to(tmp_path) and "pesq_wb" in shown
    about = load_weights(path)[1]
    assert about["training"]["steps"] == 2 and about["training"]["seed"] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("codec", "--split", "trial"), "--split: expected no such option with `train codec`"),
        (("codec", "--set", "size=demo"), "--set: expected no such option with `train codec`"),
        (("codec", "--steps", "0"), "steps: expected at least 1, found 0"),
        (("codec", "--seed", "-1"), "seed: expected at least 0, found -1"),
        (("codec", "--device", "gpus"), "device: expected auto or cpu"),
        (("dprnn", "--compile"), "--compile: expected no such option with `train dprnn`"),
    ],
)
def test_what_the_codec_has_no_use_for_is_refused(words: tuple[str, ...], message: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=message):
        CliRunner().invoke(cli.app, ["train", *words, "--out", str(tmp_path)], catch_exceptions=False)
