"""The codec's training: three phases, the same bits after a kill, and no word of what was kept out."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import DacModel

from eeg2speech.data.mixing import LEVEL
from eeg2speech.errors import BadInput
from eeg2speech.systems.codecs import load_codec
from eeg2speech.training import codec as training
from eeg2speech.training.checkpoint import load_weights, state_hash
from eeg2speech.training.codec import MOST_SKIPPED, Audio, CodecPlan, CodecSettings, CodecTrainer, Crops, build

RATE = 16_000
TINY = CodecSettings(
    encoder_hidden_size=4, decoder_hidden_size=32, n_codebooks=2, codebook_size=16, codebook_dim=4, sampling_rate=RATE
)
PLAN = CodecPlan(
    steps=10,
    batch=4,
    seconds=0.2,
    quantise_from=0.4,
    adversarial_from=0.7,
    discriminator_width=4,
    save_every=2,
)
QUANTISED, JUDGED = 4, 7
"""Steps at which the second and the third phase of ``PLAN`` begin."""


def voice(seconds: float, pitch: float) -> np.ndarray:
    """Harmonics that rise and fall four times a second, and a little noise: never silent."""
    time = np.arange(round(seconds * RATE)) / RATE
    tone = sum(np.sin(2 * np.pi * pitch * k * time + k) / k for k in range(1, 12))
    noise = np.random.default_rng(round(pitch)).standard_normal(len(time))
    return (0.1 * (1.2 + np.sin(8 * np.pi * time)) * (tone + 0.1 * noise)).astype(np.float32)


SPEECH: tuple[Audio, Audio] = ({"a": [voice(2, 110), voice(1, 150)], "b": [voice(2, 190)]}, {"a": [voice(4, 130)]})


class Killed(Exception):
    pass


class Observed(CodecTrainer):
    """Notes what each step leaves of encoder and quantiser; can be killed before a step."""

    def __init__(self, folder: Path, kill_at: int | None = None, seed: int = 0, **changes: Any) -> None:
        super().__init__(folder, TINY, replace(PLAN, **changes), seed, audio=SPEECH)
        self.kill_at = kill_at
        self.encoders: list[str] = []
        self.quantisers: list[str] = []
        self.said: list[dict[str, float]] = []

    def _step(self, step: int) -> dict[str, float]:
        if step == self.kill_at:
            raise Killed
        self.said.append(super()._step(step))
        self.encoders.append(state_hash(self.model.encoder.state_dict()))
        self.quantisers.append(state_hash(self.model.quantizer.state_dict()))
        return self.said[-1]


def quiet(line: str) -> None:
    pass


@pytest.fixture(scope="module", autouse=True)
def short_validation() -> Iterator[None]:
    """One stretch of held-out speech in place of sixteen."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "_fixed", partial(training._fixed, count=1))
        yield


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Observed:
    """A training that nobody disturbed."""
    trainer = Observed(tmp_path_factory.mktemp("calm"))
    trainer.run(quiet)
    return trainer


def same(one: Any, other: Any) -> bool:
    """Equal to the bit, whatever is nested in what."""
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def last(folder: Path) -> dict[str, Any]:
    """The checkpoint to go on from, without its time."""
    state: dict[str, Any] = torch.load(folder / "last.pt", weights_only=True)
    state["done"].pop("seconds")
    return state


def test_a_killed_training_ends_in_the_same_bits(calm: Observed, tmp_path: Path) -> None:
    """Killed in each of the three phases, every time with a step behind it that no checkpoint holds."""
    for step in (3, QUANTISED + 1, JUDGED + 2):
        with pytest.raises(Killed):
            Observed(tmp_path, kill_at=step).run(quiet)
        torch.rand(3)
    resumed = Observed(tmp_path)
    path = resumed.run(quiet)
    assert len(resumed.said) == 2
    expected, found = last(calm.folder), last(tmp_path)
    for name in expected:
        assert same(expected[name], found[name]), name
    assert [point["step"] for point in found["done"]["curve"]] == [2, 4, 6, 8, 10]
    assert same(load_weights(calm.folder / path.name)[0], load_weights(path)[0])
    assert not list(tmp_path.glob("*.tmp"))


def test_the_seed_decides(calm: Observed, tmp_path: Path) -> None:
    other = Observed(tmp_path, seed=1, steps=2, quantise_from=1.0, adversarial_from=1.0)
    other.run(quiet)
    assert other.said[0] != calm.said[0] and other.encoders[0] != calm.encoders[0]


def test_each_phase_brings_its_losses(calm: Observed) -> None:
    assert all(np.isfinite(list(losses.values())).all() for losses in calm.said)
    assert [losses["codebook"] > 0 for losses in calm.said] == [step >= QUANTISED for step in range(10)]
    for name in ("discriminator", "adversarial", "feature_matching"):
        assert [name in losses for losses in calm.said] == [step >= JUDGED for step in range(10)]
    assert ["valid_mel_quantised" in point for point in calm.done.curve] == [False, False, True, True, True]


def test_the_encoder_does_not_move_once_quantised_and_codebooks_not_before(calm: Observed) -> None:
    assert len(set(calm.encoders[:QUANTISED])) == QUANTISED
    assert set(calm.encoders[QUANTISED:]) == {calm.encoders[QUANTISED - 1]}
    assert len(set(calm.quantisers[:QUANTISED])) == 1
    assert len(set(calm.quantisers[QUANTISED - 1 :])) == 10 - QUANTISED + 1


def test_a_finished_training_is_not_done_again(calm: Observed) -> None:
    again = Observed(calm.folder, kill_at=10)
    before = load_weights(calm.folder / "codec.safetensors")
    path = again.run(quiet)
    assert again.said == [] and same(load_weights(path), before)


def test_what_was_trained_is_a_codec(calm: Observed) -> None:
    codec = load_codec(calm.folder / "codec.safetensors")
    assert (codec.rate, codec.hop, codec.books, codec.book_size) == (RATE, 320, 2, 16)
    for name, tensor in calm.model.state_dict().items():
        assert torch.equal(codec.weights()[name], tensor.half().float()), name
    about = load_weights(calm.folder / "codec.safetensors")[1]
    assert about["training"]["steps"] == 10 and about["training"]["plan"]["seconds"] == 0.2


@pytest.mark.parametrize(
    ("changes", "field"), [({"steps": 12}, "plan"), ({"lambda_mel": 1.0}, "plan"), ({"seed": 1}, "seed")]
)
def test_a_folder_of_another_training_is_refused(calm: Observed, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(BadInput, match=rf"last\.pt: {field}: expected .* .or another folder., found"):
        Observed(calm.folder, **changes).run(quiet)


def test_other_sizes_in_the_same_folder_are_refused(calm: Observed) -> None:
    with pytest.raises(BadInput, match=r"last\.pt: settings: expected"):
        CodecTrainer(calm.folder, replace(TINY, codebook_size=32), PLAN, audio=SPEECH).run(quiet)


def test_codebooks_set_from_data_leave_less_than_random_ones(tmp_path: Path) -> None:
    sizes = replace(TINY, n_codebooks=4, codebook_size=64, codebook_dim=8)
    trainer = CodecTrainer(tmp_path, sizes, PLAN, audio=SPEECH)
    quantiser = trainer.model.quantizer.eval()
    with torch.no_grad():
        latents = trainer.model.encoder(torch.cat([trainer.crops.batch(k) for k in range(16)]).unsqueeze(1))
        spread = (latents - latents.mean((0, 2), keepdim=True)).square().sum()

        def error(books: int) -> float:
            """Share of the latents' variance that is lost, on crops from which no codebook was made."""
            return float((quantiser(latents, books)[0] - latents).square().sum() / spread)

        random = error(4)
        trainer._set_codebooks()
        errors = [error(books) for books in (1, 2, 3, 4)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.5 and errors[-1] < random / 2
    assert all(bool(tensor.isfinite().all()) for tensor in quantiser.state_dict().values())


class Wrong(CodecTrainer):
    """Losses are no numbers at some steps."""

    bad: range

    def losses(self, wave: Tensor, estimate: Tensor) -> dict[str, Tensor]:
        factor = float("nan") if self.done.steps in self.bad else 1.0
        return {name: factor * value for name, value in super().losses(wave, estimate).items()}


def unquantised(folder: Path, bad: range) -> Wrong:
    plan = replace(PLAN, steps=14, quantise_from=1.0, adversarial_from=1.0, save_every=14)
    trainer = Wrong(folder, TINY, plan, audio=SPEECH)
    trainer.bad = bad
    return trainer


def test_one_bad_batch_is_passed_over(tmp_path: Path) -> None:
    trainer = unquantised(tmp_path, range(1, 2))
    states = []
    for step in range(3):
        trainer._step(step)
        trainer.done.steps += 1
        states.append(state_hash(trainer.model.state_dict()))
    assert states[0] == states[1] != states[2]


def test_a_training_that_has_gone_wrong_is_ended(tmp_path: Path) -> None:
    trainer = unquantised(tmp_path, range(14))
    before = state_hash(trainer.model.state_dict())
    with pytest.raises(BadInput, match=f"gradient at step {MOST_SKIPPED - 1}: expected finite numbers"):
        trainer.run(quiet)
    assert state_hash(trainer.model.state_dict()) == before


@pytest.mark.parametrize("settings", [TINY, CodecSettings()], ids=["tiny", "embedded"])
def test_random_weights_keep_the_variance(settings: CodecSettings) -> None:
    wave = torch.from_numpy(voice(0.5, 120))[None, None]

    def kept(model: nn.Module) -> float:
        with torch.no_grad():
            return float(model.decoder(model.encoder(wave)).std() / wave.std())  # type: ignore[operator]

    ours = [kept(build(settings, seed)) for seed in (0, 1)]
    assert all(0.05 < ratio < 20 for ratio in ours)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = kept(DacModel(settings.config()))
    assert theirs < min(ours) / 5


def test_random_weights_depend_on_the_seed_alone() -> None:
    before = torch.get_rng_state()
    one = state_hash(build(TINY, 3).state_dict())
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)
    assert state_hash(build(TINY, 3).state_dict()) == one != state_hash(build(TINY, 4).state_dict())


def tone(seconds: float, frequency: float) -> np.ndarray:
    return np.sin(2 * np.pi * frequency * np.arange(round(seconds * RATE)) / RATE).astype(np.float32)


def test_what_was_kept_out_is_in_no_crop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Heard is a low tone, kept out a high one: neither training nor codebooks meet the high one."""
    sides: dict[bool, Audio] = {False: {"x": [tone(2, 400)]}, True: {"x": [tone(4, 3000)]}}
    monkeypatch.setattr(training, "pretraining_audio", lambda kept_out=False: sides[kept_out])
    trainer = CodecTrainer(tmp_path, TINY, PLAN)
    assert trainer.kept_out is sides[True]
    crops = torch.cat([trainer.crops.batch(step) for step in (*range(20), *range(10**6, 10**6 + 20))])
    spectrum = torch.fft.rfft(crops * torch.hann_window(crops.shape[-1])).abs().square().sum(0)
    edge = round(1500 * crops.shape[-1] / RATE)
    assert spectrum[edge:].sum() < 1e-6 * spectrum.sum()


def test_crops_are_stretches_of_what_was_given_at_about_the_level_of_talkers() -> None:
    size = round(PLAN.seconds * RATE)
    only = voice(PLAN.seconds, 140)
    audio = {"a": [only], "silent": [np.zeros(4 * size, np.float32)], "short": [voice(PLAN.seconds, 99)[:-1]]}
    for mixtures in (0.0, 1.0):
        crops = Crops(audio, TINY, replace(PLAN, mixtures=mixtures), seed=0).batch(0)
        assert crops.shape == (PLAN.batch, size) and crops.dtype == torch.float32
        cosines = torch.cosine_similarity(crops, torch.from_numpy(only)[None], dim=1)
        torch.testing.assert_close(cosines, torch.ones(PLAN.batch))
        levels = crops.square().mean(1).sqrt() / (LEVEL * (1 + mixtures))
        assert 10**-0.31 < levels.min() < levels.max() < 10**0.31


def test_crops_are_drawn_by_seed_and_step_alone() -> None:
    crops, other = (Crops(SPEECH[0], TINY, PLAN, seed) for seed in (0, 1))
    first = crops.batch(3)
    np.random.rand(2)
    assert torch.equal(crops.batch(3), first)
    assert not torch.equal(crops.batch(4), first) and not torch.equal(other.batch(3), first)
