"""Features of speech from a frozen network, computed once and kept: what retrieval compares EEG with.

Features that do not learn are the same every time. They are kept under ``<cache>/features/<network>/<content>.npy`` by
the hash of the wave, in half precision, as ``training/latents.py`` keeps latents.

A network such as wav2vec 2.0 mixes all that it is given, so that what a window's features say depends on what stood
around the window when they were computed. ``FeatureCache`` has both ways, and a protocol has to say which it takes.
"""

from __future__ import annotations

import os
from functools import cached_property
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor, nn

from eeg2speech.data.studies.registry import cache_folder
from eeg2speech.data.types import Samples, content_hash
from eeg2speech.errors import BadInput
from eeg2speech.models.fingerprint import state_hash

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

RATE = 16_000
"""Hz, of all waves here."""
SHORTEST = 0.5
"""Seconds: of less, features say little but how a network treats an edge."""
PIECE = 60.0
"""Seconds of a stimulus that are computed at once: the memory in use does not grow with a stimulus beyond that."""
CONTEXT = 5.0
"""Seconds that a piece sees of what stands before and after it."""
VARIANCE_FLOOR = 1e-7
"""As in transformers' Wav2Vec2FeatureExtractor."""
UNUSED = {"masked_spec_embed"}
"""Weights that only a training needs, and that a checkpoint may be without."""
NEEDED = ("conv_stride", "conv_kernel", "num_hidden_layers", "hidden_size")
"""What the configuration of a network on waves says."""
FOLDER = "a folder that save_pretrained wrote"
Half = NDArray[np.float16]


class SpeechFeatures(Protocol):
    """A frozen network that gives ``dimension`` numbers ``rate`` times a second.

    Frame k is of the wave from sample k * 16000 / rate on, a whole number.
    """

    @property
    def name(self) -> str:
        """For tables."""

    @property
    def dimension(self) -> int:
        """Numbers a frame, D."""

    @property
    def rate(self) -> float:
        """Frames a second."""

    @property
    def fingerprint(self) -> str:
        """Hash of all that decides what is computed."""

    def frames(self, samples: int) -> int:
        """How many frames a wave of so many samples gives."""

    def __call__(self, wave: Tensor) -> Tensor:
        """Wave [B, T] at 16 kHz, on any device -> features [B, D, F], float32, without a gradient."""


class Wav2Vec2Features(nn.Module):
    """Mean of the last hidden states of wav2vec 2.0 (Baevski et al. 2020), or of a network built like it.

    As in brainmagick (Defossez et al. 2023), where the last four states were taken. The network stays in eval mode
    and takes no gradient. Its input is brought to mean 0 and variance 1, each wave by itself, as transformers'
    Wav2Vec2FeatureExtractor does; networks that were trained on waves as they are, such as WavLM base, are not meant.
    """

    def __init__(self, source: Path | str, layers: int = 4) -> None:
        """Load from ``source``: a folder by ``save_pretrained``, or a name on the Hugging Face hub.

        Args:
            source: whatever is a folder here is read as one. A hub's name needs a connection, or an earlier download.
            layers: how many of the last hidden states are averaged.

        Raises:
            BadInput: neither a folder nor a name that can be had, a model that does not work on waves, one whose
                weights are not all there, or more layers than it has.
        """
        super().__init__()
        self.name, self.layers = Path(source).name, layers
        self.model = _loaded(source)
        config = self.model.config
        if not 1 <= layers <= config.num_hidden_layers:
            raise BadInput(source, "layers", f"1 to {config.num_hidden_layers}", layers)
        self.dimension, self.rate = int(config.hidden_size), RATE / prod(config.conv_stride)
        self.requires_grad_(False)
        self.train(False)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the weights and of which states are taken."""
        return state_hash({**self.model.state_dict(), "layers": torch.tensor(self.layers)})

    def frames(self, samples: int) -> int:
        """How many frames a wave of so many samples gives."""
        for kernel, stride in zip(self.model.config.conv_kernel, self.model.config.conv_stride, strict=True):
            samples = max(0, (samples - kernel) // stride + 1)
        return samples

    def train(self, mode: bool = True) -> Wav2Vec2Features:
        """Nothing: frozen features have no dropout, whatever mode the module around them is in."""
        return super().train(False)

    def forward(self, wave: Tensor) -> Tensor:
        """Wave [B, T] at 16 kHz -> features [B, D, F], float32, on the network's device.

        Raises:
            BadInput: not [B, T] of finite floats, or less than half a second.
        """
        _require_wave(wave)
        wave = wave.to(next(self.model.parameters()).device, torch.float32)
        with torch.no_grad(), torch.autocast(wave.device.type, enabled=False):
            states = self.model(_normalised(wave), output_hidden_states=True).hidden_states
            mean: Tensor = torch.stack(states[-self.layers :]).mean(0)
        return mean.transpose(1, 2)


class GivenFeatures:
    """Features [F, T] that a study publishes, in the place of a cache: they are their own.

    Args:
        dimension: F. rate: Hz.
    """

    name, fingerprint = "as published", "given"

    def __init__(self, dimension: int, rate: float) -> None:
        self.dimension, self.rate, self.features = dimension, rate, self

    def frames(self, samples: int) -> int:
        """As many as there are samples."""
        return samples

    def of(self, wave: Samples) -> Samples:
        """[F, T] as they are."""
        return wave


class FeatureCache:
    """Features by content, on disk. Written by rename: a file that is there is whole."""

    def __init__(self, features: SpeechFeatures, root: Path | None = None) -> None:
        self.features = features
        self.folder = (cache_folder() / "features" if root is None else root) / features.fingerprint

    def of(self, wave: Samples) -> Half:
        """Features [D, F] of a wave [T] at 16 kHz, in half precision, computed where they are not kept yet.

        More than a minute is computed in pieces, each of which sees 5 s beyond its ends and is normalised by itself.

        Raises:
            BadInput: not [T] of float32, what the features refuse, or features too large for half precision.
        """
        if wave.ndim != 1 or wave.dtype != np.float32:
            raise BadInput("FeatureCache.of", "wave", "float32 [T]", f"{wave.dtype} {list(wave.shape)}")
        path = self.folder / f"{content_hash(wave)}.npy"
        if not path.exists():
            self._keep(path, self._computed(wave))
        kept: Half = np.load(path, mmap_mode="r")
        return kept

    def of_segment(self, stimulus: Samples, begin: float, end: float) -> Half:
        """Features [D, F] of a stimulus [T] from ``begin`` to ``end``, seconds, computed inside the segment alone.

        Nothing outside the segment has an influence: a candidate is what its own window says.

        Raises:
            BadInput: a segment that leaves the stimulus, or what ``of`` refuses.
        """
        first, last = _inside(stimulus, begin, end)
        return self.of(np.array(stimulus[first:last]))

    def within_stimulus(self, stimulus: Samples, begin: float, end: float) -> Half:
        """Features [D, F] of the whole stimulus [T], of which the segment's frames are cut out.

        As many frames as ``of_segment`` gives, from the frame nearest to ``begin`` on. The network has seen the whole
        stimulus, so that these frames also tell of what was said before and after the window: of neighbouring
        candidates each holds a part of the other, and of the loudness of the whole. Scores on them are not those of
        a system that hears the window alone. brainmagick computes features so, on blocks of its split.

        Raises:
            BadInput: a segment that leaves the stimulus or is too short for a frame, or what ``of`` refuses.
        """
        first, last = _inside(stimulus, begin, end)
        whole, count = self.of(stimulus), self.features.frames(last - first)
        if count < 1:
            raise BadInput("FeatureCache", "segment", "at least one frame", f"{begin} to {end} s")
        # A beginning between two frames may be rounded up, and the last frame then be one too many.
        nearest = min(round(first * self.features.rate / RATE), whole.shape[1] - count)
        return whole[:, nearest : nearest + count]

    def _computed(self, wave: Samples) -> Half:
        if len(wave) <= PIECE * RATE:
            return self._at_once(wave)
        hop, total = round(RATE / self.features.rate), self.features.frames(len(wave))
        step, context = round(PIECE * self.features.rate), round(CONTEXT * self.features.rate)
        pieces = []
        for first in range(0, total, step):
            begin, end = max(0, first - context), min(total, first + step)
            stop = len(wave) if end == total else (end + context) * hop
            pieces.append(self._at_once(wave[begin * hop : stop])[:, first - begin : end - begin])
        return np.concatenate(pieces, axis=1)

    def _at_once(self, wave: Samples) -> Half:
        # A copy: a stimulus is a read-only map, of which torch makes no tensor without a warning.
        half: Half = self.features(torch.from_numpy(np.array(wave))[None])[0].half().cpu().numpy()
        if not np.isfinite(half).all():
            raise BadInput(self.features.name, "features", "numbers within half precision, 65504", "larger ones or NaN")
        return half

    def _keep(self, path: Path, found: Half) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.tmp")
        with partial.open("wb") as file:
            np.save(file, found)
        partial.replace(path)


def resampled(features: Tensor, rate: float, frames: int, to_rate: float) -> Tensor:
    """Features [B, D, F] at ``rate`` a second -> [B, D, frames] at ``to_rate``, by straight lines between frames.

    Frame t stands in the middle of its time, at (t + 0.5) / rate seconds before and (t + 0.5) / to_rate after; time 0
    is the same. Before the first and after the last middle the nearest frame holds. (A frame of wav2vec 2.0 looks at
    25 ms for a time of 20 ms, and so 2.5 ms later than this says.) Meant for going up to the frames of a brain encoder:
    on the way down nothing is filtered.

    Raises:
        BadInput: not [B, D, F] of floats, no frames, rates that are not positive, or frames that stand more than two
            of the features' frames after their end.
    """
    where = "resampled"
    if features.ndim != 3 or not features.numel() or not features.is_floating_point():
        raise BadInput(where, "features", "floats [B, D, F], not empty", f"{features.dtype} {list(features.shape)}")
    if frames < 1 or not (0 < rate < float("inf") and 0 < to_rate < float("inf")):
        raise BadInput(where, "frames and rates", "at least 1 frame and positive rates", (frames, rate, to_rate))
    last, count = (frames - 0.5) / to_rate, features.shape[-1]
    if last > (count + 2) / rate:
        raise BadInput(where, "frames", f"frames within {count / rate:.3f} s", f"the last at {last:.3f} s")
    # In double precision: a fraction of a late frame would lose its digits in float32.
    place = (torch.arange(frames, dtype=torch.float64, device=features.device) + 0.5) * (rate / to_rate) - 0.5
    place = place.clamp(0, count - 1)
    before = place.long().clamp(max=max(0, count - 2))
    share = (place - before).to(features.dtype)
    after = (before + 1).clamp(max=count - 1)
    return features[..., before] * (1 - share) + features[..., after] * share


def _loaded(source: Path | str) -> PreTrainedModel:
    """The network at a folder or hub name, in float32, refused before its weights are read if it takes no waves."""
    from transformers import AutoModel

    local = os.path.isdir(source)
    if not local and (isinstance(source, Path) or source.startswith((".", "/", "~")) or source.count("/") > 1):
        raise BadInput(source, "model", FOLDER, "no such folder")
    config = _config(source, local)
    try:
        model, report = AutoModel.from_pretrained(
            source, config=config, local_files_only=local, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, RuntimeError, SafetensorError) as error:  # no file, shapes that differ, a damaged file
        raise _not_had(source, local, error) from error
    missing = sorted({*report["missing_keys"]} - UNUSED)
    if missing:
        raise BadInput(source, "weights", "all those of the network", f"none for {missing[:3]}")
    found: PreTrainedModel = model
    return found


def _config(source: Path | str, local: bool) -> PretrainedConfig:
    from transformers import AutoConfig

    try:
        # A stranger's configuration may name code of its own, which is not run.
        config: PretrainedConfig = AutoConfig.from_pretrained(source, local_files_only=local, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise _not_had(source, local, error) from error
    lacking = [name for name in NEEDED if not hasattr(config, name)]
    if lacking:
        found = f"{config.model_type}, without {', '.join(lacking)}"
        raise BadInput(source, "model", "a network on waves, as wav2vec 2.0, HuBERT and data2vec-audio are", found)
    return config


def _not_had(source: Path | str, local: bool, error: Exception) -> BadInput:
    reason = str(error).partition("\n")[0]
    if local:
        return BadInput(source, "model", FOLDER, reason)
    expected = "a folder, or the name of a model that the Hugging Face hub has"
    return BadInput(source, "model", expected, f"no such folder, and nothing from the hub; is it offline? ({reason})")


def _require_wave(wave: Tensor) -> None:
    where = "Wav2Vec2Features"
    if wave.ndim != 2 or not len(wave) or not wave.is_floating_point():
        raise BadInput(where, "wave", "floats [B, T], not empty", f"{wave.dtype} {list(wave.shape)}")
    if wave.shape[1] < SHORTEST * RATE:
        least = f"at least {round(SHORTEST * RATE)} samples, {SHORTEST} s at {RATE} Hz"
        raise BadInput(where, "wave", least, wave.shape[1])
    if not wave.isfinite().all():
        raise BadInput(where, "wave", "finite samples", "some that are NaN or infinite")


def _normalised(wave: Tensor) -> Tensor:
    centred = wave - wave.mean(1, keepdim=True)
    return centred / (wave.var(1, keepdim=True, correction=0) + VARIANCE_FLOOR).sqrt()


def _inside(stimulus: Samples, begin: float, end: float) -> tuple[int, int]:
    """First sample of a segment, and the one after its last."""
    # Half a sample, so that what rounds to a stimulus' last sample is within it; NaN is not.
    if not -0.5 <= begin * RATE < end * RATE <= len(stimulus) + 0.5 or round(begin * RATE) == round(end * RATE):
        raise BadInput("FeatureCache", "segment", f"within 0 to {len(stimulus) / RATE} s", f"{begin} to {end} s")
    return max(0, round(begin * RATE)), min(len(stimulus), round(end * RATE))
