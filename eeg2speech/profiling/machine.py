"""The state of the machine while something is timed: who else computes, at which clock, how hot, and the energy.

What the operating system or the driver does not tell is left out, never guessed.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

import torch

from eeg2speech.errors import BadInput
from eeg2speech.processes import cores
from eeg2speech.records.provenance import machine_facts, package_versions

STAT, INFO = Path("/proc/stat"), Path("/proc/cpuinfo")
THERMAL, POWERCAP = Path("/sys/class/thermal"), Path("/sys/class/powercap")
BUSY = 0.10
"""Share of the cores that others may use: at more, threads wait for each other, and times say little."""
GPU_FIELDS = {
    "gpu_mhz": "clocks.sm",
    "gpu_memory_mhz": "clocks.mem",
    "gpu_degrees": "temperature.gpu",
    "gpu_watts": "power.draw",
    "gpu_used": "utilization.gpu",
}
"""What is asked of nvidia-smi, by our names; ``gpu_used`` in per cent."""


def machine_of(device: torch.device) -> dict[str, str]:
    """What stays the same: processor, cores, system, versions; of an accelerator its name and memory."""
    facts = machine_facts() | package_versions(["torch"])
    if device.type == "cuda":
        about = torch.cuda.get_device_properties(device)
        facts |= {"gpu": about.name, "gpu_memory": f"{about.total_memory / 1e9:.0f} GB"}
        facts |= {"cuda": str(torch.version.cuda)}
    return facts


def device_name(device: torch.device) -> str:
    """``cpu``, or the accelerator's own name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def conditions(device: torch.device, over: float = 1.0) -> dict[str, float]:
    """What changes, looked at for ``over`` seconds in which this process sleeps."""
    found = {"load": round(os.getloadavg()[0], 2)} if hasattr(os, "getloadavg") else {}
    used = used_by_others(over)
    found |= {} if used is None else {"used_by_others": round(used, 3)}
    found |= _mean("mhz", _megahertz()) | _highest("degrees", _degrees())
    return found | (_gpu() if device.type == "cuda" else {})


def require_idle(before: dict[str, float]) -> None:
    """Refuse a machine on which others compute. Raises BadInput."""
    used = before.get("used_by_others", 0.0)
    if used > BUSY:
        expected = f"an idle machine: others use at most {BUSY:.0%} of the cores (or --busy: it is noted in the record)"
        raise BadInput("machine", "load", expected, f"{used:.0%}")


def used_by_others(over: float) -> float | None:
    """Share of the cores that other processes used in the next ``over`` seconds; None where there is no /proc."""
    if not STAT.exists():
        time.sleep(over)
        return None
    # This process sleeps, so that what is used is used by others. The first line is of all cores together.
    before = _ticks()
    time.sleep(over)
    after = _ticks()
    passed = sum(after) - sum(before)
    idle = sum(after[3:5]) - sum(before[3:5])
    return 0.0 if passed <= 0 else (passed - idle) / passed


def joules(device: torch.device) -> float | None:
    """Counter of energy in joules, of which differences mean something; None where the driver has none."""
    return _cuda_joules(device) if device.type == "cuda" else _package_joules()


def _ticks() -> list[int]:
    return [int(part) for part in STAT.read_text(encoding="ascii").splitlines()[0].split()[1:9]]


def _megahertz() -> list[float]:
    try:
        lines = INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return [float(line.partition(":")[2]) for line in lines if line.startswith("cpu MHz")][: cores()]


def _degrees() -> list[float]:
    return [value / 1e3 for value in _numbers(THERMAL.glob("thermal_zone*/temp"))]


def _package_joules() -> float | None:
    """Of all processor packages (RAPL); what may not be read is as if it were not there."""
    found = _numbers(POWERCAP.glob("intel-rapl:[0-9]*/energy_uj"))
    return sum(found) / 1e6 if found else None


def _cuda_joules(device: torch.device) -> float | None:
    """NVML's counter, where its Python package is installed."""
    try:
        import pynvml  # type: ignore[import-not-found]
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(device.index or 0)
        return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3
    except pynvml.NVMLError:
        return None


def _gpu() -> dict[str, float]:
    command = ["nvidia-smi", f"--query-gpu={','.join(GPU_FIELDS.values())}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return {}
    told = zip(GPU_FIELDS, done.stdout.splitlines()[0].split(","), strict=False)
    return {name: float(text) for name, text in told if _is_number(text)}


def _numbers(paths: Iterable[Path]) -> list[float]:
    found = []
    for path in paths:
        try:
            text = path.read_text(encoding="ascii")
        except OSError:
            continue
        if _is_number(text):
            found.append(float(text))
    return found


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _mean(name: str, values: list[float]) -> dict[str, float]:
    return {name: round(sum(values) / len(values), 1)} if values else {}


def _highest(name: str, values: list[float]) -> dict[str, float]:
    return {name: max(values)} if values else {}
