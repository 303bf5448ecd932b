"""What is installed, which devices there are, what is missing and how to get it."""

from __future__ import annotations

import shutil
import sys
from importlib.metadata import PackageNotFoundError, version

from eeg2speech.processes import cores

NEEDED = (
    "torch", "torchaudio", "lightning", "transformers", "safetensors", "numpy", "scipy", "pandas", "pyarrow",
    "matplotlib", "seaborn", "mne", "h5py", "soundfile", "pesq", "pystoi", "pydantic", "typer",
    "diffusers", "librosa", "pyworld", "resemblyzer", "speechmos", "onnxruntime",
)  # fmt: skip
EXTRAS = {
    "descript-audio-codec": "dac",
    "submitit": "slurm",
    "mamba-ssm": "gpu",
    "torchmetrics": "dev",
    "mambapy": "dev",
    "pytest-benchmark": "dev",
}


def report() -> tuple[list[str], bool]:
    """Lines to print, and whether everything that is needed is there."""
    missing = [name for name in NEEDED if _version(name) is None]
    lines = [f"python       {sys.version.split()[0]}"]
    lines += [f"{name:12} {_version(name) or f'MISSING: pip install {name}'}" for name in NEEDED]
    lines += ["", "extras:"]
    lines += [
        f"  {name:22} {_version(name) or f'not installed: pip install eeg2speech[{extra}]'}"
        for name, extra in EXTRAS.items()
    ]
    return [*lines, "", *_devices(missing), *_corpus(missing), _disk(), _verdict(missing)], not missing


def _devices(missing: list[str]) -> list[str]:
    if "torch" in missing:
        return []
    import torch

    from eeg2speech.training.fit import native_bf16

    lines = [f"cpu: {cores()} cores, bfloat16 in hardware: {'yes' if native_bf16() else 'no'}"]
    if not torch.cuda.is_available():
        return [*lines, "cuda: none (training runs on the CPU; a driver for CUDA 13 is needed to use a GPU)"]
    return [*lines, *(f"cuda:{k}: {torch.cuda.get_device_name(k)}" for k in range(torch.cuda.device_count()))]


def _corpus(missing: list[str]) -> list[str]:
    if "soundfile" in missing:
        return []
    from eeg2speech.assets.corpus import tracks

    found = tracks()
    return [f"embedded speech: {len(found)} tracks, {sum(t.seconds for t in found) / 60:.0f} minutes"]


def _disk() -> str:
    from eeg2speech.data.studies.registry import cache_folder

    folder = cache_folder()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free / 1e9
    return f"cache {folder}: {free:.0f} GB free (a simulated study needs about 1.2 GB)"


def _verdict(missing: list[str]) -> str:
    return f"missing: {', '.join(missing)}" if missing else "all that is needed is here"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
