"""Mamba: the scan equals its definition, chunks equal the whole, weights fit other implementations."""

from importlib.util import find_spec

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import MambaConfig
from transformers.models.mamba.modeling_mamba import MambaMixer

from eeg2speech.errors import BadInput
from eeg2speech.models import selective_scan as scan_module
from eeg2speech.models.mamba import Mamba, MambaState
from eeg2speech.models.selective_scan import scan_backend, selective_scan

NAMES = ("u", "delta", "A", "B", "C", "D", "state")
Values = dict[str, Tensor]


def make(batch: int, width: int, size: int, length: int, largest: float = 2.0, **kind: torch.dtype) -> Values:
    """Inputs of a scan that ask for gradients; steps log-uniform up to ``largest``."""
    torch.manual_seed(length)
    values = {
        "u": torch.randn(batch, width, length),
        "delta": largest * 10 ** (-4 * torch.rand(batch, width, length)),
        "A": -torch.arange(1.0, size + 1).repeat(width, 1) * (0.5 + torch.rand(width, size)),
        "B": torch.randn(batch, size, length),
        "C": torch.randn(batch, size, length),
        "D": torch.randn(width),
        "state": torch.randn(batch, width, size),
    }
    return {name: value.to(**kind).requires_grad_() for name, value in values.items()}


def reference(values: Values) -> tuple[Tensor, Tensor]:
    """The definition, step by step."""
    u, delta, A, B, C, D, state = (values[name] for name in NAMES)
    outputs = []
    for step, x, b, c in zip(*(value.unbind(-1) for value in (delta, u, B, C)), strict=True):
        state = (step.unsqueeze(2) * A).exp() * state + (step * x).unsqueeze(2) * b.unsqueeze(1)
        outputs.append((state * c.unsqueeze(1)).sum(2) + D * x)
    return torch.stack(outputs, -1), state


def gradients(outputs: tuple[Tensor, Tensor], values: Values) -> tuple[Tensor, ...]:
    """Of a loss that looks at all outputs and at the final state."""
    torch.manual_seed(1)
    loss = sum((output * torch.randn(output.shape).to(output)).sum() for output in outputs)
    return torch.autograd.grad(loss, tuple(values.values()))


def assert_near(found: Tensor, expected: Tensor, tolerance: float) -> None:
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= tolerance * expected.abs().max()


def mixer(width: int = 24, **sizes: int) -> Mamba:
    torch.manual_seed(0)
    return Mamba(width, **sizes)


# The scan


@pytest.mark.parametrize("largest", [0.1, 20.0])
@pytest.mark.parametrize(("batch", "width", "size", "length"), [(1, 1, 1, 1), (3, 5, 4, 67), (2, 24, 16, 131)])
def test_scan_and_gradients_equal_the_definition(
    batch: int, width: int, size: int, length: int, largest: float
) -> None:
    values = make(batch, width, size, length, largest)
    exact = {name: value.detach().double().requires_grad_() for name, value in values.items()}
    found, expected = selective_scan(**values), reference(exact)
    for output, wanted in zip(found, expected, strict=True):
        assert_near(output, wanted, 1e-5)
    for output, wanted in zip(gradients(found, values), gradients(expected, exact), strict=True):
        assert_near(output, wanted, 1e-4)


def test_blocks_of_any_size_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    values = make(2, 6, 4, 50, dtype=torch.float64)
    whole = selective_scan(**values)
    expected = (*whole, *gradients(whole, values))
    monkeypatch.setattr(scan_module, "BLOCK_NUMBERS", 0)
    blocks = selective_scan(**values)
    for output, wanted in zip((*blocks, *gradients(blocks, values)), expected, strict=True):
        assert_near(output, wanted, 1e-12)


@pytest.mark.parametrize("length", [1, 9])
def test_gradients_pass_gradcheck(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_module, "BLOCK_NUMBERS", 0)  # a block of 8 and one of 1
    values = make(2, 2, 3, length, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda *args: selective_scan(*args), tuple(values.values()))


@pytest.mark.parametrize("output", [0, 1], ids=["y", "final state"])
def test_either_output_alone_has_gradients(output: int) -> None:
    values = {**make(2, 3, 4, 20, dtype=torch.float64)}
    found, expected = selective_scan(**values)[output], reference(values)[output]
    inputs = [values[name] for name in NAMES if output == 0 or name not in ("C", "D")]
    for ours, wanted in zip(*(torch.autograd.grad(y.square().sum(), inputs) for y in (found, expected)), strict=True):
        assert_near(ours, wanted, 1e-10)


def test_without_state_and_skip_both_are_zero() -> None:
    values = make(2, 5, 4, 30)
    zeros = {**values, "D": torch.zeros(5), "state": torch.zeros(2, 5, 4)}
    short = selective_scan(**{name: values[name] for name in NAMES[:5]})
    for output, wanted in zip(short, selective_scan(**zeros), strict=True):
        assert torch.equal(output, wanted)


def test_half_precision_and_autocast_compute_in_float32() -> None:
    half = {name: value.detach().bfloat16().requires_grad_() for name, value in make(2, 5, 4, 30).items()}
    full = {name: value.detach().float().requires_grad_() for name, value in half.items()}
    y, state = selective_scan(**half)
    assert (y.dtype, state.dtype) == (torch.bfloat16, torch.float32)
    expected = selective_scan(**full)
    assert torch.equal(y, expected[0].bfloat16()) and torch.equal(state, expected[1])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = selective_scan(**full)
        found = gradients(inside, full)
    for output, wanted in zip((*inside, *found), (*expected, *gradients(expected, full)), strict=True):
        assert torch.equal(output, wanted)


@pytest.mark.parametrize(
    ("field", "shape"),
    [
        ("u", (2, 5)),
        ("u", (2, 5, 0)),
        ("delta", (2, 5, 6)),
        ("A", (5,)),
        ("A", (4, 4)),
        ("B", (2, 5, 7)),
        ("C", (1, 4, 7)),
        ("D", (4,)),
        ("state", (2, 4, 5)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(field: str, shape: tuple[int, ...]) -> None:
    values = {**make(2, 5, 4, 7), field: torch.zeros(shape)}
    with pytest.raises(BadInput, match=rf"selective_scan: {field}: expected \[.*found \[") as refusal:
        selective_scan(**values)
    assert refusal.value.found == str(list(shape))


def test_backend_on_a_processor_is_torch() -> None:
    assert scan_backend("cpu") == scan_backend(torch.device("cpu")) == "torch"
    assert scan_backend("cuda") in ("torch", "mamba-ssm")
    assert torch.cuda.is_available() or scan_backend("cuda") == "torch"


@pytest.mark.skipif(scan_backend("cuda") == "torch", reason="needs a GPU and mamba-ssm")
def test_kernel_equals_torch_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {name: value.detach().cuda().requires_grad_() for name, value in make(2, 24, 16, 131).items()}
    del values["state"]
    outputs = []
    for kernel in (True, False):
        monkeypatch.setattr(scan_module, "_has_kernel", lambda kernel=kernel: kernel)
        y, final = selective_scan(**values)
        outputs.append((y, final, *torch.autograd.grad(y.square().sum(), tuple(values.values()))))
    for found, wanted in zip(*outputs, strict=True):
        assert_near(found, wanted, 1e-4)


def test_number_of_threads_is_left_as_it_was() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        values = make(1, 2, 3, 4)
        gradients(selective_scan(**values), values)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


# The mixer


@pytest.mark.skipif(
    find_spec("mamba_ssm") is not None, reason="transformers would use mamba-ssm's kernels, on a CPU too"
)
@pytest.mark.parametrize(("state", "conv", "expand", "rank"), [(16, 4, 2, None), (4, 3, 1, 5)])
def test_weights_and_outputs_are_those_of_transformers(state: int, conv: int, expand: int, rank: int | None) -> None:
    ours = mixer(24, state=state, conv=conv, expand=expand, rank=rank)  # type: ignore[arg-type]
    config = MambaConfig(
        hidden_size=24,
        state_size=state,
        conv_kernel=conv,
        expand=expand,
        time_step_rank=rank or "auto",
        num_hidden_layers=1,
        use_mambapy=False,
    )
    theirs = MambaMixer(config, layer_idx=0).eval()
    x = torch.randn(3, 19, 24)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    assert_near(ours(x)[0], theirs(x), 1e-5)
    torch.manual_seed(5)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    assert_near(ours(x)[0], theirs(x), 1e-5)


def test_weights_start_as_published() -> None:
    block = mixer(64)
    steps = F.softplus(block.dt_proj.bias.detach())
    assert torch.equal(block.A_log.exp().round(), torch.arange(1.0, 17).expand(128, 16))
    assert torch.equal(block.D, torch.ones(128))
    assert block.dt_proj.weight.abs().max() <= block.rank**-0.5
    assert 0.9e-3 < steps.min() < 3e-3 and 0.05 < steps.max() < 0.101
    assert steps.log().median().item() == pytest.approx(-4.6, abs=0.5)


@pytest.mark.parametrize("sizes", [(1,) * 23, (7, 2, 1, 13), (22, 1)], ids=["ones", "mixed", "two"])
@pytest.mark.parametrize("conv", [1, 4])
def test_chunks_equal_the_whole(sizes: tuple[int, ...], conv: int) -> None:
    block, x = mixer(conv=conv), torch.randn(3, 23, 24, requires_grad=True)
    whole, left = block(x)
    carried, parts = None, []
    for chunk in x.split(sizes, dim=1):
        part, carried = block(chunk, carried)
        parts.append(part)
    assert_near(torch.cat(parts, dim=1), whole, 1e-5)
    assert carried is not None
    assert_near(carried.ssm, left.ssm, 1e-5)
    assert torch.allclose(carried.conv, left.conv, atol=1e-6)
    for output, wanted in zip(*(_all_gradients(y, block, x) for y in (torch.cat(parts, 1), whole)), strict=True):
        assert_near(output, wanted, 1e-4)


def _all_gradients(y: Tensor, block: Mamba, x: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(y.square().sum(), (x, *block.parameters()))


def test_no_state_is_a_state_of_zeros() -> None:
    block, x = mixer(), torch.randn(2, 9, 24)
    zeros = MambaState(torch.zeros(2, 48, 3), torch.zeros(2, 48, 16))
    assert torch.equal(block(x)[0], block(x, zeros)[0])


def test_detached_state_stops_gradients() -> None:
    block, first = mixer(), torch.randn(2, 5, 24, requires_grad=True)
    second = torch.randn(2, 5, 24, requires_grad=True)
    y, _ = block(second, block(first)[1].detach())
    y.sum().backward()
    assert first.grad is None and second.grad is not None


def test_future_changes_nothing_before() -> None:
    block, x = mixer(), torch.randn(2, 40, 24)
    changed = torch.cat([x[:, :17], torch.randn(2, 23, 24)], dim=1)
    assert_near(block(changed)[0][:, :17], block(x)[0][:, :17], 1e-6)
    assert not torch.allclose(block(changed)[0][:, 17:], block(x)[0][:, 17:])


def test_rows_of_a_batch_are_independent() -> None:
    block, x = mixer(), torch.randn(3, 12, 24)
    assert_near(torch.cat([block(row[None])[0] for row in x]), block(x)[0], 1e-5)


def test_mixer_runs_under_autocast() -> None:
    block, x = mixer(), torch.randn(2, 30, 24)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        first, carried = block(x[:, :11])
        second, carried = block(x[:, 11:], carried)
        first.sum().backward()
    assert carried.ssm.dtype == torch.float32
    assert_near(torch.cat([first, second], dim=1).float(), block(x)[0], 0.03)


def test_mixer_refuses_what_does_not_fit() -> None:
    block, x = mixer(), torch.randn(2, 5, 24)
    carried = block(x)[1]
    for bad in (x[0], x[:, :0], x[..., :23]):
        with pytest.raises(BadInput, match=r"Mamba: x: expected \[B, L, 24\]"):
            block(bad)
    for field in ("conv", "ssm"):
        with pytest.raises(BadInput, match=f"Mamba: carried.{field}"):
            block(x, carried._replace(**{field: torch.zeros(1, 48, 5)}))
    with pytest.raises(BadInput, match="Mamba: state: expected at least 1, found 0"):
        Mamba(24, state=0)
