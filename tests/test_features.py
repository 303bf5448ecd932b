"""Frozen speech features: what the network itself gives, computed once; of a window alone, or within its stimulus."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AutoModel, BertConfig, Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

from eeg2speech.data.types import Samples
from eeg2speech.errors import BadInput
from eeg2speech.training import features as module
from eeg2speech.training.features import FeatureCache, SpeechFeatures, Wav2Vec2Features, resampled

CONFIG = Wav2Vec2Config(
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=64,
    conv_dim=(32,) * 7,
    num_conv_pos_embeddings=16,
    num_conv_pos_embedding_groups=2,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("networks") / "tiny"
    Wav2Vec2Model(CONFIG).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def tiny(folder: Path) -> Wav2Vec2Features:
    return Wav2Vec2Features(folder, layers=2)


def sound(seconds: float = 2.0, seed: int = 0) -> Samples:
    return 0.1 * np.random.default_rng(seed).standard_normal(round(16_000 * seconds)).astype(np.float32)


def close(one: NDArray[np.float16], other: NDArray[np.float16]) -> bool:
    return bool(np.abs(one.astype(float) - other).max() < 2e-3)


class Loudness:
    """Mean, and mean square, of each 25 ms, every 20 ms: features that see nothing but their frame."""

    name, dimension, rate, fingerprint = "loudness", 2, 50.0, "loudness"
    longest = 0

    def frames(self, samples: int) -> int:
        return (samples - 400) // 320 + 1

    def __call__(self, wave: Tensor) -> Tensor:
        self.longest = max(self.longest, wave.shape[1])
        cut = wave.unfold(1, 400, 320)
        return torch.stack([cut.mean(-1), cut.square().mean(-1)], dim=1)


def test_features_are_the_mean_of_the_last_hidden_states(folder: Path) -> None:
    model = AutoModel.from_pretrained(folder).eval()
    waves = [sound(seed=k) + 0.3 for k in range(2)]
    prepared = Wav2Vec2FeatureExtractor()(waves, sampling_rate=16_000, return_tensors="pt").input_values
    with torch.no_grad():
        states = model(prepared, output_hidden_states=True).hidden_states
    for layers in (1, 2):
        found = Wav2Vec2Features(folder, layers)(torch.from_numpy(np.stack(waves)))
        expected = torch.stack(states[len(states) - layers :]).mean(0).transpose(1, 2)
        assert found.shape == (2, 32, 99) and found.dtype == torch.float32
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_a_network_says_what_it_gives(tiny: Wav2Vec2Features, folder: Path) -> None:
    features: SpeechFeatures = tiny
    assert (features.name, features.dimension, features.rate) == ("tiny", 32, 50.0)
    for samples in (8000, 16_000, 16_079, 16_080, 20_123):
        assert features(torch.randn(1, samples)).shape == (1, 32, features.frames(samples))
    assert Wav2Vec2Features(str(folder), layers=2).fingerprint == tiny.fingerprint
    assert Wav2Vec2Features(folder, layers=1).fingerprint != tiny.fingerprint
    other = Wav2Vec2Features(folder, layers=2)
    next(other.model.parameters()).mul_(2)
    assert other.fingerprint != tiny.fingerprint


def test_a_network_stays_frozen(tiny: Wav2Vec2Features) -> None:
    wave = torch.from_numpy(sound())[None]
    before = tiny(wave)
    nn.ModuleList([tiny]).train()
    assert torch.equal(tiny(wave), before) and not any(p.requires_grad for p in tiny.parameters())
    assert not tiny(wave.requires_grad_()).requires_grad
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(tiny(wave), before)


def test_scale_offset_dtype_and_neighbours_do_not_matter(tiny: Wav2Vec2Features) -> None:
    wave = torch.from_numpy(sound())[None]
    expected = tiny(wave)
    for other in (3 * wave, wave + 0.5, wave.double()):
        torch.testing.assert_close(tiny(other), expected, atol=1e-4, rtol=1e-4)
    louder = torch.cat([10 * torch.from_numpy(sound(seed=1))[None], wave])
    torch.testing.assert_close(tiny(louder)[1:], expected, atol=1e-5, rtol=1e-5)
    assert tiny(torch.zeros(1, 8000)).isfinite().all()


@pytest.mark.parametrize(
    ("wave", "message"),
    [
        (torch.zeros(16_000), r"floats \[B, T\], not empty, found torch.float32 \[16000\]"),
        (torch.zeros(0, 16_000), r"floats \[B, T\], not empty"),
        (torch.zeros(1, 16_000, dtype=torch.int16), "found torch.int16"),
        (torch.zeros(1, 7999), "at least 8000 samples, 0.5 s at 16000 Hz, found 7999"),
        (torch.full((1, 16_000), torch.nan), "expected finite samples"),
    ],
)
def test_other_waves_are_refused(tiny: Wav2Vec2Features, wave: Tensor, message: str) -> None:
    with pytest.raises(BadInput, match=f"Wav2Vec2Features: wave: .*{message}"):
        tiny(wave)


def test_what_cannot_be_loaded_is_refused(folder: Path, tmp_path: Path) -> None:
    for missing in (tmp_path / "none", str(tmp_path / "none"), "./none", "a/b/c"):
        with pytest.raises(BadInput, match=r"(none|c): model: expected a folder .*, found no such folder"):
            Wav2Vec2Features(missing)
    with pytest.raises(BadInput, match="model: expected a folder that save_pretrained wrote"):
        Wav2Vec2Features(tmp_path)
    BertConfig().save_pretrained(tmp_path / "bert")
    with pytest.raises(BadInput, match="model: expected a network on waves.*found bert, without conv_stride"):
        Wav2Vec2Features(tmp_path / "bert")
    for layers in (0, 3):
        with pytest.raises(BadInput, match=f"layers: expected 1 to 2, found {layers}"):
            Wav2Vec2Features(folder, layers)


def test_a_hub_name_without_a_connection_is_refused_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("We couldn't connect to 'https://huggingface.co'\nand more")

    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", offline)
    with pytest.raises(BadInput, match=r"some/model: model: .*no such folder, and nothing from the hub; is it offline"):
        Wav2Vec2Features("some/model")


def test_a_damaged_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(BadInput, match="model: expected a folder that save_pretrained wrote, found .*no file named"):
        Wav2Vec2Features(tmp_path)
    for content in ((folder / "model.safetensors").read_bytes()[:9999], b"noise"):
        (tmp_path / "model.safetensors").write_bytes(content)
        with pytest.raises(BadInput, match="model: expected a folder that save_pretrained wrote"):
            Wav2Vec2Features(tmp_path)
    wider = Wav2Vec2Config.from_dict(CONFIG.to_dict() | {"intermediate_size": 48})
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    wider.save_pretrained(tmp_path)
    with pytest.raises(BadInput, match="model: expected a folder that save_pretrained wrote"):
        Wav2Vec2Features(tmp_path)


def test_weights_that_are_missing_are_not_made_up(tmp_path: Path) -> None:
    model = Wav2Vec2Model(CONFIG)
    state = {name: tensor for name, tensor in model.state_dict().items() if "layers.1.attention.k_proj" not in name}
    model.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(BadInput, match="weights: expected all those of the network, found .*k_proj"):
        Wav2Vec2Features(tmp_path, 2)


def test_features_are_computed_once(tiny: Wav2Vec2Features, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wave = sound()
    first = FeatureCache(tiny, tmp_path).of(wave)
    assert first.dtype == np.float16 and first.shape == (32, 99)
    np.testing.assert_array_equal(first, tiny(torch.from_numpy(wave)[None])[0].half().numpy())
    assert [path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*.npy")] == [tiny.fingerprint]

    def forbidden(*_: object) -> Tensor:
        raise AssertionError("computed again")

    monkeypatch.setattr(Wav2Vec2Features, "forward", forbidden)
    np.testing.assert_array_equal(FeatureCache(tiny, tmp_path).of(wave.copy()), first)
    with pytest.raises(AssertionError, match="computed again"):
        FeatureCache(tiny, tmp_path).of(-wave)
    assert [path.suffix for path in tmp_path.rglob("*.*")] == [".npy"]


def test_the_cache_is_where_all_caches_are(
    tiny: Wav2Vec2Features, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EEG2SPEECH_CACHE", str(tmp_path))
    assert FeatureCache(tiny).folder == tmp_path / "features" / tiny.fingerprint


def test_a_segment_alone_and_within_its_stimulus_differ_by_what_stands_around(
    tiny: Wav2Vec2Features, tmp_path: Path
) -> None:
    """Most of all near the edges; and what stands around has an influence on the second alone."""
    cache, stimulus, altered = FeatureCache(tiny, tmp_path), sound(6.0), sound(6.0)
    altered[: 2 * 16_000] *= -3
    altered[4 * 16_000 :] = sound(2.0, seed=5)
    alone, within = cache.of_segment(stimulus, 2.0, 4.0), cache.within_stimulus(stimulus, 2.0, 4.0)
    assert alone.shape == within.shape == (32, 99)
    np.testing.assert_array_equal(alone, cache.of_segment(altered, 2.0, 4.0))
    assert not close(within, cache.within_stimulus(altered, 2.0, 4.0))
    gap = np.abs(alone.astype(float) - within).mean(0)
    assert gap[[0, 1, 2, -3, -2, -1]].mean() > 2 * gap[20:-20].mean() > 0
    np.testing.assert_array_equal(cache.within_stimulus(stimulus, 0.0, 6.0), cache.of_segment(stimulus, 0.0, 6.0))


@pytest.mark.parametrize(("begin", "end"), [(0.0, 1.0), (0.4, 1.9), (1.01, 2.0), (1.005, 2.005), (1.012, 3.0)])
def test_frames_within_a_stimulus_are_in_step_with_the_segment_s(tmp_path: Path, begin: float, end: float) -> None:
    """Features that see nothing but their frame are the same both ways, to half a frame (one at a stimulus' end)."""
    cache = FeatureCache(Loudness(), tmp_path)
    ramp = np.linspace(0, 1, 48_000, dtype=np.float32)
    alone, within = cache.of_segment(ramp, begin, end), cache.within_stimulus(ramp, begin, end)
    assert alone.shape == within.shape
    frame = 320 / 48_000
    gap = np.abs(alone[0].astype(float) - within[0]).max()
    assert gap < 1e-3 + frame * (0 if begin * 50 == round(begin * 50) else 1 if end == 3.0 else 0.5)


def test_a_long_stimulus_is_computed_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of features that see nothing but their frame, pieces are the whole to the bit, whatever is left over."""
    monkeypatch.setattr(module, "PIECE", 1.0)
    monkeypatch.setattr(module, "CONTEXT", 0.5)
    for samples in (16_001, 16_400, 32_000, 32_399, 51_234):
        features = Loudness()
        wave = sound(samples / 16_000, seed=samples)
        expected = features(torch.from_numpy(wave)[None])[0].half().numpy()
        features.longest = 0
        np.testing.assert_array_equal(FeatureCache(features, tmp_path).of(wave), expected)
        assert features.longest <= 2.1 * 16_000


def test_pieces_of_a_network_s_features_agree_with_the_whole(
    tiny: Wav2Vec2Features, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wave = sound(9.0)
    whole = FeatureCache(tiny, tmp_path / "whole").of(wave).astype(float)
    monkeypatch.setattr(module, "PIECE", 3.0)
    monkeypatch.setattr(module, "CONTEXT", 2.0)
    pieces = FeatureCache(tiny, tmp_path / "pieces").of(wave).astype(float)
    assert pieces.shape == whole.shape
    assert np.abs(pieces - whole).mean() < 0.1 * np.abs(whole - whole.mean(1, keepdims=True)).mean()


class TooLarge(Loudness):
    def __call__(self, wave: Tensor) -> Tensor:
        return 1e9 * super().__call__(wave)


def test_a_cache_refuses_what_it_cannot_keep(tmp_path: Path) -> None:
    cache = FeatureCache(Loudness(), tmp_path)
    with pytest.raises(BadInput, match=r"wave: expected float32 \[T\], found float64"):
        cache.of(sound().astype(np.float64))
    with pytest.raises(BadInput, match=r"wave: expected float32 \[T\], found float32 \[1, 32000\]"):
        cache.of(sound()[None])
    with pytest.raises(BadInput, match="features: expected numbers within half precision"):
        FeatureCache(TooLarge(), tmp_path).of(sound())
    assert not [*tmp_path.rglob("*.*")]
    for begin, end in ((-0.1, 1.0), (1.0, 1.0), (1.5, 2.1), (float("nan"), 1.0)):
        for way in (cache.of_segment, cache.within_stimulus):
            with pytest.raises(BadInput, match="segment: expected within 0 to 2.0 s"):
                way(sound(), begin, end)
    with pytest.raises(BadInput, match="segment: expected at least one frame"):
        cache.within_stimulus(sound(), 1.0, 1.01)


@pytest.mark.parametrize(("rate", "to_rate"), [(50.0, 120.0), (50.0, 64.0), (120.0, 50.0), (50.0, 50.0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_ramp_stays_a_ramp(rate: float, to_rate: float, dtype: torch.dtype) -> None:
    """Of features that are the time of their frames' middles, each new frame is the time of its own middle."""
    seconds, frames = 3.0, round(3 * to_rate)
    times = (torch.arange(round(seconds * rate), dtype=dtype) + 0.5) / rate
    found = resampled(torch.stack([times, -2 * times])[None], rate, frames, to_rate)
    expected = ((torch.arange(frames, dtype=dtype) + 0.5) / to_rate).clamp(times[0], times[-1])
    assert found.shape == (1, 2, frames) and found.dtype == dtype
    torch.testing.assert_close(found[0], torch.stack([expected, -2 * expected]), atol=1e-6, rtol=1e-6)


def test_resampling_keeps_a_constant_and_its_own_rate_and_passes_gradients() -> None:
    features = torch.randn(3, 4, 20, requires_grad=True)
    torch.testing.assert_close(resampled(features, 50.0, 20, 50.0), features)
    torch.testing.assert_close(resampled(torch.ones(1, 1, 20), 50.0, 48, 120.0), torch.ones(1, 1, 48))
    torch.testing.assert_close(resampled(torch.ones(1, 1, 1), 50.0, 2, 120.0), torch.ones(1, 1, 2))
    batch = resampled(features, 50.0, 48, 120.0)
    torch.testing.assert_close(batch[1:2], resampled(features[1:2], 50.0, 48, 120.0))
    batch.sum().backward()
    assert features.grad is not None and features.grad.sum() == pytest.approx(3 * 4 * 48)


@pytest.mark.parametrize(
    ("features", "rate", "frames", "to_rate", "message"),
    [
        (torch.zeros(2, 20), 50.0, 5, 120.0, r"features: expected floats \[B, D, F\]"),
        (torch.zeros(1, 2, 0), 50.0, 5, 120.0, r"features: expected floats \[B, D, F\], not empty"),
        (torch.zeros(1, 2, 5, dtype=torch.int64), 50.0, 5, 120.0, "features: .*found torch.int64"),
        (torch.zeros(1, 2, 5), 50.0, 0, 120.0, "frames and rates: expected at least 1 frame"),
        (torch.zeros(1, 2, 5), 0.0, 5, 120.0, "frames and rates"),
        (torch.zeros(1, 2, 5), 50.0, 5, float("nan"), "frames and rates"),
        (torch.zeros(1, 2, 50), 50.0, 240, 120.0, r"frames within 1.000 s, found the last at 1.996 s"),
    ],
)
def test_resampling_refuses(features: Tensor, rate: float, frames: int, to_rate: float, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        resampled(features, rate, frames, to_rate)
