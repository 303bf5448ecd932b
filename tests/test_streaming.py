from collections.abc import Iterable, Iterator
from itertools import accumulate, cycle, product

import pytest
import torch
from torch import Tensor, nn

from eeg2speech.errors import BadInput
from eeg2speech.models.streaming import Conv, Reach, Residual, Stream, reach, stream_of

dac = pytest.importorskip("transformers.models.dac.modeling_dac")

RATIOS = ([8, 5, 4, 2], [2, 4, 5, 8], [5, 3])


class Sine(nn.Module):
    pointwise = True

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.sin(x) ** 2


class Causal(nn.Conv1d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(nn.functional.pad(x, (self.kernel_size[0] - 1, 0)))

    def stream(self) -> Stream:
        return Conv(self, left=self.kernel_size[0] - 1, right=0)


def lively(network: nn.Module) -> nn.Module:
    """Weights that keep a signal's size: with DAC's own initial ones outputs vanish."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.Conv1d | nn.ConvTranspose1d):
            up = module.stride[0] if isinstance(module, nn.ConvTranspose1d) else 1
            nn.init.normal_(module.weight, std=0.7 * (up / (module.in_channels * module.kernel_size[0])) ** 0.5)
            if module.bias is not None:
                nn.init.normal_(module.bias, std=0.1)
        elif isinstance(module, dac.Snake1d):
            nn.init.uniform_(module.alpha, 0.5, 2.0)
    return network.requires_grad_(False)


def codec(ratios: list[int], dtype: torch.dtype = torch.float32) -> nn.Module:
    config = dac.DacConfig(
        encoder_hidden_size=4,
        downsampling_ratios=ratios,
        decoder_hidden_size=4 * 2 ** len(ratios),
        n_codebooks=2,
        codebook_size=16,
        codebook_dim=4,
        sampling_rate=16000,
    )
    return lively(dac.DacModel(config).eval()).to(dtype)


def noise(network: nn.Module, samples: int, batch: int = 2) -> Tensor:
    """Input [batch, C, samples] of the kind that the first convolution takes."""
    first = next(m for m in network.modules() if isinstance(m, nn.Conv1d | nn.ConvTranspose1d))
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, first.in_channels, samples, dtype=first.weight.dtype, generator=generator)


def chunks(x: Tensor, sizes: Iterable[int]) -> Iterator[tuple[Tensor, bool]]:
    """Pieces of the signal of these sizes, and whether it ends there."""
    for stop, size in zip(accumulate(sizes := list(sizes)), sizes, strict=True):
        yield x[..., stop - size : stop], stop >= x.shape[-1]
        if stop >= x.shape[-1]:
            return


def joined(stream: Stream, x: Tensor, sizes: Iterable[int]) -> Tensor:
    return torch.cat([stream.push(chunk, last) for chunk, last in chunks(x, sizes)], -1)


def schedules(samples: int) -> dict[str, list[int]]:
    primes = cycle([2, 3, 5, 7, 11, 13, 101])
    varying = torch.randint(0, max(samples // 4, 3), (samples,), generator=torch.Generator().manual_seed(2)).tolist()
    return {
        "ones": [1] * samples,
        "primes": [next(primes) for _ in range(samples)],
        "hundreds": [100] * samples,
        "varying": [0, *varying, samples],
        "larger": [2 * samples],
    }


@pytest.mark.parametrize("stride,kernel,dilation,padding,groups", product((1, 3, 5), (1, 4, 7), (1, 3), (0, 2), (1, 2)))
def test_joined_chunks_of_a_convolution_equal_the_whole(
    stride: int, kernel: int, dilation: int, padding: int, groups: int
) -> None:
    layer = lively(nn.Conv1d(2, 4, kernel, stride, padding, dilation, groups)).double()
    x = noise(layer, 47)
    whole, stream = layer(x), stream_of(layer)
    for sizes in schedules(47).values():
        torch.testing.assert_close(joined(stream, x, sizes), whole)


@pytest.mark.parametrize("stride,overlap,bias", product((1, 2, 5, 8), (0, 3, 8), (True, False)))
def test_joined_chunks_of_a_transposed_convolution_equal_the_whole(stride: int, overlap: int, bias: bool) -> None:
    for padding, extra, groups in product({0, overlap // 2, overlap}, {0, stride - 1}, (1, 2)):
        layer = lively(nn.ConvTranspose1d(2, 4, stride + overlap, stride, padding, extra, groups, bias)).double()
        x = noise(layer, 17)
        whole, stream = layer(x), stream_of(layer)
        for sizes in schedules(17).values():
            torch.testing.assert_close(joined(stream, x, sizes), whole)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("kernel", [1, 4, 5])
def test_paddings_with_a_name_equal_the_whole(padding: str, kernel: int) -> None:
    layer = lively(nn.Conv1d(2, 3, kernel, padding=padding)).double()
    torch.testing.assert_close(joined(stream_of(layer), noise(layer, 20), [3] * 20), layer(noise(layer, 20)))


@pytest.mark.parametrize("ratios", RATIOS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_joined_chunks_of_a_codec_equal_the_whole(ratios: list[int], dtype: torch.dtype) -> None:
    model = codec(ratios, dtype)
    for part, samples in ((model.encoder, 1613), (model.decoder, 13)):
        x = noise(part, samples)
        whole, stream = part(x), stream_of(part)
        assert whole.std() > 0.05
        for name in ("primes", "hundreds", "varying", "larger"):
            answer = joined(stream, x, schedules(samples)[name])
            torch.testing.assert_close(answer, whole, atol=1e-4 if dtype == torch.float32 else 1e-12, rtol=0)


def test_a_codec_may_be_fed_one_sample_at_a_time() -> None:
    model = codec([5, 3])
    for part, samples in ((model.encoder, 301), (model.decoder, 20)):
        x = noise(part, samples)
        torch.testing.assert_close(joined(stream_of(part), x, [1] * samples), part(x), atol=1e-4, rtol=0)


@pytest.mark.parametrize("samples", range(320, 341))
def test_lengths_are_those_of_the_whole(samples: int) -> None:
    encoder = codec([8, 5, 4, 2]).encoder
    x = noise(encoder, samples, batch=1)
    assert joined(stream_of(encoder), x, [97] * 4).shape == encoder(x).shape


def test_replaced_activations_and_weight_norm_change_nothing_in_the_walk() -> None:
    model = codec([5, 4])
    model.apply_weight_norm()
    for module in [m for m in model.modules() if hasattr(m, "snake1")]:
        module.snake1 = Sine()
    for part, samples in ((model.encoder, 500), (model.decoder, 20)):
        x = noise(part, samples)
        torch.testing.assert_close(joined(stream_of(part), x, [7] * samples), part(x), atol=1e-4, rtol=0)


def test_a_module_may_bring_its_own_stream() -> None:
    network = lively(nn.Sequential(Causal(2, 4, 5), nn.PReLU(4), nn.Conv1d(4, 2, 3, padding=1), nn.Tanh())).double()
    x = noise(network, 40)
    torch.testing.assert_close(joined(stream_of(network), x, [3] * 20), network(x))
    assert reach(network) == Reach(past=5, future=1)


def test_a_stream_starts_anew_after_the_last_chunk_and_when_told() -> None:
    encoder = codec([5, 3]).encoder
    stream, x = stream_of(encoder), noise(encoder, 200)
    joined(stream, noise(encoder, 77, batch=3), [50] * 2)
    stream.push(x[:1, :, :99])
    stream.reset()
    torch.testing.assert_close(joined(stream, x, [60] * 4), encoder(x), atol=1e-4, rtol=0)


def test_the_end_may_be_told_with_an_empty_chunk_and_chunks_may_be_overwritten() -> None:
    decoder = codec([5, 3]).decoder
    stream, x = stream_of(decoder), noise(decoder, 20)
    buffer, parts = torch.empty_like(x[..., :4]), []
    for chunk, _ in chunks(x, [4] * 5):
        parts.append(stream.push(buffer.copy_(chunk)))
    parts.append(stream.push(x[..., :0], last=True))
    torch.testing.assert_close(torch.cat(parts, -1), decoder(x), atol=1e-4, rtol=0)


def test_too_short_a_signal_gives_nothing() -> None:
    encoder = codec([8, 5, 4, 2]).encoder
    assert stream_of(encoder).push(noise(encoder, 100), last=True).shape == (2, encoder.conv2.out_channels, 0)


def test_an_output_leaves_as_soon_as_its_last_input_has_come() -> None:
    model = codec([5, 3])
    for part, samples in ((model.encoder, 300), (model.decoder, 30)):
        stream, given = stream_of(part), 0
        for n in range(samples):
            given += stream.push(noise(part, 1)).shape[-1]
            assert n < stream.inputs(given, given)[1]
            assert given == 0 or n >= stream.inputs(given - 1, given - 1)[1]
        assert given > 0


def probe(network: nn.Module, x: Tensor, output: int) -> tuple[int, int]:
    """First and last input with a gradient to one output: other than a change's effect, it never drowns in rounding."""
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(network(x)[..., output].sum(), x)
    touched = gradient.abs().sum((0, 1)).nonzero().flatten()
    return int(touched[0]), int(touched[-1])


@pytest.mark.parametrize("ratios", RATIOS, ids=str)
def test_an_encoder_looks_as_far_as_its_layers_say(ratios: list[int]) -> None:
    encoder = codec(ratios, torch.float64).encoder
    hop, (past, future) = int(stream_of(encoder).hop), reach(encoder)
    frame = past // hop + 1
    x = noise(encoder, (frame + 2) * hop + future, batch=1)
    first, last = frame * hop - past, (frame + 1) * hop - 1 + future
    assert probe(encoder, x, frame) == stream_of(encoder).inputs(frame, frame) == (first, last)
    other = x.clone()
    other[..., :first], other[..., last + 1 :] = 9.0, 9.0
    assert torch.equal(encoder(other)[..., frame], encoder(x)[..., frame])


@pytest.mark.parametrize("ratios", RATIOS, ids=str)
def test_a_decoder_looks_as_far_as_its_layers_say(ratios: list[int]) -> None:
    decoder = codec(ratios, torch.float64).decoder
    stream, (past, future) = stream_of(decoder), reach(decoder)
    rate, frame = int(1 / stream.hop), past + 1
    x = noise(decoder, frame + future + 3, batch=1)
    samples = range(frame * rate, (frame + 1) * rate, 1 if rate < 100 else 7)
    probed = {t: probe(decoder, x, t) for t in samples}
    assert probed == {t: stream.inputs(t, t) for t in samples}
    assert all(frame - past <= first and last <= frame + future for first, last in probed.values())
    edges = (stream.inputs(frame * rate, frame * rate)[0], stream.inputs(*[(frame + 1) * rate - 1] * 2)[1])
    assert edges == (frame - past, frame + future)


def test_reach_of_layers_that_can_be_counted_by_hand() -> None:
    assert reach(nn.Conv1d(1, 1, 7, padding=9, dilation=3)) == Reach(9, 9)
    assert reach(nn.Conv1d(1, 1, 16, stride=8, padding=4)) == Reach(4, 4)
    assert reach(nn.Conv1d(1, 1, 1, stride=8)) == Reach(0, -7)
    assert reach(nn.ConvTranspose1d(1, 1, 16, stride=8, padding=4)) == Reach(1, 1)
    assert reach(nn.ConvTranspose1d(1, 1, 16, stride=8)) == Reach(1, 0)
    down_and_up = nn.Sequential(nn.Conv1d(1, 1, 8, stride=8), nn.ConvTranspose1d(1, 1, 8, stride=8))
    assert reach(down_and_up) == Reach(7, 7)
    assert reach(nn.Tanh()) == Reach(0, 0)


class Overriding(nn.Conv1d):
    def forward(self, x: Tensor) -> Tensor:
        return -super().forward(x)


@pytest.mark.parametrize(
    "module,message",
    [
        (nn.LSTM(1, 1), "LSTM"),
        (nn.Sequential(nn.Tanh(), nn.GroupNorm(1, 1)), "GroupNorm"),
        (Overriding(1, 1, 3), "Overriding"),
        (nn.Conv1d(1, 1, 3, padding=1, padding_mode="reflect"), "padding_mode: expected zeros, found reflect"),
        (nn.ConvTranspose1d(1, 1, 4, dilation=2), "dilation"),
        (nn.ConvTranspose1d(1, 1, 2, stride=3), "kernel_size"),
    ],
)
def test_what_cannot_be_streamed_is_refused_by_name(module: nn.Module, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        stream_of(module)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_weights_that_a_hook_makes_are_refused() -> None:
    with pytest.raises(BadInput, match="hooks"):
        stream_of(nn.utils.weight_norm(nn.Conv1d(1, 1, 3)))


def test_what_does_not_keep_its_length_cannot_be_added_to_its_input() -> None:
    with pytest.raises(BadInput, match="2 inputs an output"):
        Residual(stream_of(nn.Conv1d(1, 1, 4, stride=2, padding=1)))
    with pytest.raises(BadInput, match="at the end"):
        Residual(stream_of(nn.Conv1d(1, 1, 3))).push(torch.zeros(1, 1, 9), last=True)
    unit = dac.DacResidualUnit(2, dilation=3)
    unit.conv1.padding = (0,)
    with pytest.raises(BadInput, match="conv1.padding: expected half of 18"):
        stream_of(unit)


def test_a_chunk_without_a_channel_axis_is_refused() -> None:
    with pytest.raises(BadInput, match=r"shape \[batch, channels, samples\], found \[1, 160\]"):
        stream_of(nn.Tanh()).push(torch.zeros(1, 160))
