"""Weights on disk: safetensors only, so that a checkpoint from a stranger can hold tensors and nothing else."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from eeg2speech.errors import BadInput
from eeg2speech.models.fingerprint import state_hash as state_hash


def save_weights(path: Path, state: dict[str, Tensor], about: dict[str, Any], half: bool = False) -> None:
    """Write tensors and what they belong to, by rename.

    ``half`` stores float32 in float16 and float64 in float32: half the size, and what is read back is float32.
    """
    tensors = {name: _stored(tensor, half) for name, tensor in state.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.tmp")
    save_file(tensors, partial, metadata={"about": json.dumps(about, sort_keys=True)})
    partial.replace(path)


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors (float16 comes back as float32) and what they belong to.

    Raises:
        BadInput: no such file, not safetensors, or one that this package did not write.
    """
    if not path.is_file():
        raise BadInput(path, "checkpoint", "a safetensors file", "no such file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise BadInput(
            path, "checkpoint", "a safetensors file", f"a file that is damaged or not one ({error})"
        ) from error
    return {n: t.float() if t.dtype == torch.float16 else t for n, t in state.items()}, _about(path, metadata)


def _about(path: Path, metadata: dict[str, str]) -> dict[str, Any]:
    expected = "what the weights belong to, as a JSON object"
    if "about" not in metadata:
        raise BadInput(path, "metadata.about", expected, "nothing")
    try:
        about = json.loads(metadata["about"])
    except json.JSONDecodeError as error:
        raise BadInput(path, "metadata.about", expected, f"no JSON ({error})") from error
    if not isinstance(about, dict):
        raise BadInput(path, "metadata.about", expected, type(about).__name__)
    return about


def require_match(path: Path, about: dict[str, Any], expected: dict[str, Any]) -> None:
    """Refuse weights of another system, other settings or another context, naming the first field that differs."""
    for field, value in expected.items():
        if about.get(field) != value:
            raise BadInput(path, field, json.dumps(value), json.dumps(about.get(field)))


def load_into(module: torch.nn.Module, state: dict[str, Tensor], where: object) -> None:
    """Strict ``load_state_dict`` with a plain refusal: names that are missing or too many, shapes that differ."""
    own = module.state_dict()
    missing, extra = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    if missing or extra:
        raise BadInput(where, "tensors", "those of this system", f"missing {missing[:3]}, unknown {extra[:3]}")
    for name, tensor in own.items():
        if tensor.shape != state[name].shape:
            raise BadInput(where, name, list(tensor.shape), list(state[name].shape))
    module.load_state_dict(state)


def _stored(tensor: Tensor, half: bool) -> Tensor:
    tensor = tensor.detach().cpu().contiguous()
    smaller = {torch.float32: torch.float16, torch.float64: torch.float32}
    return tensor.to(smaller.get(tensor.dtype, tensor.dtype)) if half else tensor
