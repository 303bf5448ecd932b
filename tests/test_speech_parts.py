"""Autoencoder and vocoder: what they learn from, their training, and from which files they are taken up."""

import pickle
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

from eeg2speech.assets.pretraining import heard, pretraining_audio
from eeg2speech.data import Store
from eeg2speech.data.mixing import LEVEL
from eeg2speech.data.studies.simulated import corpus_range
from eeg2speech.errors import BadInput
from eeg2speech.models.mel import HOP, LogMel
from eeg2speech.models.speech_parts import MelAutoencoder, Vocoder
from eeg2speech.systems.interface import Context, generated
from eeg2speech.systems.parts import load_autoencoder, load_unet, load_vocoder, part_heard
from eeg2speech.systems.registry import build, declare
from eeg2speech.training import parts as training
from eeg2speech.training.budget import Budget
from eeg2speech.training.checkpoint import load_weights, save_weights
from eeg2speech.training.mel_latents import MelLatents
from eeg2speech.training.parts import AUTOENCODER, PLANS, VOCODER, PartName, PartTrainer
from eeg2speech.training.speech import GAIN_DB, SILENCE, Audio, SpeechCrops

RATE = 16_000
SMALL: dict[str, dict[str, Any]] = {
    "autoencoder": AUTOENCODER | {"block_out_channels": [8, 8, 8], "norm_num_groups": 4},
    "vocoder": VOCODER
    | {"upsample_initial_channel": 32, "resblock_kernel_sizes": [3], "resblock_dilation_sizes": [[1]]},
}
UNET: dict[str, Any] = {
    "in_channels": 8,
    "out_channels": 8,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
    "block_out_channels": [8, 16],
    "layers_per_block": 1,
    "cross_attention_dim": [8, 16],
    "attention_head_dim": 2,
    "norm_num_groups": 4,
    "class_embed_type": "simple_projection",
    "projection_class_embeddings_input_dim": 12,
    "class_embeddings_concat": True,
}
"""AudioLDM's U-Net, as its configuration names it, smaller."""


def autoencoder(**changes: Any) -> AutoencoderKL:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoencoderKL(**SMALL["autoencoder"] | changes)


def vocoder(**changes: Any) -> SpeechT5HifiGan:
    """Random weights with which it is heard; as transformers begins it, it is not."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = SpeechT5HifiGan(SpeechT5HifiGanConfig(**SMALL["vocoder"] | changes))
        for weight in model.parameters():
            torch.nn.init.normal_(weight, 0, 0.5 * weight[0].numel() ** -0.5)
    return model


def written(part: PartName, path: Path, **changes: Any) -> Path:
    """A part's file with random weights, as a training writes it."""
    own = MelAutoencoder(autoencoder(**changes)) if part == "autoencoder" else Vocoder(vocoder(**changes))
    save_weights(path, own.state_dict(), {part: SMALL[part] | changes}, half=True)
    return path


def load(part: PartName, name: object) -> Any:
    return (load_autoencoder if part == "autoencoder" else load_vocoder)(str(name))


def mels(frames: int, batch: int = 2) -> Tensor:
    return torch.randn(batch, 64, frames, generator=torch.Generator().manual_seed(frames)) - 5


# Crops of speech.


def speech(seconds: float = 3.0, seed: int = 0) -> np.ndarray:
    """Noise that swells and, for its last third, is silent."""
    rng = np.random.default_rng(seed)
    wave = 0.2 * rng.standard_normal(round(RATE * seconds)) * (1.2 + np.sin(np.arange(round(RATE * seconds)) / 2000))
    wave[2 * len(wave) // 3 :] = 0
    return wave.astype(np.float32)


@pytest.fixture
def audio() -> Audio:
    return {"one": [speech(3.0), speech(0.3, 1)], "two": [speech(2.0, 2)]}


def test_crops_are_decided_by_seed_and_epoch_alone(audio: Audio) -> None:
    source = SpeechCrops(audio, RATE)
    first = source.random(0.5, 20, 0, 0)
    np.random.seed(3)
    torch.rand(3)
    assert SpeechCrops(audio, RATE).random(0.5, 20, 0, 0) == first == source.random(0.5, 30, 0, 0)[:20]
    assert source.random(0.5, 20, 1, 0) != first != source.random(0.5, 20, 0, 1)


def test_crops_lie_in_their_stretch_and_are_never_silent(audio: Audio) -> None:
    source = SpeechCrops(audio, RATE)
    for crop in (*source.random(0.5, 60, 0, 0), *source.fixed(0.5, 100)):
        stretch = audio[crop.track][crop.stretch]
        assert crop.size == 8000 and 0 <= crop.start <= len(stretch) - 8000
        assert np.sqrt(np.mean(stretch[crop.start : crop.start + 8000] ** 2)) > SILENCE
    assert {crop.track for crop in source.random(0.5, 60, 0, 0)} == {"one", "two"}


def test_crops_are_heard_at_their_level(audio: Audio) -> None:
    source = SpeechCrops(audio, RATE)
    drawn = source.random(0.5, 40, 0, 0)
    levels = np.array([np.sqrt(np.mean(source.wave(crop).astype(float) ** 2)) for crop in drawn])
    np.testing.assert_allclose(levels, [LEVEL * crop.gain for crop in drawn], rtol=1e-4)
    decibels = 20 * np.log10(levels / LEVEL)
    assert -GAIN_DB <= decibels.min() < -GAIN_DB / 2 and GAIN_DB / 2 < decibels.max() <= GAIN_DB
    assert {crop.gain for crop in source.fixed(0.5, 5)} == {1.0}


def test_fixed_crops_stand_side_by_side_and_are_thinned(audio: Audio) -> None:
    source = SpeechCrops(audio, RATE)
    every = source.fixed(0.25, 1000)
    for track, count in (("one", 9), ("two", 6)):
        own = [crop for crop in every if crop.track == track]
        assert all(crop.start % 4000 == 0 for crop in own) and len(own) >= count - 1
    few = source.fixed(0.25, 5)
    assert len(few) == 5 and set(few) <= set(every) and (few[0], few[-1]) == (every[0], every[-1])


def test_batches_are_the_crops_in_their_order(audio: Audio) -> None:
    source = SpeechCrops(audio, RATE)
    drawn = source.random(0.25, 5, 0, 0)
    batches = list(source.loader(drawn, 2))
    assert [len(batch) for batch in batches] == [2, 2, 1]
    waves = torch.cat([batch.to(torch.device("cpu")).wave for batch in batches])
    assert waves.dtype == torch.float32
    np.testing.assert_array_equal(waves, np.stack([source.wave(crop) for crop in drawn]))


def test_the_key_is_the_content_s(audio: Audio) -> None:
    key = SpeechCrops(audio, RATE).key
    same = {"two": audio["two"], "one": [stretch.copy() for stretch in audio["one"]]}
    assert SpeechCrops(same, RATE).key == key == SpeechCrops(audio, RATE).audio_key
    louder = {"one": [audio["one"][0] * np.float32(1.001), audio["one"][1]], "two": audio["two"]}
    others = [SpeechCrops(louder, RATE), SpeechCrops({"one": audio["one"]}, RATE), SpeechCrops(audio, 8000)]
    assert len({key, *(other.key for other in others)}) == 4


def test_speech_that_is_too_short_or_silent_is_refused(audio: Audio) -> None:
    for ask in (lambda s: s.random(3.5, 1, 0, 0), lambda s: s.fixed(3.5, 1)):
        with pytest.raises(BadInput, match=r"speech: stretches: expected at least one of 3\.5 s, found none"):
            ask(SpeechCrops(audio, RATE))
    silence = SpeechCrops({"one": [np.zeros(RATE, np.float32)]}, RATE)
    with pytest.raises(BadInput, match="speech: level: expected 2 crops above 0.001, found 0 in 200"):
        silence.random(0.5, 2, 0, 0)
    with pytest.raises(BadInput, match="speech: level: expected crops above 0.001, found none among 2"):
        silence.fixed(0.5, 2)


# Shapes.


@pytest.mark.parametrize("frames", [1, 3, 4, 5, 63, 100])
def test_latents_and_mels_have_the_lengths_that_are_said(frames: int) -> None:
    part, mel = MelAutoencoder(autoencoder()).eval(), mels(frames)
    with torch.no_grad():
        latents = part.encode(mel)
        assert latents.shape[1:] == part.latent_shape(frames) == (8, -(-frames // 4), 16)
        assert part.decode(latents, frames).shape == mel.shape
        mean, log_variance = part.posterior(mel)
        assert part.reconstruct(mean, log_variance, frames).shape == mel.shape


def test_what_fills_up_a_length_is_its_last_frame() -> None:
    part, mel = MelAutoencoder(autoencoder()).eval(), mels(6)
    filled = torch.cat([mel, mel[..., -1:], mel[..., -1:]], -1)
    with torch.no_grad():
        torch.testing.assert_close(part.encode(mel), part.encode(filled), atol=1e-5, rtol=0)


def test_scales_of_the_network_do_not_change_what_a_round_gives() -> None:
    """``latent_scale`` is taken off again, ``mean`` and ``deviation`` put back."""
    part, mel = MelAutoencoder(autoencoder()).eval(), mels(8)
    with torch.no_grad():
        before, latents = part.decode(part.encode(mel), 8), part.encode(mel)
        part.get_buffer("latent_scale").fill_(3.0)
        torch.testing.assert_close(part.encode(mel), 3 * latents)
        torch.testing.assert_close(part.decode(3 * latents, 8), before, atol=1e-5, rtol=1e-5)
        part.get_buffer("mean").fill_(-5.0)
        part.get_buffer("deviation").fill_(2.0)
        torch.testing.assert_close(part.encode(2 * mel - 5), 3 * latents, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(part.decode(3 * latents, 8), 2 * before - 5, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("frames", [1, 7, 100])
def test_a_vocoder_gives_a_hop_for_a_frame(frames: int) -> None:
    part, mel = Vocoder(vocoder()).eval(), mels(frames)
    with torch.no_grad():
        wave = part(mel)
        alone = part(mel[1:])
    assert wave.shape == (2, HOP * frames) and wave.abs().max() <= 1 and wave.std() > 1e-3
    torch.testing.assert_close(wave[1:], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("samples", [433, 640, 6400, 6559, 7039])
def test_latents_are_kept_with_the_mel_beneath_them(samples: int) -> None:
    part = MelAutoencoder(autoencoder()).eval()
    features = MelLatents(part)
    wave = 0.1 * torch.randn(2, samples, generator=torch.Generator().manual_seed(0))
    if not features.frames(samples):
        return
    found = features(wave)
    assert found.shape == (2, features.dimension, features.frames(samples)) and features.rate == 25.0
    latents, mel = features.split(found)
    kept = 4 * features.frames(samples)
    torch.testing.assert_close(mel, LogMel()(wave)[..., :kept])
    with torch.no_grad():
        torch.testing.assert_close(latents, part.encode(mel))
    with pytest.raises(BadInput, match=rf"MelLatents: features: expected \[batch, {features.dimension}, frames\]"):
        features.split(found[:, 1:])


def test_latents_are_named_by_the_weights() -> None:
    one, same = (MelAutoencoder(autoencoder()) for _ in range(2))
    other = MelAutoencoder(autoencoder())
    other.get_buffer("latent_scale").mul_(2)
    names = [MelLatents(part).fingerprint for part in (one, same, other)]
    assert names[0] == names[1] != names[2]


def test_the_embedded_autoencoder_gives_latents_of_unit_variance_and_mels_back() -> None:
    """On speech that it has not learned from."""
    source = SpeechCrops(pretraining_audio(kept_out=True), RATE)
    waves = next(iter(source.loader(source.fixed(2.56, 12), 12))).wave
    part, mel = load_autoencoder("demo"), LogMel()(waves)
    with torch.no_grad():
        latents = part.encode(mel)
        back = part.decode(latents, mel.shape[-1])
    assert latents.shape == (len(waves), 8, 64, 16) and not part.training
    assert 0.8 < latents.std() < 1.25 and latents.mean().abs() < 0.5
    error = (back - mel).abs().mean()
    flat = (mel - mel.mean((0, 2), keepdim=True)).abs().mean()
    assert error < 0.4 * flat


# Training.


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Iterator[Audio]:
    """Small networks, short crops, few of them; judges from the second step on."""
    for part, plan in PLANS.items():
        short = replace(plan, batch=2, segment_seconds=0.64, epoch_steps=2, valid_segments=2)
        monkeypatch.setitem(PLANS, part, short)
        monkeypatch.setitem(training.CONFIGURATIONS, part, SMALL[part])
    monkeypatch.setattr(training, "new_autoencoder", lambda: MelAutoencoder(AutoencoderKL(**SMALL["autoencoder"])))
    config = SpeechT5HifiGanConfig(**SMALL["vocoder"])
    monkeypatch.setattr(training, "new_vocoder", lambda: Vocoder(SpeechT5HifiGan(config)))
    monkeypatch.setattr(training, "CALIBRATION_CROPS", 8)
    monkeypatch.setattr(training, "JUDGES_WIDTH", 4)
    yield {"one": [speech(2.0)]}


def trained(part: PartName, folder: Path, audio: Audio, seed: int = 0) -> Path:
    trainer = PartTrainer(part, folder, (audio, {"kept": [speech(2.0, 9)]}))
    return trainer.run(Budget(steps=4), seed, "cpu", progress=False)


@pytest.mark.parametrize("part", ["autoencoder", "vocoder"])
def test_a_part_is_trained_once_and_taken_up_by_its_file(
    part: PartName, tiny: Audio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = trained(part, tmp_path / "one", tiny)
    content = path.read_bytes()
    state, about = load_weights(path)
    assert about[part] == SMALL[part] and about["training"]["steps"] == 4
    names = [set(point) - {"step"} for point in about["training"]["curve"]]
    assert len(names) == 2 and {"valid/loss", "valid/mel"} <= names[0]
    # On the same data, from the same seed, it is the same again.
    again = load_weights(trained(part, tmp_path / "two", tiny))[0]
    assert all(torch.equal(tensor, again[name]) for name, tensor in state.items())
    # What was drawn at random by others has no say, and a folder that is done trains nothing.
    monkeypatch.setattr("eeg2speech.training.fit._train", lambda *_: pytest.fail("trained again"))
    torch.rand(5)
    assert trained(part, tmp_path / "one", tiny).read_bytes() == content
    with pytest.raises(BadInput, match="identity.json: seed: expected 1 .or another folder., found 0"):
        trained(part, tmp_path / "one", tiny, seed=1)
    loaded = load(part, path)
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.state_dict().items())
    assert not loaded.training and not any(weight.requires_grad for weight in loaded.parameters())


def test_an_autoencoder_is_calibrated_on_what_it_learns_from(tiny: Audio, tmp_path: Path) -> None:
    part = load_autoencoder(str(trained("autoencoder", tmp_path, tiny)))
    mel = LogMel()(training._crops(SpeechCrops(tiny, RATE), 0.64))
    with torch.no_grad():
        assert part.encode(mel).std() == pytest.approx(1, abs=0.01)
    assert float(part.get_buffer("mean")) == pytest.approx(float(mel.mean()), abs=0.01)
    assert float(part.get_buffer("deviation")) == pytest.approx(float(mel.std()), abs=0.01)


def test_a_vocoder_learns_from_judges_in_the_end(tiny: Audio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is shipped without them."""
    heard_at: list[bool] = []
    plain = training._VocoderTask.loss

    def loss(self: Any, batch: Any) -> dict[str, Tensor]:
        losses = plain(self, batch)
        if self.network.training:
            heard_at.append("adversarial" in losses)
        else:
            assert "adversarial" not in losses
        return losses

    monkeypatch.setattr(training._VocoderTask, "loss", loss)
    state = load_weights(trained("vocoder", tmp_path, tiny))[0]
    assert heard_at == [False, False, True, True]
    assert state.keys() == Vocoder(vocoder()).state_dict().keys()


# Files.


@dataclass(frozen=True)
class Published:
    """A pipeline's folder, as diffusers and transformers write it, and its networks."""

    folder: Path
    vae: AutoencoderKL
    vocoder: SpeechT5HifiGan
    unet: UNet2DConditionModel


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    folder = tmp_path_factory.mktemp("audioldm")
    torch.manual_seed(0)
    found = Published(folder, autoencoder(scaling_factor=0.9), vocoder(), UNet2DConditionModel(**UNET))
    for name in ("vae", "vocoder", "unet"):
        getattr(found, name).save_pretrained(folder / name)
    return found


@pytest.mark.parametrize("part", ["autoencoder", "vocoder"])
def test_a_part_is_what_its_folder_holds_alone_or_in_a_pipeline(part: PartName, published: Published) -> None:
    inner = "vae" if part == "autoencoder" else "vocoder"
    expected = getattr(published, inner).state_dict()
    for folder in (published.folder, published.folder / inner):
        found = load(part, folder)
        assert found is load(part, folder) and not found.training
        assert all(torch.equal(tensor, expected[name]) for name, tensor in found.model.state_dict().items())
        assert not any(weight.requires_grad for weight in found.parameters())
    if part == "autoencoder":
        buffers = [float(found.get_buffer(name)) for name in ("mean", "deviation", "latent_scale")]
        assert buffers == pytest.approx([0, 1, 0.9])


@pytest.mark.parametrize("part", ["autoencoder", "vocoder"])
def test_a_part_that_was_kept_in_half_precision_computes_in_single(part: PartName, tmp_path: Path) -> None:
    network = autoencoder() if part == "autoencoder" else vocoder()
    network.half().save_pretrained(tmp_path / "half")
    found = load(part, tmp_path / "half")
    assert {weight.dtype for weight in found.parameters()} == {torch.float32}
    with torch.no_grad():
        assert (found.encode(mels(8)) if part == "autoencoder" else found(mels(8))).dtype == torch.float32


@pytest.mark.parametrize("part", ["autoencoder", "vocoder"])
def test_a_file_of_ours_is_read_in_half_precision(part: PartName, tmp_path: Path) -> None:
    path = written(part, tmp_path / "own.safetensors")
    network = MelAutoencoder(autoencoder()) if part == "autoencoder" else Vocoder(vocoder())
    before = torch.get_rng_state()
    found = load(part, path).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(tensor.half().float(), found[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("part", ["autoencoder", "vocoder"])
def test_damaged_files_are_refused(part: PartName, tmp_path: Path) -> None:
    whole = written(part, tmp_path / "whole.safetensors").read_bytes()
    for k, content in enumerate((whole[: len(whole) // 2], b"noise", b"")):
        path = tmp_path / f"damaged{k}.safetensors"
        path.write_bytes(content)
        with pytest.raises(BadInput, match=rf"damaged{k}\.safetensors: checkpoint: expected a safetensors file, found"):
            load(part, path)
    state = load_weights(tmp_path / "whole.safetensors")[0]
    first = sorted(state)[0]
    for name, tensors, about, message in (
        ("other", state, {"codec": {}}, f"about.{part}: expected the arguments of its network, found nothing"),
        ("odd", state, {part: {"down_block_types": ["Strange"], "upsample_rates": 3}}, f"about.{part}: expected arg"),
        ("lacking", {n: t for n, t in state.items() if n != first}, {part: SMALL[part]}, f"missing .'{first}'"),
        ("larger", state | {first: torch.zeros(3, 3)}, {part: SMALL[part]}, rf"{first}: expected \["),
    ):
        save_weights(tmp_path / f"{name}.safetensors", tensors, about)
        with pytest.raises(BadInput, match=message):
            load(part, tmp_path / f"{name}.safetensors")


def test_networks_on_something_else_are_refused(tmp_path: Path) -> None:
    """By their file and by their folder."""
    cases: list[tuple[PartName, dict[str, Any], str]] = [
        ("autoencoder", {"in_channels": 2}, "channels of the mel: expected 1, found 2"),
        ("vocoder", {"model_in_dim": 80}, "bands: expected 64, found 80"),
        ("vocoder", {"sampling_rate": 22_050}, "rate: expected 16000, found 22050"),
        ("vocoder", {"upsample_rates": [4, 4, 2, 2, 2]}, "hop: expected 160, found 128"),
    ]
    for k, (part, changes, message) in enumerate(cases):
        file, folder = written(part, tmp_path / f"{k}.safetensors", **changes), tmp_path / f"folder{k}"
        (autoencoder if part == "autoencoder" else vocoder)(**changes).save_pretrained(folder)
        for path in (file, folder):
            with pytest.raises(BadInput, match=f"{path.name}: {message}"):
                load(part, path)


def test_a_folder_without_its_weights_or_with_some_of_them_is_refused(published: Published, tmp_path: Path) -> None:
    """Also where the packages would draw at random what is missing."""
    for inner, ask in (("vae", load_autoencoder), ("vocoder", load_vocoder), ("unet", load_unet)):
        source, folder = published.folder / inner, tmp_path / inner
        folder.mkdir()
        with pytest.raises(BadInput, match=f"{inner}: expected a folder that save_pretrained wrote, found OSError"):
            ask(str(folder))
        (folder / "config.json").write_bytes((source / "config.json").read_bytes())
        with pytest.raises(BadInput, match=f"{inner}: expected a folder that save_pretrained wrote, found OSError"):
            ask(str(folder))
        (weights,) = source.glob("*.safetensors")
        state = load_file(weights)
        name = next(name for name in sorted(state) if name.endswith(".weight"))
        save_file({n: t for n, t in state.items() if n != name}, folder / weights.name, {"format": "pt"})
        with pytest.raises(
            BadInput, match=f"{inner} weights: expected all those of the network, found none for .'{name}"
        ):
            ask(str(folder))
        (folder / weights.name).write_bytes(weights.read_bytes()[:5000])
        with pytest.raises(BadInput, match=f"{inner}: expected a folder that save_pretrained wrote"):
            ask(str(folder))


class Malicious:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return exec, (f"open({str(self.path)!r}, 'w').close()",)


def test_pickles_are_refused_and_not_run(published: Published, tmp_path: Path) -> None:
    marker = tmp_path / "was-run"
    for inner, ask in (("vae", load_autoencoder), ("vocoder", load_vocoder), ("unet", load_unet)):
        state = getattr(published, inner).state_dict() | {"also": Malicious(marker)}
        folder = tmp_path / inner
        folder.mkdir()
        (folder / "config.json").write_bytes((published.folder / inner / "config.json").read_bytes())
        name = "pytorch_model.bin" if inner == "vocoder" else "diffusion_pytorch_model.bin"
        torch.save(state, folder / name)
        with pytest.raises(BadInput, match=f"{inner}: expected a folder that save_pretrained wrote"):
            ask(str(folder))
    for k, ask in enumerate((load_autoencoder, load_vocoder)):
        path = tmp_path / f"{k}.safetensors"
        path.write_bytes(pickle.dumps(Malicious(marker)))
        with pytest.raises(BadInput, match=r"checkpoint: expected a safetensors file, found a file that is"):
            ask(str(path))
    assert not marker.exists()


@pytest.mark.parametrize("name", ["dmeo", "./none", "/none/of/it", "~/none", "a/b/c", ""])
def test_a_name_that_can_be_none_of_the_hub_s_is_refused_before_it_is_asked(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for ask, part in ((load_autoencoder, "vae"), (load_vocoder, "vocoder"), (load_unet, "unet")):
        message = (
            f"{part}: expected (demo, a .safetensors file, a folder, or a name on the model hub|a folder that save)"
        )
        with pytest.raises(BadInput, match=message):
            ask(name)


def test_a_hub_s_name_is_asked_for_its_part_and_refused_plainly_without_a_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[dict[str, Any]] = []

    def offline(name: str, **how: Any) -> None:
        asked.append(how | {"name": name})
        raise OSError("We couldn't connect to 'https://huggingface.co'\nand more")

    monkeypatch.setattr(AutoencoderKL, "from_pretrained", offline)
    with pytest.raises(
        BadInput, match="some/model: vae: expected a folder, or a connection to the model hub, found OS"
    ):
        load_autoencoder("some/model")
    assert asked[0]["name"] == "some/model" and asked[0]["subfolder"] == "vae" and not asked[0]["local_files_only"]


def test_what_the_embedded_parts_have_heard_they_have(store: Store, published: Published, tmp_path: Path) -> None:
    expected = [heard(*corpus_range(stimulus)) for stimulus in store.index.stimuli]
    assert any(expected)
    for name in ("demo", str(tmp_path / "own.safetensors")):
        assert [part_heard(name, stimulus, store.facts) for stimulus in store.index.stimuli] == expected
    elsewhere = replace(store.facts, name="Somebody2024Else")
    for name, facts in ((str(published.folder), store.facts), ("some/model", store.facts), ("demo", elsewhere)):
        assert not any(part_heard(name, stimulus, facts) for stimulus in store.index.stimuli)


# A whole published pipeline.


def test_published_audioldm_weights_load_from_a_local_folder(store: Store, published: Published) -> None:
    """And answer: autoencoder, vocoder and U-Net of one folder, conditioned on EEG for text."""
    name = str(published.folder)
    settings = {"autoencoder": name, "vocoder": name, "unet": name, "conditioning": "film", "steps": 2}
    system: Any = build(declare({"system": "eeg2speech", "settings": settings}), Context.of(store, 4.0))
    for key, tensor in system.network.diffusion.unet.state_dict().items():
        assert torch.equal(tensor, published.unet.state_dict()[key]), key
    assert system.latents.autoencoder.get_buffer("latent_scale") == pytest.approx(0.9)
    assert system.network.diffusion.null.shape == (12,)
    system.network.encoder.brain.mark_known(range(len(store.subjects)))
    eeg = 10 * torch.randn(2, len(store.index.sensors), 328, generator=torch.Generator().manual_seed(0))
    generators = [torch.Generator().manual_seed(k) for k in range(2)]
    found = generated(system, eeg, torch.zeros(2, dtype=torch.long), generators, torch.zeros(2, 41_000))
    assert found.shape == (2, 41_000) and bool(found.isfinite().all()) and found.std() > 0


def test_a_unet_that_does_not_fit_is_refused(store: Store, published: Published, tmp_path: Path) -> None:
    name = str(published.folder)
    text = {n: v for n, v in UNET.items() if not n.startswith(("class", "projection"))}
    cases = {
        "wide": (UNET | {"in_channels": 9}, r"channels in and out: expected the autoencoder's 8, found \[9, 8\]"),
        "text": (text, "unet: expected one that is conditioned by film, found a width of None"),
    }
    for folder, (config, message) in cases.items():
        UNet2DConditionModel(**config).save_pretrained(tmp_path / folder)
        settings = {"autoencoder": name, "unet": str(tmp_path / folder), "conditioning": "film"}
        with pytest.raises(BadInput, match=message):
            build(declare({"system": "eeg2speech", "settings": settings}), Context.of(store, 4.0))
