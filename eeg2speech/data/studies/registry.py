"""Studies by name, from the entry-point group ``eeg2speech.studies``.

Each entry is a call without arguments that gives a ``Study``. Listing names imports no study.
"""

from __future__ import annotations

import os
from importlib.metadata import entry_points
from pathlib import Path

from eeg2speech.data.store import Store
from eeg2speech.data.studies import Study
from eeg2speech.errors import unknown_name

GROUP = "eeg2speech.studies"


def study_names() -> tuple[str, ...]:
    """Names of all installed studies, sorted."""
    return tuple(sorted(point.name for point in entry_points(group=GROUP)))


def study(name: str) -> Study:
    """A study by name; an unknown one is refused with the nearest."""
    points = {point.name: point for point in entry_points(group=GROUP)}
    if name not in points:
        raise unknown_name("studies", "study", name, points)
    made: Study = points[name].load()()
    return made


def cache_folder() -> Path:
    """Where prepared studies are kept: ``$EEG2SPEECH_CACHE``, else ``~/.cache/eeg2speech``."""
    return Path(os.environ.get("EEG2SPEECH_CACHE") or Path.home() / ".cache" / "eeg2speech")


def prepare(name: str, root: Path | None = None) -> Store:
    """The store of a study, generated or converted when it is not there yet. ``root`` defaults to the cache.

    A name with a slash is the folder of a store that is there already.
    """
    if "/" in name:
        return Store(Path(name))
    return study(name).prepare(cache_folder() / name if root is None else root)
