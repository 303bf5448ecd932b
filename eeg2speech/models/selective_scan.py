"""The selective scan of Mamba (Gu and Dao 2023, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces").

    h[t] = exp(delta[t] A) h[t-1] + delta[t] B[t] u[t]        y[t] = C[t] h[t] + D u[t]

Two backends compute it: the CUDA kernels of ``mamba_ssm`` where they are installed, and plain torch everywhere else.

The one in torch goes through time in blocks that fit in the processor's cache. It keeps only the states between two
blocks; the backward pass computes the others again. It works with time first and D last: a step is one contiguous piece
of memory, and every inner loop runs along D. It uses one thread: its thousands of small steps gain little from more,
and beside another process on the same cores several threads wait for each other at each of them (measured: 10 to 100
times slower).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from eeg2speech.errors import BadInput

BLOCK_NUMBERS = 2**18
"""States of one block, steps * B * N * D: 1 MB in float32, of which a backward pass holds three at a time."""
MIN_BLOCK_STEPS = 8
MAX_BLOCK_STEPS = 64


def selective_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None = None, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Scan a sequence, or the next chunk of one, from the ``state`` that the chunk before ended in.

    ``u`` [B, D, L], ``delta`` [B, D, L] positive (a softplus has been applied), ``A`` [D, N] negative, ``B`` and ``C``
    [B, N, L], ``D`` [D], ``state`` [B, D, N] (None: zeros), L at least 1. Returns y [B, D, L] in the dtype of ``u`` and
    the final state [B, D, N]. Unitless.

    Computed in float64 if an input is, else in float32, also inside autocast. All inputs get gradients, from y and from
    the final state; from a final state of ``mamba_ssm`` (CUDA, no ``state`` given) none flow, so it comes detached.
    Neither backend can be differentiated twice. Source: Gu and Dao 2023, algorithm 2. Raises ``BadInput`` when shapes
    do not fit.
    """
    _check(u, delta, A, B, C, D, state)
    given = [tensor for tensor in (u, delta, A, B, C, D, state) if tensor is not None]
    dtype = torch.float64 if any(tensor.dtype == torch.float64 for tensor in given) else torch.float32
    values = [tensor.to(dtype) for tensor in (u, delta, A, B, C)]
    if state is None and dtype == torch.float32 and scan_backend(u.device) == "mamba-ssm":
        y, final = _scan_by_kernel(values)
    else:
        y, final = _scan_in_torch(values, state)
    if D is not None:
        y = y + values[0] * D.to(dtype).unsqueeze(1)
    return y.to(u.dtype), final


def scan_backend(device: torch.device | str) -> str:
    """What scans a sequence in float32 on ``device``: "mamba-ssm" (CUDA, where it is installed) or "torch".

    A scan that goes on from a given state, or that has float64 among its inputs, runs in torch everywhere.
    """
    return "mamba-ssm" if torch.device(device).type == "cuda" and _has_kernel() else "torch"


def require_shape(where: str, field: str, tensor: Tensor, shape: Sequence[int], meaning: str) -> None:
    """Raise ``BadInput`` unless ``tensor`` has this ``shape``, whose axes ``meaning`` names."""
    if tuple(tensor.shape) != tuple(shape):
        raise BadInput(where, field, f"{list(shape)} ({meaning})", list(tensor.shape))


@cache
def _has_kernel() -> bool:
    # An import of mamba_ssm fails without its compiled part, and a machine without CUDA has no use for it.
    return torch.cuda.is_available() and find_spec("selective_scan_cuda") is not None


def _check(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, state: Tensor | None) -> None:
    where = "selective_scan"
    if u.dim() != 3 or u.shape[-1] < 1:
        raise BadInput(where, "u", "[B, D, L] with L at least 1", list(u.shape))
    if A.dim() != 2:
        raise BadInput(where, "A", "[D, N]", list(A.shape))
    (batch, width, length), size = u.shape, A.shape[1]
    require_shape(where, "delta", delta, (batch, width, length), "B, D, L as u")
    require_shape(where, "A", A, (width, size), "D as u, N")
    require_shape(where, "B", B, (batch, size, length), "B and L as u, N as A")
    require_shape(where, "C", C, (batch, size, length), "B and L as u, N as A")
    if D is not None:
        require_shape(where, "D", D, (width,), "D as u")
    if state is not None:
        require_shape(where, "state", state, (batch, width, size), "B and D as u, N as A")


def _scan_by_kernel(values: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """``values``: u, delta, A, B, C in float32. Returns y without D and the final state."""
    kernels = import_module("mamba_ssm.ops.selective_scan_interface")
    y, final = kernels.selective_scan_fn(*(tensor.contiguous() for tensor in values), return_last_state=True)
    # The kernel's backward pass takes no gradient of the final state: detached, that is plain to see.
    return y, final.detach()


def _scan_in_torch(values: Sequence[Tensor], state: Tensor | None) -> tuple[Tensor, Tensor]:
    """``values``: u, delta, A, B, C of one dtype. Returns y without D and the final state."""
    u, delta, A, B, C = values
    state = u.new_zeros(len(u), *A.shape) if state is None else state.to(u.dtype)
    # Time first and back; a view of something that is time first already is not copied.
    u, delta, B, C = (tensor.permute(2, 0, 1).contiguous() for tensor in (u, delta, B, C))
    y, final = _Scan.apply(delta, delta * u, A.t().contiguous(), B, C, state.transpose(1, 2))  # type: ignore[no-untyped-call]
    return y.permute(1, 2, 0), final.transpose(1, 2)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    if before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Terms(NamedTuple):
    """What the scan is made of, time first: delta and x = delta u [L, B, D], A [N, D], B and C [L, B, N]."""

    delta: Tensor
    x: Tensor
    A: Tensor
    B: Tensor
    C: Tensor

    def part(self, span: slice) -> _Terms:
        return _Terms(self.delta[span], self.x[span], self.A, self.B[span], self.C[span])

    def spans(self) -> list[slice]:
        """The blocks of steps, in the order of time."""
        length, batch, _ = self.delta.shape
        fitting = BLOCK_NUMBERS // max(1, batch * self.A.numel())
        steps = min(max(fitting, MIN_BLOCK_STEPS), MAX_BLOCK_STEPS)
        return [slice(start, min(start + steps, length)) for start in range(0, length, steps)]


class _Buffer:
    """Memory for one block [steps, B, N, D], used for every block in turn so that it stays in the cache."""

    def __init__(self, terms: _Terms, steps: int) -> None:
        self.all = terms.x.new_empty(steps, terms.x.shape[1], *terms.A.shape)
        # Cut once: an index into a tensor takes as long as the arithmetic of one step.
        self.steps = self.all.unbind(0)


class _Block:
    """Decays exp(delta A) and states of one block. ``states`` has one more step: the state before the block."""

    def __init__(self, terms: _Terms, steps: int) -> None:
        self.decays = _Buffer(terms, steps)
        self.states = _Buffer(terms, steps + 1)

    def scan(self, part: _Terms) -> Tensor:
        """All states of a block from ``states.steps[0]``, the state before it: [steps, B, N, D]."""
        count = len(part.delta)
        states = self.states.all[1 : count + 1]
        torch.mul(part.delta.unsqueeze(2), part.A, out=self.decays.all[:count]).exp_()
        torch.mul(part.B.unsqueeze(3), part.x.unsqueeze(2), out=states)
        for step in range(count):
            self.states.steps[step + 1].addcmul_(self.decays.steps[step], self.states.steps[step])
        return states


class _Adjoint:
    """The block of the backward pass: derivatives of the loss by every state, and by what the states are made of."""

    def __init__(self, terms: _Terms, steps: int, final: Tensor) -> None:
        self.block = _Block(terms, steps)
        self.adjoints = _Buffer(terms, steps)
        self.carried = final
        """Derivative [B, N, D] by the state before the block that was done last."""

    def differentiate(self, part: _Terms, start: Tensor, grad_y: Tensor, grads: _Terms) -> None:
        """Write the derivatives by the terms of one ``part`` into ``grads``, and add that by A."""
        self.block.states.steps[0].copy_(start)
        states = self.block.scan(part)
        adjoints = self._scan_back(part, grad_y)
        _multiply(states, grad_y.unsqueeze(3), out=grads.C.unsqueeze(3))
        _multiply(adjoints, part.x.unsqueeze(3), out=grads.B.unsqueeze(3))
        _multiply(part.B.unsqueeze(2), adjoints, out=grads.x.unsqueeze(2))
        self._differentiate_decays(part, adjoints, grads)

    def _scan_back(self, part: _Terms, grad_y: Tensor) -> Tensor:
        """Derivatives by the states, last step first: [steps, B, N, D]."""
        count, steps, decays = len(part.delta), self.adjoints.steps, self.block.decays.steps
        adjoints = self.adjoints.all[:count]
        torch.mul(part.C.unsqueeze(3), grad_y.unsqueeze(2), out=adjoints)
        steps[count - 1].add_(self.carried)
        for step in range(count - 2, -1, -1):
            steps[step].addcmul_(decays[step + 1], steps[step + 1])
        torch.mul(decays[0], steps[0], out=self.carried)
        return adjoints

    def _differentiate_decays(self, part: _Terms, adjoints: Tensor, grads: _Terms) -> None:
        """By delta and A, through the exponent delta A. Overwrites decays and adjoints, which nothing reads after."""
        count = len(part.delta)
        exponents = self.block.decays.all[:count].mul_(self.block.states.all[:count]).mul_(adjoints)
        grads.A.add_(torch.mul(exponents, part.delta.unsqueeze(2), out=adjoints).sum((0, 1)))
        torch.sum(exponents.mul_(part.A), 2, out=grads.delta)


def _multiply(left: Tensor, right: Tensor, out: Tensor) -> None:
    """Matrix products [steps, B, i, j] x [steps, B, j, k] -> ``out`` [steps, B, i, k]."""
    # Autocast, inside which a backward pass may run too, leaves the forms with ``out`` alone: this stays in float32.
    torch.bmm(left.flatten(0, 1), right.flatten(0, 1), out=out.flatten(0, 1))


class _Scan(torch.autograd.Function):
    """``_Terms`` and the state before [B, N, D] -> y without D [L, B, D] and the state after [B, N, D]."""

    @staticmethod
    @_one_thread()
    def forward(ctx: Any, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        terms, state = _Terms(*inputs[:-1]), inputs[-1]
        spans = terms.spans()
        block, y = _Block(terms, spans[0].stop), torch.empty_like(terms.x)
        carried = block.states.steps[0].copy_(state)
        starts = []
        for span in spans:
            starts += [carried.clone()] if any(ctx.needs_input_grad) else []
            part = terms.part(span)
            states = block.scan(part)
            _multiply(part.C.unsqueeze(2), states, out=y[span].unsqueeze(2))
            carried.copy_(states[-1])
        ctx.save_for_backward(*terms, *starts)
        ctx.set_materialize_grads(False)
        return y, carried.clone()

    @staticmethod
    @once_differentiable
    @_one_thread()
    def backward(ctx: Any, grad_y: Tensor | None, grad_final: Tensor | None) -> tuple[Tensor, ...]:
        terms, starts = _Terms(*ctx.saved_tensors[:5]), ctx.saved_tensors[5:]
        grad_y = torch.zeros_like(terms.x) if grad_y is None else grad_y.contiguous()
        final = torch.zeros_like(starts[0])
        if grad_final is not None:
            final.copy_(grad_final)
        grads = _Terms(*(torch.empty_like(term) for term in terms))
        grads.A.zero_()
        spans = terms.spans()
        adjoint = _Adjoint(terms, spans[0].stop, final)
        for span, start in zip(reversed(spans), reversed(starts), strict=True):
            adjoint.differentiate(terms.part(span), start, grad_y[span], grads.part(span))
        return *grads, adjoint.carried
