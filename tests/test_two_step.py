"""The two-step system on the small study: one blind separator, and three ways to choose among its talkers."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from eeg2speech_baselines import two_step
from eeg2speech_baselines.dprnn import DprnnSeparator
from eeg2speech_baselines.mtrf_select import MtrfSelectSeparated
from eeg2speech_baselines.two_step import (
    BrainSelectSeparated,
    BrainSelectSettings,
    SeparatedOracle,
    TwoStep,
    TwoStepSettings,
    separator_class,
    separator_names,
)
from torch import Tensor

from eeg2speech.data import Store
from eeg2speech.data.mixing import LEVEL, Mixer
from eeg2speech.errors import BadInput
from eeg2speech.evaluation.files import load_alone
from eeg2speech.evaluation.scoring import device_of, place
from eeg2speech.evaluation.trained import shipped
from eeg2speech.metrics import si_sdr
from eeg2speech.splits import make_split
from eeg2speech.systems.brain_encoder import BrainEncoderSettings, BrainEncoderSystem
from eeg2speech.systems.interface import Context, answer, heard_by
from eeg2speech.training.budget import Budget, RunOptions, Training
from eeg2speech.training.checkpoint import load_weights
from eeg2speech.training.examples import Batch, Examples

SECONDS = 2.0
ENCODER = BrainEncoderSettings(negatives=3)
SYSTEMS: dict[str, tuple[type[TwoStep], TwoStepSettings]] = {
    "mtrf_select_separated": (MtrfSelectSeparated, TwoStepSettings()),
    "brain_select_separated": (BrainSelectSeparated, BrainSelectSettings(encoder=ENCODER)),
    "separated_oracle": (SeparatedOracle, TwoStepSettings()),
}


class Fitted:
    """All three systems, trained for two steps under one shared folder, which keeps what they have in common."""

    def __init__(self, context: Context, parts: tuple[Examples, Examples], root: Path) -> None:
        self.context, self.shared = context, root / "shared"
        self.systems: dict[str, TwoStep] = {}
        self.trainings: dict[str, Training] = {}
        for name in SYSTEMS:
            options = RunOptions(root / name, self.shared, device="cpu", progress=False)
            self.systems[name] = self.new(name)
            self.trainings[name] = self.systems[name].fit(*parts, Budget(steps=2), options)

    def new(self, name: str) -> TwoStep:
        """The system of that name, untrained."""
        cls, settings = SYSTEMS[name]
        return cls(self.context, settings)

    def again(self, name: str) -> Any:
        """The same one from its state: it remembers no separation."""
        system = self.new(name)
        system.load_state(self.systems[name].state())
        return system


@pytest.fixture(scope="module", autouse=True)
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Small batches, few segments of valid, and a cache of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DprnnSeparator, "plan", replace(DprnnSeparator.plan, batch=2, valid_segments=4))
        patch.setattr(BrainEncoderSystem, "plan", replace(BrainEncoderSystem.plan, valid_segments=4))
        patch.setenv("EEG2SPEECH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def parts(store: Store) -> tuple[Examples, Examples]:
    split = make_split(store.index, "trial")
    train, valid = (Examples(store, split.parts[part], Mixer(store)) for part in ("train", "valid"))
    return train, valid


@pytest.fixture(scope="module")
def fitted(store: Store, parts: tuple[Examples, Examples], tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    return Fitted(Context.of(store, SECONDS), parts, tmp_path_factory.mktemp("fitted"))


@pytest.fixture(scope="module")
def batch(parts: tuple[Examples, Examples]) -> Batch:
    train = parts[0]
    made: Batch = next(iter(train.loader(train.random(SECONDS, 4, 0, 0), 4)))  # type: ignore[assignment]
    return made


def sources(batch: Batch) -> Tensor:
    return torch.stack([batch.target, batch.interferer], 1)


def asked(system: TwoStep, batch: Batch) -> Tensor:
    return answer(system, batch.mixture, batch.eeg, batch.subject, sources(batch))


def flipped(batch: Batch, order: list[int]) -> Batch:
    return Batch(*(getattr(batch, name)[order] for name in Batch.__dataclass_fields__))


def cosine(first: Tensor, second: Tensor) -> float:
    a, b = (x.detach().double().numpy().ravel() for x in (first, second))
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


# Choice


def test_the_brain_encoder_chooses_the_talker_with_the_larger_cosine(fitted: Fitted, batch: Batch) -> None:
    system = fitted.again("brain_select_separated")
    found, talkers = asked(system, batch), system.separated(batch.mixture)
    for k in range(len(batch)):
        felt = system.encoder.embed_eeg(batch.eeg[k : k + 1], batch.subject[k : k + 1])
        level = [LEVEL * wave / wave.square().mean().sqrt() for wave in talkers[k]]
        fits = [cosine(felt, system.encoder.embed_speech(wave[None])) for wave in level]
        assert abs(fits[0] - fits[1]) > 1e-5
        torch.testing.assert_close(found[k], talkers[k, int(np.argmax(fits))])


def test_whom_the_eeg_resembles_is_chosen_and_the_other_when_it_resembles_the_other(
    fitted: Fitted, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = fitted.again("brain_select_separated")
    talkers = system.separated(batch.mixture)
    for k in (0, 1):
        heard = system.encoder.embed_speech(two_step.levelled(talkers)[:, k]).detach()
        monkeypatch.setattr(system.encoder, "embed_eeg", lambda eeg, subject, heard=heard: 0.1 * heard)
        assert torch.equal(asked(system, batch), talkers[:, k])


def test_the_gain_of_a_talker_does_not_decide(fitted: Fitted, batch: Batch) -> None:
    system = fitted.again("brain_select_separated")
    talkers = system.separated(batch.mixture)
    gains = torch.tensor([20.0, 0.01])[:, None]
    with torch.inference_mode():
        plain, changed = (system.fits(waves, batch.eeg, batch.subject) for waves in (talkers, gains * talkers))
        silent = system.fits(0 * talkers, batch.eeg, batch.subject)
    torch.testing.assert_close(changed, plain, atol=1e-4, rtol=0)
    assert torch.isfinite(silent).all()


def test_eeg_that_ends_some_samples_late_is_compared_over_what_both_have(fitted: Fitted, batch: Batch) -> None:
    system = fitted.again("brain_select_separated")
    with torch.inference_mode():
        longer = torch.nn.functional.pad(batch.eeg, (0, 4), mode="replicate")
        found = system.fits(system.separated(batch.mixture), longer, batch.subject)
        frames = [system.encoder.embed_eeg(eeg, batch.subject).shape[-1] for eeg in (longer, batch.eeg)]
    assert frames[0] > frames[1] and torch.isfinite(found).all() and found.shape == (len(batch), 2)


def test_the_oracle_takes_what_is_nearer_to_the_target(fitted: Fitted, batch: Batch) -> None:
    system = fitted.again("separated_oracle")
    talkers = system.separated(batch.mixture)
    for truth in (sources(batch), sources(batch).flip(1)):
        found = system.extract_from(batch.mixture, batch.eeg, batch.subject, truth)
        for k in range(len(batch)):
            scores = [si_sdr(truth[k, 0].numpy(), wave.detach().numpy()) for wave in talkers[k]]
            torch.testing.assert_close(found[k], talkers[k, int(np.argmax(scores))])


def test_the_oracle_finds_the_target_at_any_place_and_gain(
    fitted: Fitted, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = fitted.again("separated_oracle")
    order = [0, 1, 1, 0]
    talkers = torch.stack([sources(batch)[k, [order[k], 1 - order[k]]] for k in range(4)])
    talkers[:, 0] *= -7
    monkeypatch.setattr(system, "separated", lambda mixture: talkers)
    chosen = [int(torch.equal(row, pair[1])) for row, pair in zip(asked(system, batch), talkers, strict=True)]
    assert chosen == order


@pytest.mark.parametrize("name", SYSTEMS)
def test_an_answer_is_one_of_the_separated_talkers_whatever_the_batch(name: str, fitted: Fitted, batch: Batch) -> None:
    whole = asked(fitted.again(name), batch)
    talkers = fitted.again(name).separated(batch.mixture)
    assert ((whole[:, None] - talkers).abs().amax(-1).amin(1) < 1e-5).all()
    order = [2, 0, 3, 1]
    turned = asked(fitted.again(name), flipped(batch, order))
    alone = torch.cat([asked(fitted.again(name), flipped(batch, [k])) for k in range(len(batch))])
    torch.testing.assert_close(turned, whole[order], atol=1e-4, rtol=0)
    torch.testing.assert_close(alone, whole, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["mtrf_select_separated", "brain_select_separated"])
def test_what_was_separated_before_is_not_separated_again(
    name: str, fitted: Fitted, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = fitted.again(name)
    plain = asked(system, batch)
    talkers = heard_by(system, batch.mixture)
    assert talkers is not None and talkers.shape == (len(batch), 2, batch.mixture.shape[-1])
    monkeypatch.setattr(system.separator, "separate", None)
    assert torch.equal(answer(system, batch.mixture, batch.eeg, batch.subject, sources(batch), talkers), plain)


def test_one_that_sees_the_target_chooses_by_nothing_else(fitted: Fitted, batch: Batch) -> None:
    system = fitted.again("separated_oracle")
    assert heard_by(system, batch.mixture) is None
    with pytest.raises(BadInput, match="a system that sees the mixture"):
        system.extract(batch.mixture, batch.eeg, batch.subject)


# Training and state


def test_what_the_three_have_in_common_is_trained_once(fitted: Fitted) -> None:
    assert [path.name.split("-")[0] for path in sorted(fitted.shared.iterdir())] == [
        "BrainEncoderSystem",
        "DprnnSeparator",
    ]
    states = [system.separator.state() for system in fitted.systems.values()]
    for name, tensor in states[0].items():
        assert torch.equal(states[1][name], tensor) and torch.equal(states[2][name], tensor)


def test_an_encoder_that_retrieval_has_trained_is_taken_up(
    fitted: Fitted, parts: tuple[Examples, Examples], tmp_path: Path
) -> None:
    encoder = BrainEncoderSystem(fitted.context, ENCODER)
    encoder.fit(*parts, Budget(steps=2), RunOptions(tmp_path, fitted.shared, device="cpu", progress=False))
    assert len(list(fitted.shared.iterdir())) == 2
    own = fitted.systems["brain_select_separated"].state()
    assert all(torch.equal(own[f"encoder.{name}"], tensor) for name, tensor in encoder.state().items())


def test_trainings_add_up_and_the_encoders_is_bounded(fitted: Fitted) -> None:
    steps = {name: training.steps for name, training in fitted.trainings.items()}
    assert steps == {"mtrf_select_separated": 2, "brain_select_separated": 4, "separated_oracle": 2}
    seconds = [fitted.trainings[name].seconds for name in ("brain_select_separated", "separated_oracle")]
    assert seconds[0] >= seconds[1]
    system = BrainSelectSeparated(fitted.context, BrainSelectSettings(encoder_steps=400))
    bounded = {name: system.encoder_budget(Budget(name)).steps for name in ("demo", "hour", "full")}  # type: ignore[arg-type]
    assert bounded == {"demo": 300, "hour": 400, "full": 400}
    assert system.encoder_budget(Budget(steps=7)).steps == 7
    assert system.recipe(Budget("hour"))["encoder"]["plan"]["steps"] == 400


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_state_brings_the_answers_back(name: str, fitted: Fitted, batch: Batch) -> None:
    system = fitted.systems[name]
    torch.testing.assert_close(asked(fitted.again(name), batch), asked(system, batch))
    kinds = {key.split(".")[0] for key in system.state()}
    more = {"mtrf_select_separated": {"mtrf"}, "brain_select_separated": {"encoder"}, "separated_oracle": set()}
    assert kinds == {"separator"} | more[name]


@pytest.mark.parametrize("name", SYSTEMS)
def test_another_state_is_refused(name: str, fitted: Fitted) -> None:
    state = fitted.systems[name].state()
    for kind in sorted({key.split(".")[0] for key in state}):
        lacking = {key: tensor for key, tensor in state.items() if not key.startswith(kind)}
        with pytest.raises(BadInput, match="tensors"):
            fitted.new(name).load_state(lacking)
    if name == "separated_oracle":
        with pytest.raises(BadInput, match="learns nothing"):
            fitted.new(name).load_state(state | {"encoder.x": torch.zeros(1)})


def test_new_weights_forget_what_the_old_ones_separated(fitted: Fitted, batch: Batch) -> None:
    system = fitted.again("separated_oracle")
    before = system.separated(batch.mixture)
    system.load_state({name: 0.5 * tensor for name, tensor in system.state().items()})
    assert not torch.allclose(system.separated(batch.mixture), before)


def test_both_networks_go_to_one_device(fitted: Fitted) -> None:
    system = fitted.again("brain_select_separated")
    place(system, "cpu")
    assert device_of(system).type == "cpu"
    owned = {id(p) for part in (system.separator, system.encoder) for p in part.network.parameters()}
    assert {id(p) for p in system.network.parameters()} == owned
    assert system.parameters == sum(p.numel() for p in system.network.parameters())


# Settings


def test_the_separator_can_be_chosen_and_is_told(fitted: Fitted, monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(DprnnSeparator):
        facts = replace(DprnnSeparator.facts, source="another paper")

    known: dict[str, Any] = {"dprnn_separator": DprnnSeparator, "other_separator": Other, "mixture": None}
    monkeypatch.setattr(two_step, "system_names", lambda: tuple(known))
    monkeypatch.setattr(two_step, "system_class", known.__getitem__)
    for cls, settings in SYSTEMS.values():
        chosen = settings.model_copy(update={"separator": "other"})
        system, plain = cls(fitted.context, chosen), cls(fitted.context, settings)
        assert type(system.separator) is Other and type(plain.separator) is DprnnSeparator
        assert system.facts.source.endswith("separator: another paper") and plain.facts == cls.facts
        assert chosen.model_dump()["separator"] == "other" and "separator" not in settings.model_dump()
        assert system.recipe(Budget())["separator"]["class"].endswith("Other")
    assert separator_names() == ("dprnn", "other")


@pytest.mark.parametrize("name", ["dprn", "neurocodec", "mixture"])
def test_an_unknown_separator_is_refused_with_the_nearest(name: str, fitted: Fitted) -> None:
    for cls, settings in SYSTEMS.values():
        with pytest.raises(BadInput, match=f"separator: expected one of .*dprnn.*found '{name}'"):
            cls(fitted.context, settings.model_copy(update={"separator": name}))
    with pytest.raises(BadInput, match=r"'dprn' \(did you mean 'dprnn'\?\)"):
        separator_class("dprn")


def test_speech_around_a_separated_talker_is_refused(fitted: Fitted) -> None:
    encoder = BrainEncoderSettings(speech="wav2vec2", speech_model="nowhere", speech_context="stimulus")
    with pytest.raises(BadInput, match="speech_context: expected segment, found stimulus"):
        BrainSelectSeparated(fitted.context, BrainSelectSettings(encoder=encoder))


def test_what_was_shipped_still_loads_and_is_still_the_same_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    path = shipped("mtrf_select_separated", "simulated-clear", "stimulus")
    state, about = load_weights(path)
    system, _ = load_alone(path, "mtrf_select_separated")
    assert isinstance(system, MtrfSelectSeparated)
    assert system.state().keys() == state.keys()
    assert all(torch.equal(tensor.float(), state[name].float()) for name, tensor in system.state().items())
    assert system.settings.model_dump(mode="json") == about["settings"] == {"size": "demo"}
    plain = json.loads(json.dumps(system.recipe(Budget("hour"))))
    # The plan here is that of small batches; all else must be as it was.
    changed = {name: plain["separator"]["plan"][name] for name in ("batch", "valid_segments")}
    about["recipe"]["separator"]["plan"] |= changed
    assert plain == about["recipe"]
