"""The name of a network's weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from torch import Tensor


def state_hash(state: Mapping[str, Tensor]) -> str:
    """First 16 hex digits of SHA-256 over the tensors alone: the same weights have one hash, whenever made."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name}{tensor.dtype}{list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
