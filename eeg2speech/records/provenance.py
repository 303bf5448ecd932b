"""Where a record comes from: code, packages, machine. No host names, no user names, no paths."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import eeg2speech
from eeg2speech.processes import cores
from eeg2speech.records.schema import CodeRef

PACKAGE = "eeg2speech"


def code_reference() -> CodeRef:
    """Commit of the checkout that this package runs from, and whether tracked files differ from it.

    Both are None when the package runs from elsewhere. An installed copy that happens to lie inside some other checkout
    (a .venv in a repository) is not that checkout's code, hence the question whether git tracks the package's files.
    """
    version = package_versions([PACKAGE])[PACKAGE]
    folder = Path(eeg2speech.__file__).resolve().parent
    if _git(folder, "ls-files", "--error-unmatch", "__init__.py") is None:
        return CodeRef(commit=None, dirty=None, version=version)
    commit, changes = _git(folder, "rev-parse", "HEAD"), _git(folder, "status", "--porcelain", "--untracked-files=no")
    return CodeRef(commit=commit, dirty=None if commit is None or changes is None else bool(changes), version=version)


def package_versions(names: Iterable[str]) -> dict[str, str]:
    """Installed version of each named package, sorted by name; 'not installed' for a missing one."""
    return {name: _version(name) for name in sorted(names)}


def machine_facts() -> dict[str, str]:
    """Processor, cores that this process may use, operating system and Python."""
    return {
        "cores": str(cores()),
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "python": platform.python_version(),
    }


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, "") or platform.processor() or platform.machine()
