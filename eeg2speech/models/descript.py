"""The Descript Audio Codec as its authors compute it, and their weights under the names that transformers gives them.

Kumar et al. 2023, "High-fidelity audio compression with improved RVQGAN", arXiv 2306.06546; package
``descript-audio-codec`` 1.0.0 (MIT). It is imported here alone, and only when its own network is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from eeg2speech.errors import BadInput
from eeg2speech.models.codec import Codec

ARGUMENTS = {
    "encoder_dim": "encoder_hidden_size",
    "encoder_rates": "downsampling_ratios",
    "decoder_dim": "decoder_hidden_size",
    "n_codebooks": "n_codebooks",
    "codebook_size": "codebook_size",
    "codebook_dim": "codebook_dim",
    "sample_rate": "sampling_rate",
}
"""Arguments of ``dac.DAC`` that fix the network, and what ``DacConfig`` calls them."""

_UNIT = {"0": "snake1", "1": "conv1", "2": "snake2", "3": "conv2"}
_ENCODER_BLOCK = {"0": "res_unit1", "1": "res_unit2", "2": "res_unit3", "3": "snake1", "4": "conv1"}
_DECODER_BLOCK = {"0": "snake1", "1": "conv_t1", "2": "res_unit1", "3": "res_unit2", "4": "res_unit3"}


class DescriptCodec(Codec):
    """The Descript Audio Codec as its authors' package computes it, around a ``dac.DAC``."""

    model: Any

    def __init__(self, model: Any) -> None:
        super().__init__(
            model,
            rate=model.sample_rate,
            hop=int(model.hop_length),
            width=model.latent_dim,
            books=model.n_codebooks,
            book_size=model.codebook_size,
        )

    def weights(self) -> dict[str, Tensor]:
        """The tensors as ``DacModel`` would hold them, so that both implementations have one fingerprint."""
        return to_transformers(self.model.state_dict(), len(self.model.encoder_rates))


def descript_model(arguments: Mapping[str, Any], where: object) -> nn.Module:
    """An empty ``dac.DAC`` on the CPU, whose weights are still to be loaded. It draws no random number.

    Args:
        arguments: of ``dac.DAC``, as its published files hold them. where: the file, for refusals.

    Raises:
        BadInput: an argument that fixes the network is missing, or the package is not installed.
    """
    _require_arguments(arguments, where)
    try:
        from dac import DAC
    except ImportError as error:
        found = f"none that can be imported ({error}); pip install 'eeg2speech[dac]'"
        raise BadInput("implementation", "descript", "the package descript-audio-codec", found) from error
    known = [*ARGUMENTS, "decoder_rates", "latent_dim"]
    # Without gradients the network can be copied before its first use: its normed weights are then plain tensors.
    with torch.device("meta"), torch.no_grad():
        model: nn.Module = DAC(**{name: arguments[name] for name in known if name in arguments})
    return model.to_empty(device="cpu")


def transformers_arguments(arguments: Mapping[str, Any], where: object) -> dict[str, Any]:
    """Arguments of ``dac.DAC`` -> those of ``transformers.DacConfig``.

    Raises:
        BadInput: one that fixes the network is missing, or transformers has no such network: its decoder mirrors the
            encoder, its latent is as wide as the encoder's last layer, and all its codebooks are equally wide.
    """
    _require_arguments(arguments, where)
    rates, width = list(arguments["encoder_rates"]), arguments["codebook_dim"]
    if list(arguments["decoder_rates"]) != rates[::-1]:
        _refuse_shape(where, "decoder_rates", rates[::-1], arguments["decoder_rates"])
    latent = arguments["encoder_dim"] * 2 ** len(rates)
    if arguments.get("latent_dim") not in (None, latent):
        _refuse_shape(where, "latent_dim", latent, arguments["latent_dim"])
    if not isinstance(width, int):
        if len(set(width)) != 1:
            _refuse_shape(where, "codebook_dim", "one width for all", width)
        width = width[0]
    named = {theirs: arguments[ours] for ours, theirs in ARGUMENTS.items()}
    return named | {"downsampling_ratios": rates, "codebook_dim": width}


def to_transformers(state: Mapping[str, Tensor], blocks: int) -> dict[str, Tensor]:
    """State of ``dac.DAC`` -> state of ``transformers.DacModel``: names changed, weight norm folded, bit for bit.

    A name that is not of a ``dac.DAC`` stays as it is, for ``load_state_dict`` to refuse.

    Args:
        state: tensors by name. blocks: how many the encoder has, and the decoder: the number of its strides.
    """
    renamed = {}
    for name, tensor in state.items():
        module, _, leaf = name.rpartition(".")
        length = state.get(f"{module}.weight_g")
        if leaf == "weight_v" and length is not None and _lengths(length, tensor):
            renamed[f"{_renamed(module, blocks)}.weight"] = torch._weight_norm(tensor, length, 0)
        elif leaf != "weight_g":
            renamed[f"{_renamed(module, blocks)}.{leaf}"] = tensor
    return renamed


def _lengths(length: Tensor, direction: Tensor) -> bool:
    """Whether weight norm along the first axis fits: one length for each slice of ``direction``."""
    return direction.ndim > 1 and length.shape == (len(direction), *[1] * (direction.ndim - 1))


def _renamed(module: str, blocks: int) -> str:
    """``encoder.block.1.block.0.block.3`` -> ``encoder.block.0.res_unit1.conv2``, and so on."""
    part, *path = module.split(".")
    ends = {"0": "conv1", str(blocks + 1): "snake1", str(blocks + 2): "conv2"}
    inner = {"encoder": _ENCODER_BLOCK, "decoder": _DECODER_BLOCK}.get(part)
    match path:
        case [_, index] if inner and index in ends:
            return f"{part}.{ends[index]}"
        case [_, index, "block", layer, *rest] if inner and index.isdecimal() and layer in inner:
            unit = [_UNIT.get(position, position) for position in rest if position != "block"]
            return ".".join([part, "block", str(int(index) - 1), inner[layer], *unit])
    return module


def _require_arguments(arguments: Mapping[str, Any], where: object) -> None:
    for name in (*ARGUMENTS, "decoder_rates"):
        if name not in arguments:
            raise BadInput(where, f"metadata.kwargs.{name}", "an argument of dac.DAC", "nothing")
        value = arguments[name]
        several = name.endswith("_rates") or (name == "codebook_dim" and not isinstance(value, int))
        numbers = value if several and isinstance(value, list | tuple) else [None if several else value]
        if not numbers or not all(isinstance(number, int) and number > 0 for number in numbers):
            expected = f"{'whole numbers' if several else 'a whole number'} above 0"
            raise BadInput(where, f"metadata.kwargs.{name}", expected, value)


def _refuse_shape(where: object, name: str, expected: object, found: object) -> NoReturn:
    field, hint = f"metadata.kwargs.{name}", "(transformers has no other; try implementation='descript')"
    raise BadInput(where, field, f"{expected} {hint}", found)
