"""Latents of a frozen codec: computed once, in step with the EEG, remixed within one part of the split alone."""

import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from eeg2speech.data import Store
from eeg2speech.data.mixing import Mixer
from eeg2speech.data.store import StoreWriter
from eeg2speech.data.types import Samples, Trial
from eeg2speech.models.codec import DacCodec
from eeg2speech.splits import make_split
from eeg2speech.splits.manifest import Span
from eeg2speech.training.codec import CodecSettings, build
from eeg2speech.training.examples import Examples
from eeg2speech.training.latents import GAIN_DB, Item, LatentCache, LatentExamples

TINY = CodecSettings(encoder_hidden_size=4, decoder_hidden_size=32, n_codebooks=2, codebook_size=16, codebook_dim=4)


@pytest.fixture(scope="module")
def codec() -> DacCodec:
    return DacCodec(build(TINY))


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where this module's latents are kept."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EEG2SPEECH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield tmp_path_factory.getbasetemp()


def examples(store: Store, kind: str = "trial", part: str = "train") -> Examples:
    return Examples(store, make_split(store.index, kind).parts[part], Mixer(store))


def sound(samples: int = 8000, seed: int = 0) -> Samples:
    return 0.1 * np.random.default_rng(seed).standard_normal(samples).astype(np.float32)


def span_of(source: LatentExamples, trial: str) -> Span:
    (span,) = (span for span in source.examples.spans if span.trial == trial)
    return span


def forbidden(*_: object) -> Tensor:
    raise AssertionError("computed again")


def test_latents_are_computed_once(codec: DacCodec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wave = sound()
    first = LatentCache(codec, tmp_path).latents(wave)
    expected = codec.encode(torch.from_numpy(wave)[None])[0].half().numpy()
    np.testing.assert_array_equal(first, expected)
    assert first.dtype == np.float16 and first.shape == (codec.width, 25)
    monkeypatch.setattr(DacCodec, "encode", forbidden)
    np.testing.assert_array_equal(LatentCache(codec, tmp_path).latents(wave.copy()), expected)
    with pytest.raises(AssertionError, match="computed again"):
        LatentCache(codec, tmp_path).latents(-wave)
    assert [path.suffix for path in tmp_path.rglob("*.*")] == [".npy"]


def test_what_is_heard_is_encoded_in_one_run_of_many(
    store: Store, codec: DacCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = LatentExamples(examples(store), codec, remix=1.0).random(2.0, 4, 0, 0)
    first = [LatentExamples(examples(store), codec, remix=1.0).item(item) for item in items]
    monkeypatch.setattr(DacCodec, "encode", forbidden)
    again = LatentExamples(examples(store), codec, remix=1.0)
    for item, before in zip(items, first, strict=True):
        after = again.item(item)
        assert after.keys() == before.keys() and all(torch.equal(after[name], before[name]) for name in after)


def test_codecs_do_not_share(store: Store, codec: DacCodec, tmp_path: Path) -> None:
    other, wave = DacCodec(build(TINY, seed=1)), sound()
    one, two = (LatentCache(c, tmp_path).latents(wave) for c in (codec, other))
    assert not np.array_equal(one, two)
    assert {path.name for path in tmp_path.iterdir()} == {codec.fingerprint, other.fingerprint}
    mine, theirs, mixed = (
        LatentExamples(examples(store), c, remix) for c, remix in ((codec, 0.0), (other, 0.0), (codec, 1.0))
    )
    assert len({mine.key, theirs.key, mixed.key}) == len({mine.audio_key, theirs.audio_key, mixed.audio_key}) == 3


def place_in(whole: np.ndarray, part: np.ndarray) -> int:
    """Where ``part`` stands in ``whole``, both [D, ...]; it has to be one place only."""
    count = part.shape[1]
    candidates = np.flatnonzero((whole[:, : whole.shape[1] - count + 1] == part[:, :1]).all(0))
    (found,) = (int(k) for k in candidates if np.array_equal(whole[:, k : k + count], part))
    return found


@pytest.mark.parametrize("kind", ["trial", "within_trial"])
def test_a_window_is_the_nearest_frames_of_its_whole_span(store: Store, codec: DacCodec, kind: str) -> None:
    source = LatentExamples(examples(store, kind), codec)
    # The last windows of their spans, too.
    last = [Item(replace(i.segment, start=span_of(source, i.segment.trial).stop - 2.0)) for i in source.fixed(2, 3)]
    for item in [*source.random(2.0, 12, 0, 0), *source.fixed(2.0, 3), *last]:
        segment, span = item.segment, span_of(source, item.segment.trial)
        whole, found = source.heard(span), source.item(item)
        first = place_in(np.asarray(whole.latents[0]), found["latents"][0].half().numpy())
        late = first / codec.frame_rate - (segment.start - span.start)
        # Where the span ends within a frame, a window that ends with it begins on the frame before.
        ends = first + 100 == len(whole.waves[0]) // codec.hop
        assert -(1.0 if ends else 0.5) / codec.frame_rate - 1e-9 < late < 0.5 / codec.frame_rate + 1e-9
        for number, name in enumerate(("mixture", "target", "interferer")):
            latents = np.asarray(whole.latents[number])[:, first : first + 100]
            np.testing.assert_array_equal(found["latents"][number], latents.astype(np.float32))
            np.testing.assert_array_equal(found[name], whole.waves[number][first * 320 : (first + 100) * 320])
            assert found[name].shape == (100 * codec.hop,)
        assert torch.equal(found["mixture"], found["target"] + found["interferer"])
        np.testing.assert_array_equal(found["eeg"], store.cut_eeg(segment))
        assert store.subjects[int(found["subject"])] == store.trial(segment.trial).subject


def test_windows_are_those_of_the_examples_and_a_share_is_mixed_anew(store: Store, codec: DacCodec) -> None:
    plain = examples(store)
    source = LatentExamples(plain, codec, remix=0.5)
    items = source.random(1.0, 60, 0, 1)
    assert [item.segment for item in items] == plain.random(1.0, 60, 0, 1)
    assert 15 < sum(item.other is not None for item in items) < 45
    np.random.rand(3)
    assert source.random(1.0, 60, 0, 1) == items
    assert source.random(1.0, 60, 0, 2) != items and source.random(1.0, 60, 1, 1) != items
    assert {item.other for item in LatentExamples(plain, codec).random(1.0, 60, 0, 1)} == {None}
    assert source.fixed(1.0, 5) == [Item(segment) for segment in plain.fixed(1.0, 5)]


def test_a_span_is_heard_as_the_study_mixes_it(store: Store, codec: DacCodec) -> None:
    plain = examples(store)
    source = LatentExamples(plain, codec, remix=1.0)
    scenes = [scene for _, scene in plain.scenes()]
    for span, scene in list(zip(plain.spans, scenes, strict=True))[:2]:
        heard = source.heard(span)
        for number, wave in enumerate((scene.mixture, scene.target, scene.interferer)):
            np.testing.assert_array_equal(heard.waves[number], wave)
            latents = codec.encode(torch.from_numpy(np.array(wave))[None])[0].half()
            np.testing.assert_array_equal(heard.latents[number], latents)


@pytest.mark.parametrize("part", ["train", "valid"])
def test_a_window_is_mixed_anew_with_another_speaker_of_the_same_part(store: Store, codec: DacCodec, part: str) -> None:
    plain = examples(store, "stimulus", part)
    inside = {span.trial for span in plain.spans}
    assert inside < store.trials.keys()
    items = LatentExamples(plain, codec, remix=1.0).random(1.0, 200, 0, 0)
    for item in items:
        assert item.other is not None and item.other.trial in inside
        own, other = (store.trial(window.trial).attended for window in (item.segment, item.other))
        assert store.speakers[own] != store.speakers[other]
    # Neither is louder than the other on the whole, so that loudness does not tell the target.
    gains = 20 * np.log10([item.gains for item in items])
    assert np.abs(gains).max() <= GAIN_DB and np.abs(gains.mean(0)).max() < 0.5 and gains.std(0).min() > GAIN_DB / 3


def test_what_is_mixed_anew_adds_up_from_silence(store: Store, codec: DacCodec) -> None:
    source = LatentExamples(examples(store), codec, remix=1.0)
    (item,) = source.random(1.0, 9, 0, 0)[4:5]
    assert item.other is not None
    found, one, two = (source.item(i) for i in (item, Item(item.segment), Item(item.other)))
    (loud, soft), silence = item.gains, torch.from_numpy(source._silence)
    assert torch.equal(found["eeg"], one["eeg"]) and torch.equal(found["subject"], one["subject"])
    torch.testing.assert_close(found["target"], loud * one["target"])
    torch.testing.assert_close(found["interferer"], soft * two["target"])
    torch.testing.assert_close(found["mixture"], found["target"] + found["interferer"])
    mixture, target, interferer = found["latents"] - silence
    torch.testing.assert_close(target, loud * (one["latents"][1] - silence), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(interferer, soft * (two["latents"][1] - silence), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(mixture, target + interferer, atol=1e-5, rtol=1e-4)
    # At a gain of 0 nothing is left but silence as the codec says it.
    nothing = source.item(Item(item.segment, item.other, (0.0, 0.0)))["latents"]
    quiet = codec.encode(torch.zeros(1, 100 * codec.hop))[0, :, 50:51]
    torch.testing.assert_close(nothing, quiet.expand_as(nothing), atol=1e-3, rtol=1e-3)


class Altered(Store):
    """A store whose sound is turned upside down after ``stop`` seconds, so that levels stay."""

    stop = 0.0

    def stimulus(self, identity: str) -> Samples:
        wave = np.array(super().stimulus(identity))
        wave[round(self.stop * self.facts.audio_rate) :] *= -1
        return wave


def test_nothing_beyond_a_span_has_an_influence(store: Store, codec: DacCodec) -> None:
    plain = examples(store, "within_trial")
    altered = Altered(store.root)
    altered.stop = plain.spans[0].stop
    assert 0 < altered.stop < 12
    one, other = (LatentExamples(e, codec) for e in (plain, examples(altered, "within_trial")))
    for span in plain.spans[:3]:
        for before, after in zip(one.heard(span), other.heard(span), strict=True):
            for a, b in zip(before, after, strict=True):
                np.testing.assert_array_equal(a, b)
    span = examples(store, "within_trial", "valid").spans[0]
    before, after = (LatentExamples(examples(s, "within_trial", "valid"), codec).heard(span) for s in (store, altered))
    assert not np.array_equal(before.waves[1], after.waves[1])


def test_batches_are_the_items_in_their_order(store: Store, codec: DacCodec) -> None:
    source = LatentExamples(examples(store), codec, remix=1.0)
    items = source.random(1.0, 5, 0, 0)
    batches = list(source.loader(items, 2))
    assert [len(batch.mixture) for batch in batches] == [2, 2, 1]
    for name in ("mixture", "target", "interferer", "eeg", "subject", "latents"):
        joined = torch.cat([getattr(batch, name) for batch in batches])
        assert torch.equal(joined, torch.stack([source.item(item)[name] for item in items]))
    assert batches[0].latents.shape == (2, 3, codec.width, 50)
    assert torch.equal(batches[0].to(torch.device("cpu")).latents, batches[0].latents)


def test_a_worker_s_copy_gives_the_same(
    store: Store, codec: DacCodec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What a loader's worker gets has been pickled; all that it needs was encoded before it was started."""
    source = LatentExamples(examples(store), codec, remix=1.0)
    items = source.random(1.0, 3, 0, 0)
    data = source.loader(items, 2).dataset
    copy = pickle.loads(pickle.dumps(data))
    monkeypatch.setattr(DacCodec, "encode", forbidden)
    for number in range(3):
        assert all(torch.equal(tensor, data[number][name]) for name, tensor in copy[number].items())


def uneven(store: Store, root: Path) -> Store:
    """Two pairs of stimuli, of 3 s and of 2 s, each heard by two listeners."""
    writer = StoreWriter(root, replace(store.facts, name="uneven"), store.index.sensors, {})
    pairs = []
    for number, seconds in enumerate((3, 2)):
        waves = [sound(16_000 * seconds, 10 * number + k) for k in (1, 2)]
        pairs.append([writer.add_stimulus(w, 16_000, f"talker {k}", "en", "x") for k, w in enumerate(waves)])
    for subject in ("A", "B"):
        eeg = np.random.default_rng(ord(subject)).standard_normal((len(store.index.sensors), 5 * 128))
        writer.add_recording(subject, subject, eeg.astype(np.float32), 128)
        writer.add_trial(Trial(f"{subject}1", subject, subject, 0.0, 3.0, *pairs[0]))
        writer.add_trial(Trial(f"{subject}2", subject, subject, 3.0, 2.0, *pairs[1][::-1]))
    return writer.close()


@pytest.mark.parametrize("kind", ["trial", "within_trial"])
def test_trials_of_different_lengths_are_mixed_anew(store: Store, codec: DacCodec, tmp_path: Path, kind: str) -> None:
    """And where all attend to one speaker, windows stay as they are."""
    made = uneven(store, tmp_path / "uneven")
    share = 0.7 if kind == "within_trial" else 1.0
    spans = tuple(Span(trial.id, 0.0, share * trial.duration) for trial in made.trials.values())
    source = LatentExamples(Examples(made, spans, Mixer(made)), codec, remix=1.0)
    items = source.random(1.0, 12, 0, 0)
    assert all(item.other is not None for item in items)
    assert all(source.item(item)["latents"].shape == (3, codec.width, 50) for item in items)
    alone = LatentExamples(Examples(made, spans[:1], Mixer(made)), codec, remix=1.0)
    assert {item.other for item in alone.random(1.0, 4, 0, 0)} == {None}
