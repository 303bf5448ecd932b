"""Rows of wave, EEG embedding and speech embedding, as the original EEG-to-speech diffusion keeps them on disk.

Layout (AudioLDM-training-finetuning and its EEG variant)::

    dataset_root.json   {"audioeeg": AUDIO_ROOT, "metadata": {"path": {"audioeeg": {"train": DATAFILE, ...}}}}
    DATAFILE            {"data": [{"wav": "rel/path.wav", "embedding": "path.pt", "audio_embedding": "path.pt"}]}

``wav`` is relative to the audio root. Every other path is used as given: a relative one begins at the working
directory, whatever the audio root is. A ``.pt`` is a bare tensor by ``torch.save``: an EEG estimate [1, D, F] and a
speech embedding [D, F'], float32, of no unit (the original: D 1024, F 343, F' 361, at 120 frames a second).

The original answers a missing wave with zeros and a warning; here it is refused. Tensors come and go as NumPy arrays,
as everywhere in this room; ``torch.from_numpy`` makes a tensor of one without a copy.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray

from eeg2speech.data.store import NAME
from eeg2speech.data.types import Samples
from eeg2speech.errors import BadInput, unknown_name

Part = Literal["train", "val", "test"]
PARTS: tuple[str, ...] = get_args(Part)
SUBTYPES = {"int16": "PCM_16", "float32": "FLOAT"}
"""How a wave of each dtype is stored, so that what is read is what was written."""


@dataclass(frozen=True)
class EmbeddingRow:
    """One row: the path of its wave, and two embeddings that are read from disk each time they are asked for.

    Reading raises BadInput for a file that is gone or has changed in size since the row was made, or is not finite.
    """

    wav: Path
    eeg_path: Path
    speech_path: Path
    eeg_shape: tuple[int, int]
    speech_shape: tuple[int, int]

    @property
    def eeg(self) -> Samples:
        """EEG embedding [D, F], float32."""
        return _of_shape(self.eeg_path, self.eeg_shape)

    @property
    def speech(self) -> Samples:
        """Speech embedding [D, F'], float32."""
        return _of_shape(self.speech_path, self.speech_shape)


class NewRow(NamedTuple):
    """A row to write: wave [T], int16 or float32 in [-1, 1]; EEG [D, F] and speech [D, F'] embeddings, float32."""

    wave: Samples | NDArray[np.int16]
    eeg: Samples
    speech: Samples


def read_rows(root_json: Path, part: Part, dataset: str | None = None, base: Path | None = None) -> list[EmbeddingRow]:
    """The rows of one part. Every embedding is read once, to check it, and let go.

    Args:
        root_json: ``dataset_root.json``.
        part: train, val or test.
        dataset: its name in there; the only one if None.
        base: where relative paths of the audio root, the datafiles and the ``.pt`` files begin; by default the working
            directory, as in the original.

    Raises:
        BadInput: no such file, JSON that is not this layout, an absolute wav, a wav or ``.pt`` that is missing, a
            ``.pt`` that holds anything but one dense tensor of finite floats, or an embedding of another size than
            the first row's. No ``.pt`` can run code.
    """
    base = Path() if base is None else Path(base)
    root = _json(Path(root_json))
    paths = _mapping(root_json, "metadata.path", _mapping(root_json, "metadata", root.get("metadata")).get("path"))
    name = _dataset(root_json, paths, dataset)
    files = _mapping(root_json, f"metadata.path.{name}", paths[name])
    if part not in PARTS or part not in files:
        raise unknown_name(root_json, f"metadata.path.{name}", part, [p for p in PARTS if p in files])
    audio = base / _text(root_json, name, root.get(name))
    datafile = base / _text(root_json, f"metadata.path.{name}.{part}", files[part])
    return _checked([_located(datafile, k, row, audio, base) for k, row in enumerate(_data(datafile))])


def write_rows(
    out: Path, part: Part, rows: Iterable[NewRow], rate: int, dataset: str = "audioeeg", base: Path | None = None
) -> Path:
    """Write one part below ``out`` and enter it in ``out/dataset_root.json``, whose path is returned.

    A datafile is written after all that it names, and ``dataset_root.json`` last, each by rename: an export that is
    killed leaves no JSON that names what is not there, and can be started again. Parts are written one after another.

    Args:
        rows: at least one; drawn one by one, so that they need not be in memory together.
        rate: of the waves, Hz.
        dataset: its name; several may share one ``dataset_root.json``.
        base: the folder from which the original will run, or another that holds ``out``: paths are written relative
            to it, so that it can be moved. By default they are absolute, and are found from any working directory.

    Raises:
        BadInput: a part that is there already, a name that cannot be a folder's, a ``dataset_root.json`` of another
            layout or with another audio root, no rows, or one that ``read_rows`` would refuse.
    """
    out = Path(out).absolute()
    entry = out / "dataset_root.json"
    folder = out / _new_name(entry, dataset)
    datafile = folder / "datafiles" / f"{part}.json"
    root = _entered(entry, dataset, part, _given(folder / "audio", base), _given(datafile, base))
    data = _write_all(folder, part, rows, rate, base)
    _write(datafile, json.dumps({"data": data}, indent=1).encode())
    _write(entry, json.dumps(root, indent=1).encode())
    return entry


def _dataset(where: Path, paths: dict[str, Any], dataset: str | None) -> str:
    if dataset is None and len(paths) != 1:
        raise BadInput(where, "dataset", f"which one of {', '.join(sorted(paths)) or 'none'}", "no name")
    name = next(iter(paths)) if dataset is None else dataset
    if name not in paths:
        raise unknown_name(where, "dataset", name, paths)
    return name


def _data(datafile: Path) -> list[Any]:
    data = _json(datafile).get("data")
    if not isinstance(data, list) or not data:
        raise BadInput(datafile, "data", "a list of at least one row", _kind(data))
    return data


def _located(datafile: Path, number: int, row: object, audio: Path, base: Path) -> tuple[Path, Path, Path]:
    """Paths of a row's wave, EEG and speech embedding, all of which are there."""
    fields = _mapping(datafile, f"data[{number}]", row)
    named = {f: _text(datafile, f"data[{number}].{f}", fields.get(f)) for f in ("wav", "embedding", "audio_embedding")}
    if Path(named["wav"]).is_absolute():
        raise BadInput(datafile, f"data[{number}].wav", f"a path relative to {audio}", named["wav"])
    found = {f: (audio if f == "wav" else base) / path for f, path in named.items()}
    for field, path in found.items():
        if not path.is_file():
            raise BadInput(datafile, f"data[{number}].{field}", "a file that is there", f"no such file: {path}")
    return found["wav"], found["embedding"], found["audio_embedding"]


def _checked(paths: list[tuple[Path, Path, Path]]) -> list[EmbeddingRow]:
    """Rows whose embeddings all have the sizes of the first row's."""
    _, eeg, speech = paths[0]
    eeg_shape, speech_shape = _size(_load(eeg)), _size(_load(speech))
    rows = [EmbeddingRow(*each, eeg_shape, speech_shape) for each in paths]
    for row in rows:
        _of_shape(row.eeg_path, row.eeg_shape)
        _of_shape(row.speech_path, row.speech_shape)
    return rows


def _of_shape(path: Path, shape: tuple[int, int]) -> Samples:
    array = _load(path)
    if array.shape != shape:
        raise BadInput(path, "shape", f"{list(shape)}, as in the first row", list(array.shape))
    return array


def _size(array: Samples) -> tuple[int, int]:
    return array.shape[0], array.shape[1]


def _load(path: Path) -> Samples:
    """The tensor [..., D, F] in a ``.pt``, whose leading sizes are 1, as [D, F] float32."""
    if not path.is_file():
        raise BadInput(path, "embedding", "a .pt file", "no such file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can end in any of them
        found = f"a file that holds code or other objects, or is damaged ({type(error).__name__}); it was not run"
        raise BadInput(path, "content", "one tensor by torch.save", found) from error
    if not isinstance(content, torch.Tensor):
        raise BadInput(path, "content", "one tensor by torch.save", type(content).__name__)
    if not content.is_floating_point() or content.layout != torch.strided or content.device.type != "cpu":
        raise BadInput(path, "content", "a dense tensor of floats", f"{content.dtype}, {content.layout}")
    array: Samples = content.detach().to(torch.float32).numpy()
    return _embedding(path, "embedding", array.reshape(array.shape[-2:]) if _leading_ones(array) else array)


def _leading_ones(array: Samples) -> bool:
    return array.ndim > 2 and set(array.shape[:-2]) == {1}


def _embedding(where: object, field: str, array: Samples) -> Samples:
    if array.ndim != 2 or not array.size:
        raise BadInput(where, f"{field} shape", "[D, F], not empty", list(array.shape))
    if not np.isfinite(array).all():
        raise BadInput(where, field, "finite numbers", "some that are NaN or infinite")
    return array


def _new_name(entry: Path, dataset: str) -> str:
    if not NAME.fullmatch(dataset) or dataset == "metadata":
        raise BadInput(entry, "dataset", "a name of letters, digits and _ . + -, other than 'metadata'", repr(dataset))
    return dataset


def _entered(entry: Path, dataset: str, part: str, audio: str, datafile: str) -> dict[str, Any]:
    """What ``dataset_root.json`` will hold: what it holds now, and the new part."""
    if part not in PARTS:
        raise unknown_name(entry, "part", part, PARTS)
    root = _json(entry) if entry.exists() else {}
    metadata = _mapping(entry, "metadata", root.get("metadata", {}))
    paths = _mapping(entry, "metadata.path", metadata.get("path", {}))
    files = _mapping(entry, f"metadata.path.{dataset}", paths.get(dataset, {}))
    if root.get(dataset, audio) != audio:
        raise BadInput(entry, dataset, f"the audio root {audio}", root[dataset])
    if part in files:
        raise BadInput(entry, f"metadata.path.{dataset}.{part}", "a part that is not there yet", files[part])
    paths = {**paths, dataset: {**files, part: datafile}}
    return {**root, dataset: audio, "metadata": {**metadata, "path": paths}}


def _write_all(folder: Path, part: str, rows: Iterable[NewRow], rate: int, base: Path | None) -> list[dict[str, str]]:
    """Write what the rows hold; returns the entries of the datafile."""
    data: list[dict[str, str]] = []
    shapes: list[tuple[int, ...]] = []
    for number, row in enumerate(rows):
        where = f"{part} row {number}"
        row = NewRow(_wave(where, row.wave), _new(where, "eeg", row.eeg), _new(where, "speech", row.speech))
        found = [row.eeg.shape, row.speech.shape]
        shapes = shapes or found
        if found != shapes:
            raise BadInput(where, "shapes of eeg and speech", f"{shapes}, as in the first row", found)
        data.append(_write_row(folder, f"{part}/{number:06d}", row, _wav_bytes(where, row.wave, rate), base))
    if not data:
        raise BadInput(folder, f"rows of {part}", "at least one", 0)
    return data


def _write_row(folder: Path, name: str, row: NewRow, wav: bytes, base: Path | None) -> dict[str, str]:
    eeg, speech = (folder / "embeddings" / f"{name}_{kind}.pt" for kind in ("eeg", "speech"))
    _write(folder / "audio" / f"{name}.wav", wav)
    _write(eeg, _pt_bytes(row.eeg[None]))
    _write(speech, _pt_bytes(row.speech))
    return {"wav": f"{name}.wav", "embedding": _given(eeg, base), "audio_embedding": _given(speech, base)}


def _wave(where: str, wave: NDArray[Any]) -> NDArray[Any]:
    wave = np.asarray(wave)
    if wave.ndim != 1 or not wave.size or str(wave.dtype) not in SUBTYPES:
        raise BadInput(where, "wave", "[T] of int16 or float32, not empty", f"{wave.dtype} {list(wave.shape)}")
    if not np.isfinite(wave).all():
        raise BadInput(where, "wave", "finite samples", "some that are NaN or infinite")
    return wave


def _new(where: str, field: str, array: Samples) -> Samples:
    array = np.asarray(array)
    if array.dtype != np.float32:
        raise BadInput(where, f"{field} dtype", "float32", array.dtype)
    return _embedding(where, field, array)


def _wav_bytes(where: str, wave: NDArray[Any], rate: int) -> bytes:
    content = io.BytesIO()
    try:
        soundfile.write(content, wave, rate, format="WAV", subtype=SUBTYPES[str(wave.dtype)])
    except (soundfile.LibsndfileError, TypeError) as error:
        raise BadInput(where, "rate", "a whole number of Hz that a WAV file can hold", rate) from error
    return content.getvalue()


def _pt_bytes(array: Samples) -> bytes:
    content = io.BytesIO()
    # A copy: torch.save writes all that a view looks into.
    torch.save(torch.from_numpy(np.array(array, order="C")), content)
    return content.getvalue()


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    partial.write_bytes(content)
    partial.replace(path)


def _given(path: Path, base: Path | None) -> str:
    """The path as the JSON gives it."""
    if base is None:
        return path.as_posix()
    base = Path(base).absolute()
    if not path.is_relative_to(base):
        raise BadInput(path, "base", "a folder that holds the export", base)
    return path.relative_to(base).as_posix()


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise BadInput(path, "file", "a JSON file", "no such file")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadInput(path, "content", "JSON", str(error)) from error
    return _mapping(path, "content", content)


def _mapping(where: object, field: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadInput(where, field, "an object", _kind(value))
    return value


def _text(where: object, field: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise BadInput(where, field, "a path", _kind(value))
    return value


def _kind(value: object) -> str:
    return "nothing" if value is None else f"{type(value).__name__} {value!r}"[:80]
