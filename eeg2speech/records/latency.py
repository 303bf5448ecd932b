"""Records of latency: how long a system takes for its answer, what it needs for it, and on which machine.

One JSON document a system and device, ``<root>/<device>/<label>.json``. All rounds are kept, not only what was made of
them. Times are in seconds, memory in megabytes (1e6 bytes). Numbers are finite or null, never NaN; what could not be
measured has its reason in its place.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from eeg2speech.errors import BadInput
from eeg2speech.records.files import write_atomically
from eeg2speech.records.schema import CodeRef, Count, Name, refusal

LATENCY_SCHEMA_VERSION = 1
TAIL_ROUNDS = 100
"""Rounds below which the 99th percentile is but the slowest of them."""
LEVELS = (0.0, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 1.0)
"""Of which quantiles of a stream's chunks are kept: a minute of short chunks has thousands."""
Axis = Literal["seconds", "electrodes", "candidates", "training"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Case(_Part):
    """One way to ask a system, and how long its answers took, a number a round."""

    batch: int = Field(ge=1, description="Segments that are answered together.")
    seconds: float = Field(gt=0, description="Length of each segment.")
    precision: Literal["float32", "bfloat16"] = Field(description="bfloat16 is torch's autocast.")
    compiled: bool = Field(description="Whether its networks went through torch.compile.")
    threads: int = Field(ge=1, description="Threads of torch on the CPU.")
    first: float | None = Field(ge=0, description="Seconds of the first answer, with all that is made once.")
    rounds: tuple[float, ...] = Field(description="Seconds an answer, in the order measured, after warm-up.")
    loops: int = Field(ge=1, description="Answers a round: more than one where the clock would be too coarse.")
    peak_megabytes: float | None = Field(ge=0, description="Memory at most, beyond what the built system holds.")
    macs: Count | None = Field(description="Multiply-accumulates of one answer: products of matrices and convolutions.")
    joules: float | None = Field(default=None, ge=0, description="Energy an answer, where the driver counts it.")
    failure: str | None = Field(default=None, description="Why it could not be measured.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (not self.rounds) != (self.failure is not None):
            raise ValueError("rounds must be given, or a failure that says why there are none")
        return self

    def percentile(self, share: float) -> float | None:
        """Seconds under which a ``share`` of the rounds lie, on straight lines between them; None without rounds."""
        return quantile(self.rounds, share) if self.rounds else None

    @property
    def real_time_factor(self) -> float | None:
        """Median seconds of computation a second of speech, over all segments of the batch; below 1 keeps up."""
        median = self.percentile(0.5)
        return None if median is None else median / (self.batch * self.seconds)

    @property
    def throughput(self) -> float | None:
        """Segments a second."""
        median = self.percentile(0.5)
        return None if not median else self.batch / median

    @property
    def way(self) -> tuple[float, int, str, bool, int]:
        """How it was asked, what it is told apart by."""
        return (self.seconds, self.batch, self.precision, self.compiled, self.threads)


class Stage(_Part):
    """A part of the system within one answer of the standard case."""

    name: str = Field(min_length=1, description="What it is.")
    calls: int = Field(ge=1, description="Calls an answer.")
    seconds: float = Field(ge=0, description="Median over the rounds of the seconds of all its calls.")


class Streaming(_Part):
    """A signal of some length, answered while it comes."""

    how: Literal["chunks", "window"] = Field(
        description="'chunks': the system carries its state and is given what is new; 'window': it is asked about the "
        "last window as a whole, and of its answer what is new is taken."
    )
    chunk: float = Field(gt=0, description="Seconds of signal a call: the chunk, or the hop of the window.")
    window: float | None = Field(description="Length of the window in seconds; null for chunks.")
    signal: float = Field(gt=0, description="Seconds of signal.")
    paced: bool = Field(
        description="Whether chunks came at their time by the clock; else calls followed each other and their "
        "deadlines were computed."
    )
    algorithmic: float = Field(
        ge=0,
        description="Algorithmic latency: seconds of input beyond a moment, before its sound can go out. Of windows, "
        "the hop: its first sample waits for its last.",
    )
    first_sound: float | None = Field(description="Seconds of signal that had gone in when the first sound came out.")
    calls: int = Field(ge=1, description="Number of calls.")
    compute: tuple[float, ...] = Field(description=f"Seconds a call at the quantiles {LEVELS}.")
    mean: float = Field(ge=0, description="Mean seconds a call.")
    missed: Count = Field(description="Calls that ended after the next chunk had come.")
    worst_delay: float = Field(ge=0, description="Seconds from when a chunk had come to when it was answered, at most.")
    state_bytes: Count | None = Field(description="Bytes carried from chunk to chunk; null for windows.")
    threads: int = Field(ge=1, description="Threads of torch on the CPU.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.compute) != len(LEVELS):
            raise ValueError(f"compute must have {len(LEVELS)} quantiles, not {len(self.compute)}")
        if (self.how == "window") != (self.window is not None):
            raise ValueError("window must be given exactly where how is 'window'")
        return self

    @property
    def real_time_factor(self) -> float:
        """Mean seconds of computation a second of signal."""
        return self.mean / self.chunk

    def at(self, share: float) -> float:
        """Seconds a call at one of the kept quantiles."""
        return self.compute[LEVELS.index(share)]


class Growth(_Part):
    """How time and memory grow along one axis, all else as in the standard case."""

    axis: Axis = Field(
        description="Length of the segment, electrodes, candidates of a retrieval, or share of the training part."
    )
    what: str = Field(min_length=1, description="What is timed.")
    values: tuple[float, ...] = Field(min_length=2, description="Places on the axis, rising.")
    seconds: tuple[float, ...] = Field(description="Median seconds at each.")
    megabytes: tuple[float, ...] = Field(description="Peak memory at each.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not len(self.values) == len(self.seconds) == len(self.megabytes):
            raise ValueError("as many seconds and megabytes as values")
        if any(later <= earlier for earlier, later in zip(self.values, self.values[1:], strict=False)):
            raise ValueError(f"values must rise, not be {self.values}")
        return self


class Latency(_Part):
    """One system on one device. See the module's docstring."""

    schema_version: Literal[1] = Field(default=1, description="Version of this schema.")
    label: Name = Field(description="Name of the system in tables.")
    system: Name = Field(description="Name in the registry.")
    settings: dict[str, JsonValue] = Field(description="All its settings.")
    task: Literal["extraction", "retrieval", "generation"] = Field(description="What it was asked.")
    weights: str = Field(description="Where its weights come from: shipped, initial, fitted or none.")
    causal: bool = Field(description="Whether its output at a time depends on no later input.")
    parameters: Count = Field(description="Number of learned values.")
    audio_rate: int = Field(ge=1, description="Hz.")
    eeg_rate: int = Field(ge=1, description="Hz.")
    electrodes: int = Field(ge=1, description="Number of EEG channels.")
    device: str = Field(min_length=1, description="'cpu', or the name of the accelerator.")
    machine: dict[str, str] = Field(description="Processor, cores, operating system, Python, torch.")
    clock: float = Field(gt=0, description="Precision of the clock, measured, in seconds.")
    conditions: tuple[dict[str, float], ...] = Field(
        description="State of the machine before and after: load, share of the cores that others used, MHz, degrees."
    )
    cases: tuple[Case, ...] = Field(min_length=1, description="What was measured; the first is the standard case.")
    stages: tuple[Stage, ...] = Field(default=(), description="Parts of the system within an answer.")
    streams: tuple[Streaming, ...] = Field(default=(), description="Answers while the signal comes.")
    growth: tuple[Growth, ...] = Field(default=(), description="Cost curves.")
    code: CodeRef = Field(description="Code.")
    created: str = Field(description="Time at which it was written, ISO 8601 in UTC.")

    @property
    def standard(self) -> Case:
        """The case by which systems are compared."""
        return self.cases[0]

    def best_stream(self) -> Streaming | None:
        """Of the streams that kept up, the one with the least delay in all; None where none did."""
        kept = [stream for stream in self.streams if not stream.missed]
        return min(kept, key=lambda stream: stream.algorithmic + stream.chunk, default=None)


class LatencyStore:
    """Records of latency under ``root``. Every refusal is a BadInput that names the file and the field."""

    def __init__(self, root: Path | str) -> None:
        """Nothing is read or written before it is asked for."""
        self.root = Path(root)

    def path(self, latency: Latency) -> Path:
        """Where a record lies once it is written."""
        return self.root / slug(latency.device) / f"{latency.label}.json"

    def write(self, latency: Latency) -> Path:
        """Store a record, in the place of an earlier one of the same system and device; returns its path."""
        path = self.path(latency)
        text = json.dumps(latency.model_dump(mode="json"), indent=1, sort_keys=True, allow_nan=False)
        write_atomically(path, (_flat(text) + "\n").encode("utf-8"))
        return path

    def read(self, path: Path | str) -> Latency:
        """The record at ``path``, checked against the schema and its place under ``root``."""
        path = Path(path)
        try:
            latency = Latency.model_validate_json(path.read_bytes())
        except FileNotFoundError as error:
            raise BadInput(path, "file", "a record of latency", "no such file") from error
        except ValidationError as error:
            raise refusal(path, error, "record") from error
        if self.path(latency).resolve() != path.resolve():
            raise BadInput(path, "path", self.path(latency).relative_to(self.root).as_posix(), path.name)
        return latency

    def read_all(self) -> tuple[Latency, ...]:
        """All records, sorted by device and label."""
        found = (self.read(path) for path in self.root.glob("*/*.json"))
        return tuple(sorted(found, key=lambda latency: (latency.device, latency.label)))


def slug(device: str) -> str:
    """A device's name as that of a folder: ``NVIDIA H100`` is ``nvidia-h100``."""
    return re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")


def quantile(values: tuple[float, ...] | list[float], share: float) -> float:
    """Value under which a ``share`` of the values lie, on straight lines between neighbours (numpy's default)."""
    ranked = sorted(values)
    place = share * (len(ranked) - 1)
    below = min(int(place), len(ranked) - 2) if len(ranked) > 1 else 0
    above = min(below + 1, len(ranked) - 1)
    return ranked[below] + (place - below) * (ranked[above] - ranked[below])


def _flat(text: str) -> str:
    """Lists of numbers on one line: a record of a hundred rounds stays readable, and small."""
    return re.sub(r"\[[\s\d.,eE+-]+\]", lambda found: re.sub(r"\s+", "", found.group()), text)
