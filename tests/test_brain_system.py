"""The brain encoder as a system: it finds what was heard, and its features are those of the training."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import Wav2Vec2Config, Wav2Vec2Model

from eeg2speech.data import Store
from eeg2speech.data.mixing import Mixer
from eeg2speech.data.types import Segment
from eeg2speech.errors import BadInput
from eeg2speech.evaluation.api import evaluate
from eeg2speech.metrics.retrieval import match_mismatch, places, top
from eeg2speech.splits import make_split
from eeg2speech.systems import brain_encoder as module
from eeg2speech.systems.brain_encoder import BrainEncoderSystem
from eeg2speech.systems.interface import Context, embedded, seen
from eeg2speech.systems.registry import build, declare
from eeg2speech.training.budget import Budget, RunOptions
from eeg2speech.training.examples import Examples
from eeg2speech.training.feature_examples import GRID

TINY = Wav2Vec2Config(
    hidden_size=16,
    num_hidden_layers=4,
    num_attention_heads=2,
    intermediate_size=32,
    conv_dim=(16,) * 7,
    num_conv_pos_embeddings=16,
    num_conv_pos_embedding_groups=2,
)
SECONDS = 3.0


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where this module's features are kept; and a smaller network, shorter epochs, smaller batches."""
    small = replace(BrainEncoderSystem.plan, epoch_steps=20, valid_segments=16, learning_rate=2e-3)
    with pytest.MonkeyPatch.context() as patch:
        size = replace(module.SIZES["demo"], channels=16, harmonics=4, hidden=32, blocks=2)
        patch.setitem(module.SIZES, "demo", size)
        patch.setitem(module.WIDTHS, "demo", 24)
        patch.setenv("EEG2SPEECH_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(BrainEncoderSystem, "plan", small)
        yield


@pytest.fixture(scope="module")
def wav2vec2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("networks") / "tiny"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        Wav2Vec2Model(TINY).save_pretrained(path)
    return path


def built(store: Store, **settings: Any) -> Any:
    return build(
        declare({"system": "brain_encoder", "settings": {"negatives": 15} | settings}), Context.of(store, SECONDS)
    )


def examples(store: Store, part: str = "train", kind: str = "trial") -> Examples:
    return Examples(store, make_split(store.index, kind).parts[part], Mixer(store))


def fitted(system: Any, store: Store, folder: Path, steps: int, kind: str = "trial") -> Any:
    options = RunOptions(folder, None, 0, "cpu", precision="32-true", progress=False)
    return system.fit(examples(store, "train", kind), examples(store, "valid", kind), Budget(steps=steps), options)


def heard(store: Store, segment: Segment) -> Tensor:
    """The attended speech of a window [1, T]."""
    begin = round(16_000 * segment.start)
    wave = Mixer(store).talkers(segment.trial, begin, begin + round(16_000 * segment.duration))[0]
    return torch.from_numpy(wave)[None]


def found_again(system: Any, store: Store, part: Examples) -> list[Any]:
    """Places of the true windows among all of a part, none of which is there twice."""
    windows = part.fixed(SECONDS, 1000)
    batch = next(iter(system.source(part, learning=False).loader(windows, len(windows))))
    queries = embedded(system, batch.eeg, batch.subject).flatten(1).numpy()
    waves = [heard(store, window) for window in windows]
    distinct = {wave.numpy().tobytes(): wave for wave in waves}
    with torch.inference_mode():
        candidates = system.embed_speech(torch.cat(list(distinct.values()))).flatten(1).numpy()
    rows = [list(distinct).index(wave.numpy().tobytes()) for wave in waves]
    return places(queries, candidates, rows)


# Training.


@pytest.mark.parametrize("speech", ["mel", "deep_mel"])
def test_it_finds_what_was_heard_in_trials_that_it_has_not_learned_from(
    store: Store, tmp_path: Path, speech: str
) -> None:
    system = built(store, speech=speech)
    training = fitted(system, store, tmp_path, 40)
    assert [point["step"] for point in training.curve] == [20.0, 40.0]
    assert training.curve[-1]["valid/loss"] < training.curve[0]["valid/loss"]
    found = found_again(system, store, examples(store, "test"))
    assert found[0].n >= 8
    assert np.mean([match_mismatch(2)(place) for place in found]) > 0.8
    assert np.mean([top(1)(place) for place in found]) > 4 / found[0].n


def test_before_training_it_guesses(store: Store) -> None:
    torch.manual_seed(0)
    system = built(store)
    system.network.brain.mark_known(range(len(store.subjects)))
    found = found_again(system, store, examples(store, "test"))
    assert 0.25 < np.mean([match_mismatch(2)(place) for place in found]) < 0.68


def test_features_are_of_mean_0_and_variance_1_where_it_learns(store: Store, tmp_path: Path) -> None:
    system, train, valid = built(store), examples(store), examples(store, "valid")
    system.warm_start(train, valid, Budget(steps=1), RunOptions(tmp_path, None, 0, "cpu"))
    source = system.source(train)
    features = next(iter(source.loader(source.random(SECONDS, 32, 1, 1), 32))).features
    network = system.network
    normal = (features - network.get_buffer("mean")) / network.get_buffer("deviation")
    assert normal.mean((0, 2)).abs().max() < 0.3 and (normal.std((0, 2)) - 1).abs().max() < 0.3
    assert network.brain.subject.known.all()


def test_only_those_it_learns_from_are_known(store: Store, tmp_path: Path) -> None:
    system = built(store, unknown_subjects="refuse")
    train = examples(store, "train", "subject")
    system.warm_start(train, train, Budget(steps=1), RunOptions(tmp_path, None, 0, "cpu"))
    expected = {store.trial(span.trial).subject for span in train.spans}
    assert 0 < len(expected) < len(store.subjects)
    eeg = torch.randn(1, len(store.index.sensors), 384)
    for number, name in enumerate(store.subjects):
        if name in expected:
            assert embedded(system, eeg, torch.tensor([number])).shape[1] == system.dimension
            continue
        with pytest.raises(BadInput, match=f"brain_encoder: subject: expected listeners of the training, found {name}"):
            embedded(system, eeg, torch.tensor([number]))
    with pytest.raises(BadInput, match="expected listeners of the training, found a stranger"):
        embedded(system, eeg, torch.tensor([-1]))


@pytest.mark.parametrize("speech", ["mel", "wav2vec2"])
def test_mean_squared_error_is_learned_on_fixed_features(
    store: Store, tmp_path: Path, wav2vec2: Path, speech: str
) -> None:
    model = {"speech_model": str(wav2vec2)} if speech == "wav2vec2" else {}
    system = built(store, speech=speech, loss="mse", **model)
    curve = fitted(system, store, tmp_path, 30).curve
    # What says nothing, and knows the mean, is 1 off.
    assert curve[-1]["valid/loss"] < curve[0]["valid/loss"] and curve[-1]["valid/loss"] < 1.3
    assert not list(system.network.speech.parameters())


@pytest.mark.parametrize("context", ["segment", "stimulus"])
def test_wav2vec2_learns_in_both_contexts_and_says_what_it_sees(
    store: Store, tmp_path: Path, wav2vec2: Path, context: str
) -> None:
    system = built(store, speech="wav2vec2", speech_model=str(wav2vec2), speech_context=context)
    assert fitted(system, store, tmp_path, 2).steps == 2
    assert system.facts.sees == ("stimuli" if context == "stimulus" else "mixture")
    assert seen(system.facts, "retrieval") == ("stimuli" if context == "stimulus" else "candidates")
    assert BrainEncoderSystem.facts.sees == "mixture" and context in system.facts.title
    record = evaluate(system, store, "stimulus", ["true_eeg"], "demo-retrieval-1").records["true_eeg"]
    assert record.system.sees == seen(system.facts, "retrieval")
    assert record.metrics["top10"].n_failed == 0


# Features.


def windows(store: Store, starts: tuple[float, ...] = (0.0, 2.5, 6.0, 9.0)) -> list[Segment]:
    return [Segment(store.index.trials[k].id, start, SECONDS) for k, start in enumerate(starts)]


@pytest.mark.parametrize("speech", ["mel", "deep_mel"])
def test_mels_of_a_window_are_those_of_the_training_but_for_the_edges(store: Store, speech: str) -> None:
    """Three frames on either side see what is reflected there in place of what goes on."""
    system = built(store, speech=speech)
    system.network.brain.mark_known([0])
    source = system.source(examples(store))
    for window in windows(store):
        kept, alone = source.item(window)["features"], system.features(heard(store, window))[0]
        assert kept.shape == alone.shape == (64, 300)
        torch.testing.assert_close(kept[:, 3:-3], alone[:, 3:-3], atol=6e-3, rtol=0)
        with torch.inference_mode():
            found = system.embed_speech(heard(store, window))[0]
            trained = system._speech(kept[None], SECONDS)[0]
        reach = 3 if speech == "mel" else 40
        assert found.shape == trained.shape == (system.dimension, 182)
        assert (found - trained)[:, reach:-reach].abs().max() < 0.02 * found.std() + 6e-3


def test_wav2vec2_of_a_window_is_that_of_the_training(store: Store, wav2vec2: Path) -> None:
    """To the bit in either context: inside the window, or of the whole trial."""
    for context in ("segment", "stimulus"):
        system = built(store, speech="wav2vec2", speech_model=str(wav2vec2), speech_context=context)
        source = system.source(examples(store))
        for window in windows(store):
            kept = source.item(window)["features"]
            with torch.inference_mode():
                expected = system._speech(kept[None], SECONDS)[0]
                if context == "segment":
                    found = system.embed_speech(heard(store, window))[0]
                else:
                    whole = heard(store, Segment(window.trial, 0.0, store.trial(window.trial).duration))[0]
                    begin = round(16_000 * window.start)
                    found = system.embed_speech_in(whole, begin, begin + round(16_000 * SECONDS))
            assert torch.equal(found, expected) and found.shape == (16, 182)


def test_contexts_differ_in_what_stands_around(store: Store, wav2vec2: Path) -> None:
    window = windows(store)[1]
    kept = [
        built(store, speech="wav2vec2", speech_model=str(wav2vec2), speech_context=context)
        .source(examples(store))
        .item(window)["features"]
        for context in ("segment", "stimulus")
    ]
    assert kept[0].shape == kept[1].shape and not torch.equal(kept[0], kept[1])


def test_random_windows_begin_where_their_features_are_met_again(store: Store, wav2vec2: Path) -> None:
    """On a grid within their span, where features are of the window alone; anywhere else."""
    part = examples(store, kind="within_trial")
    alone = built(store, speech="wav2vec2", speech_model=str(wav2vec2)).source(part)
    spans = {span.trial: [other for other in part.spans if other.trial == span.trial] for span in part.spans}
    for window in alone.random(SECONDS, 50, 0, 0):
        (span,) = (s for s in spans[window.trial] if s.start <= window.start < s.stop)
        assert window.start + SECONDS <= span.stop + 1e-6
        assert (window.start - span.start) / GRID == pytest.approx(round((window.start - span.start) / GRID))
    free = built(store).source(part).random(SECONDS, 50, 0, 0)
    assert free == part.random(SECONDS, 50, 0, 0)


def test_sources_are_named_by_their_features_and_context(store: Store, wav2vec2: Path) -> None:
    part = examples(store)
    settings: list[dict[str, Any]] = [
        {"speech": "mel"},
        {"speech": "wav2vec2", "speech_model": str(wav2vec2)},
        {"speech": "wav2vec2", "speech_model": str(wav2vec2), "speech_context": "stimulus"},
    ]
    sources = [built(store, **entry).source(part) for entry in settings]
    assert len({source.key for source in sources}) == len({source.audio_key for source in sources}) == 3
    assert built(store).source(part).key == sources[0].key


# Answers.


def test_embeddings_of_both_sides_have_one_shape_and_rows_of_their_own(store: Store) -> None:
    system = built(store)
    system.network.brain.mark_known(range(4))
    draw = torch.Generator().manual_seed(0)
    for samples in (384, 328):
        eeg = 10 * torch.randn(3, len(store.index.sensors), samples, generator=draw)
        speech = 0.05 * torch.randn(3, samples * 125, generator=draw)
        felt = embedded(system, eeg, torch.arange(3))
        with torch.inference_mode():
            sounded = system.embed_speech(speech)
            one = system.embed_speech(speech[1:2])
        assert felt.shape == sounded.shape and felt.dtype == sounded.dtype == torch.float32
        torch.testing.assert_close(sounded[1:2], one, atol=1e-4, rtol=1e-4)
        alone = embedded(system, eeg[1:2], torch.arange(1, 2))
        torch.testing.assert_close(felt[1:2], alone, atol=1e-4, rtol=1e-4)


def test_ablations_are_other_networks(store: Store) -> None:
    plain = built(store)
    for settings in ({"subject_layer": False}, {"final": False}):
        assert built(store, **settings).parameters != plain.parameters
    size = built(store, spatial_dropout=0.0, clamp=None).network.brain.size
    assert (size.spatial_dropout, size.clamp) == (0.0, None)
    assert plain.network.brain.size.clamp == 20.0


def test_a_recipe_tells_the_features(store: Store, wav2vec2: Path) -> None:
    recipes = [
        built(store, **settings).recipe(Budget(steps=3))
        for settings in ({}, {"speech": "wav2vec2", "speech_model": str(wav2vec2)})
    ]
    assert recipes[0]["speech"] == "audioldm-mel-1" != recipes[1]["speech"]
    assert recipes[0]["plan"]["steps"] == 3


def test_a_batch_is_a_segment_and_its_negatives(store: Store) -> None:
    system = built(store, negatives=6)
    assert system.recipe(Budget())["plan"]["batch"] == system.plan.batch == 7
    assert BrainEncoderSystem.plan.batch == 64 and built(store, negatives=63).plan.batch == 64


# Refusals.


def test_what_lies_around_a_window_is_not_asked_for_without_leave(store: Store) -> None:
    with pytest.raises(BadInput, match="embed_speech_in: expected a system that sees stimuli, found sees 'mixture'"):
        built(store).embed_speech_in(torch.zeros(64_000), 0, 48_000)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"speech": "wav2vec2"}, "expected speech_model is needed with speech wav2vec2"),
        ({"speech_model": "x"}, "expected speech_model is needed with speech wav2vec2, and means nothing without"),
        ({"speech_context": "stimulus"}, "expected speech_context stimulus is for speech wav2vec2"),
        ({"loss": "mse"}, "expected loss mse needs fixed features"),
        ({"negatives": 0}, "negatives: expected .*greater than or equal to 1"),
        ({"loss": "clop"}, "loss: expected .*'clip'.*, found 'clop'"),
        ({"spech": "mel"}, "'spech' .did you mean 'speech'"),
        ({"clamp": 0.0}, "clamp: expected .*greater than 0"),
        ({"spatial_dropout": -0.1}, "spatial_dropout: expected .*greater than or equal to 0"),
        ({"speech": "wav2vec2", "speech_model": "./none"}, "none: model: expected a folder .*, found no such folder"),
    ],
)
def test_settings_that_mean_nothing_are_refused(store: Store, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        built(store, **settings)


def test_speech_that_cannot_be_used_is_refused(store: Store) -> None:
    system = built(store)
    with pytest.raises(BadInput, match=r"BrainEncoder: eeg: expected at least 0\.5 s"):
        system.embed_speech(torch.zeros(1, 4000))
    with pytest.raises(BadInput, match=r"LogMel: wave: expected floats \[B, T\] of at least 433 samples"):
        system.embed_speech(torch.zeros(1, 400))
    with pytest.raises(BadInput, match="DeepMel: mel: expected finite values"):
        system.embed_speech(torch.full((1, 48_000), torch.nan))
