"""EEG2Speech as a system: it learns, leaves alone what is frozen, answers each row by itself, refuses the rest."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional as F
from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

from eeg2speech.assets.pretraining import heard
from eeg2speech.data import Store
from eeg2speech.data.mixing import Mixer
from eeg2speech.data.studies.simulated import corpus_range
from eeg2speech.errors import BadInput
from eeg2speech.models import brain_encoder as brains
from eeg2speech.models.latent_diffusion import UnetSize
from eeg2speech.models.speech_parts import MelAutoencoder, Vocoder
from eeg2speech.splits import make_split
from eeg2speech.systems import brain_encoder, eeg2speech
from eeg2speech.systems.brain_encoder import BrainEncoderSystem
from eeg2speech.systems.eeg2speech import EEG2Speech
from eeg2speech.systems.interface import Context, generated
from eeg2speech.systems.registry import build, declare
from eeg2speech.training.budget import Budget, RunOptions, Training
from eeg2speech.training.checkpoint import load_weights, save_weights
from eeg2speech.training.examples import Examples
from eeg2speech.training.parts import AUTOENCODER, VOCODER

STEPS = 4
SMALL_AUTOENCODER = AUTOENCODER | {"block_out_channels": [8, 8, 8], "norm_num_groups": 4}
SMALL_VOCODER = VOCODER | {
    "upsample_initial_channel": 32,
    "resblock_kernel_sizes": [3],
    "resblock_dilation_sizes": [[1]],
}


@dataclass(frozen=True)
class Bench:
    """Files of the parts, and a folder that trainings may share."""

    autoencoder: Path
    vocoder: Path
    shared: Path


@pytest.fixture(scope="module", autouse=True)
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """The smallest system that has every part."""
    root = tmp_path_factory.mktemp("eeg2speech")
    found = Bench(root / "autoencoder.safetensors", root / "vocoder.safetensors", root / "shared")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        autoencoder = MelAutoencoder(AutoencoderKL(**SMALL_AUTOENCODER))
        vocoder = Vocoder(SpeechT5HifiGan(SpeechT5HifiGanConfig(**SMALL_VOCODER)))
        for weight in vocoder.parameters():
            # As transformers begins it, it is not to be heard.
            torch.nn.init.normal_(weight, 0, 0.5 * weight[0].numel() ** -0.5)
    save_weights(found.autoencoder, autoencoder.state_dict(), {"autoencoder": SMALL_AUTOENCODER})
    save_weights(found.vocoder, vocoder.state_dict(), {"vocoder": SMALL_VOCODER})
    small = replace(brains.SIZES["demo"], channels=8, harmonics=3, hidden=8, blocks=1)
    brief: dict[str, Any] = {"batch": 4, "segment_seconds": 2.0, "epoch_steps": 2, "valid_segments": 4}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(brain_encoder.SIZES, "demo", small)
        patch.setitem(brain_encoder.WIDTHS, "demo", 6)
        patch.setitem(eeg2speech.SIZES, "demo", UnetSize((8, 16), 1, 2, 4, (False, True)))
        patch.setitem(eeg2speech.WIDTHS, "demo", 12)
        for system in (EEG2Speech, BrainEncoderSystem):
            patch.setattr(system, "plan", replace(system.plan, **brief))
        patch.setattr(brain_encoder, "CALIBRATION", 4)
        patch.setenv("EEG2SPEECH_CACHE", str(root / "cache"))
        yield found


def built(store: Store, bench: Bench, name: str = "eeg2speech", **settings: Any) -> Any:
    if name == "eeg2speech":
        settings["encoder"] = {"negatives": 3} | settings.get("encoder", {})
    parts = {"autoencoder": str(bench.autoencoder), "vocoder": str(bench.vocoder), "steps": 2}
    return build(declare({"system": name, "settings": parts | settings}), Context.of(store, 2.0))


def ready(store: Store, bench: Bench, name: str = "eeg2speech", **settings: Any) -> Any:
    """With random weights, that of no subject being a stranger's."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        system = built(store, bench, name, **settings)
    if system.network.encoder is not None:
        system.network.encoder.brain.mark_known(range(len(store.subjects)))
    return system


def fitted(
    system: Any, store: Store, folder: Path, steps: int = STEPS, shared: Path | None = None, seed: int = 0
) -> Training:
    split = make_split(store.index, "stimulus")
    train, valid = (Examples(store, split.parts[part], Mixer(store)) for part in ("train", "valid"))
    options = RunOptions(folder, shared, seed, "cpu", precision="32-true", progress=False)
    found: Training = system.fit(train, valid, Budget(steps=steps), options)
    return found


def recording(store: Store, samples: int = 256, batch: int = 2, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Noise in place of EEG, and who listens."""
    draw = torch.Generator().manual_seed(seed)
    eeg = 10 * torch.randn(batch, len(store.index.sensors), samples, generator=draw)
    return eeg, torch.arange(batch) % len(store.subjects)


def asked(system: Any, eeg: Tensor, subject: Tensor, seeds: Sequence[int] = (1, 2)) -> Tensor:
    """Through the harness, which checks the shape."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return generated(system, eeg, subject, generators, torch.zeros(len(eeg), round(eeg.shape[-1] * 125)))


def close(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() < 1e-3 * other.std())


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# Training.


@pytest.mark.parametrize("train_on", ["eeg", "speech"])
@pytest.mark.parametrize("conditioning", ["film", "sequence", "aligned"])
def test_every_way_learns_and_leaves_the_encoder_as_it_was(
    store: Store, bench: Bench, tmp_path: Path, conditioning: str, train_on: str
) -> None:
    """To the bit, running means of its batch norms too; and what its optimiser forgets to touch, it does not decay."""
    system = built(store, bench, conditioning=conditioning, train_on=train_on)
    training = fitted(system, store, tmp_path)
    assert training.steps == 2 * STEPS
    assert [point["step"] for point in training.curve] == [2.0, 4.0]
    assert all(0 < point["valid/loss"] < 3 for point in training.curve)
    encoder = load_weights(tmp_path / "encoder" / "weights.safetensors")[0]
    assert same(dict(system.network.encoder.state_dict()), encoder)
    assert any("running_mean" in name and tensor.any() for name, tensor in encoder.items())
    fresh = built(store, bench, conditioning=conditioning)
    torch.manual_seed(0)
    fresh.renew()
    started, ended = (dict(s.network.diffusion.named_parameters()) for s in (fresh, system))
    moved = [name for name in started if not torch.equal(started[name], ended[name])]
    assert {"null", "adapter.weight", "unet.conv_in.weight", "unet.conv_out.weight"} <= set(moved)
    found = asked(system, *recording(store))
    assert bool(found.isfinite().all()) and found.std() > 0


def test_the_loss_falls(store: Store, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EEG2Speech, "plan", replace(EEG2Speech.plan, epoch_steps=10, learning_rate=3e-3))
    curve = fitted(built(store, bench, encoder_steps=1), store, tmp_path, steps=50).curve
    assert curve[-1]["valid/loss"] < 0.9 * curve[0]["valid/loss"]


def test_an_encoder_that_is_tuned_learns_on(store: Store, bench: Bench, tmp_path: Path) -> None:
    """Its side of the EEG alone: nothing asks the side of the speech."""
    system = built(store, bench, tune_encoder=True)
    fitted(system, store, tmp_path)
    before = load_weights(tmp_path / "encoder" / "weights.safetensors")[0]
    after = system.network.encoder.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert {"brain.mix.weight", "brain.spatial.heads", "brain.blocks.0.first.act.0.running_mean"} <= moved
    assert all(name.startswith("brain.") for name in moved)
    assert system.encoder.network is system.network.encoder
    state = load_weights(tmp_path / "weights.safetensors")[0]
    assert same({n: t for n, t in state.items() if n.startswith("encoder.brain")},
                {f"encoder.{n}": t for n, t in after.items() if n.startswith("brain")})  # fmt: skip


def test_what_no_loss_reaches_asks_for_no_gradient(store: Store, bench: Bench, tmp_path: Path) -> None:
    """Several devices wait for the gradients of all that ask for one."""
    for name, settings in (
        ("eeg2speech", {}),
        ("eeg2speech", {"tune_encoder": True}),
        ("eeg2speech", {"train_on": "speech", "conditioning": "film"}),
        ("eeg2speech_blind", {}),
    ):
        system = ready(store, bench, name, **settings)
        part = Examples(store, make_split(store.index, "stimulus").parts["train"], Mixer(store))
        source = system.source(part)
        batch = next(iter(source.loader(source.random(2.0, 2, 0, 0), 2)))
        system.network.train()
        system.loss(batch)["loss"].backward()
        for key, weight in system.network.named_parameters():
            assert (weight.grad is not None) == weight.requires_grad, (name, settings, key)
        assert system.parameters == sum(weight.numel() for weight in system.network.parameters())


def test_a_training_ends_in_the_same_bits_whatever_was_drawn_before(store: Store, bench: Bench, tmp_path: Path) -> None:
    systems = [built(store, bench) for _ in range(3)]
    for k, (system, seed) in enumerate(zip(systems, (0, 0, 1), strict=True)):
        torch.rand(k)
        fitted(system, store, tmp_path / str(k), steps=2, seed=seed)
    one, again, other = (system.state() for system in systems)
    assert same(one, again) and not same(one, other)


def test_validation_asks_about_the_same_noise(store: Store, bench: Bench) -> None:
    system = ready(store, bench)
    part = Examples(store, make_split(store.index, "stimulus").parts["valid"], Mixer(store))
    source = system.source(part, learning=False)
    batch = next(iter(source.loader(source.fixed(2.0, 4), 4)))
    with torch.no_grad():
        system.network.eval()
        losses = [float(system.loss(batch)["loss"]) for _ in range(2)]
        system.network.train()
        drawn = [float(system.loss(batch)["loss"]) for _ in range(2)]
    assert losses[0] == losses[1] and drawn[0] != drawn[1]


def test_systems_on_the_same_encoder_train_it_once(
    store: Store, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eeg2speech.training import fit

    trained: list[Path] = []
    whole = fit._train

    def counted(*arguments: Any) -> Training:
        trained.append(arguments[6].folder)
        return whole(*arguments)

    monkeypatch.setattr(fit, "_train", counted)
    encoders = []
    for name, settings in {
        "film": {"conditioning": "film"},
        "aligned": {"conditioning": "aligned"},
        "other": {"encoder": {"spatial_dropout": 0.0}},
    }.items():
        system = built(store, bench, **settings)
        fitted(system, store, tmp_path / name, 2, bench.shared)
        encoders.append(dict(system.network.encoder.state_dict()))
    assert same(encoders[0], encoders[1]) and not same(encoders[0], encoders[2])
    assert len({*trained}) == len(trained) and all(path.parent == bench.shared for path in trained)
    names = [path.name.partition("-")[0] for path in trained]
    assert (names.count("BrainEncoderSystem"), names.count("EEG2Speech")) == (2, 3)


def test_systems_that_sample_otherwise_are_trained_once(store: Store, bench: Bench, tmp_path: Path) -> None:
    """With whatever vocoder; and what is learned otherwise is another training."""
    states = []
    other = tmp_path / "other.safetensors"
    other.write_bytes(bench.vocoder.read_bytes())
    for k, settings in enumerate(
        (
            {},
            {"guidance": 1.0, "steps": 3, "solver": "ddim", "candidates": 2, "vocoder": str(other)},
            {"null_share": 0.5},
        )
    ):
        system = built(store, bench, **settings)
        fitted(system, store, tmp_path / str(k), 2, tmp_path / "shared")
        states.append(system.state())
    assert same(states[0], states[1]) and not same(states[0], states[2])
    assert len([*(tmp_path / "shared").glob("EEG2Speech-*")]) == 2


def test_weights_for_other_latents_are_refused(store: Store, bench: Bench) -> None:
    """Though they would fit."""
    system, other = built(store, bench), built(store, bench, autoencoder="demo")
    names = [s.latents.autoencoder.fingerprint for s in (other, system)]
    message = "EEG2Speech: autoencoder: expected weights trained with autoencoder {}, found {}".format(*names)
    with pytest.raises(BadInput, match=message):
        other.load_state(system.state())
    assert system.parts["autoencoder"] == names[1] and other.parts["vocoder"] == system.parts["vocoder"]


# Answers.


@pytest.mark.parametrize("samples", [512, 328, 257])
@pytest.mark.parametrize("conditioning", ["film", "sequence", "aligned"])
def test_an_answer_is_as_long_as_the_eeg(store: Store, bench: Bench, samples: int, conditioning: str) -> None:
    """4 s, 2.56 s to the next sample, and a length that no frame divides."""
    found = asked(ready(store, bench, conditioning=conditioning), *recording(store, samples))
    assert found.shape == (2, samples * 125) and found.dtype == torch.float32
    assert bool(found.isfinite().all()) and found.std() > 0


@pytest.mark.parametrize("settings", [{}, {"candidates": 2}, {"conditioning": "film", "guidance": 1.0}])
def test_a_row_does_not_depend_on_its_neighbours(store: Store, bench: Bench, settings: dict[str, Any]) -> None:
    system = ready(store, bench, **settings)
    eeg, subject = recording(store, batch=3)
    whole = asked(system, eeg, subject, (1, 2, 3))
    for k in range(3):
        assert close(asked(system, eeg[k : k + 1], subject[k : k + 1], (k + 1,)), whole[k : k + 1])


def test_eeg_and_seed_decide(store: Store, bench: Bench) -> None:
    system = ready(store, bench)
    eeg, subject = recording(store)
    found = asked(system, eeg, subject)
    torch.rand(3)
    assert torch.equal(asked(system, eeg, subject), found)
    assert not torch.equal(asked(system, eeg.flip(-1), subject), found)
    assert not close(asked(system, eeg, subject, (3, 4)), found)


def test_of_several_draws_the_nearest_to_the_eeg_is_taken(store: Store, bench: Bench) -> None:
    eeg, subject = recording(store, batch=4)
    one, best = ready(store, bench), ready(store, bench, candidates=3)
    generators = [torch.Generator().manual_seed(k) for k in range(4)]
    with torch.inference_mode():
        draws = torch.stack([one.generate(eeg, subject, generators) for _ in range(3)])
        felt = one.encoder.embed_eeg(eeg, subject).flatten(1)
        fits = torch.stack([F.cosine_similarity(felt, one.encoder.embed_speech(d).flatten(1)) for d in draws])
    found = asked(best, eeg, subject, range(4))
    expected = draws[fits.argmax(0), torch.arange(4)]
    assert close(found, expected) and len(fits.argmax(0).unique()) > 1


def test_settings_of_sampling_need_no_new_training(store: Store, bench: Bench) -> None:
    """The same weights answer otherwise."""
    eeg, subject = recording(store)
    found = asked(ready(store, bench), eeg, subject)
    for settings in ({"guidance": 1.0}, {"steps": 3}, {"solver": "ddim"}):
        other = ready(store, bench, **settings)
        assert same(other.state(), ready(store, bench).state())
        assert not close(asked(other, eeg, subject), found), settings


def test_what_was_learned_goes_through_a_file(store: Store, bench: Bench, tmp_path: Path) -> None:
    system, inputs = built(store, bench), recording(store)
    fitted(system, store, tmp_path, steps=2)
    back = built(store, bench)
    assert not same(back.state(), system.state())
    save_weights(tmp_path / "own.safetensors", system.state(), {})
    back.load_state(load_weights(tmp_path / "own.safetensors")[0])
    assert torch.equal(asked(back, *inputs), asked(system, *inputs))
    with pytest.raises(BadInput, match="EEG2Speech: tensors: expected those of this system, found missing"):
        built(store, bench, "eeg2speech", encoder={"speech": "mel"}).load_state(system.state())
    with pytest.raises(BadInput, match="expected"):
        built(store, bench, conditioning="film").load_state(system.state())


def test_blind_it_gives_the_same_whatever_the_eeg(store: Store, bench: Bench, tmp_path: Path) -> None:
    """Though it is handed the EEG here, past the harness that would replace it by zeros."""
    system, (eeg, subject) = built(store, bench, "eeg2speech_blind"), recording(store)
    training = fitted(system, store, tmp_path)
    assert training.steps == STEPS and not (tmp_path / "encoder").exists()
    assert not system.facts.uses_eeg and not any(name.startswith("encoder") for name in system.state())
    with torch.inference_mode():
        answers = []
        for given, who in ((eeg, subject), (-3 * eeg, subject.flip(0)), (eeg * float("nan"), subject)):
            generators = [torch.Generator().manual_seed(k) for k in range(2)]
            answers.append(system.generate(given, who, generators))
    assert torch.equal(answers[0], answers[1]) and torch.equal(answers[0], answers[2])
    assert not close(answers[0][:1], answers[0][1:]) and bool(answers[0].isfinite().all())


def test_blind_trainings_are_shared_by_what_is_heard(store: Store, bench: Bench, tmp_path: Path) -> None:
    for k in range(2):
        fitted(built(store, bench, "eeg2speech_blind"), store, tmp_path / str(k), 2, tmp_path / "shared")
    (folder,) = (tmp_path / "shared").iterdir()
    assert folder.name.startswith("EEG2SpeechBlind-") and not (tmp_path / "1").exists()


def test_what_its_parts_have_heard_it_has(store: Store, bench: Bench) -> None:
    system = ready(store, bench)
    expected = [heard(*corpus_range(stimulus)) for stimulus in store.index.stimuli]
    assert [system.heard_before(stimulus, store.facts) for stimulus in store.index.stimuli] == expected
    assert any(expected)


def test_a_recipe_tells_the_autoencoder_and_the_encoder(store: Store, bench: Bench) -> None:
    recipes = [
        built(store, bench, **settings).recipe(Budget(steps=8))
        for settings in ({}, {"encoder_steps": 3}, {"autoencoder": "demo"})
    ]
    assert recipes[0]["plan"]["steps"] == 8 == recipes[0]["encoder"]["plan"]["steps"]
    assert recipes[1]["plan"]["steps"] == 8 and recipes[1]["encoder"]["plan"]["steps"] == 3
    assert recipes[0]["autoencoder"] != recipes[2]["autoencoder"]
    assert "encoder" not in built(store, bench, "eeg2speech_blind").recipe(Budget())


# Refusals.


@pytest.mark.parametrize(
    "settings", [{"encoder": {"clamp": None}}, {"train_on": "speech"}, {"guidance": 1.0}, {"candidates": 2}]
)
def test_blind_what_means_nothing_is_refused(store: Store, bench: Bench, settings: dict[str, Any]) -> None:
    (field,) = settings
    with pytest.raises(
        BadInput, match=rf"eeg2speech_blind: {field}: expected .* .it means nothing without EEG., found"
    ):
        built(store, bench, "eeg2speech_blind", **settings)


def test_eeg_that_cannot_be_used_is_refused(store: Store, bench: Bench) -> None:
    system, (eeg, subject) = ready(store, bench), recording(store)
    broken = eeg.clone()
    broken[1, 3, 7] = float("nan")
    with pytest.raises(BadInput, match="BrainEncoder: eeg: expected finite values, found 1 that are not"):
        asked(system, broken, subject)
    sensors = len(store.index.sensors)
    message = rf"BrainEncoder: eeg: expected shape \[batch, {sensors}, samples\], found \[2, {sensors - 1}, 256\]"
    with pytest.raises(BadInput, match=message):
        asked(system, eeg[:, 1:], subject)
    with pytest.raises(BadInput, match=r"BrainEncoder: eeg: expected at least 0\.5 s"):
        asked(system, eeg[..., :40], subject)
    with pytest.raises(BadInput, match="sample: generators: expected one for each of 2 rows, found 1"):
        asked(system, eeg, subject, (1,))


def test_a_stranger_is_refused_where_strict(store: Store, bench: Bench) -> None:
    eeg, _ = recording(store)
    who = torch.tensor([0, 3])
    for mode in ("average", "refuse"):
        system = built(store, bench, encoder={"unknown_subjects": mode})
        system.network.encoder.brain.mark_known([0, 1])
        if mode == "average":
            assert bool(asked(system, eeg, who).isfinite().all())
            continue
        message = f"brain_encoder: subject: expected listeners of the training, found {store.subjects[3]}"
        with pytest.raises(BadInput, match=message):
            asked(system, eeg, who)
        assert bool(asked(system, eeg, who.clamp_max(1)).isfinite().all())


def test_another_audio_rate_is_refused(store: Store, bench: Bench) -> None:
    context = replace(Context.of(store, 2.0), audio_rate=8000)
    for name in ("eeg2speech", "brain_encoder"):
        with pytest.raises(BadInput, match="audio rate: expected 16000 Hz, found 8000 Hz"):
            build(declare(name), context)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"conditionning": "film"}, "'conditionning' .did you mean 'conditioning'"),
        ({"conditioning": "filmy"}, "conditioning: expected .*'sequence'.*, found 'filmy'"),
        ({"solver": "euler"}, "solver: expected .*'dpm'.*, found 'euler'"),
        ({"size": "large"}, "size: expected .*'demo'.*, found 'large'"),
        ({"steps": 0}, "steps: expected .*greater than or equal to 1, found 0"),
        ({"steps": 501}, "steps: expected .*less than or equal to 500, found 501"),
        ({"guidance": -1.0}, "guidance: expected .*greater than or equal to 0"),
        ({"candidates": 0}, "candidates: expected .*greater than or equal to 1"),
        ({"null_share": 1.0}, "null_share: expected .*less than 1"),
        ({"encoder_steps": 0}, "encoder_steps: expected .*greater than or equal to 1"),
        ({"tune_encoder": True, "train_on": "speech"}, "expected tune_encoder needs train_on eeg"),
        (
            {"train_on": "speech", "encoder": {"speech": "wav2vec2", "speech_model": "x"}},
            "expected train_on speech is for encoders of mel spectrograms",
        ),
        ({"unet": "somewhere"}, "expected published U-Nets are conditioned by film"),
        ({"encoder": {"speech": "wav2vec2"}}, "encoder: expected speech_model is needed with speech wav2vec2"),
        ({"encoder": {"los": "mse"}}, "encoder.los: expected Extra inputs are not permitted"),
    ],
)
def test_settings_that_mean_nothing_are_refused(
    store: Store, bench: Bench, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        built(store, bench, **settings)


def test_parts_that_are_not_there_are_refused(store: Store, bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="none.safetensors: checkpoint: expected a safetensors file, found no such file"):
        built(store, bench, autoencoder=str(tmp_path / "none.safetensors"))
