"""What makes steps fast changes no answer: the allocator, the fused optimiser."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest
import torch
from torch import nn

from eeg2speech.training import allocator
from eeg2speech.training.optimiser import adamw

FAULTS = """
import resource, sys
import torch
from eeg2speech.training.allocator import keep_freed_memory
kept = sys.argv[1] == "kept" and keep_freed_memory()
seen = []
for round in range(16):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)
    seen.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(int(kept), min(seen))
"""
"""64 MB, taken and given back again and again: page faults of the best round. The heap takes some to settle."""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator alone can be told")
def test_freed_memory_is_used_again() -> None:
    """In a process of its own: what is set holds until it ends."""
    plain, kept = (_faults(way) for way in ("plain", "kept"))
    assert (plain[0], kept[0]) == (0, 1)
    assert kept[1] < 100 < 1000 < plain[1]


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no glibc nothing is called."""
    monkeypatch.setattr(allocator.platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: pytest.fail("called"))
    assert allocator.keep_freed_memory.__wrapped__() is False


def test_the_fused_optimiser_takes_the_same_steps() -> None:
    """As torch's loop over tensors, to float32 rounding, over some steps."""
    torch.manual_seed(0)
    networks = [nn.Sequential(nn.Linear(7, 5), nn.Linear(5, 3)) for _ in range(2)]
    networks[1].load_state_dict(networks[0].state_dict())
    optimisers = adamw(networks[0].parameters(), 1e-2, 1e-2), torch.optim.AdamW(networks[1].parameters(), 1e-2)
    assert optimisers[0].param_groups[0]["fused"]
    for _ in range(20):
        x = torch.randn(4, 7)
        for network, optimiser in zip(networks, optimisers, strict=True):
            optimiser.zero_grad()
            network(x).square().mean().backward()
            optimiser.step()
    for ours, theirs in zip(*(network.parameters() for network in networks), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def _faults(way: str) -> tuple[int, int]:
    answer = subprocess.run([sys.executable, "-c", FAULTS, way], capture_output=True, text=True, check=True).stdout
    kept, faults = answer.split()
    return int(kept), int(faults)
