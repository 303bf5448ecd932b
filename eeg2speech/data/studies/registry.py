"""Studies by name, from the entry-point group ``eeg2speech.studies``.

Each entry is a call without arguments that gives a ``Study``. Listing names imports no study.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from eeg2speech.data.preparation.study import Progress, RawStudy
from eeg2speech.data.store import Store
from eeg2speech.data.studies import Study
from eeg2speech.errors import BadInput, unknown_name

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


def prepare(
    name: str,
    out: Path | None = None,
    raw: Path | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Store:
    """The store of a study, generated or converted when it is not there yet.

    A name with a slash is the folder of a store that is there already.

    Args:
        name: of the study.
        out: the store's folder; in the cache if None.
        raw: folder of the raw files, or their archive, for a study that is made from such.
        settings: of the preparation, for a study that has some.
        progress: told after each recording, of a study that is made from raw files.

    Raises:
        BadInput: an unknown study; raw files or settings for a study that has none; whatever the study refuses.
    """
    if "/" in name:
        return Store(Path(name))
    found = study(name)
    if isinstance(found, RawStudy):
        found.raw, found.given, found.progress = raw, settings or {}, progress or found.progress
    elif raw is not None or settings:
        given = "--root" if raw is not None else f"--set {', '.join(settings or {})}"
        raise BadInput(
            name, "raw files, settings", "none: this study has neither (--out says where its store is)", given
        )
    return found.prepare(cache_folder() / name if out is None else out)
