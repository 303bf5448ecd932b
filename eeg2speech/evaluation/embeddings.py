"""Embeddings to go on with elsewhere: rows of speech, EEG embedding and speech embedding, in the layout of the original
EEG-to-speech diffusion (see ``eeg2speech.training.embedding_rows``, where the layout is described).

Someone who has data of that project goes on from here as follows. ``check_embeddings("dataset_root.json")`` reads every
row of every part, and refuses what the original would have passed over (a missing wave, an embedding of another size).
``import_rows("dataset_root.json", "train")`` gives the rows: ``row.wav`` is the wave's path, ``row.eeg`` [D, F] and
``row.speech`` [D, F'] are the embeddings, read when they are asked for. The other way, ``export_embeddings`` writes
what a brain encoder of this suite makes of a study into the same layout, for the original's training to read. Sizes
are the encoder's: D is 1024, as in the original, with ``size: paper``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from eeg2speech.controls import TRUE_EEG
from eeg2speech.data.mixing import Mixer
from eeg2speech.data.store import Store
from eeg2speech.data.types import Samples, Segment
from eeg2speech.data.windows import tiled_segments
from eeg2speech.errors import BadInput, unknown_name
from eeg2speech.evaluation.candidates import Window
from eeg2speech.evaluation.files import load_alone
from eeg2speech.evaluation.scoring import Asked, asked, device_of, place
from eeg2speech.splits.manifest import PARTS, Split
from eeg2speech.systems.interface import System, embedded, require_task
from eeg2speech.training.checkpoint import load_weights, require_match
from eeg2speech.training.embedding_rows import EmbeddingRow, NewRow, Part, write_rows
from eeg2speech.training.embedding_rows import read_rows as import_rows

__all__ = ["check_embeddings", "export_embeddings", "import_rows"]

LAYOUT: dict[str, Part] = {"train": "train", "valid": "val", "test": "test"}
"""What the layout calls the parts of a split."""


def export_embeddings(
    store: Store,
    split: Split,
    checkpoint: Path | str,
    out: Path | str,
    parts: Sequence[str] = PARTS,
    seconds: float = 3.0,
    limit: int | None = None,
    device: str = "cpu",
) -> Path:
    """Write what a brain encoder makes of a study, a row for each of the windows that lie side by side.

    A row's wave is the attended speech [T], float32, at the level at which it is heard; beside it are the embeddings of
    EEG and of speech, [D, F] each. Parts are written one after the other, so that one that is done stays.

    Args:
        store: the study. split: what ``make_split`` made of it; that on which the encoder was trained.
        checkpoint: weights of a system that answers retrieval: ``brain_encoder``, or another with two embeddings.
        out: the folder to write; paths in its JSON are absolute.
        parts: of train, valid and test, which the layout calls train, val and test.
        seconds: of a window. limit: rows of a part at most, evenly spread over it; all of them if None.
        device: where the encoder answers.

    Returns:
        the path of ``dataset_root.json``.

    Raises:
        BadInput: an unknown part, one that is there already or has no window, weights of another study or split (what
            is test here may have been training there), or an embedding that is not finite.
    """
    _check(parts, seconds, limit)
    system = _encoder(store, split, Path(checkpoint))
    place(system, device)
    entry = Path(out) / "dataset_root.json"
    for part in parts:
        segments = _spread(tiled_segments(split.parts[part], seconds, store.facts.eeg_rate), limit)
        entry = write_rows(Path(out), LAYOUT[part], _rows(system, store, segments), store.facts.audio_rate)
    return entry


def check_embeddings(
    root_json: Path | str, dataset: str | None = None, base: Path | None = None
) -> dict[str, list[EmbeddingRow]]:
    """Read every row of every part that is there, by the layout's names: train, val, test.

    Args and refusals are those of ``import_rows``; a file without any part is refused, too.
    """
    root = Path(root_json)
    return {part: import_rows(root, part, dataset, base) for part in _parts_there(root, dataset)}


def _parts_there(root: Path, dataset: str | None) -> list[Part]:
    try:
        paths = json.loads(root.read_text(encoding="utf-8"))["metadata"]["path"]
        files = paths[dataset or next(iter(paths))]
        found: list[Part] = [part for part in get_args(Part) if part in files]
    except (OSError, ValueError, LookupError, TypeError, StopIteration):
        found = []
    # Reading says what is wrong with a file that names none.
    return found or ["train"]


def _encoder(store: Store, split: Split, path: Path) -> System:
    """The encoder that learned on this split."""
    about = load_weights(path)[1]
    require_match(path, about, {"study": store.facts.name, "revision": store.index.revision, "split": split.hash})
    system, _ = load_alone(path, str(about.get("system")))
    require_task(system.facts, "retrieval", path)
    return system


def _spread(segments: list[Segment], limit: int | None) -> list[Segment]:
    """At most ``limit`` of the segments, evenly spread."""
    if limit is None or limit >= len(segments):
        return segments
    return [segments[int(k)] for k in np.linspace(0, len(segments) - 1, limit).round()]


def _rows(system: System, store: Store, segments: Sequence[Segment]) -> Iterator[NewRow]:
    mixer = Mixer(store)
    for batch in asked(store, segments, TRUE_EEG, 0, device_of(system)):
        windows = [_window(store, segment) for segment in batch.segments]
        waves = [np.ascontiguousarray(window.sound(mixer)) for window in windows]
        speech = _speech(system, mixer, windows, waves)
        yield from map(NewRow, waves, _eeg(system, batch), speech)


def _window(store: Store, segment: Segment) -> Window:
    begin, length = (round(seconds * store.facts.audio_rate) for seconds in (segment.start, segment.duration))
    return Window(segment.trial, True, begin, begin + length)


def _eeg(system: System, batch: Asked) -> Samples:
    return _float(embedded(system, batch.eeg, batch.subject))


def _speech(system: System, mixer: Mixer, windows: Sequence[Window], waves: Sequence[Samples]) -> Samples:
    """Embeddings of speech [B, D, F]; of windows within their stimuli, for systems that see these."""
    device = device_of(system)
    with torch.inference_mode():
        if system.facts.sees != "stimuli":
            return _float(system.embed_speech(torch.from_numpy(np.stack(waves)).to(device)))
        whole = [torch.from_numpy(window.sound(mixer, whole=True)).to(device) for window in windows]
        pairs = zip(whole, windows, strict=True)
        return _float(torch.stack([system.embed_speech_in(sound, w.begin, w.end) for sound, w in pairs]))


def _float(found: Tensor) -> Samples:
    array: Samples = found.float().cpu().numpy()
    return array


def _check(parts: Sequence[str], seconds: float, limit: int | None) -> None:
    for part in parts:
        if part not in LAYOUT:
            raise unknown_name("export_embeddings", "part", part, LAYOUT)
    if not parts:
        raise BadInput("export_embeddings", "parts", f"one or more of {', '.join(LAYOUT)}", "none")
    if not 0 < seconds < float("inf"):
        raise BadInput("export_embeddings", "seconds", "more than 0 s", seconds)
    if limit is not None and limit < 1:
        raise BadInput("export_embeddings", "limit", "at least 1", limit)
