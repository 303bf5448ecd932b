"""Convolutional networks chunk by chunk: the joined chunks equal the answer to the whole signal, for any chunk sizes.

The convolutions may be centred (zero-padded on both sides), as in the Descript Audio Codec. No output is computed
twice: each layer carries the inputs, or the partial sums, that its next output needs, and an output leaves as soon as
the last input that it depends on has come. How far an output looks back and ahead follows from the layers (``reach``).

    encoder = stream_of(dac.encoder)
    frames = [encoder.push(chunk) for chunk in chunks]                         # each [B, D, 0 or more]
    frames.append(encoder.push(torch.zeros(1, 1, 0), last=True))               # zero padding on the right, then anew
    assert torch.allclose(torch.cat(frames, -1), dac.encoder(torch.cat(chunks, -1)), atol=1e-4)
    look_ahead = reach(dac.encoder).future                                     # samples
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from eeg2speech.errors import BadInput
from eeg2speech.models.activations import Snake
from eeg2speech.models.frames import FEW
from eeg2speech.models.quick import DilatedConv1d

SOME, MANY = 512, 1536
"""Outputs up to which oneDNN's plain convolution is at its best, and up to which a product of matrices beats it on a
CPU wherever it is not: with taps that lie apart, and beyond ``SOME``. On one core, 16 channels, 7 taps, 1280 outputs:
245 us and 175; 64 channels, 128 outputs, taps 3 apart: 468 and 150. For the fewest see ``FEW``."""


class Reach(NamedTuple):
    """How many inputs before and after its own position an output depends on, at most.

    With ``hop`` inputs an output (a fraction where the network up-samples), output k covers the inputs from
    floor(k * hop) to ceil((k + 1) * hop) - 1, and depends on those from floor(k * hop) - ``past`` to
    ceil((k + 1) * hop) - 1 + ``future``, both ends included.

    - Encoder, hop an integer: frame k depends on samples k * hop - past to (k + 1) * hop - 1 + future.
    - Decoder, r = 1 / hop samples a frame: sample t depends on frames t // r - past to t // r + future.

    Inputs are counted in samples for an encoder and in frames for a decoder. Where outputs differ (the r samples of one
    frame), each side is that of the output which looks furthest. A side is negative where part of the cover is unused.
    """

    past: int
    future: int


class Stream(ABC):
    """One signal on its way through one network: state between chunks, and the inputs an output depends on."""

    hop: Fraction
    """Inputs per output."""
    period: int
    """Outputs after which the pattern of their dependence on the inputs repeats."""

    def push(self, x: Tensor, last: bool = False) -> Tensor:
        """Outputs [B, C', m] that inputs [B, C, n] make complete; m and n may be 0.

        The ``last`` chunk is followed by the layers' own zero padding; after it the stream starts anew. A signal for
        which the whole network would raise, as it is too short for one output, gives no output here. No gradients:
        the state would hold the graph of all that went before.
        """
        if x.ndim != 3:
            raise BadInput(type(self).__name__, "chunk", "shape [batch, channels, samples]", list(x.shape))
        if torch.is_grad_enabled():
            with torch.no_grad():
                return self.push(x, last)
        y = self._push(x, last)
        if last:
            self.reset()
        return y

    @abstractmethod
    def _push(self, x: Tensor, last: bool) -> Tensor: ...

    @abstractmethod
    def reset(self) -> None:
        """Forget the signal so far."""

    @abstractmethod
    def inputs(self, first: int, last: int) -> tuple[int, int]:
        """First and last input on which the outputs ``first`` to ``last`` depend (negative: in the padding)."""


class _Queue:
    """Samples [B, C, n] that wait for their use. More may be dropped than have come: the rest goes as it comes."""

    def __init__(self, samples: Tensor, owed: int = 0) -> None:
        self.samples, self.owed = samples, owed

    def __len__(self) -> int:
        return self.samples.shape[-1]

    def put(self, x: Tensor) -> None:
        self.samples = torch.cat([self.samples, x], -1)
        if self.owed:
            self.drop(0)

    def drop(self, n: int) -> None:
        gone = min(self.owed + n, len(self))
        self.samples, self.owed = self.samples[..., gone:], self.owed + n - gone

    def take(self, n: int) -> Tensor:
        taken = self.samples[..., :n]
        self.drop(n)
        return taken


class Pointwise(Stream):
    """A module that acts on each sample alone and keeps the number of channels."""

    hop, period = Fraction(1), 1

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def _push(self, x: Tensor, last: bool) -> Tensor:
        # Snake's reshape(..., -1) refuses an empty tensor.
        y: Tensor = self.module(x) if x.shape[-1] else x
        return y

    def reset(self) -> None:
        """Nothing to forget."""

    def inputs(self, first: int, last: int) -> tuple[int, int]:
        """The same samples."""
        return first, last


class SnakeStream(Pointwise):
    """Snake as transformers and this package have it, x + sin²(αx) / (α + 1e-9), with as few operations as there are.

    A chunk is so short that each costs more to call than to compute. α is as it is when the stream begins.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module)
        alpha = module.alpha
        assert isinstance(alpha, Tensor)
        self.alpha = alpha.detach()
        self.gain = (self.alpha + 1e-9).reciprocal()

    def _push(self, x: Tensor, last: bool) -> Tensor:
        wave = (self.alpha * x).sin_()
        return torch.addcmul(x, self.gain, wave.square_()) if x.shape[-1] else x


class Conv(Stream):
    """A convolution with ``left`` and ``right`` zeros around the signal, whatever its own padding says.

    ``Conv(conv, left=dilation * (kernel_size - 1), right=0)`` is a causal one.
    """

    period = 1

    def __init__(self, conv: nn.Conv1d, left: int, right: int) -> None:
        _refuse_hooks(conv)
        self.conv, self.left, self.right = conv, left, right
        self.stride, self.extent = conv.stride[0], conv.dilation[0] * (conv.kernel_size[0] - 1) + 1
        self.hop = Fraction(self.stride)
        self._queue: _Queue | None = None

    def _push(self, x: Tensor, last: bool) -> Tensor:
        if self.extent == self.stride == 1 and not self.left and not self.right:
            # Nothing waits.
            return self._answer(x, x.shape[-1])
        if self._queue is None:
            self._queue = _Queue(x.new_zeros(*x.shape[:2], self.left))
        self._queue.put(functional.pad(x, (0, self.right)) if last else x)
        outputs = (len(self._queue) - self.extent) // self.stride + 1
        samples = self._queue.samples
        if outputs > 0:
            self._queue.drop(outputs * self.stride)
        return self._answer(samples, outputs)

    def _answer(self, samples: Tensor, outputs: int) -> Tensor:
        conv, taps = self.conv, self.conv.kernel_size[0]
        if outputs <= 0:
            return samples.new_zeros(len(samples), conv.out_channels, 0)
        if conv.groups == 1 and outputs <= MANY and not samples.is_cuda:
            if outputs <= FEW or self.stride > 1:
                rows = self._windows(samples, outputs).permute(0, 3, 1, 2).flatten(2)
                return functional.linear(rows, conv.weight.flatten(1), conv.bias).transpose(1, 2)
            if conv.dilation[0] > 1 or (outputs > SOME and taps > 1):
                products = conv.weight.flatten(1) @ self._windows(samples, outputs).flatten(1, 2)
                return products if conv.bias is None else products.add_(conv.bias[:, None])
        return functional.conv1d(samples, conv.weight, conv.bias, conv.stride, 0, conv.dilation, conv.groups)

    def _windows(self, samples: Tensor, outputs: int) -> Tensor:
        """What each output is made of: a view [B, C, taps, outputs] of the samples [B, C, n]."""
        batch, channels, time = samples.stride()
        shape = *samples.shape[:2], self.conv.kernel_size[0], outputs
        steps = batch, channels, self.conv.dilation[0] * time, self.stride * time
        return samples.as_strided(shape, steps, samples.storage_offset())

    def reset(self) -> None:
        """Forget the signal so far."""
        self._queue = None

    def inputs(self, first: int, last: int) -> tuple[int, int]:
        """From the first tap under the first output to the last tap under the last."""
        return first * self.stride - self.left, last * self.stride - self.left + self.extent - 1


class Transposed(Stream):
    """A transposed convolution: the partial sums that later inputs add to are carried."""

    def __init__(self, conv: nn.ConvTranspose1d) -> None:
        _refuse_hooks(conv)
        self.conv = conv
        self.stride, self.kernel, self.padding = conv.stride[0], conv.kernel_size[0], int(conv.padding[0])
        if conv.dilation[0] != 1:
            raise BadInput(type(conv).__name__, "dilation", 1, conv.dilation[0])
        # Otherwise a sample would leave before it is known whether the padding cuts it off, or depend on no input.
        if self.kernel < self.stride + self.padding:
            raise BadInput(type(conv).__name__, "kernel_size", "at least stride + padding", self.kernel)
        self.hop, self.period = Fraction(1, self.stride), self.stride
        self._state: tuple[Tensor, _Queue] | None = None

    def _push(self, x: Tensor, last: bool) -> Tensor:
        sums, uncut = self._state or self._start(x)
        sums, complete = self._add(sums, x), x.shape[-1] * self.stride
        ending = int(self.conv.output_padding[0]) - self.padding
        y = functional.pad(sums, (0, ending)) if last else sums[..., :complete]
        uncut.put(y if self.conv.bias is None else y + self.conv.bias[:, None])
        self._state = sums[..., complete:], uncut
        return uncut.take(len(uncut))

    def _start(self, x: Tensor) -> tuple[Tensor, _Queue]:
        """No sums yet [B, C', kernel - stride]; a queue for the output, of which the padding cuts off the start."""
        empty = x.new_zeros(x.shape[0], self.conv.out_channels, 0)
        return functional.pad(empty, (0, self.kernel - self.stride)), _Queue(empty, owed=self.padding)

    def _add(self, sums: Tensor, x: Tensor) -> Tensor:
        """Carried sums [B, C', kernel - stride], then the contributions of x: [B, C', n * stride + kernel - stride]."""
        if x.shape[-1] == 0:
            return sums
        if x.shape[-1] <= FEW and self.conv.groups == 1 and not x.is_cuda:
            # As a product of matrices, time first; then what falls on the same sample is added up.
            parts = (x.transpose(1, 2) @ self.conv.weight.flatten(1)).transpose(1, 2)
            length = (x.shape[-1] - 1) * self.stride + self.kernel
            new = functional.fold(parts, (1, length), (1, self.kernel), stride=(1, self.stride)).squeeze(2)
        else:
            new = functional.conv_transpose1d(x, self.conv.weight, None, self.stride, groups=self.conv.groups)
        return new + functional.pad(sums, (0, new.shape[-1] - sums.shape[-1]))

    def reset(self) -> None:
        """Forget the signal so far."""
        self._state = None

    def inputs(self, first: int, last: int) -> tuple[int, int]:
        """Input j adds to the outputs from j * stride - padding on, as many as the kernel is long."""
        return -((self.kernel - 1 - self.padding - first) // self.stride), (last + self.padding) // self.stride


class Chain(Stream):
    """Streams one after the other."""

    def __init__(self, streams: Iterable[Stream]) -> None:
        self.streams = tuple(streams)
        self.hop = math.prod((stream.hop for stream in self.streams), start=Fraction(1))
        self.period = math.prod(stream.period for stream in self.streams)

    def _push(self, x: Tensor, last: bool) -> Tensor:
        for stream in self.streams:
            x = stream.push(x, last)
        return x

    def reset(self) -> None:
        """Forget the signal so far."""
        for stream in self.streams:
            stream.reset()

    def inputs(self, first: int, last: int) -> tuple[int, int]:
        """Asked from the last layer back to the first."""
        for stream in reversed(self.streams):
            first, last = stream.inputs(first, last)
        return first, last


class Residual(Stream):
    """The input plus what ``body`` makes of it; the body keeps length and channels. The path ahead waits."""

    def __init__(self, body: Stream) -> None:
        if body.hop != 1:
            raise BadInput(type(self).__name__, "body", "as many outputs as inputs", f"{body.hop} inputs an output")
        self.body, self.hop, self.period = body, body.hop, body.period
        self._ahead: _Queue | None = None

    def _push(self, x: Tensor, last: bool) -> Tensor:
        if self._ahead is None:
            self._ahead = _Queue(x[..., :0])
        self._ahead.put(x)
        y = self.body.push(x, last)
        ready = y.shape[-1]
        # What the body gives never comes before what it is added to; at the end it has to have given all.
        if ready > len(self._ahead) or (last and ready != len(self._ahead)):
            raise BadInput(type(self).__name__, "body", f"{len(self._ahead)} samples at most, all at the end", ready)
        return self._ahead.take(ready) + y

    def reset(self) -> None:
        """Forget the signal so far."""
        self._ahead = None
        self.body.reset()

    def inputs(self, first: int, last: int) -> tuple[int, int]:
        """Those of the body and the samples themselves."""
        low, high = self.body.inputs(first, last)
        return min(low, first), max(high, last)


def stream_of(module: nn.Module) -> Stream:
    """A new stream through ``module``, which is used as it is, by reference: its weights, its device.

    Known: a module with a method ``stream() -> Stream``; one with the attribute ``pointwise = True``; Conv1d with zero
    padding; ConvTranspose1d; Sequential; the usual activations; encoder, decoder and their blocks of transformers'
    ``DacModel``. Any other is refused with ``BadInput``, and so is a subclass with a ``forward`` of its own.
    """
    own = getattr(type(module), "stream", None)
    if own is not None:
        stream: Stream = own(module)
        return stream
    if isinstance(module, Snake) and type(module).forward is Snake.forward:
        return SnakeStream(module)
    if getattr(module, "pointwise", False) is True:
        return Pointwise(module)
    return _builder(module)(module)


def reach(network: nn.Module | Stream) -> Reach:
    """How far an output of the network looks back and ahead, computed from its layers; see ``Reach``."""
    stream = network if isinstance(network, Stream) else stream_of(network)
    sides = [_sides(stream, output) for output in range(stream.period)]
    return Reach(max(past for past, _ in sides), max(future for _, future in sides))


def _sides(stream: Stream, output: int) -> Reach:
    first, last = stream.inputs(output, output)
    return Reach(math.floor(output * stream.hop) - first, last - math.ceil((output + 1) * stream.hop) + 1)


def _builder(module: nn.Module) -> Callable[[Any], Stream]:
    """Builder of the known class whose ``forward`` the module runs; weight norm makes a subclass of its own."""
    for base in type(module).__mro__:
        builder = _BUILDERS.get(f"{base.__module__}.{base.__qualname__}")
        if builder is not None and getattr(type(module), "forward", None) is getattr(base, "forward", None):
            return builder
    found = f"{type(module).__module__}.{type(module).__qualname__}"
    raise BadInput("stream_of", "module", "a known layer, or a method stream(), or pointwise = True", found)


def _refuse_hooks(conv: nn.Module) -> None:
    """The weights are read without a call of the module, so that what a hook does before a call would be missed."""
    if conv._forward_pre_hooks:
        hooks = "no forward pre-hooks (such as those of torch.nn.utils.weight_norm: remove it, or use parametrizations)"
        raise BadInput(type(conv).__name__, "hooks", hooks, len(conv._forward_pre_hooks))


def _conv(conv: nn.Conv1d) -> Stream:
    if conv.padding_mode != "zeros":
        raise BadInput(type(conv).__name__, "padding_mode", "zeros", conv.padding_mode)
    total = conv.dilation[0] * (conv.kernel_size[0] - 1)
    if conv.padding == "same":
        return Conv(conv, total // 2, total - total // 2)
    padding = 0 if conv.padding == "valid" else int(conv.padding[0])
    return Conv(conv, padding, padding)


def _dac_residual_unit(unit: Any) -> Stream:
    body, conv = _parts("snake1", "conv1", "snake2", "conv2")(unit), unit.conv1
    kept = conv.dilation[0] * (conv.kernel_size[0] - 1)
    if 2 * conv.padding[0] != kept:
        raise BadInput(type(unit).__name__, "conv1.padding", f"half of {kept}, which keeps the length", conv.padding[0])
    return Residual(body)


def _parts(*names: str) -> Callable[[Any], Stream]:
    """Builder for a module that calls its parts in this order; a list of modules stands for all in it."""

    def build(module: Any) -> Stream:
        parts = (getattr(module, name) for name in names)
        layers = (layer for part in parts for layer in (part if isinstance(part, nn.ModuleList) else (part,)))
        return Chain(map(stream_of, layers))

    return build


_ACTIVATIONS = (nn.Tanh, nn.ReLU, nn.PReLU, nn.ELU, nn.GELU, nn.Identity)
_DAC = "transformers.models.dac.modeling_dac"
_UNITS = ("res_unit1", "res_unit2", "res_unit3")

# By name, as transformers is optional and slow to import.
_BUILDERS: dict[str, Callable[[Any], Stream]] = {
    **{f"{kind.__module__}.{kind.__qualname__}": Pointwise for kind in _ACTIVATIONS},
    f"{nn.Conv1d.__module__}.Conv1d": _conv,
    f"{DilatedConv1d.__module__}.DilatedConv1d": _conv,
    f"{nn.ConvTranspose1d.__module__}.ConvTranspose1d": Transposed,
    f"{nn.Sequential.__module__}.Sequential": lambda layers: Chain(map(stream_of, layers)),
    f"{_DAC}.Snake1d": SnakeStream,
    f"{_DAC}.DacResidualUnit": _dac_residual_unit,
    f"{_DAC}.DacEncoderBlock": _parts(*_UNITS, "snake1", "conv1"),
    f"{_DAC}.DacDecoderBlock": _parts("snake1", "conv_t1", *_UNITS),
    f"{_DAC}.DacEncoder": _parts("conv1", "block", "snake1", "conv2"),
    f"{_DAC}.DacDecoder": _parts("conv1", "block", "snake1", "conv2", "tanh"),
}
