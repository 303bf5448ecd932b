"""The embedded parts: their training as a command, and how well a codec carries speech that it has not heard."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from eeg2speech.assets.corpus import RATE
from eeg2speech.assets.pretraining import pretraining_audio
from eeg2speech.data.mixing import LEVEL
from eeg2speech.errors import BadInput, unknown_name
from eeg2speech.evaluation.scoring import device_named
from eeg2speech.metrics import Scorer, Signals
from eeg2speech.models.codec import Codec
from eeg2speech.systems.codecs import require_rate
from eeg2speech.training.budget import Budget
from eeg2speech.training.codec import Audio, CodecPlan, CodecTrainer
from eeg2speech.training.parts import PLANS, PartName, PartTrainer

QUALITY = ("si_sdr", "stoi", "estoi", "pesq_wb")
SILENCE = 1e-3
"""Root mean square under which a piece is a pause, as in the codec's training."""
BATCH = 8


@dataclass(frozen=True)
class Piece:
    """Some seconds of one voice [T], at the suite's level."""

    track: str
    wave: NDArray[np.float32]


def train_codec(
    out: Path,
    steps: int | None = None,
    seed: int = 0,
    device: str = "auto",
    compiled: bool = False,
    say: Callable[[str], None] = print,
) -> Path:
    """Train the embedded codec in ``out/training/codec-s<seed>``; an interrupted training goes on where it stopped.

    Args:
        steps: optimiser steps; those of ``CodecPlan`` unless told.
        device: ``cpu``, ``cuda`` or ``auto``.
        compiled: faster steps, for a minute at the beginning and a C++ compiler.
        say: is told losses on held-out speech from time to time.

    Returns:
        the weights' file, ``codec.safetensors``.

    Raises:
        BadInput: steps below 1, a seed below 0, a device that this machine has not, a folder with another training.
    """
    if steps is not None and steps < 1:
        raise BadInput("training of the codec", "steps", "at least 1", steps)
    _require_seed("codec", seed)
    plan = CodecPlan() if steps is None else CodecPlan(steps=steps)
    folder = out / "training" / f"codec-s{seed}"
    return CodecTrainer(folder, plan=plan, seed=seed, device=str(device_named(device)), compiled=compiled).run(say)


def train_part(name: PartName, out: Path, budget: Budget, seed: int = 0, device: str = "auto") -> Path:
    """Train the embedded autoencoder or vocoder in ``out/training/<name>-s<seed>``; an interrupted training goes on.

    Args:
        budget: its name's steps are the part's own, see ``PLANS``.
        device: ``cpu``, ``cuda`` or ``auto``.

    Returns:
        the weights' file, ``<name>.safetensors``, which systems take as their setting of that name.

    Raises:
        BadInput: a name that is no part, a seed below 0, a device that this machine has not, a folder with another
            training.
    """
    if name not in PLANS:
        raise unknown_name("training of a part", "name", name, PLANS)
    _require_seed(name, seed)
    folder = out / "training" / f"{name}-s{seed}"
    return PartTrainer(name, folder).run(budget, seed, str(device_named(device)))


def codec_quality(
    codec: Codec, count: int = 40, seconds: float = 4.0, jobs: int = 1, audio: Audio | None = None
) -> pd.DataFrame:
    """What a codec makes of speech that no pretrained part has heard, on the device where it is.

    Args:
        codec: of the corpus' rate, 16 kHz.
        count: pieces of ``seconds``, evenly spread over the speech.
        jobs: processes that compute metrics.
        audio: speech by track in place of the held-out speech, stretches [samples] at 16 kHz.

    Returns:
        A row each for unquantised latents, all codebooks, and unquantised mixtures of two talkers: means of SI-SDR
        (dB), STOI, ESTOI and PESQ-WB (MOS-LQO) over the pieces that have a score, numbers of pieces and of scores that
        failed. What is scored is the piece that went in: for mixtures, the mixture.

    Raises:
        BadInput: a codec of another rate, or fewer pieces or voices than are asked for.
    """
    require_rate(codec, RATE, "codec_quality")
    found = speech_pieces(pretraining_audio(kept_out=True) if audio is None else audio, count, seconds)
    single = np.stack([piece.wave for piece in found])
    mixed = single + np.stack([_other_voice(found, number).wave for number in range(count)])
    with Scorer(QUALITY, RATE, jobs) as scorer:
        rows = {
            "unquantised": _scores(scorer, single, _round_trip(codec, single, books=0)),
            "all codebooks": _scores(scorer, single, _round_trip(codec, single, books=None)),
            "mixtures, unquantised": _scores(scorer, mixed, _round_trip(codec, mixed, books=0)),
        }
    return pd.DataFrame.from_dict(rows, orient="index").astype({"pieces": int, "failed": int})


def speech_pieces(audio: Audio, count: int, seconds: float) -> list[Piece]:
    """``count`` pieces without pauses that fill them, evenly spread over all of ``audio``, each at the suite's level.

    Raises:
        BadInput: there are fewer, or none of a second voice.
    """
    every = list(_pieces(audio, round(seconds * RATE)))
    if not 1 <= count <= len(every):
        raise BadInput("codec_quality", "count", f"1 to {len(every)} pieces of {seconds} s", count)
    chosen = [every[int(k)] for k in np.linspace(0, len(every) - 1, count).round()]
    if len({piece.track for piece in chosen}) < 2:
        raise BadInput("codec_quality", "audio", "pieces of at least two voices", sorted({p.track for p in chosen}))
    return chosen


def _require_seed(name: str, seed: int) -> None:
    if seed < 0:
        raise BadInput(f"training of the {name}", "seed", "at least 0", seed)


def _pieces(audio: Audio, size: int) -> Iterator[Piece]:
    for track, stretches in audio.items():
        for stretch in stretches:
            for start in range(0, len(stretch) - size + 1, size):
                wave = stretch[start : start + size]
                level = float(np.sqrt(np.mean(np.square(wave, dtype=np.float64))))
                if level > SILENCE:
                    yield Piece(track, wave * np.float32(LEVEL / level))


def _other_voice(pieces: Sequence[Piece], number: int) -> Piece:
    """The partner of a piece in a mixture: the first of another voice from half-way round on."""
    count = len(pieces)
    others = (pieces[(number + count // 2 + step) % count] for step in range(count))
    return next(other for other in others if other.track != pieces[number].track)


def _round_trip(codec: Codec, waves: NDArray[np.float32], books: int | None) -> NDArray[np.float32]:
    """[K, T] -> [K, T]; ``books`` codebooks, all if None, and no quantisation if 0."""
    device = next(codec.parameters()).device
    batches = [torch.from_numpy(waves[k : k + BATCH]).to(device) for k in range(0, len(waves), BATCH)]
    with torch.inference_mode():
        return np.concatenate([codec.round_trip(wave, books).cpu().numpy() for wave in batches])


def _scores(scorer: Scorer, truth: NDArray[np.float32], found: NDArray[np.float32]) -> dict[str, float]:
    """Means by metric, numbers of pieces and of failed scores."""
    scores = scorer.score(Signals(*pair) for pair in zip(truth, found, strict=True))
    values = {name: np.array([each[name].value for each in scores]) for name in QUALITY}
    means = {name: float(np.nanmean(column)) for name, column in values.items()}
    return means | {"pieces": len(scores), "failed": sum(int(np.isnan(column).sum()) for column in values.values())}
