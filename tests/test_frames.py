"""A layer of single frames is a convolution, however it is computed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from eeg2speech.models.frames import FEW, FrameConv


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("frames", [1, 4, FEW, FEW + 1])
def test_few_frames_and_many_are_the_convolution(frames: int, bias: bool) -> None:
    torch.manual_seed(0)
    ours = FrameConv(6, 9, bias=bias)
    torch.manual_seed(0)
    theirs = nn.Conv1d(6, 9, 1, bias=bias)
    x = torch.randn(2, 6, frames, requires_grad=True)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    torch.testing.assert_close(ours(x), theirs(x))
    slopes = [torch.autograd.grad(layer(x).square().sum(), (x, layer.weight)) for layer in (ours, theirs)]
    for one, other in zip(*slopes, strict=True):
        torch.testing.assert_close(one, other)
    # What was drawn is the same, so that a network of these learns as one of those.
    assert torch.equal(ours.weight, theirs.weight)
