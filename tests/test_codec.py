"""Codecs: both implementations agree, nothing trains them, and files can hold tensors alone."""

import json
import math
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import DacConfig, DacModel

from eeg2speech.errors import BadInput
from eeg2speech.models import codec as codec_module
from eeg2speech.models.codec import Codec, DacCodec
from eeg2speech.systems import codecs
from eeg2speech.systems.codecs import load_codec, require_rate
from eeg2speech.training.checkpoint import save_weights, state_hash

SIZES: dict[str, Any] = {
    "encoder_hidden_size": 4,
    "downsampling_ratios": [8, 5, 4, 2],
    "decoder_hidden_size": 32,
    "n_codebooks": 3,
    "codebook_size": 16,
    "codebook_dim": 8,
    "sampling_rate": 16_000,
}
DESCRIPT: dict[str, Any] = {
    "encoder_dim": 4,
    "encoder_rates": [2, 4, 5, 8],
    "decoder_dim": 32,
    "decoder_rates": [8, 5, 4, 2],
    "n_codebooks": 3,
    "codebook_size": 16,
    "codebook_dim": 8,
    "quantizer_dropout": 0.5,
    "sample_rate": 16_000,
}


def enliven(model: nn.Module, seed: int = 0) -> nn.Module:
    """Random weights that keep the variance from layer to layer, so that a difference anywhere reaches the output."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.Conv1d | nn.ConvTranspose1d):
            up = isinstance(module, nn.ConvTranspose1d)
            inputs = module.in_channels * (2 if up else module.kernel_size[0])
            weight = module.weight_v if hasattr(module, "weight_v") else module.weight
            # A branch beside an identity would double the variance, and a loud last layer would saturate.
            branch = module.kernel_size == (1,) and module.in_channels == module.out_channels
            quiet = branch or module.out_channels == 1
            nn.init.normal_(weight, 0, (0.3 if quiet else 1.0) * inputs**-0.5, generator=generator)
            nn.init.normal_(module.bias, 0, 0.1, generator=generator)
            if hasattr(module, "weight_g"):
                scale = torch.empty_like(module.weight_g).uniform_(0.8, 1.2, generator=generator)
                module.weight_g.data = weight.detach().flatten(1).norm(dim=1).view_as(scale) * scale
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, generator=generator)
        elif hasattr(module, "alpha"):
            nn.init.uniform_(module.alpha, 0.5, 1.5, generator=generator)
    return model


def lively(seed: int = 0, **changes: Any) -> DacModel:
    with torch.random.fork_rng():
        return enliven(DacModel(DacConfig(**SIZES | changes)), seed)  # type: ignore[return-value]


def speechlike(samples: int, batch: int = 2) -> Tensor:
    return 0.3 * torch.randn(batch, samples, generator=torch.Generator().manual_seed(7))


@pytest.fixture(scope="module")
def codec() -> DacCodec:
    return DacCodec(lively())


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as the authors publish theirs, written by their own package."""
    dac = pytest.importorskip("dac")
    path = tmp_path_factory.mktemp("published") / "weights.pth"
    with torch.random.fork_rng():
        enliven(dac.DAC(**DESCRIPT)).save(path, package=False)
    return path


@pytest.mark.parametrize("samples", [3200, 3333])
def test_both_implementations_agree_on_the_same_file(published: Path, samples: int) -> None:
    ours, theirs = load_codec(published), load_codec(published, implementation="descript")
    wave = speechlike(samples)
    latents = ours.encode(wave)
    assert latents.std() > 0.1
    torch.testing.assert_close(latents, theirs.encode(wave), atol=1e-5, rtol=0)
    for books in (None, 1, 2):
        one, other = ours.quantise(latents, books), theirs.quantise(latents, books)
        assert one.codes.unique().numel() > 4
        assert torch.equal(one.codes, other.codes)
        torch.testing.assert_close(one.latents, other.latents, atol=1e-5, rtol=0)
        torch.testing.assert_close(one.latents, theirs.from_codes(one.codes), atol=1e-5, rtol=0)
        decoded = ours.decode(one.latents, samples)
        assert decoded.std() > 0.05
        torch.testing.assert_close(decoded, theirs.decode(other.latents, samples), atol=1e-5, rtol=0)


def test_it_computes_what_the_authors_package_computes(published: Path) -> None:
    dac = pytest.importorskip("dac")
    model, ours, wave = dac.DAC.load(published).eval(), load_codec(published), speechlike(3333)
    with torch.no_grad():
        latents, codes, *_ = model.encode(model.preprocess(wave.unsqueeze(1), 16_000))
        decoded = model.decode(latents).squeeze(1)
    quantised = ours.quantise(ours.encode(wave))
    assert torch.equal(quantised.codes, codes)
    torch.testing.assert_close(quantised.latents, latents, atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.decode(quantised.latents, decoded.shape[-1]), decoded, atol=1e-5, rtol=0)


def test_both_implementations_have_one_fingerprint_and_one_shape(published: Path) -> None:
    ours, theirs = load_codec(published), load_codec(published, implementation="descript")
    for field in ("rate", "hop", "width", "books", "book_size", "frame_rate", "fingerprint"):
        assert getattr(ours, field) == getattr(theirs, field), field


def test_published_weights_need_no_descript_package(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dac", None)
    codecs._load.cache_clear()
    assert load_codec(published).rate == 16_000
    with pytest.raises(BadInput, match="pip install"):
        load_codec(published, implementation="descript")


def test_sizes_are_those_of_the_network(codec: DacCodec) -> None:
    assert (codec.rate, codec.hop, codec.width, codec.books, codec.book_size) == (16_000, 320, 64, 3, 16)
    assert codec.frame_rate == 50.0


@pytest.mark.parametrize("samples", [1, 319, 320, 321, 1000, 3200])
def test_every_started_hop_has_a_frame_and_decoding_gives_the_length_asked_for(codec: DacCodec, samples: int) -> None:
    latents = codec.encode(speechlike(samples))
    frames = math.ceil(samples / 320)
    assert latents.shape == (2, 64, frames)
    assert latents.dtype == torch.float32
    assert codec.decode(latents).shape == (2, 320 * frames)
    assert codec.decode(latents, samples).shape == (2, samples)
    longer = codec.decode(latents, samples + 5000)
    assert longer.shape == (2, samples + 5000)
    assert not longer[:, 320 * frames :].any()
    assert torch.equal(longer[:, :samples], codec.decode(latents, samples))


def test_padding_is_silence_at_the_end(codec: DacCodec) -> None:
    wave = speechlike(1000)
    padded = torch.cat([wave, torch.zeros(2, 280)], dim=1)
    assert torch.equal(codec.encode(wave), codec.encode(padded))


@pytest.mark.parametrize("extra", [1, 319, 320])
def test_a_long_wave_is_encoded_in_pieces_as_a_whole(
    codec: DacCodec, monkeypatch: pytest.MonkeyPatch, extra: int
) -> None:
    wave = speechlike(7 * codec.hop + extra)
    whole = codec.encode(wave)
    monkeypatch.setattr(codec_module, "PIECE_FRAMES", 3)
    torch.testing.assert_close(codec.encode(wave), whole, atol=1e-5, rtol=1e-5)


def test_an_answer_does_not_depend_on_the_batch(codec: DacCodec) -> None:
    wave = speechlike(2000, batch=3)
    together = codec.encode(wave)
    for index in range(3):
        torch.testing.assert_close(together[index : index + 1], codec.encode(wave[index : index + 1]))


def test_codes_say_all_of_what_was_quantised(codec: DacCodec) -> None:
    latents = codec.encode(speechlike(3200))
    for books in (1, 2, 3):
        quantised = codec.quantise(latents, books)
        assert quantised.codes.shape == (2, books, 10)
        assert quantised.codes.dtype == torch.int64
        assert torch.equal(codec.from_codes(quantised.codes), quantised.latents)
    assert torch.equal(codec.quantise(latents).codes, codec.quantise(latents, 3).codes)
    assert torch.equal(codec.quantise(latents, 1).codes, codec.quantise(latents).codes[:, :1])


def test_nothing_trains_a_codec(codec: DacCodec) -> None:
    network = nn.ModuleDict({"codec": codec, "own": nn.Linear(2, 2)}).train()
    assert not any(module.training for module in codec.modules())
    assert not any(parameter.requires_grad for parameter in codec.parameters())
    before = state_hash(codec.state_dict())
    latents = nn.Parameter(codec.encode(speechlike(1600)))
    optimiser = torch.optim.Adam([*network.parameters(), latents], lr=0.1, weight_decay=0.1)
    start = latents.detach().clone()
    for _ in range(2):
        optimiser.zero_grad()
        codec.decode(codec.quantise(latents).latents).square().mean().backward()
        optimiser.step()
    assert state_hash(codec.state_dict()) == before
    assert not torch.equal(latents, start)


def test_gradients_go_through_quantiser_and_decoder_but_not_through_the_encoder(codec: DacCodec) -> None:
    wave = speechlike(1600).requires_grad_()
    assert not codec.encode(wave).requires_grad
    latents = codec.encode(wave).requires_grad_()
    for wanted in (codec.decode(latents), codec.quantise(latents).latents):
        (gradient,) = torch.autograd.grad(wanted.square().sum(), latents)
        assert gradient.isfinite().all()
        assert gradient.abs().sum() > 0
    with torch.no_grad():
        plain = codec.quantise(latents)
    assert torch.equal(plain.latents, codec.quantise(latents).latents)


def test_autocast_changes_nothing(codec: DacCodec) -> None:
    wave = speechlike(1600)

    def everything() -> list[Tensor]:
        latents = codec.encode(wave)
        quantised = codec.quantise(latents)
        return [latents, quantised.latents, quantised.codes, codec.decode(latents)]

    plain = everything()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = everything()
        halved = codec.decode(plain[0].bfloat16())
    assert all(torch.equal(one, other) for one, other in zip(plain, cast, strict=True))
    assert halved.dtype == torch.float32


def test_fingerprint_is_that_of_the_weights(codec: DacCodec) -> None:
    assert codec.fingerprint == state_hash(codec.model.state_dict())
    assert codec.fingerprint == DacCodec(lively()).fingerprint
    assert codec.fingerprint != DacCodec(lively(seed=1)).fingerprint


def as_safetensors(folder: Path) -> Path:
    save_weights(folder / "tiny.safetensors", lively().state_dict(), {"codec": SIZES}, half=True)
    return folder / "tiny.safetensors"


def as_folder(folder: Path) -> Path:
    lively().save_pretrained(folder / "tiny")
    return folder / "tiny"


@pytest.mark.parametrize(("write", "tolerance"), [(as_safetensors, 2e-3), (as_folder, 0.0)])
def test_what_was_written_comes_back(
    codec: DacCodec, tmp_path: Path, write: Callable[[Path], Path], tolerance: float
) -> None:
    path = write(tmp_path)
    back = load_codec(path)
    for name, tensor in codec.model.state_dict().items():
        torch.testing.assert_close(back.model.state_dict()[name], tensor, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(
        back.encode(speechlike(800)), codec.encode(speechlike(800)), atol=tolerance * 20, rtol=tolerance
    )
    assert back.rate == codec.rate
    assert load_codec(str(path)) is back


@pytest.mark.parametrize("write", [as_safetensors, as_folder])
def test_loading_draws_no_random_number(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    path = write(tmp_path)
    before = torch.get_rng_state()
    load_codec(path)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("implementation", ["transformers", "descript"])
def test_loading_published_weights_draws_no_random_number(published: Path, implementation: Any) -> None:
    codecs._load.cache_clear()
    before = torch.get_rng_state()
    load_codec(published, implementation)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_published_name_is_looked_for_in_the_cache_first(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EEG2SPEECH_CACHE", str(tmp_path))
    (tmp_path / "codecs").mkdir()
    for name in ("weights_16khz.pth", "weights_24khz.pth"):
        (tmp_path / "codecs" / name).write_bytes(published.read_bytes())
    assert load_codec("dac-16khz").fingerprint == load_codec(published).fingerprint
    with pytest.raises(BadInput, match="24000 Hz, found 16000 Hz"):
        load_codec("dac-24khz")


def test_without_file_and_network_the_message_says_which_file_to_put_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no connection")

    monkeypatch.setenv("EEG2SPEECH_CACHE", str(tmp_path))
    monkeypatch.setattr(DacModel, "from_pretrained", offline)
    with pytest.raises(BadInput) as refusal:
        load_codec("dac-44khz")
    assert str(tmp_path / "codecs" / "weights_44khz.pth") in str(refusal.value)
    with pytest.raises(BadInput, match=r"weights_44khz\.pth"):
        load_codec("dac-44khz", implementation="descript")


class Malicious:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return exec, (f"open({str(self.path)!r}, 'w').close()",)


def packaged(path: Path, content: object) -> None:
    with torch.package.PackageExporter(path) as exporter:
        exporter.save_pickle("DAC", "DAC.pth", content)


@pytest.mark.parametrize(
    "write", [lambda p, c: torch.save(c, p), lambda p, c: p.write_bytes(pickle.dumps(c)), packaged]
)
@pytest.mark.parametrize("implementation", ["transformers", "descript"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_file_with_code_in_it_is_refused_and_not_run(
    tmp_path: Path, write: Callable[[Path, object], None], implementation: Any
) -> None:
    marker, path = tmp_path / "was-run", tmp_path / "weights.pth"
    content = Malicious(marker)
    write(path, {"state_dict": {}, "metadata": {"kwargs": content}} if write is not packaged else {"marker": 1})
    with pytest.raises(BadInput, match="tensors and plain values alone"):
        load_codec(path, implementation)
    assert not marker.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a pickle",
        {"state_dict": {}},
        {"state_dict": {"a": 1}, "metadata": {"kwargs": DESCRIPT}},
        {"state_dict": {}, "metadata": {"kwargs": DESCRIPT}},
        {"state_dict": {"encoder.block.0.weight_v": torch.ones(1)}, "metadata": {"kwargs": DESCRIPT}},
        {"state_dict": {}, "metadata": {"kwargs": {k: v for k, v in DESCRIPT.items() if k != "sample_rate"}}},
        {"state_dict": {}, "metadata": {"kwargs": DESCRIPT | {"decoder_rates": [2, 4, 5, 8]}}},
        {"state_dict": {}, "metadata": {"kwargs": DESCRIPT | {"latent_dim": 128}}},
        {"state_dict": {}, "metadata": {"kwargs": DESCRIPT | {"codebook_dim": [8, 4, 8]}}},
        {"state_dict": {}, "metadata": {"kwargs": DESCRIPT | {"encoder_rates": 5}}},
        {"state_dict": {}, "metadata": {"kwargs": DESCRIPT | {"codebook_size": 17}}},
    ],
)
def test_a_pth_file_of_another_kind_is_refused(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(BadInput, match=r"weights\.pth"):
        load_codec(path)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("dac-16kHz", "did you mean 'dac-16khz'"),
        ("nonsense", "demo"),
        ("./missing.safetensors", "no such file"),
        ("./missing.pth", "no such file"),
        ("./missing", "nothing there"),
        ("./tests.txt", "nothing there"),
        (Path("demo"), "nothing there"),
    ],
)
def test_a_codec_that_is_not_there_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str | Path, match: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=match):
        load_codec(name)


def test_an_unknown_implementation_is_refused() -> None:
    with pytest.raises(BadInput, match="did you mean 'descript'"):
        load_codec("demo", implementation="descrpt")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "about",
    [
        {},
        {"codec": SIZES | {"extra": 1}},
        {"codec": {k: v for k, v in SIZES.items() if k != "sampling_rate"}},
        {"codec": SIZES | {"n_codebooks": 4}},
        {"codec": SIZES | {"decoder_hidden_size": 64}},
        {"codec": SIZES | {"encoder_hidden_size": "four"}},
    ],
)
def test_weights_that_are_not_what_they_say_are_refused(tmp_path: Path, about: dict[str, Any]) -> None:
    path = tmp_path / "tiny.safetensors"
    save_weights(path, lively().state_dict(), about, half=True)
    with pytest.raises(BadInput, match=r"tiny\.safetensors"):
        load_codec(path)


def test_a_folder_that_is_not_a_whole_codec_is_refused(tmp_path: Path) -> None:
    folder = as_folder(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"n_codebooks": 4}))
    with pytest.raises(BadInput, match="missing_keys"):
        load_codec(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(BadInput, match="save_pretrained"):
        load_codec(folder)
    (folder / "config.json").unlink()
    with pytest.raises(BadInput, match=r"config\.json"):
        load_codec(folder)


def test_another_rate_is_refused(codec: DacCodec) -> None:
    require_rate(codec, 16_000, "Context")
    with pytest.raises(BadInput, match="Context: rate of the codec: expected 44100 Hz, found 16000 Hz"):
        require_rate(codec, 44_100, "Context")


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.encode(torch.zeros(320)),
        lambda c: c.encode(torch.zeros(2, 0)),
        lambda c: c.encode(torch.zeros(2, 320, dtype=torch.int16)),
        lambda c: c.quantise(torch.zeros(2, 63, 4)),
        lambda c: c.quantise(torch.zeros(2, 64, 4), 0),
        lambda c: c.quantise(torch.zeros(2, 64, 4), 4),
        lambda c: c.decode(torch.zeros(64, 4)),
        lambda c: c.decode(torch.zeros(2, 64, 4), -1),
        lambda c: c.from_codes(torch.zeros(2, 4, 4, dtype=torch.int64)),
        lambda c: c.from_codes(torch.zeros(2, 4, dtype=torch.int64)),
        lambda c: c.from_codes(torch.zeros(2, 0, 4, dtype=torch.int64)),
        lambda c: c.from_codes(torch.zeros(2, 3, 4)),
        lambda c: c.from_codes(torch.full((2, 3, 4), 16)),
        lambda c: c.from_codes(torch.full((2, 3, 4), -1)),
    ],
)
def test_tensors_of_another_shape_are_refused(codec: DacCodec, call: Callable[[Codec], object]) -> None:
    with pytest.raises(BadInput):
        call(codec)
