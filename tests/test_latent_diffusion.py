"""Latent diffusion: any length, each row by itself, conditioned in three ways, and sampled by two solvers."""

import copy
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from eeg2speech.errors import BadInput
from eeg2speech.models.latent_diffusion import (
    CLOCK,
    MOST_STEPS,
    SIZES,
    SOLVERS,
    WAYS,
    LatentDiffusion,
    UnetSize,
    Way,
    clock,
    new_unet,
    noisy,
    normalised,
    sample,
)

TINY = UnetSize((8, 16), 1, 2, 4, (False, True))
CHANNELS, ROWS, WIDTH, DIMENSION = 2, 4, 12, 5
FRAME_RATE, RATE = 25.0, 64.0


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def diffusion(way: Way, size: UnetSize = TINY) -> LatentDiffusion:
    """Random weights, in which a condition shows: those of attention are made larger."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = LatentDiffusion(new_unet(size, way, CHANNELS, WIDTH), way, DIMENSION, FRAME_RATE).eval()
        torch.nn.init.normal_(network.null)
        torch.nn.init.normal_(network.adapter.weight)
    return network


def seeded(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@torch.no_grad()
def conditioned(network: LatentDiffusion, rows: int = 2, frames: int = 40, seed: int = 0) -> Tensor:
    return network.condition(noise(rows, DIMENSION, frames, seed=seed), RATE)


def sampled(
    network: LatentDiffusion,
    condition: Tensor,
    seeds: Sequence[int] = (1, 2),
    steps: int = 4,
    guidance: float = 1.0,
    solver: str = "dpm",
    length: int = 10,
) -> Tensor:
    return sample(network, condition, (CHANNELS, length, ROWS), seeded(*seeds), steps, guidance, solver)


def close(one: Tensor, other: Tensor) -> bool:
    """To a thousandth of what there is: a batch of another size adds up in another order."""
    return bool((one - other).abs().max() < 1e-3 * other.std())


# Shapes.


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("length", [1, 2, 7, 16, 25])
def test_noise_is_told_for_latents_of_any_length(way: Way, length: int) -> None:
    network, latents = diffusion(way), noise(3, CHANNELS, length, ROWS)
    for frames in (3, 40, 63):
        found = network(latents, torch.tensor([0, 500, 999]), conditioned(network, 3, frames))
        assert found.shape == latents.shape and found.dtype == torch.float32 and bool(found.isfinite().all())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("length", [1, 7, 16])
def test_samples_have_the_shape_that_is_asked_for(way: Way, length: int) -> None:
    network = diffusion(way)
    for guidance in (1.0, 2.0):
        found = sampled(network, conditioned(network), guidance=guidance, length=length)
        assert found.shape == (2, CHANNELS, length, ROWS) and bool(found.isfinite().all())
        assert not found.requires_grad and found.dtype == torch.float32


@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_whole(name: str) -> None:
    size = SIZES[name]
    assert all(width % size.groups == 0 and width % size.head == 0 for width in size.channels)
    with pytest.raises(BadInput, match="UnetSize: attention: expected one for each of 2 levels, found .True,"):
        UnetSize((8, 16), 1, 2, 4, (True,))


def test_a_condition_is_one_vector_tokens_or_frames() -> None:
    shapes = {way: tuple(conditioned(diffusion(way), frames=246).shape) for way in WAYS}
    assert shapes["film"] == (2, 1, WIDTH)
    # 16 tokens, or 25 frames, a second of 3.84 s.
    assert shapes["sequence"] == (2, 62, WIDTH) and shapes["aligned"][:2] == (2, 96)


@pytest.mark.parametrize("rate", [64.0, 120.0])
def test_frames_beside_the_latents_are_of_their_time(rate: float) -> None:
    """However much longer the latents last; the last one then stands for what is left."""
    network, frames = diffusion("aligned"), round(2.0 * rate)
    late = noise(1, DIMENSION, frames)
    late[..., round(1.2 * rate) :] += 30
    x = torch.zeros(1, 1, 60, 1)
    with torch.no_grad():
        beside = network._beside(network.condition(late, rate), x)[0, :, :, 0]
    steps = (beside[:, 1:] - beside[:, :-1]).abs().sum(0)
    assert abs(int(steps.argmax()) + 1 - 1.2 * FRAME_RATE) <= 1
    last = round(2.0 * FRAME_RATE) - 1
    assert torch.equal(beside[:, last:], beside[:, last : last + 1].expand(-1, 60 - last))
    assert not torch.equal(beside[:, last - 1], beside[:, last])


# What the condition does.


@pytest.mark.parametrize("way", WAYS)
def test_the_condition_matters(way: Way) -> None:
    network = diffusion(way)
    one, other = (conditioned(network, seed=seed) for seed in (0, 1))
    found, different = sampled(network, one), sampled(network, other)
    assert (found - different).abs().mean() > 1e-3 * found.std()
    # And with it the guidance.
    assert not close(sampled(network, one, guidance=3.0), found)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_guidance_of_one_is_none_and_of_nought_hears_nothing(way: Way, solver: str) -> None:
    network = diffusion(way)
    one, other = (conditioned(network, seed=seed) for seed in (0, 1))
    # 1 is taken a shorter way; a number beside it the long one.
    beside = sampled(network, one, guidance=1 + 1e-6, solver=solver)
    assert close(beside, sampled(network, one, guidance=1.0, solver=solver))
    blind = sampled(network, one, guidance=0.0, solver=solver)
    assert torch.equal(blind, sampled(network, other, guidance=0.0, solver=solver))
    assert close(blind, sampled(network, network.nothing(one), solver=solver))


@pytest.mark.parametrize("way", WAYS)
def test_everything_learns_also_the_condition_for_none(way: Way) -> None:
    network, latents = diffusion(way), noise(2, CHANNELS, 7, ROWS)
    condition = network.condition(noise(2, DIMENSION, 40), RATE)
    some = torch.where(torch.tensor([True, False])[:, None, None], network.nothing(condition), condition)
    network(latents, torch.tensor([3, 700]), some).square().sum().backward()
    silent = [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()]
    # What goes into a norm of groups of one number, and keys' bias, which softmax does not see, have no slope.
    assert not [name for name in silent if not name.endswith("bias")] and network.null.grad is not None


@pytest.mark.parametrize("way", WAYS)
def test_size_of_an_embedding_does_not_matter(way: Way) -> None:
    network, embedding = diffusion(way), noise(2, DIMENSION, 40)
    expected = network.condition(embedding, RATE)
    for other in (100 * embedding, embedding.double(), torch.cat([embedding[:1], 9 * embedding[1:]])):
        torch.testing.assert_close(network.condition(other, RATE), expected, atol=1e-5, rtol=1e-5)
    assert bool(network.condition(0 * embedding, RATE).isfinite().all())


def test_normalised_is_of_each_row() -> None:
    found = normalised(torch.stack([noise(3, 9), 50 * noise(3, 9, seed=1), torch.zeros(3, 9)]))
    torch.testing.assert_close(found.square().mean((1, 2)), torch.tensor([1.0, 1.0, 0.0]))


@pytest.mark.parametrize("way", WAYS)
def test_time_of_an_embedding(way: Way) -> None:
    """Backwards it is another condition, but for the one that is a mean over time."""
    network, embedding, latents = diffusion(way), noise(1, DIMENSION, 40), noise(1, CHANNELS, 16, ROWS)
    step = torch.tensor([500])
    with torch.no_grad():
        found, back = (network(latents, step, network.condition(e, RATE)) for e in (embedding, embedding.flip(-1)))
    assert torch.allclose(found, back, atol=1e-5) == (way == "film")
    assert way == "film" or (found - back).abs().max() > 1e-3


def test_attention_knows_when_it_is_by_the_clock_alone() -> None:
    """Tokens in another order are the same to attention; the same numbers at other times are not."""
    network, embedding, latents = diffusion("sequence"), noise(1, DIMENSION, 40), noise(1, CHANNELS, 16, ROWS)
    order = torch.randperm(10, generator=torch.Generator().manual_seed(0))
    step = torch.tensor([500])
    with torch.no_grad():
        condition = network.condition(embedding, RATE)
        assert condition.shape[1] == 10
        expected = network(latents, step, condition)
        torch.testing.assert_close(network(latents, step, condition[:, order]), expected, atol=1e-5, rtol=1e-5)
        moved = embedding.unflatten(-1, (10, 4))[..., order, :].flatten(-2)
        assert (network(latents, step, network.condition(moved, RATE)) - expected).abs().max() > 1e-3


def test_the_clock_tells_every_time_from_every_other() -> None:
    for rate in (16.0, 25.0, 64.0):
        marks = clock(round(16 * rate), rate, torch.zeros(1))[0].T
        assert marks.shape == (round(16 * rate), CLOCK) and marks.abs().max() <= 1
        distance = torch.cdist(marks, marks) + 9 * torch.eye(len(marks))
        assert distance.min() > 0.1
        # Nearest of all is the frame beside.
        assert ((distance.argmin(1) - torch.arange(len(marks))).abs() == 1).all()


def test_clocks_of_all_rates_are_one() -> None:
    slow, fast = clock(20, 16.0, torch.zeros(1)), clock(80, 64.0, torch.zeros(1))
    torch.testing.assert_close(fast[..., ::4], slow, atol=1e-4, rtol=0)


# Rows of a batch.


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_a_row_does_not_depend_on_its_neighbours_nor_on_their_generators(way: Way, guidance: float) -> None:
    network = diffusion(way)
    condition = conditioned(network, 3)
    expected = sampled(network, condition[:1], [1], guidance=guidance)
    beside = sampled(network, condition, [1, 2, 3], guidance=guidance)
    others = sampled(network, torch.cat([condition[:1], 7 + condition[1:]]), [1, 8, 9], guidance=guidance)
    last = sampled(network, condition.flip(0), [3, 2, 1], guidance=guidance)
    for found in (beside[:1], others[:1], last[-1:]):
        assert close(found, expected)
    assert not close(others[1:], beside[1:])


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_same_seed_is_the_same_sample(solver: str) -> None:
    network = diffusion("sequence")
    condition = conditioned(network)
    first = sampled(network, condition, solver=solver)
    torch.rand(3)
    assert torch.equal(sampled(network, condition, solver=solver), first)
    assert not close(sampled(network, condition, (1, 3), solver=solver)[1:], first[1:])
    generators = seeded(1, 2)
    draws = [sample(network, condition, (CHANNELS, 10, ROWS), generators, 4, 1.0, solver) for _ in range(2)]
    assert torch.equal(draws[0], first) and not close(draws[1], first)


# Solvers and training.


def trained(way: Way, steps: int, rate: float = 3e-3) -> tuple[LatentDiffusion, list[float], Tensor, Tensor]:
    """A network that has seen one example alone, the losses, the example, and its condition."""
    network = diffusion(way).train()
    example, embedding = noise(1, CHANNELS, 8, ROWS, seed=5).repeat(8, 1, 1, 1), noise(1, DIMENSION, 40)
    optimiser = torch.optim.AdamW(network.parameters(), rate)
    draw, losses = torch.Generator().manual_seed(0), []
    for _ in range(steps):
        mixed, target, step = noisy(example, draw)
        condition = network.condition(embedding, RATE).expand(8, -1, -1)
        loss = F.mse_loss(network(mixed, step, condition), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    with torch.no_grad():
        return network.eval(), losses, example[:1], network.condition(embedding, RATE)


@pytest.mark.parametrize("way", WAYS)
def test_one_example_is_learned(way: Way) -> None:
    losses = trained(way, 60)[1]
    assert sum(losses[-10:]) / 10 < 0.6 * losses[0]


def test_what_was_learned_is_drawn_and_solvers_agree() -> None:
    """After one example alone: any noise ends near it, by either solver; with many steps they end together."""
    network, _, example, condition = trained("sequence", 250)
    found = {solver: sampled(network, condition, [3], 100, solver=solver, length=8) for solver in SOLVERS}
    for draw in found.values():
        assert torch.corrcoef(torch.stack([draw.flatten(), example.flatten()]))[0, 1] > 0.8
    assert (found["dpm"] - found["ddim"]).square().mean().sqrt() < 0.2 * example.std()


def test_noise_is_spread_over_all_steps_and_can_be_asked_for_again() -> None:
    latents = 3 + noise(100, 1, 2, 2)
    mixed, target, step = noisy(latents, torch.Generator().manual_seed(0))
    assert torch.equal(step // 10, torch.arange(100)) and step.dtype == torch.long
    again = noisy(latents, torch.Generator().manual_seed(0))
    assert all(torch.equal(one, other) for one, other in zip(again, (mixed, target, step), strict=True))
    # Little noise in the first, little else in the last.
    assert (mixed[0] - latents[0]).abs().max() < 0.5 and (mixed[-1] - target[-1]).abs().max() < 0.5
    kept = noisy(latents.double(), torch.Generator().manual_seed(0))[0]
    assert kept.dtype == torch.float64
    assert not torch.equal(noisy(latents)[1], noisy(latents)[1])


def test_asking_changes_nothing() -> None:
    network = diffusion("sequence")
    before, state = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    sampled(network, conditioned(network), guidance=2.0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


# Refusals.


@pytest.mark.parametrize("solver", SOLVERS)
def test_solvers_refuse_what_they_cannot_do(solver: str) -> None:
    network = diffusion("film")
    condition = conditioned(network)
    for steps in (0, -1, MOST_STEPS + 1):
        with pytest.raises(BadInput, match=f"sample: steps: expected 1 to {MOST_STEPS}, found {steps}"):
            sampled(network, condition, steps=steps, solver=solver)
    for seeds in ((), (1,), (1, 2, 3)):
        message = f"sample: generators: expected one for each of 2 rows, found {len(seeds)}"
        with pytest.raises(BadInput, match=message):
            sampled(network, condition, seeds, solver=solver)
    for steps in (1, MOST_STEPS):
        assert bool(sampled(network, condition[:1], [1], steps, solver=solver, length=2).isfinite().all())


def test_an_unknown_solver_is_refused_with_the_nearest() -> None:
    network = diffusion("film")
    with pytest.raises(BadInput, match="sample: solver: expected one of ddim, dpm, found 'ddmi' .did you mean 'ddim'"):
        sampled(network, conditioned(network), solver="ddmi")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shape", [(2, DIMENSION + 1, 40), (2, DIMENSION), (40, 2, DIMENSION)])
def test_an_embedding_of_another_size_is_refused(way: Way, shape: tuple[int, ...]) -> None:
    with pytest.raises(BadInput, match=rf"LatentDiffusion: embedding: expected \[batch, {DIMENSION}, frames\], found"):
        diffusion(way).condition(torch.zeros(shape), RATE)


def test_a_unet_for_another_way_is_refused() -> None:
    sequence, film = (new_unet(TINY, way, CHANNELS, WIDTH) for way in ("sequence", "film"))
    with pytest.raises(BadInput, match="unet: expected one that is conditioned by film, found a width of None"):
        LatentDiffusion(sequence, "film", DIMENSION, FRAME_RATE)
    with pytest.raises(BadInput, match=r"unet: expected one that is conditioned by sequence, found a width of .8, 16"):
        LatentDiffusion(film, "sequence", DIMENSION, FRAME_RATE)
    with pytest.raises(BadInput, match="LatentDiffusion: conditioning: expected one of .*did you mean 'film'"):
        LatentDiffusion(film, "flim", DIMENSION, FRAME_RATE)  # type: ignore[arg-type]
