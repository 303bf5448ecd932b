"""Snake in the memory of its answer and wide dilated convolutions with channels last answer as the formulas do."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from transformers import DacModel

from eeg2speech.models import quick
from eeg2speech.models.activations import Snake, snake
from eeg2speech.models.quick import DilatedConv1d, quickened
from eeg2speech.models.streaming import stream_of
from eeg2speech.training.codec import CodecSettings


def test_snake_is_its_formula() -> None:
    """Values and both gradients, against autograd through the formula, in double precision and by differences."""
    torch.manual_seed(0)
    layer = Snake(3).double()
    layer.alpha.data.uniform_(0.2, 3.0)
    x = torch.randn(2, 3, 11, dtype=torch.double, requires_grad=True)
    found, expected = (answer_and_gradients(y, x, layer) for y in (layer(x), snake(x, layer.alpha)))
    torch.testing.assert_close(found, expected)
    assert torch.autograd.gradcheck(lambda x, a: functional_call(layer, {"alpha": a}, (x,)), (x, layer.alpha))


def test_snake_answers_to_the_bit() -> None:
    """Scores of trained networks are what they were."""
    torch.manual_seed(0)
    layer = Snake(16)
    layer.alpha.data.uniform_(0.1, 3.0)
    x = torch.randn(2, 16, 1001)
    assert torch.equal(layer(x), snake(x, layer.alpha))


def test_snake_leaves_its_input_alone() -> None:
    """It works in the memory of its answer, not of what it is given; also where nothing is learned."""
    x = torch.randn(1, 4, 5)
    before = x.clone()
    with torch.inference_mode():
        Snake(4)(x)
    assert torch.equal(x, before)


def test_snake_keeps_the_precision_of_gradients() -> None:
    """Under autocast inputs are bfloat16 and alpha is float32: each gradient has the precision of what it is of."""
    layer, x = Snake(4), torch.randn(1, 4, 5, dtype=torch.bfloat16, requires_grad=True)
    by_x, by_alpha = torch.autograd.grad(layer(x).sum(), [x, layer.alpha])
    assert (by_x.dtype, by_alpha.dtype) == (torch.bfloat16, torch.float32)


@pytest.mark.parametrize("padding", [0, 9, "same"])
@pytest.mark.parametrize("dilation", [1, 3])
def test_dilated_convolutions_answer_as_others_do(padding: int | str, dilation: int) -> None:
    """The same weights give the same answer and gradients, to float32 rounding, and stream in chunks."""
    torch.manual_seed(0)
    ours = DilatedConv1d(4, 6, 7, padding=padding, dilation=dilation)
    theirs = nn.Conv1d(4, 6, 7, padding=padding, dilation=dilation)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 4, 50, requires_grad=True)
    found, expected = answer_and_gradients(ours(x), x, ours), answer_and_gradients(theirs(x), x, theirs)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    stream = stream_of(ours)
    chunks = [stream.push(chunk, last=k == 2) for k, chunk in enumerate(x.detach().split([13, 20, 17], -1))]
    torch.testing.assert_close(torch.cat(chunks, -1), theirs(x).detach(), rtol=1e-4, atol=1e-5)


def test_a_quickened_codec_is_the_same_network() -> None:
    """Names, tensors and answers of transformers' network; what was replaced is what gains."""
    torch.manual_seed(0)
    plain = DacModel(CodecSettings(encoder_hidden_size=4, decoder_hidden_size=64, n_codebooks=2).config()).eval()
    quick = quickened(copy.deepcopy(plain))
    assert plain.state_dict().keys() == quick.state_dict().keys()
    kinds = [type(layer) for layer in quick.modules()]
    assert kinds.count(DilatedConv1d) == 2 * 2 * 4 and Snake in kinds
    assert not any(layer.training for layer in quick.modules())
    wave, latents = torch.randn(1, 1, 3200), torch.randn(1, 64, 10)
    with torch.inference_mode():
        torch.testing.assert_close(quick.encoder(wave), plain.encoder(wave), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(quick.decoder(latents), plain.decoder(latents), rtol=1e-4, atol=1e-5)


def test_few_taps_and_groups_stay_as_they_are() -> None:
    """Measured to be slower with channels last."""
    fit: dict[str, Any] = {"kernel_size": 7, "dilation": 2}
    assert quick.suits(nn.Conv1d(4, 4, **fit))
    for other in ({"kernel_size": 3}, {"dilation": 1}, {"groups": 4}):
        assert not quick.suits(nn.Conv1d(4, 4, **(fit | other)))


def answer_and_gradients(y: Tensor, x: Tensor, layer: nn.Module) -> list[Tensor]:
    """The answer, and what a fixed gradient of it becomes."""
    torch.manual_seed(1)
    return [y, *torch.autograd.grad(y, [x, *layer.parameters()], torch.randn_like(y))]
