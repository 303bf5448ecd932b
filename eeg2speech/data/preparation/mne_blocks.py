"""EEG files that MNE reads, a block at a time, in microvolt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eeg2speech.data.preparation.blocks import Array, require_rate
from eeg2speech.errors import BadInput, refusing

VOLTS = {"V", "mV", "uV", "µV"}
"""Units that MNE turns into volts, whatever the format; nanovolts only in BrainVision files."""
EXPECTED = ("EEG file", "one that MNE reads")
BRAINVISION = (".vhdr", ".ahdr")


class MneBlocks:
    """Channels of a file by their names, in this order, [C, N] in microvolt; all of them if no names are given.

    Raises BadInput: no such file, one that MNE cannot read, a channel that it does not have or whose unit is no volt.
    """

    def __init__(self, path: Path, names: Sequence[str] = ()) -> None:
        if not path.is_file() and not path.is_dir():
            raise BadInput(path, "file", "an EEG file", "no such file")
        self.path = path
        self._raw = _opened(path)
        known = list(self._raw.ch_names)
        self.names = tuple(names) or tuple(known)
        lacking = [name for name in self.names if name not in known]
        if lacking:
            raise BadInput(path, "channels", ", ".join(self.names), f"none named {', '.join(lacking)}")
        self._picks = [known.index(name) for name in self.names]
        for name in self.names:
            self._require_volts(name)
        self.rate, self.samples = float(self._raw.info["sfreq"]), int(self._raw.n_times)
        require_rate(self.rate, path)
        if not self.samples:
            raise BadInput(path, "length", "at least one sample", 0)

    @property
    def channels(self) -> int:
        """C."""
        return len(self.names)

    def read(self, begin: int, end: int) -> Array:
        """[C, end - begin], microvolt. Raises BadInput for samples that cannot be read or are not finite."""
        with refusing(self.path, *EXPECTED):
            block: Array = self._raw.get_data(self._picks, begin, end, verbose="ERROR") * 1e6
        if block.shape[1] != end - begin:
            raise BadInput(self.path, "length", f"{self.samples} samples", begin + block.shape[1])
        if not np.isfinite(block).all():
            raise BadInput(self.path, "samples", "finite numbers", "NaN or infinite ones")
        return np.asarray(block)

    def _require_volts(self, name: str) -> None:
        stated = getattr(self._raw, "_orig_units", {}).get(name, "V")
        known = VOLTS | ({"nV"} if self.path.suffix.lower() in BRAINVISION else set())
        if stated not in known:
            raise BadInput(self.path, f"unit of {name!r}", ", ".join(sorted(known)), repr(stated))


def _opened(path: Path) -> Any:
    import mne

    with refusing(path, *EXPECTED):
        return mne.io.read_raw(path, preload=False, verbose="ERROR")
