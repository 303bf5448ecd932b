"""Linear decoders, floors and ceilings of retrieval and generation, on the small study."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from eeg2speech_baselines import generation
from eeg2speech_baselines.backward_model import BackwardModel, Moments, SubjectModels, lagged, ridge
from eeg2speech_baselines.floors import RetrievalChance
from eeg2speech_baselines.generation import (
    AutoencoderTarget,
    MeanSpeech,
    NearestSegment,
    VocoderTarget,
    bank_of,
    training_speech,
)
from eeg2speech_baselines.ridge_speech import RidgeEnvelope, RidgeMel, band_statistics
from torch import Tensor

from eeg2speech.data import Store
from eeg2speech.data.mixing import Mixer
from eeg2speech.errors import BadInput
from eeg2speech.evaluation.api import evaluate
from eeg2speech.models.mel import BANDS, LogMel
from eeg2speech.splits import make_split
from eeg2speech.systems.brain_encoder import BrainEncoderSystem
from eeg2speech.systems.interface import Context, System, embedded, generated
from eeg2speech.systems.registry import build, declare, system_class
from eeg2speech.training.budget import Budget, RunOptions
from eeg2speech.training.checkpoint import load_weights, save_weights
from eeg2speech.training.examples import Batch, Examples
from eeg2speech.training.parts import new_autoencoder, new_vocoder

SECONDS = 3.0
NAMES = {
    "ridge_envelope": RidgeEnvelope,
    "ridge_mel": RidgeMel,
    "retrieval_chance": RetrievalChance,
    "mean_speech": MeanSpeech,
    "vocoder_target": VocoderTarget,
    "autoencoder_target": AutoencoderTarget,
    "nearest_segment": NearestSegment,
}
Fitted = Callable[[str], System]


def randomly(make: Callable[[], Any]) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make()


@pytest.fixture(scope="module", autouse=True)
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Untrained parts in place of the embedded ones, a cache of its own, and short trainings."""
    vocoder, autoencoder = randomly(new_vocoder).eval(), randomly(new_autoencoder).eval()
    plan = replace(BrainEncoderSystem.plan, batch=8, valid_segments=8, epoch_steps=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generation, "load_vocoder", lambda name: vocoder)
        patch.setattr(generation, "load_autoencoder", lambda name: autoencoder)
        patch.setattr(BrainEncoderSystem, "plan", plan)
        patch.setenv("EEG2SPEECH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def context(store: Store) -> Context:
    return Context.of(store, SECONDS)


@pytest.fixture(scope="module")
def parts(store: Store) -> tuple[Examples, Examples]:
    split = make_split(store.index, "stimulus")
    train, valid = (Examples(store, split.parts[part], Mixer(store)) for part in ("train", "valid"))
    return train, valid


@pytest.fixture(scope="module")
def fitted(context: Context, parts: tuple[Examples, Examples], tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    known: dict[str, System] = {}

    def get(name: str) -> System:
        if name not in known:
            settings = {"bank": 5} if name == "nearest_segment" else {}
            known[name] = build(declare({"system": name, "settings": settings}), context)
            options = RunOptions(tmp_path_factory.mktemp(name), device="cpu", progress=False)
            known[name].fit(*parts, Budget(steps=2), options)
        return known[name]

    return get


@pytest.fixture(scope="module")
def batch(store: Store) -> Batch:
    examples = Examples(store, make_split(store.index, "stimulus").parts["test"], Mixer(store))
    made: Batch = next(iter(examples.loader(examples.fixed(SECONDS, 3), 3)))  # type: ignore[assignment]
    return made


def made_of(system: System, batch: Batch, rows: slice = slice(None)) -> Tensor:
    """What a system generates for some rows of a batch."""
    eeg, generators = batch.eeg[rows], [torch.Generator() for _ in batch.eeg[rows]]
    return generated(system, eeg, batch.subject[rows], generators, batch.target[rows])


def answers(system: System, batch: Batch) -> list[Tensor]:
    """All that a system says of a batch."""
    found = [made_of(system, batch)] if "generation" in system.facts.tasks else []
    if "retrieval" in system.facts.tasks:
        found += [embedded(system, batch.eeg, batch.subject), system.embed_speech(batch.target)]
    return found


# Several outputs of the backward model


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def test_bands_are_decoded_as_each_alone() -> None:
    eeg, bands, lags = noise(0, 4, 500), noise(1, 500, 3), range(6)
    together = Moments(4, lags, (3,))
    together.add(eeg, bands)
    prior = noise(2, 6, 4, 3)
    found = ridge(together, [0.01, 1.0], prior)
    assert found.shape == (2, 6, 4, 3)
    for k in range(3):
        alone = Moments(4, lags)
        alone.add(eeg, bands[:, k])
        np.testing.assert_allclose(found[..., k], ridge(alone, [0.01, 1.0], prior[..., k]), atol=1e-12)


def test_bands_are_read_by_the_lagged_product_and_chosen_by_their_mean_correlation() -> None:
    examples = [("a", noise(k, 4, 400), noise(k + 50, 400, 3)) for k in range(4)]
    models = SubjectModels((0.0, 0.1), alphas=[1e-3, 1.0]).fit(examples[:3], examples[3:])
    model, eeg, bands = models.of("a"), *examples[3][1:]
    read = model.reconstruct(eeg)
    np.testing.assert_allclose(read, lagged(eeg, model.lags) @ model.weights.reshape(-1, 3), atol=1e-12)
    r = [np.corrcoef(read[:, k], bands[:, k])[0, 1] for k in range(3)]
    assert model.correlate(eeg, bands) == pytest.approx(np.mean(r)) == pytest.approx(model.valid_r)
    again = SubjectModels.from_state(models.state()).of("a")
    assert np.array_equal(again.reconstruct(eeg), read)


def test_another_number_of_bands_is_refused() -> None:
    with pytest.raises(BadInput, match=r"\['samples', 3\]"):
        Moments(4, range(3), (3,)).add(noise(0, 4, 100), noise(1, 100, 2))
    with pytest.raises(BadInput, match="bands"):
        BackwardModel.from_state(BackwardModel().state() | {"weights": np.zeros((27, 4, 3, 2))})


# Retrieval


@pytest.mark.parametrize(("name", "least"), [("ridge_envelope", 0.4), ("ridge_mel", 0.4)])
def test_the_speech_that_was_heard_is_found_and_nothing_in_noise(
    store: Store, fitted: Fitted, name: str, least: float
) -> None:
    records = evaluate(fitted(name), store, "stimulus", protocol_name="demo-retrieval-1").records
    true, noise_cue = (records[control].metrics for control in ("true_eeg", "noise_cue"))
    chance = 1 / records["true_eeg"].candidates.n  # type: ignore[union-attr]
    assert true["top1"].mean > least > 3 * chance
    assert true["attention_accuracy"].mean > 0.75
    assert abs(noise_cue["attention_accuracy"].mean - 0.5) < 0.3
    assert noise_cue["top1"].mean < 3 * chance < true["top1"].mean


def test_saying_nothing_scores_at_chance_to_the_digit(store: Store, fitted: Fitted) -> None:
    record = evaluate(fitted("retrieval_chance"), store, "stimulus", ["true_eeg"], "demo-retrieval-1").records[
        "true_eeg"
    ]
    n = record.candidates.n  # type: ignore[union-attr]
    expected = {"top1": 1 / n, "top5": 5 / n, "rank": (n + 1) / 2, "match_mismatch_2": 0.5, "attention_accuracy": 0.5}
    for metric, value in expected.items():
        assert record.metrics[metric].mean == pytest.approx(value, abs=1e-6), metric


@pytest.mark.parametrize("name", ["ridge_envelope", "ridge_mel"])
@pytest.mark.parametrize("samples", [33, 64, 101, 385, 500])
def test_both_sides_have_frames_alike_and_each_band_on_one_scale(
    fitted: Fitted, batch: Batch, name: str, samples: int
) -> None:
    system, speech = fitted(name), noise(3, 1, round(samples / 128 * 16_000))
    felt = system.embed_eeg(batch.eeg.repeat(1, 1, 2)[:1, :, :samples], batch.subject[:1])
    heard = system.embed_speech(torch.from_numpy(speech).float())
    assert felt.shape == heard.shape == (1, 1 if name == "ridge_envelope" else BANDS, samples // 2)
    for embedding in (felt, heard):
        assert embedding.mean(-1).abs().max() < 1e-4
        torch.testing.assert_close(embedding.std(-1, correction=0), torch.ones(embedding.shape[:2]), atol=1e-3, rtol=0)


@pytest.mark.parametrize("eeg_rate", [64, 100, 128, 250, 1000])
def test_frames_agree_at_any_rate_of_the_eeg(context: Context, eeg_rate: int) -> None:
    other = replace(context, eeg_rate=eeg_rate)
    for samples in range(eeg_rate, eeg_rate + 12):
        system = build(declare("ridge_mel"), other)
        assert isinstance(system, RidgeMel)
        system.models.pooled.weights = np.ones((27, 64, BANDS))
        eeg = torch.from_numpy(noise(4, 1, 64, samples)).float()
        speech = torch.from_numpy(noise(5, 1, round(samples / eeg_rate * 16_000))).float()
        assert system.embed_eeg(eeg, torch.tensor([-1])).shape == system.embed_speech(speech).shape


@pytest.mark.parametrize("name", ["ridge_envelope", "ridge_mel"])
def test_silence_and_flat_eeg_say_nothing(fitted: Fitted, batch: Batch, name: str) -> None:
    system = fitted(name)
    assert not system.embed_eeg(torch.full_like(batch.eeg, 7.0), batch.subject).any()
    assert not system.embed_speech(torch.zeros_like(batch.target)).any()


@pytest.mark.parametrize("name", ["ridge_envelope", "ridge_mel"])
def test_the_unit_of_the_eeg_and_the_loudness_do_not_matter(fitted: Fitted, batch: Batch, name: str) -> None:
    system = fitted(name)
    felt = [system.embed_eeg(scale * batch.eeg.to(kind), batch.subject) for scale, kind in UNITS]
    heard = [system.embed_speech(scale * batch.target) for scale in (1.0, 4.0)]
    torch.testing.assert_close(felt[1], felt[0], atol=1e-3, rtol=0)
    # Bands below the floor of the logarithm come up with the loudness.
    assert torch.cosine_similarity(heard[0].flatten(), heard[1].flatten(), 0) > 0.95


UNITS = [(1.0, torch.float32), (1e-6, torch.float64)]


@pytest.mark.parametrize("name", ["ridge_envelope", "ridge_mel"])
def test_a_stranger_is_read_by_the_pooled_model(fitted: Fitted, batch: Batch, name: str) -> None:
    system: Any = fitted(name)
    known = system.embed_eeg(batch.eeg[:1], torch.tensor([0]))
    stranger = system.embed_eeg(batch.eeg[:1], torch.tensor([-1]))
    assert not torch.allclose(known, stranger, atol=1e-3)
    assert torch.equal(stranger, system.embed_eeg(batch.eeg[:1], torch.tensor([99])))


# All of them


@pytest.mark.parametrize(("name", "cls"), NAMES.items())
def test_each_is_registered_and_says_what_it_is(name: str, cls: type[System]) -> None:
    assert system_class(name) is cls
    facts = cls.facts
    assert facts.title and facts.licence and facts.source
    assert facts.tasks <= {"retrieval", "generation"}
    assert facts.sees == ("target" if name.endswith("_target") else "mixture")


@pytest.mark.parametrize("name", NAMES)
def test_answers_have_their_shape_and_do_not_depend_on_the_batch(fitted: Fitted, batch: Batch, name: str) -> None:
    system = fitted(name)
    for whole, *alone in zip(answers(system, batch), *(answers(system, row(batch, k)) for k in range(3)), strict=True):
        assert len(whole) == 3 and whole.dtype == torch.float32 and whole.isfinite().all()
        torch.testing.assert_close(torch.cat(alone), whole, atol=1e-4, rtol=0)


def row(batch: Batch, k: int) -> Batch:
    return Batch(*(getattr(batch, name)[k : k + 1] for name in batch.__dataclass_fields__))


@pytest.mark.parametrize("name", NAMES)
def test_weights_in_half_precision_give_nearly_the_same_answers(
    context: Context, fitted: Fitted, batch: Batch, name: str, tmp_path: Path
) -> None:
    system = fitted(name)
    save_weights(tmp_path / "system.safetensors", system.state(), {}, half=True)
    again = build(declare({"system": name, "settings": system.settings.model_dump()}), context)
    again.load_state(load_weights(tmp_path / "system.safetensors")[0])
    for before, after in zip(answers(system, batch), answers(again, batch), strict=True):
        scale = float(before.abs().max()) or 1.0
        torch.testing.assert_close(after, before, atol=0.02 * scale, rtol=0)
    assert again.parameters == system.parameters


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith(("speech", "mel", "segment", "envelope"))])
def test_the_state_of_another_system_is_refused(context: Context, name: str) -> None:
    with pytest.raises(BadInput):
        build(declare(name), context).load_state({"weights": torch.zeros(3)})


@pytest.mark.parametrize("name", [name for name, cls in NAMES.items() if "generation" in cls.facts.tasks])
def test_speech_at_another_rate_is_refused(context: Context, name: str) -> None:
    with pytest.raises(BadInput, match="16000 Hz"):
        build(declare(name), replace(context, audio_rate=8_000))


# Generation


def test_the_generated_mel_is_what_is_read_from_the_eeg(fitted: Fitted, batch: Batch) -> None:
    system = fitted("ridge_mel")
    assert isinstance(system, RidgeMel)
    given: list[Tensor] = []

    class Short(torch.nn.Module):
        def forward(self, mel: Tensor) -> Tensor:
            given.append(mel)
            return mel.new_ones(3, 10)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generation, "load_vocoder", lambda name: Short())
        wave = made_of(system, batch)
    assert wave[:, :10].all() and not wave[:, 10:].any()
    assert given[0].shape == (3, BANDS, 300)
    normal = (given[0].double().numpy() - system.mean[:, None]) / system.deviation[:, None]
    # Frame 25 k stands at sample 16 k of what is read.
    read = system.read(batch.eeg[1], batch.subject[1])
    np.testing.assert_allclose(normal[1][:, ::25], read[::16].T, atol=1e-4)


@pytest.mark.parametrize("samples", [100, 385])
@pytest.mark.parametrize("name", ["ridge_mel", "mean_speech", "vocoder_target", "autoencoder_target"])
def test_speech_lasts_as_long_as_the_eeg(fitted: Fitted, batch: Batch, name: str, samples: int) -> None:
    length = round(samples / 128 * 16_000)
    eeg, target = (x.repeat(1, *[1] * (x.ndim - 2), 2) for x in (batch.eeg, batch.target))
    cut = replace(batch, eeg=eeg[..., :samples], target=target[..., :length])
    assert made_of(fitted(name), cut).shape == (3, length)


def test_the_mean_is_of_all_frames_and_does_not_follow_the_eeg(
    fitted: Fitted, batch: Batch, parts: tuple[Examples, Examples]
) -> None:
    system = fitted("mean_speech")
    waves = [torch.from_numpy(np.array(wave)) for wave in training_speech(parts[0])]
    assert len(waves) == len({parts[0].store.trial(span.trial).attended for span in parts[0].spans})
    frames = torch.cat([LogMel()(wave[None])[0] for wave in waves], 1)
    torch.testing.assert_close(system.state()["mean"], frames.mean(1), atol=1e-4, rtol=0)
    assert torch.equal(made_of(system, batch), made_of(system, replace(batch, eeg=3 * batch.eeg.flip(0))))


def test_ceilings_follow_the_target_alone(fitted: Fitted, batch: Batch) -> None:
    for name in ("vocoder_target", "autoencoder_target"):
        here = made_of(fitted(name), batch)
        assert torch.equal(here, made_of(fitted(name), replace(batch, eeg=-batch.eeg)))
        assert not torch.allclose(here, made_of(fitted(name), replace(batch, target=batch.target.flip(0))))
    assert not torch.allclose(made_of(fitted("vocoder_target"), batch), made_of(fitted("autoencoder_target"), batch))


def test_the_nearest_segment_is_a_window_of_the_training_speech(
    fitted: Fitted, batch: Batch, parts: tuple[Examples, Examples]
) -> None:
    system = fitted("nearest_segment")
    assert isinstance(system, NearestSegment)
    bank = bank_of(parts[0], SECONDS, 5)
    assert len(bank) == 5 == len(torch.unique(bank, dim=0))
    found = made_of(system, batch)
    distances = (found[:, None] - bank).abs().amax(-1).amin(1)
    assert distances.max() <= 1 / generation.FULL_SCALE
    # Its own embedding is nearest to itself.
    felt = system.embeddings.reshape(5, -1)
    assert (felt @ felt.T).argmax(1).tolist() == [0, 1, 2, 3, 4]


def test_the_bank_is_distinct_and_as_large_as_there_is_speech(parts: tuple[Examples, Examples]) -> None:
    all_of_it = bank_of(parts[0], SECONDS, 10_000)
    seconds = sum(len(wave) for wave in training_speech(parts[0])) / 16_000
    assert len(all_of_it) == len(torch.unique(all_of_it, dim=0)) == int(seconds / SECONDS)


def test_the_nearest_segment_refuses_other_lengths_and_an_empty_bank(
    context: Context, fitted: Fitted, batch: Batch
) -> None:
    with pytest.raises(BadInput, match="384 samples"):
        fitted("nearest_segment").generate(batch.eeg[..., :200], batch.subject, [])
    with pytest.raises(BadInput, match="fit or load_state first"):
        build(declare("nearest_segment"), context).generate(batch.eeg, batch.subject, [])
    with pytest.raises(BadInput, match="speech_context"):
        settings = {"speech": "wav2vec2", "speech_model": "nowhere", "speech_context": "stimulus"}
        build(declare({"system": "nearest_segment", "settings": settings}), context)


def test_who_may_have_heard_the_speech_is_told(store: Store, fitted: Fitted) -> None:
    stimuli, facts = store.index.stimuli, store.facts
    for name in ("ridge_mel", "mean_speech", "vocoder_target", "autoencoder_target"):
        verdicts = {fitted(name).heard_before(stimulus, facts) for stimulus in stimuli}
        assert verdicts <= {True, False} and verdicts
        elsewhere = replace(facts, name="another study")
        assert not any(fitted(name).heard_before(stimulus, elsewhere) for stimulus in stimuli)
    assert fitted("ridge_envelope").heard_before(stimuli[0], facts) is None
    assert fitted("nearest_segment").heard_before(stimuli[0], facts) is None


# Statistics of bands


def test_statistics_are_those_of_all_samples_together() -> None:
    pieces = [3.0 + 2.0 * noise(k, 50 + k, 4) for k in range(3)]
    mean, deviation = band_statistics(iter(pieces))
    np.testing.assert_allclose(mean, np.concatenate(pieces).mean(0))
    np.testing.assert_allclose(deviation, np.concatenate(pieces).std(0))
    assert band_statistics([np.full((9, 2), 5.0)])[1].tolist() == [1.0, 1.0]
    with pytest.raises(BadInput, match="at least one sample"):
        band_statistics([])


def test_speech_that_is_no_signal_is_refused(fitted: Fitted) -> None:
    for name in ("ridge_envelope", "ridge_mel"):
        with pytest.raises(BadInput, match="finite"):
            fitted(name).embed_speech(torch.full((1, 16_000), float("nan")))
        with pytest.raises(BadInput, match=r"0\.25 s"):
            fitted(name).embed_speech(torch.zeros(1, 1_000))
