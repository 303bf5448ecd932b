"""TF-GridNet: the spectrum comes back, any shape is taken, and only the EEG and the mixture decide the answer."""

import pytest
import torch
from eeg2speech_baselines.masking import ExtractorSettings
from eeg2speech_baselines.tfgridnet import SIZES, Tfgridnet, TfgridnetSeparator
from torch import Tensor, nn

from eeg2speech.data.types import Sensors
from eeg2speech.errors import BadInput
from eeg2speech.models.grid import FrameAttention, GridNet, GridPath, Stft
from eeg2speech.models.masking import negative_si_sdr
from eeg2speech.systems.interface import Context
from eeg2speech.training.examples import Batch

SMALL = {
    "window": 64,
    "hop": 32,
    "width": 8,
    "blocks": 2,
    "kernel": 4,
    "stride": 1,
    "hidden": 6,
    "heads": 2,
    "key_width": 2,
    "eeg_width": 4,
}
FORMS = {"published": {}, "masks": {"masking": True}, "patches": {"masking": True, "patch": 4, "stride": 2}}


def small(sensors: int = 3, talkers: int = 2, form: str = "masks") -> GridNet:
    """A network whose EEG already matters: the fusion starts as the identity, and is moved away from it."""
    torch.manual_seed(0)
    net = GridNet(sensors, talkers, **(SMALL | FORMS[form]))
    for parameter in net.fusion.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return net.eval()


def context(sensors: int = 64, rate: int = 16_000) -> Context:
    return Context(
        rate, 128, Sensors(tuple(f"E{n}" for n in range(sensors)), ((0.0, 0.0, 0.1),) * sensors), ("S",), 2.0
    )


def system(cls: type = Tfgridnet, size: str = "demo", sensors: int = 64, rate: int = 16_000) -> Tfgridnet:
    torch.manual_seed(0)
    return cls(context(sensors, rate), cls.Settings(size=size))


def scenes(count: int = 2, samples: int = 1600, sensors: int = 3, eeg: int = 13) -> Batch:
    generator = torch.Generator().manual_seed(1)
    target, interferer = 0.05 * torch.randn(2, count, samples, generator=generator)
    responses = 10 * torch.randn(count, sensors, eeg, generator=generator)
    return Batch(target + interferer, target, interferer, responses, torch.zeros(count, dtype=torch.long))


@pytest.mark.parametrize(("window", "hop"), [(64, 32), (512, 128), (470, 118), (32, 7)])
def test_the_transform_and_its_inverse_are_inverse(window: int, hop: int) -> None:
    stft = Stft(window, hop)
    for hops in (1, 2, 9):
        wave = torch.randn(2, hops * hop)
        spectrum = stft(wave)
        assert spectrum.shape == (2, hops + 1, window // 2 + 1)
        assert torch.allclose(stft.inverse(spectrum, wave.shape[-1]), wave, atol=1e-5)


def test_the_transform_keeps_power_and_float32_under_autocast() -> None:
    stft, wave = Stft(512, 128), torch.randn(1, 128 * 200)
    with torch.autocast("cpu", torch.bfloat16):
        spectrum = stft(wave)
    assert spectrum.dtype == torch.complex64
    # White noise of power 1 under a window whose squares add up to half its length: half a unit a place.
    assert spectrum.abs().square().mean().item() == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize("hop", [0, 33])
def test_a_hop_over_half_the_window_is_refused(hop: int) -> None:
    with pytest.raises(BadInput, match="hop: expected 1 to 32"):
        Stft(64, hop)


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(BadInput, match="heads"):
        FrameAttention(8, 33, 3, 2)


def test_a_network_with_an_eeg_branch_asks_for_eeg() -> None:
    with pytest.raises(BadInput, match="eeg"):
        small()(torch.randn(1, 320))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("samples", "sensors", "eeg", "talkers"), [(1, 1, 1, 1), (500, 3, 40, 2), (1601, 20, 7, 2)])
def test_any_length_of_audio_and_eeg_and_any_electrode_count(
    form: str, samples: int, sensors: int, eeg: int, talkers: int
) -> None:
    answer = small(sensors, talkers, form)(torch.randn(2, samples), torch.randn(2, sensors, eeg))
    assert answer.waves.shape == (2, talkers, samples) and answer.waves.isfinite().all()
    assert answer.envelope is not None and answer.envelope.shape == (2, eeg)


@pytest.mark.parametrize("rate", [8000, 14_700, 16_000, 44_100])
def test_any_rate(rate: int) -> None:
    extractor, seconds = system(sensors=2, rate=rate), 0.06
    mixture = torch.randn(1, int(rate * seconds))
    answer = extractor.extract(mixture, torch.randn(1, 2, 8), torch.zeros(1, dtype=torch.long))
    assert answer.shape == mixture.shape
    size = SIZES["demo"]
    assert extractor.network.stft.size == pytest.approx(rate * size["window"], abs=1)
    assert extractor.network.stft.hop == pytest.approx(rate * size["hop"], abs=0.5)


def test_the_paper_has_the_published_number_of_parameters() -> None:
    separator = system(TfgridnetSeparator, "paper", rate=8000)
    assert separator.parameters == pytest.approx(14.5e6, rel=0.03)
    assert separator.parameters == 14_521_042
    assert (separator.network.stft.size, separator.network.stft.hop) == (256, 64)


@pytest.mark.parametrize(("size", "counts"), [("demo", (162_170, 194_955)), ("paper", (14_711_218, 14_989_363))])
def test_parameter_counts_at_16_khz(size: str, counts: tuple[int, int]) -> None:
    assert tuple(system(cls, size).parameters for cls in (TfgridnetSeparator, Tfgridnet)) == counts


@pytest.mark.parametrize("form", FORMS)
def test_gradients_reach_every_parameter_and_the_eeg(form: str) -> None:
    net, batch = small(form=form), scenes()
    eeg = batch.eeg.clone().requires_grad_()
    answer = net(batch.mixture, eeg)
    (negative_si_sdr(batch.target.unsqueeze(1), answer.waves).mean() + answer.envelope.square().mean()).backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    assert not [name for name, parameter in net.named_parameters() if not parameter.grad.any()]
    assert eeg.grad is not None and eeg.grad.any(-1).all()


def test_each_path_runs_along_its_own_axis_and_keeps_the_length() -> None:
    path, x = GridPath(4, 5, 3, 2), torch.randn(3, 8, 4)
    moved = x.clone()
    moved[0, 4, 0] += 1
    change = (path(moved) - path(x)).abs().sum(-1)
    assert change.shape == (3, 8) and (change[0] > 1e-6).all() and (change[1:] == 0).all()


def test_the_extractor_begins_as_its_separator() -> None:
    extractor, separator = small(sensors=3), small(sensors=0)
    for part in extractor.fusion:
        for layer in (part.film.affine, part.match.affine[-1]):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
    extractor.load_state_dict(extractor.state_dict() | separator.state_dict())
    batch = scenes()
    assert torch.allclose(extractor(batch.mixture, batch.eeg).waves, separator(batch.mixture).waves, atol=1e-6)


def test_masks_begin_near_one_half() -> None:
    torch.manual_seed(0)
    net, batch = GridNet(0, 2, **(SMALL | FORMS["masks"])), scenes()
    half = 0.5 * batch.mixture.unsqueeze(1)
    assert ((net(batch.mixture).waves - half).square().mean(-1) < 0.2 * half.square().mean(-1)).all()


@pytest.mark.parametrize("form", FORMS)
def test_the_answer_changes_with_the_eeg(form: str) -> None:
    net, batch = small(form=form), scenes()
    waves, swapped = (net(batch.mixture, eeg).waves for eeg in (batch.eeg, batch.eeg.flip(0)))
    assert (waves - swapped).abs().amax() > 1e-3 * waves.abs().amax()


def test_the_extractor_uses_the_frame_the_eeg_speaks_of() -> None:
    """The frame-by-frame way alone, without the match and the network's own memory: late EEG changes late sound."""
    fusion = small().fusion[0]
    for parameter in fusion.match.parameters():
        nn.init.zeros_(parameter)
    x, condition = torch.randn(1, 6, 5, 8), torch.randn(1, 5, 6)
    later = condition.clone()
    later[..., 4:] += 1
    change = (fusion(x, later) - fusion(x, condition)).abs().sum((0, 2, 3))
    assert (change[:4] == 0).all() and (change[4:] > 0).all()


def test_the_match_is_of_each_frequency_by_itself() -> None:
    """Where the sound at one frequency moves with the cue, this frequency alone is treated otherwise."""
    fusion = small().fusion[0]
    x, condition = torch.randn(1, 50, 5, 8), torch.randn(1, 5, 50)
    alike = x.clone()
    alike[:, :, 2] += 3 * condition[:, -1, :, None]
    before, after = (torch.cat(fusion._matched(y, condition[:, -1:]), -1) for y in (x, alike))
    change = (after - before).abs().sum((0, 1, 3))
    assert change[2] > 1e-2 and (change[[0, 1, 3, 4]] < 1e-5).all()


@pytest.fixture(params=FORMS)
def net(request: pytest.FixtureRequest) -> GridNet:
    return small(form=request.param)


def near(one: Tensor, other: Tensor) -> bool:
    return (one - other).abs().amax().item() < 1e-4 * one.abs().amax().item()


def test_batch_order_batch_size_and_a_silent_neighbour_change_nothing(net: GridNet) -> None:
    batch = scenes(3)
    whole = net(batch.mixture, batch.eeg).waves
    assert near(whole.flip(0), net(batch.mixture.flip(0), batch.eeg.flip(0)).waves)
    assert near(whole[1:2], net(batch.mixture[1:2], batch.eeg[1:2]).waves)
    quiet = net(batch.mixture * torch.tensor([[1.0], [0.0], [1.0]]), batch.eeg).waves
    assert near(whole[[0, 2]], quiet[[0, 2]]) and quiet.isfinite().all()


def test_zeros_up_to_a_multiple_of_the_hop_change_nothing(net: GridNet) -> None:
    batch = scenes(samples=1585)
    padded = nn.functional.pad(batch.mixture, (0, 15))
    assert near(net(batch.mixture, batch.eeg).waves, net(padded, batch.eeg).waves[..., :1585])


def test_loudness_changes_nothing_else(net: GridNet) -> None:
    batch = scenes()
    assert near(0.01 * net(batch.mixture, batch.eeg).waves, net(0.01 * batch.mixture, batch.eeg).waves)


def test_the_paper_size_takes_a_training_step() -> None:
    extractor, batch = system(size="paper", sensors=4, rate=8000), scenes(1, 480, 4, 8)
    extractor.loss(batch)["loss"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in extractor.network.parameters())


@pytest.mark.parametrize("autocast", [False, True])
def test_steps_lower_the_loss(autocast: bool) -> None:
    torch.manual_seed(0)
    extractor, batch = system(sensors=4, rate=8000), scenes(2, 2400, 4, 38)
    optimiser = torch.optim.AdamW(extractor.network.parameters(), lr=3e-3)
    losses = []
    for _ in range(12):
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = extractor.loss(batch)["loss"]
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 1 and all(p.isfinite().all() for p in extractor.network.parameters())


def test_both_take_the_settings_of_their_kind() -> None:
    assert system().blind().settings.size == "demo" and isinstance(system().settings, ExtractorSettings)
    assert system().talkers == system(TfgridnetSeparator).talkers == 2
    for budget in ("demo", "hour", "full"):
        assert TfgridnetSeparator.plan.steps[budget] == 2 * Tfgridnet.plan.steps[budget]
