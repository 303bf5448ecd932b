"""Codecs by name or path. Every weight comes from a file that can hold tensors and nothing else.

``demo`` is embedded in the package; ``dac-16khz``, ``dac-24khz`` and ``dac-44khz`` are the weights published with Kumar
et al. 2023 (arXiv 2306.06546; MIT), which are not shipped.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from eeg2speech.assets.pretraining import heard
from eeg2speech.data.studies.registry import cache_folder
from eeg2speech.data.studies.simulated import corpus_range, is_simulated
from eeg2speech.data.types import Stimulus, StudyFacts
from eeg2speech.errors import BadInput, unknown_name
from eeg2speech.models.codec import Codec, DacCodec
from eeg2speech.models.descript import (
    ARGUMENTS,
    DescriptCodec,
    descript_model,
    to_transformers,
    transformers_arguments,
)
from eeg2speech.training.checkpoint import load_into, load_weights

if TYPE_CHECKING:
    from transformers import DacModel

Implementation = Literal["transformers", "descript"]

DEMO = Path(__file__).parent.parent / "assets" / "codec" / "demo.safetensors"
PUBLISHED = {"dac-16khz": 16_000, "dac-24khz": 24_000, "dac-44khz": 44_100}
"""Published weights by name, with their rate in Hz."""
RELEASES = "https://github.com/descriptinc/descript-audio-codec/releases"


def load_codec(name: str | Path, implementation: Implementation = "transformers") -> Codec:
    """A codec by name or path, loaded once a process.

    The same object is handed to all who ask: moving it to a device moves it for all, and no weights may be loaded into
    it. Loading draws no random number, so that a run is the same whether or not the codec was there already.

    Args:
        name: ``demo``; a published one (from ``$EEG2SPEECH_CACHE/codecs``, else from the model hub); a ``.safetensors``
            file of this package; a ``.pth`` file as descript-audio-codec writes it; or a folder with ``config.json``
            and ``model.safetensors`` as transformers writes it.
        implementation: what computes. ``descript`` needs the package descript-audio-codec and a ``.pth`` file.

    Raises:
        BadInput: no such name or file; a file that is damaged, holds anything but tensors, or is of another network; no
            network connection where one is needed.
    """
    if implementation not in ("transformers", "descript"):
        raise unknown_name("load_codec", "implementation", implementation, ("transformers", "descript"))
    codec = _load(_located(name), implementation)
    if isinstance(name, str) and name in PUBLISHED:
        require_rate(codec, PUBLISHED[name], name)
    return codec


def require_rate(codec: Codec, rate: int, where: object) -> None:
    """Refuse a codec of another rate than ``rate``, in Hz: what it makes of the wave would be at another pitch."""
    if codec.rate != rate:
        raise BadInput(where, "rate of the codec", f"{rate} Hz", f"{codec.rate} Hz")


def codec_heard(name: str | Path, stimulus: Stimulus, study: StudyFacts) -> bool:
    """Whether the codec of that name or path may have heard a stimulus in its own training.

    Of the studies, only the simulated ones consist of audio that a codec of this package learned from; of the codecs,
    only the embedded one, copies of it and those of ``eeg2speech train codec`` have learned from that.
    """
    return is_simulated(study) and _learned_from_corpus(_located(name)) and heard(*corpus_range(stimulus))


@cache
def _learned_from_corpus(source: str | Path) -> bool:
    """Whether weights are the embedded ones, or their file says that they were trained on the embedded corpus."""
    if source == DEMO:
        return True
    if isinstance(source, Path) and source.suffix == ".safetensors":
        training = load_weights(source)[1].get("training")
        if isinstance(training, dict) and "corpus" in training:
            return True
    return DEMO.is_file() and load_codec(source).fingerprint == load_codec("demo").fingerprint


def _located(name: str | Path) -> str | Path:
    """The file or folder that is meant, in full; the name itself when it has to come from the model hub."""
    if isinstance(name, str) and name == "demo":
        return DEMO
    if isinstance(name, str) and name in PUBLISHED:
        file = _published_file(name)
        return file if file.is_file() else name
    path = Path(name)
    if isinstance(name, Path) or "/" in name or path.suffix in (".safetensors", ".pth") or path.exists():
        return path.resolve()
    raise unknown_name("load_codec", "codec", name, ("demo", *PUBLISHED))


def _published_file(name: str) -> Path:
    return cache_folder() / "codecs" / f"weights_{name.removeprefix('dac-')}.pth"


@cache
def _load(source: str | Path, implementation: Implementation) -> Codec:
    if isinstance(source, Path) and source.suffix == ".pth":
        return _from_pth(source, implementation)
    if implementation == "descript":
        file = "a .pth file" if isinstance(source, Path) else f"the file {_published_file(source)}"
        raise BadInput(source, "implementation", f"{file} (published at {RELEASES})", "no such file for 'descript'")
    if isinstance(source, str):
        return _from_hub(source)
    if source.is_dir():
        return _from_folder(source)
    if source.suffix == ".safetensors":
        return _from_safetensors(source)
    found = "a file with another ending" if source.exists() else "nothing there"
    raise BadInput(source, "codec", "a .safetensors file, a .pth file or a folder", found)


def _from_safetensors(path: Path) -> Codec:
    state, about = load_weights(path)
    if not isinstance(about.get("codec"), dict):
        raise BadInput(path, "about.codec", "the arguments of DacConfig", about.get("codec", "nothing"))
    return _dac_codec(about["codec"], state, path)


def _from_pth(path: Path, implementation: Implementation) -> Codec:
    state, arguments = _read_pth(path)
    if implementation == "descript":
        model = descript_model(arguments, path)
        load_into(model, state, path)
        return DescriptCodec(model)
    named = transformers_arguments(arguments, path)
    return _dac_codec(named, to_transformers(state, len(named["downsampling_ratios"])), path)


def _read_pth(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """State and arguments of ``dac.DAC`` from a file that may hold tensors, numbers and text alone."""
    expected = "tensors and plain values alone, as DAC.save(path, package=False) writes them"
    if not path.is_file():
        raise BadInput(path, "codec", "a .pth file of descript-audio-codec", "no such file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can end in any of them
        found = f"a file that holds code or other objects, or is damaged ({type(error).__name__}); it was not run"
        raise BadInput(path, "content", expected, found) from error
    match content:
        case {"state_dict": dict(state), "metadata": {"kwargs": dict(arguments)}}:
            if all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in state.items()):
                return dict(state), arguments
    raise BadInput(path, "content", "state_dict (tensors) and metadata.kwargs", "another structure")


def _from_folder(folder: Path) -> Codec:
    expected = "a folder that transformers' DacModel.save_pretrained wrote"
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise BadInput(folder, name, expected, "no such file")
    model_class = _dac_class()
    try:
        loaded = _pretrained(model_class, str(folder), local=True)
    except Exception as error:  # a damaged configuration can end in any of them
        raise BadInput(folder, "content", expected, f"{type(error).__name__}: {error}") from error
    return DacCodec(_complete(*loaded, folder))


def _from_hub(name: str) -> Codec:
    model_class = _dac_class()
    try:
        loaded = _pretrained(model_class, f"descript/{name.replace('-', '_')}", local=False)
    except OSError as error:
        file = f"{_published_file(name)} (published at {RELEASES})"
        raise BadInput(name, "codec", f"the file {file}, or a connection to the model hub", "neither") from error
    return DacCodec(_complete(*loaded, name))


def _pretrained(model_class: Any, source: str, local: bool) -> tuple[DacModel, dict[str, Any]]:
    loaded: tuple[DacModel, dict[str, Any]] = model_class.from_pretrained(
        source, use_safetensors=True, dtype=torch.float32, output_loading_info=True, local_files_only=local
    )
    return loaded


def _complete(model: DacModel, loading: dict[str, Any], where: object) -> DacModel:
    # transformers fills what a file lacks with random numbers and only warns.
    for problem in ("missing_keys", "mismatched_keys", "unexpected_keys"):
        if loading[problem]:
            found = f"{problem} {sorted(map(str, loading[problem]))[:3]}"
            raise BadInput(where, "tensors", "those of the DacModel that config.json describes", found)
    return model


def _dac_codec(arguments: Mapping[str, Any], state: Mapping[str, Tensor], where: object) -> DacCodec:
    model = _empty_dac(arguments, where)
    load_into(model, dict(state), where)
    return DacCodec(model)


def _empty_dac(arguments: Mapping[str, Any], where: object) -> DacModel:
    """A ``DacModel`` on the CPU whose weights are still to be loaded."""
    needed, allowed = set(ARGUMENTS.values()), {"quantizer_dropout", "commitment_loss_weight", "codebook_loss_weight"}
    missing, unknown = sorted(needed - arguments.keys()), sorted(arguments.keys() - needed - allowed)
    if missing or unknown:
        raise BadInput(where, "about.codec", f"{', '.join(sorted(needed))}", f"missing {missing}, unknown {unknown}")
    model_class = _dac_class()
    from huggingface_hub.errors import StrictDataclassError
    from transformers import DacConfig

    try:
        with torch.device("meta"):
            model: DacModel = model_class(DacConfig(**arguments))
    except (StrictDataclassError, ValueError, TypeError) as error:
        raise BadInput(
            where, "about.codec", "arguments that DacConfig takes", f"{dict(arguments)} ({error})"
        ) from error
    return model.to_empty(device="cpu")


def _dac_class() -> type[DacModel]:
    try:
        from transformers import DacModel
    except ImportError as error:
        found = f"none that can be imported ({error}); pip install transformers"
        raise BadInput("implementation", "transformers", "the package transformers", found) from error
    return DacModel
