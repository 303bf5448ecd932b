"""Brain encoder, speech encoder and their losses: for any sensors and listeners, each as its formula says."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, multiprocessing, nn

from eeg2speech.errors import BadInput
from eeg2speech.models.brain_encoder import (
    MARGIN,
    SIZES,
    BrainEncoder,
    BrainSize,
    ConvBlock,
    SpatialAttention,
    dilations,
    flat_map,
    reach,
    robust_scale,
)
from eeg2speech.models.contrastive import clip_loss, gathered, regression_loss, similarity
from eeg2speech.models.deep_mel import DeepMel

TINY = BrainSize(rate=64, channels=12, harmonics=4, hidden=8, blocks=2)
SENSORS, RATE, SUBJECTS, WIDTH = 10, 128, 5, 6


def noise(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def head(sensors: int, seed: int = 0) -> Tensor:
    """Places in metres on the upper half of a head."""
    directions = noise(sensors, 3, seed=seed)
    directions[:, 2] = directions[:, 2].abs()
    return 0.09 * nn.functional.normalize(directions, dim=-1)


def encoder(size: BrainSize = TINY, sensors: int = SENSORS, eeg_rate: int = RATE, width: int = WIDTH) -> BrainEncoder:
    """In evaluation, with batch norms that have seen data; listeners 0, 1 and 3 are known."""
    torch.manual_seed(2)
    network = BrainEncoder(head(sensors), eeg_rate, SUBJECTS, width, size)
    network.mark_known([0, 1, 3])
    network(noise(8, sensors, eeg_rate, seed=9), torch.zeros(8, dtype=torch.long))
    return network.eval()


def people(*numbers: int) -> Tensor:
    return torch.tensor(numbers, dtype=torch.long)


# Shapes, rates, sensors


@pytest.mark.parametrize("eeg_rate", [64, 100, 128, 512])
@pytest.mark.parametrize("seconds", [0.5, 0.77, 3.0])
@pytest.mark.parametrize("rate", [64, 120])
def test_frames_says_how_many_there_are(eeg_rate: int, seconds: float, rate: int) -> None:
    network = encoder(replace(TINY, rate=rate), eeg_rate=eeg_rate)
    features = network(noise(2, SENSORS, round(seconds * eeg_rate)), people(0, 1))
    assert features.shape == (2, WIDTH, network.frames(seconds))
    assert network.frames(seconds) == pytest.approx((seconds - 0.15) * rate, abs=1.5)


def test_the_published_window_gives_the_published_number_of_frames() -> None:
    network = encoder(replace(TINY, rate=120), eeg_rate=120)
    assert (network.delay, network.frames(361 / 120)) == (18, 343)


def test_any_sensor_set_at_run_time() -> None:
    network, eeg = encoder(), noise(2, SENSORS, 256)
    here = network(eeg, people(0, 1))
    order = torch.randperm(SENSORS, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(network(eeg[:, order], people(0, 1), head(SENSORS)[order]), here, atol=1e-5)
    twice = network(eeg.repeat(1, 2, 1), people(0, 1), head(SENSORS).repeat(2, 1))
    assert torch.allclose(twice, here, atol=1e-5)
    for sensors in (1, 4, 30):
        others = network(noise(2, sensors, 256), people(0, 1), head(sensors, seed=5))
        assert others.shape == here.shape and others.isfinite().all()
    assert not torch.allclose(network(eeg, people(0, 1), head(SENSORS, seed=5)), here, atol=1e-3)


def test_a_sensor_keeps_its_place_whichever_others_there_are() -> None:
    attention = SpatialAttention(head(20), 7, 4, dropout=0.0)
    assert torch.allclose(attention.places(head(20)[:3]), attention.places(head(20))[:3])
    far = attention.places(torch.tensor([[0.05, 0.0, -0.09]]))
    assert (far >= -MARGIN).all() and (far <= 1 + MARGIN).all()


def test_the_map_keeps_directions_and_angles() -> None:
    top, right, nose, low = torch.tensor([[0, 0, 0.09], [0.09, 0, 0], [0, 0.09, 0], [0.07, 0, -0.07]])
    quarter = math.pi / 2
    expected = torch.tensor([[0, 0], [quarter, 0], [0, quarter], [1.5 * quarter, 0]])
    assert torch.allclose(flat_map(torch.stack([top, right, nose, low])), expected, atol=1e-6)


def test_attention_is_a_mean_of_sensors_by_a_fourier_series() -> None:
    positions, eeg = head(9), noise(2, 9, 5)
    attention = SpatialAttention(positions, 3, 4, dropout=0.0)
    weights = attention.weights(positions)
    assert torch.allclose(weights.sum(-1), torch.ones(3)) and (weights > 0).all()
    scores = torch.zeros(3, 9)
    for number in range(16):
        k, m = divmod(number, 4)
        x, y = (attention.places(positions) + MARGIN).unbind(-1)
        phase = 2 * math.pi * (k * x + m * y) / (1 + 2 * MARGIN)
        scores += attention.heads[:, number, None] * phase.cos() + attention.heads[:, 16 + number, None] * phase.sin()
    assert torch.allclose(weights, scores.softmax(-1), atol=1e-5)
    assert torch.allclose(attention(eeg, positions)[1, 2], (weights[2, :, None] * eeg[1]).sum(0), atol=1e-5)


def test_spatial_dropout_leaves_out_a_disc_in_training_alone() -> None:
    positions = head(60)
    attention = SpatialAttention(positions, 3, 4, dropout=0.2)
    torch.manual_seed(0)
    for _ in range(20):
        out = attention.weights(positions)[0] == 0
        places = attention.places(positions)[out]
        assert not out.all() and (len(places) < 2 or torch.pdist(places).max() <= 0.4 + 1e-5)
    shares = [float((attention.weights(positions)[0] == 0).float().mean()) for _ in range(200)]
    assert 0.02 < sum(shares) / 200 < math.pi * 0.2**2 + 0.05
    assert (attention.eval().weights(positions) > 0).all()
    attention.train().dropout = 9.0
    assert (attention.weights(positions) > 0).all()


# Scaling


def test_scaling_sets_median_and_range() -> None:
    scaled = robust_scale(1e4 + 30 * noise(2, 3, 401))
    quartiles = torch.quantile(scaled, torch.tensor([0.25, 0.5, 0.75]), dim=-1)
    assert torch.allclose(quartiles[1], torch.zeros(2, 3), atol=1e-4)
    assert torch.allclose(quartiles[2] - quartiles[0], torch.ones(2, 3), atol=1e-4)


@pytest.mark.parametrize("factor", [1e-6, 3.0, -1.0])
def test_scaling_forgets_the_unit(factor: float) -> None:
    eeg = noise(1, 2, 100)
    assert torch.allclose(robust_scale(factor * eeg), math.copysign(1, factor) * robust_scale(eeg), atol=1e-4)


def test_one_outlier_is_clamped_and_changes_nothing_else() -> None:
    eeg = noise(1, 2, 100)
    high = int(eeg[0, 0].argmax())
    jump = eeg.clone()
    jump[0, 0, high] = 1e4
    assert robust_scale(jump)[0, 0, high] == 20 and robust_scale(jump, clamp=None)[0, 0, high] > 1000
    difference = robust_scale(jump) - robust_scale(eeg)
    difference[0, 0, high] = 0
    assert difference.abs().max() < 1e-5


def test_flat_channels_give_zeros_even_with_a_blip() -> None:
    eeg = torch.full((1, 2, 100), 7.3)
    eeg[0, 1, 40] = 90.0
    assert (robust_scale(eeg) == 0).all()
    assert (encoder().prepare(eeg.repeat(1, 1, 3))[0, 0] == 0).all()


def test_level_scale_and_precision_of_the_eeg_do_not_matter() -> None:
    network, eeg = encoder(), 10 * noise(2, SENSORS, 256)
    here = network(eeg, people(0, 1))
    for same in (3 * eeg, eeg + 500, eeg.double()):
        assert torch.allclose(network(same, people(0, 1)), here, atol=1e-3)
    assert network.double()(eeg, people(0, 1)).dtype == torch.float64


def test_a_large_level_leaves_no_edges() -> None:
    network, eeg = encoder(), noise(1, SENSORS, 256, dtype=torch.float64)
    network = network.double()
    assert torch.allclose(network.prepare(eeg + 1e5), network.prepare(eeg), atol=1e-4)


# Listeners


def test_strangers_get_the_mean_of_the_known_layers() -> None:
    network, eeg = encoder(), noise(1, SENSORS, 256)
    layer = network.subject
    assert layer is not None
    x = noise(1, TINY.channels, 20)
    mean = layer.matrices[[0, 1, 3]].mean(0)
    for stranger in (-1, 2, 4):
        assert torch.allclose(layer(x, people(stranger)), mean @ x, atol=1e-5)
        assert torch.equal(network(eeg, people(stranger)), network(eeg, people(-1)))
    assert torch.allclose(layer(x, people(3)), layer.matrices[3] @ x, atol=1e-6)
    assert not torch.allclose(network(eeg, people(0)), network(eeg, people(1)), atol=1e-3)


def test_who_is_known_travels_with_the_weights() -> None:
    network, other = encoder(), BrainEncoder(head(30, seed=4), RATE, SUBJECTS, WIDTH, TINY).eval()
    other.load_state_dict(network.state_dict())
    eeg = noise(2, SENSORS, 256)
    assert torch.equal(other(eeg, people(-1, 3), head(SENSORS)), network(eeg, people(-1, 3)))
    network.mark_known([4])
    assert network.subject is not None and network.subject.known.tolist() == [False] * 4 + [True]


def test_without_subject_layer_all_listeners_are_alike() -> None:
    network = encoder(replace(TINY, subject_layer=False))
    eeg = noise(1, SENSORS, 256).repeat(3, 1, 1)
    first, second, third = network(eeg, people(-1, 0, 4))
    assert torch.allclose(first, second, atol=1e-6) and torch.allclose(second, third, atol=1e-6)


# Time


def test_batch_does_not_matter() -> None:
    network, eeg = encoder(), noise(4, SENSORS, 256)
    eeg[1] *= 1000
    together = network(eeg, people(0, 1, -1, 3))
    alone = torch.cat([network(eeg[i : i + 1], people(who)) for i, who in enumerate((0, 1, -1, 3))])
    assert torch.allclose(together, alone, atol=1e-4)


def raised(eeg: Tensor, at: int) -> Tensor:
    """The EEG with one more extreme sample, which moves neither median nor range of the window."""
    changed = eeg.clone()
    changed[..., at] = 1.5 * eeg.amax(-1)
    return changed


def test_frames_stand_for_the_speech_150_ms_before_the_eeg() -> None:
    network = encoder(eeg_rate=TINY.rate).double()
    eeg = noise(1, SENSORS, 192, dtype=torch.float64)
    at = 100
    eeg[..., at] = eeg.amax(-1) * 1.2
    difference = (network(raised(eeg, at), people(0)) - network(eeg, people(0))).abs().sum((0, 1))
    touched = difference.gt(1e-9).nonzero().flatten()
    width = reach(TINY.blocks)
    middle = at - network.delay
    assert (int(touched.min()), int(touched.max())) == (middle - width, middle + width)


def test_the_first_150_ms_have_no_effect() -> None:
    network = encoder(eeg_rate=TINY.rate).double()
    eeg = noise(1, SENSORS, 192, dtype=torch.float64)
    other = eeg.clone()
    other[..., : network.delay] *= -40
    assert torch.allclose(network(other, people(0)), network(eeg, people(0)), atol=1e-9)
    other[..., network.delay] *= -40
    assert not torch.allclose(network(other, people(0)), network(eeg, people(0)), atol=1e-3)


@pytest.mark.parametrize(("inputs", "outputs"), [(4, None), (3, None), (4, 6), (4, 4)])
def test_a_block_is_two_residual_layers_and_a_gate(inputs: int, outputs: int | None) -> None:
    torch.manual_seed(0)
    block = ConvBlock(inputs, 4, (4, 8), outputs=outputs)
    block(noise(8, inputs, 30, seed=9))
    x = noise(2, inputs, 30)
    first, second = block.eval().first, block.second
    y = nn.functional.gelu(first.act[0](nn.functional.conv1d(x, first.conv.weight, first.conv.bias, 1, 4, 4)))
    y = x + y if inputs == 4 else y
    z = nn.functional.conv1d(y, second.conv.weight, second.conv.bias, 1, 8, 8)
    z = z if outputs else nn.functional.gelu(second.act[0](z))
    z = y + z if outputs in (None, 4) else z
    value, gate = block.gate[0](z).chunk(2, dim=1)
    assert torch.allclose(block(x), value * gate.sigmoid(), atol=1e-5)


def test_dilations_are_the_papers() -> None:
    assert [dilations(k) for k in range(5)] == [(1, 2), (4, 8), (16, 1), (2, 4), (8, 16)]
    assert reach(5) == 67 and reach(3) == 35


# Learning and sizes


@pytest.mark.parametrize(
    "change", [{}, {"final": False}, {"subject_layer": False}, {"clamp": None}, {"spatial_dropout": 0.0}]
)
def test_every_weight_gets_a_gradient(change: dict[str, Any]) -> None:
    network = encoder(replace(TINY, **change)).train()
    network(noise(3, SENSORS, 256), people(0, 1, -1)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        # A bias before a batch norm is taken away again.
        assert name.endswith("conv.bias") or parameter.grad.abs().max() > 0, name


def test_the_two_encoders_learn_to_find_each_other() -> None:
    torch.manual_seed(0)
    brain = BrainEncoder(head(SENSORS), RATE, 2, 8, replace(TINY, spatial_dropout=0.0))
    brain.mark_known([0, 1])
    speech, mel = DeepMel(4, 8, hidden=8, blocks=2), noise(12, 4, brain.frames(1.0))
    eeg, subject = noise(12, SENSORS, RATE, seed=3), torch.arange(12) % 2
    optimiser = torch.optim.Adam([*brain.parameters(), *speech.parameters()], lr=3e-3)
    losses = []
    for _ in range(60):
        loss = clip_loss(brain(eeg, subject), speech(mel))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[0] > 0.8 * math.log(12) and losses[-1] < 0.1


def test_the_papers_network_takes_a_step() -> None:
    torch.manual_seed(0)
    network = BrainEncoder(head(208), 120, 27, 1024, SIZES["paper"])
    network.mark_known(range(27))
    # 27 matrices of 270 x 270 are 2.0 of these.
    assert sum(parameter.numel() for parameter in network.parameters()) == 9_565_054
    features = network(noise(2, 208, 360), people(0, 26))
    assert features.shape == (2, 1024, 342)
    clip_loss(features, noise(4, 1024, 342)).backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())


def test_the_demo_network_is_small() -> None:
    network = BrainEncoder(head(64), 128, 16, 64, SIZES["demo"])
    assert 200_000 < sum(parameter.numel() for parameter in network.parameters()) < 500_000


def test_deep_mel_keeps_frames_and_batch_apart() -> None:
    network = DeepMel(7, 5, hidden=8, blocks=3)
    network(noise(8, 7, 50, seed=9))
    network.eval()
    mel = noise(3, 7, 120)
    features = network(mel)
    assert features.shape == (3, 5, 120)
    assert torch.allclose(network(mel[1:2]), features[1:2], atol=1e-5)
    mel[0, :, 60] += 1
    touched = (network(mel) - features)[0].abs().sum(0).gt(1e-6).nonzero().flatten()
    assert 60 - reach(3) <= touched.min() < 60 < touched.max() <= 60 + reach(3)


# Losses


def test_perfect_features_have_no_loss_when_sure() -> None:
    speech = noise(6, 4, 30)
    assert float(clip_loss(100 * speech, speech)) < 1e-4
    assert float(clip_loss(speech, speech, temperature=0.01)) < 1e-4
    assert float(clip_loss(100 * speech.roll(1, 0), speech)) > 100
    assert float(regression_loss(speech, speech)) == 0 and float(regression_loss(speech + 2, speech)) == pytest.approx(
        4
    )


def test_the_loss_is_the_softmax_over_all_candidates() -> None:
    eeg, speech = noise(3, 4, 5), noise(7, 4, 5, seed=2)
    scores = torch.stack([torch.stack([(e * s).sum() / s.norm() for s in speech]) for e in eeg])
    assert torch.allclose(similarity(eeg, speech), scores, atol=1e-5)
    expected = -scores.log_softmax(-1).diagonal().mean()
    assert float(clip_loss(eeg, speech)) == pytest.approx(float(expected), abs=1e-5)


def test_length_of_candidates_does_not_matter() -> None:
    eeg, speech = noise(3, 4, 5), noise(7, 4, 5, seed=2)
    lengths = torch.logspace(-4, 4, 7).view(-1, 1, 1)
    assert float(clip_loss(eeg, lengths * speech)) == pytest.approx(float(clip_loss(eeg, speech)), abs=1e-5)
    assert not similarity(eeg, torch.zeros(1, 4, 5)).any()


def test_chance_costs_the_logarithm_of_the_candidates() -> None:
    eeg, speech = 1e-3 * noise(4, 8, 20), noise(256, 8, 20, seed=2)
    losses = [float(clip_loss(eeg, speech[:count])) for count in (4, 16, 64, 256)]
    assert losses == pytest.approx([math.log(count) for count in (4, 16, 64, 256)], abs=0.01)


def test_the_temperature_learns() -> None:
    temperature = torch.tensor(1.0, requires_grad=True)
    speech = noise(6, 4, 30)
    clip_loss(speech, speech, temperature).backward()
    # Right answers want a lower one.
    assert temperature.grad is not None and temperature.grad > 0


def test_half_precision_gives_a_loss_in_full() -> None:
    eeg, speech = noise(3, 4, 5).bfloat16(), noise(7, 4, 5, seed=2).bfloat16()
    assert clip_loss(eeg, speech).dtype == torch.float32
    assert clip_loss(eeg.double(), speech.double()).dtype == torch.float64


def rank_features(rank: int) -> Tensor:
    """Different numbers of rows."""
    return noise(3 - rank, 2, 4, seed=10 + rank)


def gather_on(rank: int, folder: str) -> None:
    """One of two processes: what it gathers, and the gradient of its own rows."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    own = rank_features(rank).requires_grad_()
    candidates = gathered(own)
    clip_loss(noise(3 - rank, 2, 4, seed=20 + rank), candidates).backward()
    torch.save((candidates.detach(), own.grad), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_candidates_come_from_all_processes(tmp_path: Path) -> None:
    multiprocessing.spawn(gather_on, (str(tmp_path),), nprocs=2)
    for rank in (0, 1):
        candidates, gradient = torch.load(tmp_path / f"{rank}.pt")
        own = rank_features(rank).requires_grad_()
        everything = torch.cat([own, rank_features(1 - rank)])
        assert torch.equal(candidates, everything)
        clip_loss(noise(3 - rank, 2, 4, seed=20 + rank), everything).backward()
        assert own.grad is not None and torch.allclose(gradient, own.grad, atol=1e-6) and gradient.any()


def test_alone_nothing_is_gathered() -> None:
    features = noise(2, 3, 4)
    assert gathered(features) is features


# Refusals


@pytest.mark.parametrize(
    ("eeg", "subject", "message"),
    [
        (torch.full((1, SENSORS, 256), math.nan), people(0), "eeg: expected finite values, found 2560"),
        (torch.full((1, SENSORS, 256), math.inf), people(0), "eeg: expected finite values"),
        (noise(1, SENSORS + 1, 256), people(0), r"eeg: expected shape \[batch, 10, samples\], found \[1, 11, 256\]"),
        (noise(SENSORS, 256), people(0), r"eeg: expected shape"),
        (noise(1, SENSORS, 63), people(0), "eeg: expected at least 0.5 s, found 0.492 s"),
        (noise(1, SENSORS, 256), people(SUBJECTS), "subject: expected numbers from -1 to 4"),
        (noise(1, SENSORS, 256), people(-2), "subject: expected numbers from -1 to 4"),
        (noise(1, SENSORS, 256), people(0, 1), r"subject: expected shape \[1\]"),
        (noise(1, SENSORS, 256), torch.zeros(1), r"subject: expected shape \[1\], int64"),
    ],
)
def test_bad_input_is_refused(eeg: Tensor, subject: Tensor, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        encoder()(eeg, subject)


def test_sensors_without_position_are_refused() -> None:
    unknown = head(SENSORS)
    unknown[3, 1], unknown[7] = math.nan, 0.0
    with pytest.raises(BadInput, match="sensor without position: number 3, 7"):
        encoder()(noise(1, SENSORS, 256), people(0), unknown)
    with pytest.raises(BadInput, match="sensor without position: number 3, 7"):
        BrainEncoder(unknown, RATE, SUBJECTS, WIDTH, TINY)
    with pytest.raises(BadInput, match=r"positions: expected shape \[sensors, 3\]"):
        BrainEncoder(head(SENSORS)[:, :2], RATE, SUBJECTS, WIDTH, TINY)


def test_an_encoder_that_knows_nobody_is_refused() -> None:
    network = BrainEncoder(head(SENSORS), RATE, SUBJECTS, WIDTH, TINY)
    with pytest.raises(BadInput, match="at least one, told by mark_known, found none"):
        network(noise(1, SENSORS, 256), people(0))
    for nobody in ([], [-1], [SUBJECTS]):
        with pytest.raises(BadInput, match="known subjects: expected one or more of 0 to 4"):
            network.mark_known(nobody)


@pytest.mark.parametrize(
    "change",
    [{"rate": 0}, {"hidden": 1.5}, {"clamp": 0.0}, {"spatial_dropout": -0.1}, {"dropout": 1.0}, {"subject_start": "a"}],
)
def test_bad_sizes_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=next(iter(change))):
        replace(TINY, **change)


def test_bad_mel_and_bad_features_are_refused() -> None:
    with pytest.raises(BadInput, match="bands: expected 1 or more"):
        DeepMel(0, 5)
    with pytest.raises(BadInput, match=r"mel: expected shape \[batch, 3, frames\]"):
        DeepMel(3, 5, hidden=4, blocks=1)(noise(1, 4, 9))
    with pytest.raises(BadInput, match="mel: expected finite values, found 27"):
        DeepMel(3, 5, hidden=4, blocks=1)(torch.full((1, 3, 9), -math.inf))
    with pytest.raises(BadInput, match="at least one candidate for each of 3 rows, found 2"):
        clip_loss(noise(3, 4, 5), noise(2, 4, 5))
    with pytest.raises(BadInput, match="features: expected EEG"):
        clip_loss(noise(2, 4, 5), noise(2, 4, 6))
    with pytest.raises(BadInput, match="temperature: expected more than 0"):
        clip_loss(noise(2, 4, 5), noise(2, 4, 5), temperature=0.0)
    with pytest.raises(BadInput, match="speech: expected shape"):
        regression_loss(noise(2, 4, 5), noise(1, 4, 5))
