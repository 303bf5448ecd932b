"""NeuroCodec: causal through the whole system, the same chunk by chunk, and every part as its formula says."""

import math
from collections.abc import Callable, Iterable
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eeg2speech.errors import BadInput
from eeg2speech.models.activations import Activation, activation
from eeg2speech.models.attention import CrossAttention, Turns, rotate
from eeg2speech.models.codec import Codec, DacCodec
from eeg2speech.models.eeg_graph import CLAMP, GraphEegEncoder
from eeg2speech.models.graph import ChebyshevGraph
from eeg2speech.models.match import BLOCK, PRIOR, RunningMatch, decaying_sum
from eeg2speech.models.neurocodec import FAINT, Clock, NeuroCodecNetwork, Output, Sizes
from eeg2speech.models.neurocodec_stream import NeuroCodecStream, algorithmic_latency
from eeg2speech.models.streaming import reach, stream_of
from eeg2speech.systems.neurocodec import SIZES, NeuroCodecSettings
from eeg2speech.training.codec import CodecSettings, build

TINY = Sizes(width=16, blocks=2, heads=2, state=4, eeg_width=8, maps=2, dropout=0.1)
SENSORS, EEG_RATE, RATE = 5, 128, 16_000
LONG, SHORT = (8, 5, 4, 2), (2, 4, 5, 8)
"""Strides of the encoder: large ones first look a second around themselves, small ones first a third of that."""
Schedule = list[tuple[int, int]]


def tiny_codec(ratios: tuple[int, ...], rate: int = RATE) -> DacCodec:
    return DacCodec(build(CodecSettings(4, ratios, 64, 3, 16, 4, rate)))


@pytest.fixture(scope="module")
def codecs() -> dict[tuple[int, ...], DacCodec]:
    return {ratios: tiny_codec(ratios) for ratios in (LONG, SHORT)}


@pytest.fixture(scope="module")
def codec(codecs: dict[tuple[int, ...], DacCodec]) -> DacCodec:
    return codecs[SHORT]


def noise(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def stir(module: nn.Module, by: float = 0.1) -> None:
    """Move every weight and statistic: some start at zero and would hide what hangs on them."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in module.parameters():
            inputs = parameter[0].numel() if parameter.ndim > 1 else 1
            # Less where many are added up: a network that amplifies would amplify rounding, too.
            parameter += by * min(1, 3 / inputs**0.5) * torch.randn(parameter.shape, generator=generator)
        for part in module.modules():
            if isinstance(part, nn.BatchNorm1d):
                assert part.running_mean is not None and part.running_var is not None
                part.running_mean.normal_(0, 3, generator=generator)
                part.running_var.uniform_(80, 120, generator=generator)


def lively(codec: Codec, look_ahead: float = 0.25, memory: float | None = 0.5, **changes: Any) -> NeuroCodecNetwork:
    arguments: dict[str, Any] = {"sensors": SENSORS, "sizes": TINY} | changes
    clock = Clock(codec.hop, codec.rate, EEG_RATE, look_ahead, memory)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = NeuroCodecNetwork(codec, clock=clock, **arguments)
        stir(network)
        turn, _ = torch.linalg.qr(torch.randn(codec.width, codec.width))
        deviation = torch.linspace(0.5, 2, codec.width)
        network.mean.normal_(0, 0.1)
        network.whiten.copy_(turn @ torch.diag(1 / deviation) @ turn.T)
        network.colour.copy_(turn @ torch.diag(deviation) @ turn.T)
        network.level.normal_(0, 0.1)
        network.deviation.uniform_(0.5, 2)
    return network.eval()


def fresh(codec: Codec, sensors: int = 0) -> NeuroCodecNetwork:
    """As a training begins."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return NeuroCodecNetwork(codec, sensors, Clock(codec.hop, codec.rate, EEG_RATE, 0.25, 0.5), TINY).eval()


def recording(samples: int, batch: int = 2, sensors: int = SENSORS) -> tuple[Tensor, Tensor]:
    """Sound, and EEG in microvolt of the same time."""
    return 0.1 * noise(batch, samples), 10 * noise(batch, sensors, round(samples * EEG_RATE / RATE), seed=2)


def whole(network: NeuroCodecNetwork, codec: Codec, sound: Tensor, eeg: Tensor) -> Tensor:
    with torch.no_grad():
        latents = codec.encode(sound)
        prediction = network(latents, None if network.eeg is None else eeg)
        return codec.decode(network.choose(prediction, latents, codec), sound.shape[-1])


def later(times: Tensor, bound: float) -> Tensor:
    return times >= bound - 1e-9


# Whole system: causality and latency.

LATENCIES = [*product((LONG, SHORT), (0.0, 0.25, 0.8))]


@pytest.mark.parametrize("ratios,look_ahead", LATENCIES, ids=str)
def test_nothing_beyond_the_latency_is_heard(
    codecs: dict[tuple[int, ...], DacCodec], ratios: tuple[int, ...], look_ahead: float
) -> None:
    codec = codecs[ratios]
    network = lively(codec, look_ahead)
    latency = algorithmic_latency(network, codec)
    sound, eeg = recording(32_000, 1)
    before = whole(network, codec, sound, eeg)
    for sample in (0, 1, 12 * codec.hop - 1, 12 * codec.hop, 12 * codec.hop + 218):
        bound = sample / RATE + latency
        beyond = [later(torch.arange(x.shape[-1]) / rate, bound) for x, rate in ((sound, RATE), (eeg, EEG_RATE))]
        assert all(bool(part.any()) for part in beyond)
        after = whole(network, codec, *(torch.where(b, -3 * x, x) for b, x in zip(beyond, (sound, eeg), strict=True)))
        assert torch.equal(before[..., : sample + 1], after[..., : sample + 1])
        assert not torch.equal(before, after)


@pytest.mark.parametrize("ratios,look_ahead", LATENCIES, ids=str)
def test_the_latency_is_needed(
    codecs: dict[tuple[int, ...], DacCodec], ratios: tuple[int, ...], look_ahead: float
) -> None:
    """By gradients, which do not vanish in rounding: of all samples of a frame, one waits exactly so long."""
    codec = codecs[ratios]
    network = lively(codec, look_ahead)
    latency = algorithmic_latency(network, codec)
    sound, eeg = (x.requires_grad_() for x in recording(32_000, 1))
    latents = codec.model.encoder(sound.unsqueeze(1))
    wave = codec.decode(network.choose(network(latents, eeg), latents, codec))
    frames = stream_of(codec.model.decoder)
    start = 12 * codec.hop
    # The first sample of the frame, and those at which a further frame begins to be needed.
    needed = [frames.inputs(start + n, start + n)[1] for n in range(codec.hop)]
    steps = [0, *(n for n in range(1, codec.hop) if needed[n] > needed[n - 1]), codec.hop - 1]
    slack: dict[str, list[float]] = {"sound": [], "eeg": []}
    for step in steps:
        slopes = torch.autograd.grad(wave[0, start + step], (sound, eeg), retain_graph=True)
        for name, slope, rate in zip(slack, slopes, (RATE, EEG_RATE), strict=True):
            newest = int(slope.abs().sum((0, *range(1, slope.ndim - 1))).nonzero().max())
            slack[name].append(((start + step) / RATE + latency - newest / rate) * rate)
    least = {name: min(values) for name, values in slack.items()}
    assert min(least.values()) > 0
    if reach(codec.model.encoder).future / RATE >= look_ahead:
        assert least["sound"] == pytest.approx(1)
    else:
        assert least["eeg"] <= 1


def test_without_eeg_its_look_ahead_is_no_latency(codec: DacCodec) -> None:
    blind, guided = lively(codec, 0.8, sensors=0), lively(codec, 0.8)
    gap = 0.8 - reach(codec.model.encoder).future / RATE
    assert algorithmic_latency(guided, codec) - algorithmic_latency(blind, codec) == pytest.approx(gap)


def test_the_eeg_is_heard(codec: DacCodec) -> None:
    network = lively(codec)
    sound, eeg = recording(16_000)
    assert not torch.allclose(whole(network, codec, sound, eeg), whole(network, codec, sound, eeg.flip(0)), atol=1e-3)


PATHS = ("attention.out", "film", "match.affine.2")
"""How EEG comes into a block: the last layer of each way. All of them start at zero."""


def shut(network: NeuroCodecNetwork, but: str) -> None:
    """Close all ways of the EEG into the blocks but one."""
    for block, path in product(network.blocks, PATHS):
        if path != but:
            for parameter in block.get_submodule(path).parameters():
                nn.init.zeros_(parameter)


@pytest.mark.parametrize("path", PATHS)
def test_each_way_of_the_eeg_is_open_and_the_match_teaches_it_nothing(codec: DacCodec, path: str) -> None:
    network = lively(codec)
    shut(network, but=path)
    latents, eeg = noise(2, codec.width, 40), 10 * noise(2, SENSORS, 103)
    talkers = network(latents, eeg).talkers
    assert (talkers - network(latents, eeg.flip(0)).talkers).abs().max() > 1e-3
    talkers.square().sum().backward()
    taught = any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in network.eeg.parameters())
    assert taught == (path != "match.affine.2")


def test_training_begins_with_what_the_blind_separator_says(codec: DacCodec) -> None:
    blind = lively(codec, sensors=0)
    guided = fresh(codec, SENSORS)
    left = guided.load_state_dict(blind.state_dict(), strict=False)
    ways = ("eeg.", *(f"blocks.{n}.{way}" for n in range(TINY.blocks) for way in ("attention", "match", "film")))
    assert not left.unexpected_keys and all(name.startswith(ways) for name in left.missing_keys)
    latents, eeg = noise(2, codec.width, 21), 10 * noise(2, SENSORS, 54)
    with torch.no_grad():
        torch.testing.assert_close(guided(latents, eeg).talkers, blind(latents).talkers)


def test_the_form_that_is_not_causal_sees_the_future_and_does_not_stream(codec: DacCodec) -> None:
    network = lively(codec, memory=None, causal=False)
    sound, eeg = recording(32_000, 1)
    changed = eeg.clone()
    changed[..., -20:] *= -3
    before, after = whole(network, codec, sound, eeg), whole(network, codec, sound, changed)
    assert (before - after)[..., :1000].abs().max() > 1e-5
    for use in (NeuroCodecStream, algorithmic_latency):
        with pytest.raises(BadInput, match="causal"):
            use(network, codec)


# Whole system: streaming.


def random_schedule(samples: int, measured: int, largest: float, seed: int) -> Schedule:
    """Chunks of sound and EEG, each of 0 to ``largest`` s, independently of the other."""
    draw = torch.Generator().manual_seed(seed)
    schedule: Schedule = []
    while sum(n for n, _ in schedule) < samples or sum(n for _, n in schedule) < measured:
        share = torch.rand(2, generator=draw) * largest
        schedule.append((int(share[0] * RATE), int(share[1] * EEG_RATE)))
    return schedule


SAMPLES, MEASURED = 20_123, 161
SCHEDULES: dict[str, Callable[[], Schedule]] = {
    "random": lambda: random_schedule(SAMPLES, MEASURED, 0.2, 5),
    "coarse": lambda: random_schedule(SAMPLES, MEASURED, 0.9, 6),
    "single samples": lambda: [(1, 1)] * 30 + [(0, 1)] * 9 + [(1, 0)] * 60 + [(SAMPLES, MEASURED)],
    "empty chunks": lambda: [(0, 0), (0, 40), (5000, 0), (0, 0), (SAMPLES, MEASURED), (0, 0)],
    "larger": lambda: [(2 * SAMPLES, 2 * MEASURED)],
    "EEG late": lambda: [(4000, 0)] * 7 + [(0, 50)] * 5,
    "EEG early": lambda: [(0, 50)] * 5 + [(4000, 0)] * 7,
}


def streamed(stream: NeuroCodecStream, sound: Tensor, eeg: Tensor, schedule: Schedule) -> Tensor:
    done, heard, measured = [], 0, 0
    for number, (n, m) in enumerate(schedule, start=1):
        chunk, signals = sound[..., heard : heard + n], eeg[..., measured : measured + m]
        heard, measured = heard + n, measured + m
        done.append(stream.push(chunk, signals, last=number == len(schedule)))
    return torch.cat(done, -1)


@pytest.mark.parametrize("output,sensors", [("latent", 5), ("direction", 5), ("codes", 5), ("latent", 0)])
def test_joined_chunks_equal_the_whole(codec: DacCodec, output: Output, sensors: int) -> None:
    network = lively(codec, output=output, sensors=sensors)
    sound, eeg = recording(SAMPLES)
    expected = whole(network, codec, sound, eeg)
    assert expected.std() > 0.01
    stream = NeuroCodecStream(network, codec)
    # One stream for all: the end of a signal is the beginning of the next.
    for name, schedule in SCHEDULES.items() if output == "latent" else [*SCHEDULES.items()][:2]:
        found = streamed(stream, sound, eeg, schedule())
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("look_ahead,memory", [(0.0, 0.25), (0.8, 0.25), (0.25, None)])
def test_joined_chunks_equal_the_whole_for_any_look_ahead(
    codec: DacCodec, look_ahead: float, memory: float | None
) -> None:
    """Also where the last frames may look only at EEG that never came."""
    network = lively(codec, look_ahead, memory)
    sound, eeg = recording(SAMPLES)
    found = streamed(NeuroCodecStream(network, codec), sound, eeg, SCHEDULES["random"]())
    torch.testing.assert_close(found, whole(network, codec, sound, eeg), atol=1e-4, rtol=0)


def test_another_rate_streams(codec: DacCodec) -> None:
    """Frames of 512 samples at 44.1 kHz and EEG of 128 Hz never line up."""
    music = tiny_codec((2, 4, 8, 8), 44_100)
    network = lively(music)
    sound, eeg = 0.1 * noise(1, 40_001), 10 * noise(1, SENSORS, 116)
    schedule = [(3001, 8)] * 12 + [(9000, 30)]
    found = streamed(NeuroCodecStream(network, music), sound, eeg, schedule)
    torch.testing.assert_close(found, whole(network, music, sound, eeg), atol=1e-4, rtol=0)


@pytest.mark.parametrize("look_ahead", [0.0, 0.8])
def test_sound_goes_out_as_soon_as_the_latency_says_and_memory_is_bounded(codec: DacCodec, look_ahead: float) -> None:
    memory, chunk = 0.3, 0.05
    network = lively(codec, look_ahead, memory)
    stream, latency = NeuroCodecStream(network, codec), algorithmic_latency(network, codec)
    sound, eeg = recording(32_000, 1)
    late = max(0.0, reach(codec.model.encoder).future / RATE - look_ahead)
    out = heard = measured = 0
    for number in range(1, 40):
        n, m = round(number * chunk * RATE), math.ceil(number * chunk * EEG_RATE)
        out += stream.push(sound[..., heard:n], eeg[..., measured:m]).shape[-1]
        heard, measured = n, m
        assert out >= heard - round(latency * RATE)
        assert stream._features is not None and stream._latents is not None
        most = max(memory, look_ahead) + late + chunk + 2 / codec.frame_rate
        assert stream._features.features.shape[-1] <= most * EEG_RATE + 2
        assert stream._latents.shape[-1] <= (look_ahead + chunk) * codec.frame_rate + 2
    assert 0 < out < heard


def test_the_stream_refuses_bad_chunks(codec: DacCodec) -> None:
    sound, eeg = recording(16_000)
    for chunk, signals in ((sound[0], eeg), (sound, eeg[0]), (sound[:1], eeg)):
        with pytest.raises(BadInput, match="sound"):
            NeuroCodecStream(lively(codec), codec).push(chunk, signals)
    with pytest.raises(BadInput, match=rf"EEG \[B, {SENSORS}, m\]"):
        NeuroCodecStream(lively(codec), codec).push(sound, eeg[:, 1:])


@pytest.mark.parametrize("measured", [0.0, 0.9])
def test_a_stream_whose_eeg_and_sound_end_apart_is_refused_and_can_go_on(codec: DacCodec, measured: float) -> None:
    sound, eeg = recording(2 * 16_000)
    stream, whole = NeuroCodecStream(lively(codec), codec), NeuroCodecStream(lively(codec), codec)
    first = stream.push(sound[:, :16_000], eeg[..., :EEG_RATE])
    with pytest.raises(BadInput, match=r"2.000 s in all, as the sound \(within a frame\)"):
        stream.push(sound[:, 16_000:], eeg[..., EEG_RATE : EEG_RATE + round(measured * EEG_RATE)], last=True)
    with pytest.raises(BadInput, match="signals, as before"):
        stream.push(sound.repeat(2, 1), eeg.repeat(2, 1, 1))
    rest = stream.push(sound[:, 16_000:], eeg[..., EEG_RATE : 2 * EEG_RATE], last=True)
    expected = whole.push(sound, eeg[..., : 2 * EEG_RATE], last=True)
    torch.testing.assert_close(torch.cat([first, rest], -1), expected, atol=1e-4, rtol=0)


# The network.


def test_a_network_with_an_eeg_branch_wants_eeg(codec: DacCodec) -> None:
    with pytest.raises(BadInput, match="eeg"):
        lively(codec)(noise(1, codec.width, 10))


@pytest.mark.parametrize("output", ["latent", "direction"])
def test_talkers_and_their_units(codec: DacCodec, output: Output) -> None:
    network = lively(codec, output=output)
    latents, eeg = noise(2, codec.width, 21), 10 * noise(2, SENSORS, 54)
    with torch.no_grad():
        prediction = network(latents, eeg)
        alone = network(latents[:1], eeg[:1])
    assert prediction.talkers.shape == (2, 2, codec.width, 21)
    assert prediction.envelope.shape == (2, 21)
    torch.testing.assert_close(alone.talkers, prediction.talkers[:1], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(network.restore(network.normalise(latents)), latents, atol=1e-4, rtol=1e-4)
    chosen = network.choose(prediction, latents, codec)
    if output == "latent":
        torch.testing.assert_close(network.normalise(chosen), prediction.talkers[:, 0], atol=1e-4, rtol=1e-4)
    else:
        lengths = [network.normalise(x).norm(dim=1) for x in (chosen, latents)]
        torch.testing.assert_close(*lengths, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(
            F.cosine_similarity(network.normalise(chosen), prediction.talkers[:, 0], dim=1), torch.ones(2, 21)
        )


def chords(count: int, samples: int, seed: int) -> Tensor:
    """Eight tones, each of random level and phase: few numbers say all, so that linear maps are found from little."""
    levels, phases = noise(count, 8, 1, seed=seed), 3 * noise(count, 8, 1, seed=seed + 1)
    hertz = 237 + 411 * torch.arange(8).unsqueeze(-1)
    return 0.1 * (levels * torch.sin(2 * math.pi * hertz * torch.arange(samples) / RATE + phases)).sum(1)


def test_calibration_whitens_and_finds_a_way_back_from_the_wide_form(codec: DacCodec) -> None:
    network, waves = fresh(codec), 0.1 * noise(8, 50 * codec.hop)
    latents = codec.encode(waves)
    network.calibrate(latents, waves)
    normal = network.normalise(latents)
    assert normal.mean((0, 2)).abs().max() < 1e-3
    before, after = (torch.cov(x.transpose(0, 1).flatten(1).double(), correction=0) for x in (latents, normal))
    powers = torch.linalg.eigvalsh(before)
    # All directions alike, but for those that are fainter than FAINT of the mean.
    expected = powers / (powers + FAINT * powers.mean())
    torch.testing.assert_close(torch.linalg.eigvalsh(after), expected, atol=1e-3, rtol=0)
    torch.testing.assert_close(network.restore(normal), latents, atol=1e-3, rtol=1e-3)
    with torch.no_grad():
        wide = network.spread(normal)
        features = network._features(normal, wide)
        assert (network.gather(wide) - normal).square().mean() < 0.3 * normal.square().mean()
    assert features.mean((0, 2)).abs().max() < 1e-3
    torch.testing.assert_close(features.std((0, 2)).median(), torch.tensor(1.0), atol=0.01, rtol=0)


def test_calibration_finds_a_wide_form(codec: DacCodec) -> None:
    network, waves = fresh(codec), chords(24, 50 * codec.hop, 1)
    network.calibrate(codec.encode(waves), waves)
    # Of waves that it has not seen.
    waves = chords(4, 50 * codec.hop, 7)
    normal = network.normalise(codec.encode(waves))
    with torch.no_grad():
        wide = network.spread(normal)
    truth = network._spectra(waves)
    assert truth.shape == (4, 50, wide.shape[1])
    assert F.cosine_similarity(wide.transpose(1, 2).flatten(), truth.flatten(), dim=0) > 0.5
    # Losses are weighed by the same map, which stays while the network's own learns on.
    lengths = wide.norm(dim=1)
    torch.testing.assert_close(network.heard(normal).norm(dim=1), lengths, atol=1e-3, rtol=1e-4)
    stir(network)
    torch.testing.assert_close(network.heard(normal).norm(dim=1), lengths, atol=1e-3, rtol=1e-4)
    assert "lens" not in dict(network.named_parameters())
    # A tone of 1 kHz lies in one bin, of every frame that is not cut off.
    tone = torch.sin(2 * math.pi * 1000 * torch.arange(10 * codec.hop) / RATE)[None]
    cosine, sine = network._spectra(tone)[0, 1:-1].chunk(2, -1)
    assert set((cosine.square() + sine.square()).argmax(-1).tolist()) == {round(1000 / RATE * network.window) - 1}


@pytest.mark.parametrize("output,causal", [("latent", True), ("codes", True), ("latent", False)])
def test_every_weight_is_used(codec: DacCodec, output: Output, causal: bool) -> None:
    network = lively(codec, output=output, causal=causal, memory=0.5 if causal else None).train()
    prediction = network(noise(2, codec.width, 21), 10 * noise(2, SENSORS, 54))
    if output == "codes":
        found = [network.logits(prediction.hidden, n, noise(2, codec.width, 21) if n else None) for n in range(3)]
        torch.stack(found).square().sum().backward()
    else:
        (prediction.talkers.square().sum() + prediction.envelope.sum()).backward()
    idle = {name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum()}
    # The first book has nothing before it, and codes need no way back to latents.
    assert idle <= ({"feedback.0.weight", "gather.weight"} if output == "codes" else set())
    assert all(bool(p.grad.isfinite().all()) for p in network.parameters() if p.grad is not None)


def test_frames_that_may_see_nothing_stay_finite_in_both_directions(codec: DacCodec) -> None:
    network = lively(codec, look_ahead=0.8, memory=0.1)
    prediction = network(noise(2, codec.width, 21), 10 * noise(2, SENSORS, 54))
    prediction.talkers.square().sum().backward()
    assert prediction.talkers.isfinite().all()
    assert all(bool(p.grad.isfinite().all()) for p in network.parameters() if p.grad is not None)


def test_codes_are_fed_back(codec: DacCodec) -> None:
    """Where the true codes are the most likely ones, greedy choice and teacher forcing say the same."""
    network = lively(codec, output="codes")
    latents, eeg = noise(1, codec.width, 12), 10 * noise(1, SENSORS, 31)
    true = torch.randint(codec.book_size, (1, codec.books, 12), generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        prediction = network(latents, eeg)
        assert prediction.talkers is None
        for number in range(codec.books):
            so_far = codec.from_codes(true[:, :number]) if number else None
            assert network.logits(prediction.hidden, number, so_far).shape == (1, 12, codec.book_size)
            told = prediction.hidden[0]
            if so_far is not None:
                told = told + network.feedback[number](network.normalise(so_far)[0].T)
            # Fewer frames than channels: a linear layer can say anything about them.
            wanted = F.one_hot(true[0, number], codec.book_size).float()
            network.heads[number].weight.copy_(torch.linalg.lstsq(told, wanted, driver="gelsd").solution.T)
            network.heads[number].bias.zero_()
            assert torch.equal(network.logits(prediction.hidden, number, so_far).argmax(-1), true[:, number])
        assert torch.equal(network.choose(prediction, latents, codec), codec.from_codes(true))


# Time.


@pytest.mark.parametrize("hop,rate", [(320, 16_000), (512, 44_100)])
@pytest.mark.parametrize("eeg_rate", [64, 100, 128])
@pytest.mark.parametrize("look_ahead", [0.0, 0.25, 0.4, 0.8])
def test_the_clock_counts_exactly(hop: int, rate: int, eeg_rate: int, look_ahead: float) -> None:
    clock = Clock(hop, rate, eeg_rate, look_ahead, 1.0)
    spans = [(clock.oldest(frame), clock.newest(frame)) for frame in range(700)]
    for side in zip(*spans, strict=True):
        assert list(side) == sorted(side)
    assert spans[0][0] == 0
    for frame, (oldest, newest) in enumerate(spans):
        # Sample n is at n / eeg_rate: the last one that is earlier than the bound, and not one earlier.
        bound = Fraction((frame + 1) * hop, rate) + Fraction(str(look_ahead))
        assert 0 < bound - Fraction(newest, eeg_rate) <= Fraction(1, eeg_rate)
        assert newest - oldest + 1 == min(eeg_rate, newest + 1)


def test_a_short_memory_is_one_sample_and_none_is_all() -> None:
    short, endless = (Clock(320, 16_000, 64, 0.0, memory) for memory in (0.001, None))
    assert all(short.oldest(frame) == short.newest(frame) for frame in range(20))
    assert endless.oldest(1000) == 0


# Attention.


def attended(
    layer: CrossAttention, x: Tensor, source: Tensor, frames: Tensor, samples: Tensor, seen: Tensor | None = None
) -> Tensor:
    """Frames and samples at their times, in seconds."""
    found: Tensor = layer(x, layer.remember(source, layer.turns(samples)), layer.turns(frames), seen)
    return found


def test_attention_is_by_distance_in_time() -> None:
    layer = CrossAttention(16, 8, 2).double()
    stir(layer, 0.5)
    x, source = noise(2, 9, 16, dtype=torch.float64), noise(2, 30, 8, dtype=torch.float64)
    times = (torch.arange(9).double() / 50, torch.arange(30).double() / 128)
    near = attended(layer, x, source, *times)
    far = attended(layer, x, source, times[0] + 900, times[1] + 900)
    torch.testing.assert_close(near, far, atol=1e-8, rtol=0)
    moved = attended(layer, x, source, times[0], times[1] + 0.1)
    assert (near - moved).abs().max() > 1e-3


def test_positions_keep_their_precision_in_long_recordings_and_in_half_precision() -> None:
    x, seconds = noise(1, 1, 50, 16), torch.arange(50).double() / 128
    turns = Turns.at(seconds + 900.0, 16)
    exact = rotate(x.double(), turns)
    torch.testing.assert_close(rotate(x, turns).double(), exact, atol=1e-5, rtol=0)
    torch.testing.assert_close(rotate(x.bfloat16(), turns).double(), exact, atol=0.05, rtol=0)


def test_attention_honours_its_mask() -> None:
    layer = CrossAttention(16, 8, 2)
    stir(layer, 0.5)
    x, source = noise(2, 9, 16), noise(2, 30, 8).requires_grad_()
    times = (torch.arange(9) / 50, torch.arange(30) / 128)
    seen = torch.arange(30) <= 3 * torch.arange(9)[:, None] - 3
    y = attended(layer, x, source, *times, seen)
    assert not seen[0].any()
    torch.testing.assert_close(y[:, 0], layer.out.bias.expand(2, 16))
    for frame in range(9):
        (slope,) = torch.autograd.grad(y[:, frame].square().sum(), source, retain_graph=True)
        assert slope.isfinite().all()
        assert torch.equal(slope.abs().sum((0, 2)) > 0, seen[frame])
    # Only what is seen matters: the same from those samples alone.
    some = attended(layer, x[:, 4:5], source[:, :10], times[0][4:5], times[1][:10])
    torch.testing.assert_close(y[:, 4:5], some)


def test_what_is_remembered_need_not_be_told_again() -> None:
    """Sample by sample, and forgetting, as from the samples that are left."""
    layer = CrossAttention(16, 8, 2)
    stir(layer, 0.5)
    x, source, times = noise(2, 3, 16), noise(2, 30, 8), torch.arange(30) / 128
    memory, turns = None, layer.turns(times)
    for k in range(30):
        one = layer.remember(source[:, k : k + 1], Turns(turns.cosine[k : k + 1], turns.sine[k : k + 1]), k)
        memory = one.after(memory, max(0, k - 9))
    assert memory is not None and (memory.first, memory.end) == (20, 30)
    frames = torch.arange(3) / 50
    whole = attended(layer, x, source[:, 20:], frames, times[20:])
    torch.testing.assert_close(layer(x, memory, layer.turns(frames), None), whole)


# The running match.


@pytest.mark.parametrize("length", [1, 7, BLOCK, BLOCK + 1, 3 * BLOCK + 5])
def test_decaying_sum_equals_the_sequence(length: int) -> None:
    x, before, decay = noise(2, length, 3), noise(2, 3, seed=2), 0.98
    expected, carried = [], before.double()
    for t in range(length):
        carried = decay * carried + x[:, t].double()
        expected.append(carried)
    torch.testing.assert_close(decaying_sum(x, decay, before).double(), torch.stack(expected, 1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("memory", [0.5, None])
def test_half_precision_leaves_the_match_as_it_is(memory: float | None) -> None:
    match = RunningMatch(4, 6, 50.0, memory)
    # A small difference of large sums: in bfloat16 nothing of it would be left.
    x, cue = 2 + 0.1 * noise(1, 400, 4), 1 + 0.1 * noise(1, 400, seed=2)
    exact = match(x, cue)[1]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(match(x, cue)[1], exact)


@pytest.mark.parametrize("memory", [0.5, None])
def test_the_match_is_a_correlation_with_what_came_before(memory: float | None) -> None:
    match, length = RunningMatch(4, 6, 50.0, memory), 2 * BLOCK + 9
    x, cue = noise(1, length, 4).double(), 3 + 0.2 * noise(1, length, seed=2).double()
    stir(match, 0.3)
    ages = torch.arange(length)[:, None] - torch.arange(length)
    weights = torch.ones(length, length) if memory is None else (math.exp(-1 / (memory * 50)) ** ages).tril()
    count = weights.double().sum(1, keepdim=True)
    share = weights.double() / count
    means = [share @ z[0] for z in (x, cue.unsqueeze(-1))]
    powers = [share @ z[0].square() - m.square() for z, m in zip((x, cue.unsqueeze(-1)), means, strict=True)]
    covariance = share @ (x[0] * cue[0].unsqueeze(-1)) - means[0] * means[1]
    correlation = count * covariance / ((count * powers[0] + PRIOR) * (count * powers[1] + PRIOR)).sqrt()
    gain, offset = match.double().affine(10 * correlation).chunk(2, -1)
    found, _ = match.float()(x.float(), cue.float())
    torch.testing.assert_close(found[0].double(), x[0] * (1 + gain) + offset, atol=2e-3, rtol=2e-3)


def test_the_match_starts_as_the_identity_and_goes_on_from_its_sums() -> None:
    match, x, cue = RunningMatch(4, 6, 50.0, 1.0), noise(2, 300, 4), noise(2, 300, seed=2)
    torch.testing.assert_close(match(x, cue)[0], x)
    stir(match)
    expected, end = match(x, cue)
    assert (expected - x).abs().max() > 0.01
    parts, sums = [], None
    for part, heard in zip(x.split([1, 130, 7, 162], 1), cue.split([1, 130, 7, 162], 1), strict=True):
        y, sums = match(part, heard, sums)
        parts.append(y)
    assert sums is not None
    torch.testing.assert_close(torch.cat(parts, 1), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(sums, end, atol=1e-4, rtol=1e-5)


def test_a_channel_that_follows_the_cue_correlates_with_it() -> None:
    match, cue = RunningMatch(3, 6, 50.0, 4.0), noise(2, 800)
    seen: list[Tensor] = []
    match.affine.register_forward_pre_hook(lambda _, given: seen.append(given[0] / 10))
    x = torch.stack([2 * cue + 5, noise(2, 800, seed=2), -cue], -1)
    match(x, cue)
    late = seen[0][:, 400:].mean((0, 1))
    assert late[0] > 0.85 and late[2] < -0.85 and late[1].abs() < 0.2
    assert seen[0].abs().max() <= 1.001 and torch.isfinite(seen[0]).all()


# Electrodes.


@pytest.mark.parametrize("sensors,order", [*product((1, 2, 14), (0, 1, 3)), (64, 2), (128, 2)])
def test_graph_equals_the_polynomials_of_the_laplacian(sensors: int, order: int) -> None:
    graph = ChebyshevGraph(sensors, 3, order).double()
    eeg = noise(2, sensors, 17, dtype=torch.float64)
    links = F.softplus(graph.adjacency + graph.adjacency.T).fill_diagonal_(0)
    degrees = links.sum(1)
    root = torch.where(degrees > 0, degrees, 1.0).rsqrt().diag()
    shifted = -root @ links @ root
    values, vectors = torch.linalg.eigh(shifted)
    assert values.abs().max() <= 1 + 1e-9
    # T_k(cos a) = cos(k a), on the eigenvalues.
    angles = values.clamp(-1, 1).acos()
    terms = torch.stack([vectors @ (k * angles).cos().diag() @ vectors.T for k in range(order + 1)])
    expected = torch.einsum("kf,kcd,bdn->bfcn", graph.mix, terms, eeg).flatten(1, 2)
    torch.testing.assert_close(graph(eeg), expected)
    assert graph(eeg[..., :1]).shape == (2, 3 * sensors, 1)
    graph(eeg).square().sum().backward()
    assert order == 0 or (graph.adjacency.grad is not None and graph.adjacency.grad.isfinite().all())


def test_graph_does_not_know_the_order_of_electrodes() -> None:
    graph, moved = ChebyshevGraph(14, 3), ChebyshevGraph(14, 3)
    order = torch.randperm(14, generator=torch.Generator().manual_seed(1))
    moved.load_state_dict({"adjacency": graph.adjacency[order][:, order], "mix": graph.mix})
    eeg = noise(2, 14, 20)
    expected = graph(eeg).unflatten(1, (3, 14))[:, :, order].flatten(1, 2)
    torch.testing.assert_close(moved(eeg[:, order]), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("act", ["snake", "prelu", "relu"])
def test_eeg_encoder_is_causal_and_streams(act: Activation) -> None:
    encoder = GraphEegEncoder(SENSORS, 8, True, act, 2).eval()
    stir(encoder)
    eeg = 10 * noise(2, SENSORS, 200)
    changed = torch.where(torch.arange(200) >= 120, -eeg, eeg)
    with torch.no_grad():
        features = encoder(eeg)
        assert torch.equal(features[..., :120], encoder(changed)[..., :120])
        assert not torch.equal(features[..., 120], encoder(changed)[..., 120])
        assert encoder.read(features).shape == (2, 200)
    stream = encoder.stream()
    sizes: Iterable[int] = [0, 1, 1, 40, 0, 3, 155]
    chunks = [stream.push(chunk) for chunk in eeg.split(list(sizes), -1)]
    assert [chunk.shape[-1] for chunk in chunks] == list(sizes)
    torch.testing.assert_close(torch.cat(chunks, -1), features, atol=1e-5, rtol=1e-5)


def test_nothing_bends_the_eeg_before_its_electrodes_are_mixed() -> None:
    """What all electrodes share can then be taken away by weights alone."""
    encoder = GraphEegEncoder(SENSORS, 8, True, maps=2).eval()
    stir(encoder)
    mixed, (one, other) = encoder.body[1:3], noise(2, 1, SENSORS, 50).unbind()
    with torch.no_grad():
        nothing = mixed(torch.zeros_like(one))
        torch.testing.assert_close(mixed(one + 3 * other) - nothing, mixed(one) + 3 * mixed(other) - 4 * nothing)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("sensors", [1, 2, 14])
def test_eeg_of_any_size_and_quality_passes(causal: bool, sensors: int) -> None:
    encoder = GraphEegEncoder(sensors, 8, causal, maps=2)
    eeg = 10 * noise(4, sensors, 50)
    eeg[:, 0] = 0
    encoder(eeg).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in encoder.body.parameters())
    encoder.eval()
    seen: list[Tensor] = []
    encoder.body[0].register_forward_hook(lambda module, given, found: seen.append(found))
    with torch.no_grad():
        for signal in (eeg, 1e6 + eeg, 1e9 * eeg, torch.zeros_like(eeg), eeg[..., :1]):
            assert encoder(signal).isfinite().all()
            assert seen[-1].abs().max() <= CLAMP
    assert not seen[0][:, 0].any()


def test_electrodes_that_were_dead_in_training_stay_silent() -> None:
    encoder = GraphEegEncoder(3, 8, True, maps=2)
    eeg = 40 * noise(8, 3, 200) + 100
    eeg[:, 1] = 0
    for _ in range(60):
        encoder(eeg)
    normalised = encoder.eval().body[0](eeg)
    assert not normalised[:, 1].any()
    assert normalised[:, 0].mean().abs() < 0.1 and abs(normalised[:, 0].std() - 1) < 0.1


def test_the_unit_tells_nothing_to_the_form_that_is_not_causal() -> None:
    encoder, eeg = GraphEegEncoder(3, 8, False, maps=2).eval(), noise(2, 3, 60)
    with torch.no_grad():
        torch.testing.assert_close(encoder(eeg), encoder(1000 * eeg + 500), atol=1e-3, rtol=1e-3)
    with pytest.raises(BadInput):
        stream_of(encoder)


# Activations.


@pytest.mark.parametrize(
    "name,formula",
    [
        ("snake", lambda x: x + torch.sin(x).square()),
        ("prelu", lambda x: torch.where(x > 0, x, x / 4)),
        ("relu", lambda x: x.clamp_min(0)),
    ],
)
def test_activations_by_name(codec: DacCodec, name: Activation, formula: Callable[[Tensor], Tensor]) -> None:
    layer, x = activation(name, 6), noise(2, 6, 11)
    torch.testing.assert_close(layer(x), formula(x))
    assert sum(p.numel() for p in layer.parameters()) == (0 if name == "relu" else 6)
    assert torch.equal(stream_of(layer).push(x), layer(x))
    if name != "snake":
        network = lively(codec, act=name)
        sound, eeg = recording(12_001, 1)
        schedule = [(3000, 30), (5000, 60), (9000, 90)]
        found = streamed(NeuroCodecStream(network, codec), sound, eeg, schedule)
        torch.testing.assert_close(found, whole(network, codec, sound, eeg), atol=1e-4, rtol=0)


# The page about it.


def test_the_page_names_every_setting_with_its_default() -> None:
    page = (Path(__file__).parents[1] / "docs" / "neurocodec.md").read_text()
    for name, field in NeuroCodecSettings.model_fields.items():
        default = str(field.default).lower() if isinstance(field.default, bool) else field.default
        assert f"| `{name}` | `{default}` | {field.description or ''}" in page


# Published sizes.


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_published_sizes_run_forward_and_backward(record_property: Callable[[str, object], None]) -> None:
    from transformers import DacConfig, DacModel

    codec = DacCodec(DacModel(DacConfig(sampling_rate=44_100, downsampling_ratios=[2, 4, 8, 8])))
    assert (codec.rate, codec.hop, codec.width, codec.books, codec.book_size) == (44_100, 512, 1024, 9, 1024)
    sizes = SIZES["paper"]
    assert (sizes.width, sizes.blocks) == (256, 4)
    sound, eeg = 0.1 * noise(1, 87_552), 10 * noise(1, 128, 256)
    latents = codec.encode(sound)
    assert latents.shape == (1, 1024, 171)
    counts = {"codec": sum(p.numel() for p in codec.parameters())}
    for output, causal in (("codes", True), ("latent", False), ("latent", True)):
        clock = Clock(codec.hop, codec.rate, 128, 0.4, 2.0 if causal else None)
        network = NeuroCodecNetwork(codec, 128, clock, sizes, output, causal=causal)
        prediction = network(latents, eeg)
        if output == "codes":
            codes = codec.quantise(codec.encode(sound.flip(-1))).codes
            told = [None if n == 0 else codec.from_codes(codes[:, :n]) for n in range(codec.books)]
            logits = [network.logits(prediction.hidden, n, so_far) for n, so_far in enumerate(told)]
            loss = F.cross_entropy(torch.stack(logits, 1).flatten(0, 2), codes.flatten())
        elif causal:
            wave = codec.decode(network.choose(prediction, latents, codec), sound.shape[-1])
            assert wave.shape == sound.shape
            loss = (wave - sound.flip(-1)).square().mean()
        else:
            loss = prediction.talkers.square().mean()
        loss.backward()
        assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in network.parameters())
        for name, part in network.named_children():
            counts[f"{output}.{name}"] = sum(p.numel() for p in part.parameters())
        counts[output] = sum(p.numel() for p in network.parameters())
    assert all(p.grad is None for p in codec.parameters())
    counts |= {f"block.{n}": sum(p.numel() for p in m.parameters()) for n, m in network.blocks[0].named_children()}
    for name, count in counts.items():
        record_property(name, count)
        print(f"{name:20} {count:>12,}")
    print(f"latency {algorithmic_latency(network, codec):.4f} s")
    # The published weights of this codec are 76.6 million numbers, with those of its weight norm.
    assert 70e6 < counts["codec"] < 80e6
