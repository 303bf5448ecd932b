import math
from dataclasses import replace

import pytest
import torch
from eeg2speech_baselines.m3anet import (
    SIZES,
    M3anet,
    M3anetSeparator,
    M3anetSettings,
    MultiScaleNet,
    alignment_loss,
    windows_at,
)
from torch import Tensor

from eeg2speech.data import Store
from eeg2speech.data.mixing import Mixer
from eeg2speech.errors import BadInput
from eeg2speech.models.group_scan import DirectionalScan, GroupScan, ScaleNorm, rolled, unrolled
from eeg2speech.models.masking import Extraction, negative_si_sdr
from eeg2speech.models.recurrence import linear_recurrence
from eeg2speech.models.selective_scan import selective_scan
from eeg2speech.splits import make_split
from eeg2speech.systems.interface import Context
from eeg2speech.training.examples import Batch, Examples
from eeg2speech.training.fit import native_bf16

PARAMETERS = {
    ("demo", 64, 2): 1338404,
    ("demo", 0, 2): 1014047,
    ("paper", 64, 1): 1259805,
    ("paper", 128, 1): 1304989,
    ("paper", 0, 2): 767600,
}


def made(size: str = "demo", sensors: int = 12, talkers: int = 2, rate: int = 16_000) -> MultiScaleNet:
    torch.manual_seed(0)
    return MultiScaleNet(sensors, talkers, rate, **SIZES[size])


def scene(batch: int = 3, samples: int = 6000, sensors: int = 12, steps: int = 48) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    mixture = torch.randn(batch, samples, generator=generator) * 0.1
    return mixture, torch.randn(batch, sensors, steps, generator=generator) * 20


def everything(answer: Extraction) -> Tensor:
    """A loss to which every part of an answer adds."""
    total = negative_si_sdr(torch.randn_like(answer.waves), answer.waves).mean() + answer.waves.mean()
    if answer.envelope is not None:
        total = total + answer.envelope.square().mean()
    return total if answer.aligned is None else total + alignment_loss(*answer.aligned)


def plain_recurrence(decay: Tensor, x: Tensor) -> Tensor:
    states = [x[..., 0]]
    for step in range(1, x.shape[-1]):
        states.append(decay[..., step] * states[-1] + x[..., step])
    return torch.stack(states, dim=-1)


@pytest.mark.parametrize("shape", [(), (3,), (2, 4)])
def test_the_recurrence_is_that_of_a_loop_at_every_length(shape: tuple[int, ...]) -> None:
    for length in range(1, 71):
        generator = torch.Generator().manual_seed(length)
        decay, x = (torch.randn(*shape, length, generator=generator, dtype=torch.float64) for _ in range(2))
        found, expected = linear_recurrence(decay, x), plain_recurrence(decay, x)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("length", [1, 2, 3, 7, 16, 21])
def test_the_recurrence_has_the_gradients_of_its_values(length: int) -> None:
    generator = torch.Generator().manual_seed(length)
    decay, x = (torch.rand(2, length, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(2))
    assert torch.autograd.gradcheck(linear_recurrence, (decay, x))


def test_the_recurrence_is_exact_over_long_time_and_stays_in_full_precision_under_autocast() -> None:
    decay, x = torch.full((2, 50_000), 0.999), torch.ones(2, 50_000)
    with torch.autocast("cpu", torch.bfloat16):
        found = linear_recurrence(decay.bfloat16().float(), x.bfloat16())
    rate = float(decay[0, 0].bfloat16())
    assert found.dtype == torch.float32
    steps = torch.arange(1, 50_001)
    expected = steps.float() if rate == 1 else (1 - rate ** steps.double()).float() / (1 - rate)
    torch.testing.assert_close(found, expected.expand(2, -1), rtol=1e-4, atol=0)


def test_the_recurrence_refuses_what_does_not_fit() -> None:
    with pytest.raises(BadInput, match="decay"):
        linear_recurrence(torch.ones(3), torch.ones(4))
    with pytest.raises(BadInput, match="L at least 1"):
        linear_recurrence(torch.ones(3, 0), torch.ones(3, 0))


def test_each_image_is_read_in_a_direction_of_its_own_and_put_back() -> None:
    image = torch.arange(6.0).view(1, 1, 2, 3).expand(1, 5, 2, 3)
    read = unrolled(image)[0].tolist()
    assert read[0] == read[4] == [0, 1, 2, 3, 4, 5]
    assert read[1] == [0, 3, 1, 4, 2, 5]
    assert read[2] == [5, 4, 3, 2, 1, 0]
    assert read[3] == [5, 2, 4, 1, 3, 0]
    torch.testing.assert_close(rolled(unrolled(image), 2, 3), image)


def test_the_scan_of_an_image_is_the_selective_scan() -> None:
    torch.manual_seed(3)
    block, u = DirectionalScan(4).double(), torch.randn(2, 4, 37, dtype=torch.float64)
    found = block.scan(u)
    for k in range(4):
        row = u[:, k : k + 1]
        step = row * block.to_step[k] * block.step_weight[k] + block.step_bias[k]
        delta, A = torch.nn.functional.softplus(step), -block.A_log[k].exp().view(1, 1)
        expected = selective_scan(row, delta, A, row * block.to_B[k], row * block.to_C[k], block.D[k : k + 1])[0]
        torch.testing.assert_close(found[:, k : k + 1], expected)


def test_what_is_scanned_reaches_later_steps_only_and_the_block_sees_it() -> None:
    torch.manual_seed(0)
    block, image = DirectionalScan(4), torch.randn(1, 4, 6, 9)
    changed = image.clone()
    changed[..., 0, 0] += 3
    for early, late in zip(block.scan(unrolled(image))[0], block.scan(unrolled(changed))[0], strict=True):
        assert not torch.allclose(early, late, atol=1e-6)
    torch.testing.assert_close(
        block.scan(unrolled(image))[:, 2:, :-1], block.scan(unrolled(changed))[:, 2:, :-1]
    )  # read backwards, the corner comes last
    assert (block(image) - block(changed)).abs().amax((0, 2, 3)).min() > 1e-6


def test_scale_norm_is_a_layer_norm_over_scales() -> None:
    norm, x = ScaleNorm(4), torch.randn(2, 4, 3, 5)
    expected = torch.nn.functional.layer_norm(x.movedim(1, -1), (4,)).movedim(-1, 1)
    torch.testing.assert_close(norm(x), expected)


@pytest.mark.parametrize("shape", [(1, 4, 1, 2), (2, 4, 5, 13), (2, 3, 8, 8)])
def test_a_group_scan_takes_images_of_any_size(shape: tuple[int, ...]) -> None:
    scan = GroupScan(scales=shape[1])
    x = torch.randn(shape)
    with torch.autocast("cpu", torch.bfloat16):
        found = scan(x)
    assert found.shape == x.shape and found.dtype == torch.float32
    torch.testing.assert_close(found, scan(x))


def test_windows_are_those_of_the_paper() -> None:
    assert windows_at(14_700) == [36, 73, 147, 294]
    assert windows_at(16_000, longer=8) == [320, 640, 1280, 2560]
    with pytest.raises(BadInput, match="rate"):
        windows_at(700)


@pytest.mark.parametrize(("size", "sensors", "talkers"), PARAMETERS)
def test_parameters(size: str, sensors: int, talkers: int) -> None:
    network = made(size, sensors, talkers, 14_700 if size == "paper" else 16_000)
    assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS[size, sensors, talkers]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("samples", "sensors", "steps", "rate"), [(1, 1, 1, 16_000), (999, 3, 17, 8000), (4001, 20, 64, 14_700)]
)
def test_any_length_electrodes_and_rate(size: str, samples: int, sensors: int, steps: int, rate: int) -> None:
    network = made(size, sensors, 2, rate).eval()
    mixture, eeg = scene(2, samples, sensors, steps)
    answer = network(mixture, eeg)
    assert answer.waves.shape == (2, 2, samples) and torch.isfinite(answer.waves).all()
    assert answer.envelope is not None and answer.envelope.shape == (2, steps)
    assert answer.aligned is not None
    felt, heard = answer.aligned
    assert felt.shape == heard.shape == (2, 64, -(-samples // network.hop) + 1)


@pytest.mark.parametrize("size", SIZES)
def test_one_output_reads_no_envelope_and_without_electrodes_there_is_no_eeg(size: str) -> None:
    mixture, eeg = scene(2, 1500)
    assert made(size, 12, 1)(mixture, eeg).envelope is None
    blind = made(size, 0, 2)(mixture)
    assert blind.envelope is None and blind.aligned is None and blind.waves.shape == (2, 2, 1500)
    with pytest.raises(BadInput, match="eeg"):
        made(size)(mixture)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("talkers", [1, 2])
def test_gradients_reach_every_parameter_and_the_eeg(size: str, talkers: int) -> None:
    network = made(size, talkers=talkers)
    mixture, eeg = scene()
    eeg.requires_grad_()
    everything(network(mixture, eeg)).backward()
    assert eeg.grad is not None and eeg.grad.abs().amax((1, 2)).min() > 0
    unreached = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert not unreached


@pytest.mark.parametrize("size", SIZES)
def test_the_answer_changes_with_the_eeg(size: str) -> None:
    network = made(size).eval()
    mixture, eeg = scene()
    here, there = network(mixture, eeg).waves, network(mixture, eeg.flip(0)).waves
    assert (here - there)[0].abs().max() > 1e-3 * here.abs().max()
    torch.testing.assert_close(here[1], there[1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", SIZES)
def test_neighbours_in_the_batch_and_zeros_at_the_end_change_nothing(size: str) -> None:
    network = made(size).eval()
    mixture, eeg = scene(samples=6001)
    whole = network(mixture, eeg).waves
    torch.testing.assert_close(network(mixture.flip(0), eeg.flip(0)).waves.flip(0), whole, atol=1e-4, rtol=0)
    torch.testing.assert_close(network(mixture[1:2], eeg[1:2]).waves, whole[1:2], atol=1e-4, rtol=0)
    silent = torch.cat([mixture[:1], torch.zeros_like(mixture[1:])])
    beside = network(silent, eeg).waves
    torch.testing.assert_close(beside[:1], whole[:1], atol=1e-4, rtol=0)
    assert torch.isfinite(beside).all() and beside[1:].abs().max() < 1e-4
    tail = -mixture.shape[-1] % network.hop
    assert tail > 0
    longer = network(torch.nn.functional.pad(mixture, (0, tail)), eeg).waves[..., : mixture.shape[-1]]
    torch.testing.assert_close(longer, whole, atol=1e-4, rtol=0)


def test_alignment_is_log_batch_for_equal_speech_and_least_for_aligned_features() -> None:
    generator = torch.Generator().manual_seed(0)
    eeg, speech = (torch.randn(6, 8, 20, generator=generator) for _ in range(2))
    equal = alignment_loss(eeg, speech[:1].expand(6, -1, -1))
    torch.testing.assert_close(equal, torch.tensor(math.log(6)))
    aligned = alignment_loss(eeg, eeg)
    assert aligned < 0.02 < alignment_loss(eeg, speech)
    torch.testing.assert_close(alignment_loss(100 * eeg, 0.1 * eeg), aligned)
    # The least there is at this temperature: cosine 1 with the own speech, -1 with all others.
    least = math.log(1 + math.exp(-20))
    opposite = torch.stack([torch.ones(8, 20), -torch.ones(8, 20)])
    assert float(alignment_loss(opposite, opposite)) == pytest.approx(least, abs=1e-6)


def test_training_lowers_the_alignment_loss() -> None:
    torch.manual_seed(0)
    network, (mixture, eeg) = made(talkers=1).eval(), scene(4)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    values = []
    for _ in range(12):
        loss = alignment_loss(*network(mixture, eeg).aligned)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < 0.5 * values[0]


@pytest.fixture(scope="module")
def context(store: Store) -> Context:
    return Context.of(store, 2.0)


@pytest.fixture(scope="module")
def batch(store: Store) -> Batch:
    examples = Examples(store, make_split(store.index, "trial").parts["train"], Mixer(store))
    found: Batch = next(iter(examples.loader(examples.random(1.0, 3, 0, 0), 3)))  # type: ignore[assignment]
    return found


def loss_after_steps(system: M3anet | M3anetSeparator, batch: Batch, steps: int) -> list[float]:
    optimizer = torch.optim.AdamW(system.network.parameters(), 1e-3)
    values = []
    for _ in range(steps):
        # oneDNN has no LSTM in bfloat16 for processors that do not multiply it; training takes float32 there too.
        with torch.autocast("cpu", torch.bfloat16, enabled=native_bf16()):
            losses = system.loss(batch)
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        values.append(losses["loss"].item())
    assert all(torch.isfinite(parameter).all() for parameter in system.network.parameters())
    return values


def test_steps_in_the_precision_of_training_lower_the_losses_of_both_systems(context: Context, batch: Batch) -> None:
    for cls in (M3anet, M3anetSeparator):
        torch.manual_seed(0)
        system = cls(context, cls.Settings())
        system.network.eval()
        values = loss_after_steps(system, batch, 6)
        assert all(map(math.isfinite, values)) and values[-1] < values[0] - 0.1


def test_the_alignment_is_weighed_into_both_trainings(context: Context, batch: Batch) -> None:
    for how in ("assisted", "published"):
        torch.manual_seed(0)
        system = M3anet(context, M3anetSettings.model_validate({"training": how}))
        plain = M3anet(context, M3anetSettings.model_validate({"training": how, "alignment_weight": 0}))
        system.network.eval()
        answer = system.network(batch.mixture, batch.eeg)
        heavy, light = system.losses(batch, answer), plain.losses(batch, answer)
        torch.testing.assert_close(heavy["loss"], light["loss"] + 3.0 * heavy["alignment"])


def test_the_extractor_takes_up_the_weights_of_its_separator(context: Context, batch: Batch) -> None:
    system = M3anet(context, M3anetSettings())
    own, blind = set(system.state()), set(system.blind().state())
    assert blind <= own and all(name.startswith("felt.") for name in own - blind)


def test_the_published_size_takes_a_step_at_its_own_rate(context: Context, batch: Batch) -> None:
    torch.manual_seed(0)
    system = M3anet(context, M3anetSettings(size="paper"))
    short = replace(
        batch,
        **{name: getattr(batch, name)[:1, :4000] for name in ("mixture", "target", "interferer")},
        eeg=batch.eeg[:1, :, :32],
    )
    before = {name: value.clone() for name, value in system.state().items()}
    loss_after_steps(system, short, 1)
    assert system.extract(short.mixture, short.eeg, short.subject[:1]).shape == (1, 4000)
    assert not torch.equal(before["network.mask.1.weight"], system.state()["network.mask.1.weight"])
