"""Speed beside the scores: which record of latency belongs to a row, and what its cells say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from eeg2speech.records.latency import Latency, LatencyStore
from eeg2speech.report.results import Run
from eeg2speech.report.tables import NOTHING

LATENCY = "latency"
"""Folder beside the records with those of latency."""
CPU = "cpu"
LEAST = 1e-3


def latencies_of(records_root: Path) -> tuple[Latency, ...]:
    """All records of latency that lie beside the records; none is no error."""
    return LatencyStore(records_root / LATENCY).read_all()


def devices_of(latencies: Sequence[Latency]) -> tuple[str, ...]:
    """Devices that there are records of, the CPU first."""
    return tuple(sorted({latency.device for latency in latencies}, key=lambda device: (device != CPU, device)))


def latency_of(latencies: Sequence[Latency], run: Run, device: str, task: str) -> Latency | None:
    """The record of a row's system, with all of its settings, on a device and in a task; None if it was not measured.

    By class and settings, not by name: what a row is called says nothing of what was built.
    """
    declared = run.system.declaration
    wanted = (declared.get("system"), declared.get("settings"), device, task)
    found = ((each.system, each.settings, each.device, each.task) for each in latencies)
    return next((each for each, key in zip(latencies, found, strict=True) if key == wanted), None)


def speed_header(latencies: Sequence[Latency]) -> tuple[str, ...]:
    """Columns of speed: none where nothing was measured."""
    return tuple(
        header
        for device in devices_of(latencies)
        for header in (f"real-time factor, {device}", f"algorithmic latency (s), {device}")
    )


def speed_cells(latencies: Sequence[Latency], run: Run, task: str) -> tuple[str, ...]:
    """Cells of one row below ``speed_header``."""
    found = (latency_of(latencies, run, device, task) for device in devices_of(latencies))
    return tuple(cell for latency in found for cell in (factor_cell(latency), algorithmic_cell(latency)))


def factor_cell(latency: Latency | None) -> str:
    """Real-time factor of the standard case."""
    return NOTHING if latency is None else factor(latency.standard.real_time_factor)


def algorithmic_cell(latency: Latency | None) -> str:
    """Algorithmic latency of the stream that kept up with the least delay, and how it was asked.

    What has no stream answers whole segments; where no stream kept up, the cell says so.
    """
    if latency is None:
        return NOTHING
    if not latency.streams:
        return "whole segment"
    stream = latency.best_stream()
    if stream is None:
        return "does not keep up"
    text = f"{stream.algorithmic:.2f}"
    return text if stream.window is None else f"{text} (window of {stream.window:g} s)"


def factor(value: float | None) -> str:
    """A real-time factor: three decimals, and no zero for what is not nothing."""
    if value is None:
        return NOTHING
    return f"<{LEAST:g}" if value < LEAST else f"{value:.3f}" if value < 10 else f"{value:.1f}"
