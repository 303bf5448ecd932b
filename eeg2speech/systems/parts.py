"""Autoencoders and vocoders by name or path: the embedded ones, and those published with AudioLDM.

``demo`` is embedded in the package. A folder is one that diffusers or transformers wrote: that of the part itself, or
of a whole AudioLDM pipeline (``vae``, ``vocoder``, ``unet`` within it). Anything else is taken for a name on the model
hub, such as ``cvssp/audioldm-s-full-v2`` (weights CC-BY-NC-SA-4.0), which are not shipped. Tensors alone are read.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from eeg2speech.assets.pretraining import heard
from eeg2speech.data.studies.simulated import corpus_range, is_simulated
from eeg2speech.data.types import Stimulus, StudyFacts
from eeg2speech.errors import BadInput
from eeg2speech.models.mel import BANDS, HOP, RATE
from eeg2speech.models.speech_parts import MelAutoencoder, Vocoder
from eeg2speech.training.checkpoint import load_into, load_weights

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

FOLDER = Path(__file__).parent.parent / "assets" / "parts"
DEMO = "demo"


@cache
def load_autoencoder(name: str = DEMO) -> MelAutoencoder:
    """An autoencoder of mel spectrograms, in eval mode, loaded once a process: the same object for all who ask.

    Raises:
        BadInput: no such file, folder or name; files that are damaged, of another network or without some of its
            weights; a network on more than one channel.
    """
    own = _own_file(name, "autoencoder")
    part: Any = _own(own, "autoencoder", _empty_autoencoder) if own else MelAutoencoder(_pretrained(name, "vae"))
    _require(name, "channels of the mel", 1, int(part.model.config.in_channels))
    found: MelAutoencoder = part.eval().requires_grad_(False)
    return found


@cache
def load_vocoder(name: str = DEMO) -> Vocoder:
    """A vocoder, in eval mode, loaded once a process: the same object for all who ask.

    Raises:
        BadInput: as ``load_autoencoder``; or other than 64 bands, 16 kHz and a hop of 160 samples.
    """
    own = _own_file(name, "vocoder")
    part: Any = _own(own, "vocoder", _empty_vocoder) if own else Vocoder(_pretrained(name, "vocoder"))
    _require(name, "bands", BANDS, int(part.model.config.model_in_dim))
    _require(name, "rate", RATE, part.rate)
    _require(name, "hop", HOP, prod(part.model.config.upsample_rates))
    found: Vocoder = part.eval().requires_grad_(False)
    return found


def load_unet(name: str) -> UNet2DConditionModel:
    """The U-Net of a published latent diffusion model, new for each who asks; refusals as of ``load_autoencoder``."""
    unet: UNet2DConditionModel = _pretrained(name, "unet")
    return unet


def part_heard(name: str, stimulus: Stimulus, study: StudyFacts) -> bool:
    """Whether a part of that name or path may have heard a stimulus in its own training.

    Only the embedded ones, and those of ``eeg2speech train``, have learned from a study's audio: the simulated one's.
    """
    own = _own_file(name, "autoencoder") or _own_file(name, "vocoder")
    return own is not None and is_simulated(study) and heard(*corpus_range(stimulus))


def _own_file(name: str, part: str) -> Path | None:
    """The file of this package that is meant, if it is one."""
    if name == DEMO:
        return FOLDER / f"{part}.safetensors"
    return Path(name) if name.endswith(".safetensors") else None


def _own(path: Path, part: str, empty: Callable[[dict[str, Any]], nn.Module]) -> Any:
    state, about = load_weights(path)
    if not isinstance(about.get(part), dict):
        raise BadInput(path, f"about.{part}", "the arguments of its network", about.get(part, "nothing"))
    try:
        model = empty(about[part])
    except Exception as error:  # as in _pretrained
        reason = str(error).partition("\n")[0]
        raise BadInput(path, f"about.{part}", "arguments that build its network", reason) from error
    load_into(model, state, path)
    return model


def _empty_autoencoder(arguments: dict[str, Any]) -> nn.Module:
    from diffusers import AutoencoderKL

    with torch.random.fork_rng():
        return MelAutoencoder(AutoencoderKL(**arguments))


def _empty_vocoder(arguments: dict[str, Any]) -> nn.Module:
    from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

    with torch.random.fork_rng():
        return Vocoder(SpeechT5HifiGan(SpeechT5HifiGanConfig(**arguments)))


def _pretrained(name: str, part: str) -> Any:
    """A part of a pipeline, or by itself, from a folder or the hub; from safetensors where there are, never a pickle
    that holds more than tensors."""
    folder = Path(name)
    local = folder.is_dir()
    if not local and (name.startswith((".", "/", "~")) or name.count("/") != 1):
        raise BadInput(name, part, "demo, a .safetensors file, a folder, or a name on the model hub", "none of them")
    inner = part if not local or (folder / part).is_dir() else None
    where = {"subfolder": inner} if inner else {}
    try:
        model, report = _class(part).from_pretrained(name, **where, local_files_only=local, output_loading_info=True)
    except Exception as error:  # a damaged configuration can end in any of them
        reason = str(error).partition("\n")[0]
        expected = "a folder that save_pretrained wrote" if local else "a folder, or a connection to the model hub"
        raise BadInput(name, part, expected, f"{type(error).__name__}: {reason}") from error
    # Either package draws at random what a file lacks, with no more than a warning.
    missing = sorted({*report["missing_keys"]} & {weight for weight, _ in model.named_parameters()})
    if missing:
        raise BadInput(name, f"{part} weights", "all those of the network", f"none for {missing[:3]}")
    # Whatever they were kept in: transformers takes up half precision as it is.
    return model.float()


def _class(part: str) -> Any:
    import diffusers
    import transformers

    classes = {
        "vae": diffusers.AutoencoderKL,
        "unet": diffusers.UNet2DConditionModel,
        "vocoder": transformers.SpeechT5HifiGan,
    }
    return classes[part]


def _require(name: str, field: str, expected: int, found: int) -> None:
    if expected != found:
        raise BadInput(name, field, expected, found)
