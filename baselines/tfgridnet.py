"""TF-GridNet with EEG, and as a blind separator: full- and sub-band LSTMs and attention on a short-time spectrum.

The separator is that of Wang et al. 2023 ("TF-GridNet: Integrating Full- and Sub-Band Modeling for Speech Separation",
IEEE/ACM TASLP). It has no published form with EEG. The EEG branch, its fusion before every block and the training are
DPRNN's here (``dprnn``, ``masking``), so that what parts the two rows of a table is the separator alone.
Written from the paper; no code was taken over.
"""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from eeg2speech.models.grid import GridNet
from eeg2speech.systems.interface import Facts
from eeg2speech.training.fit import Plan

from .masking import Extractor, MaskingSystem, Separator

# ``window`` and ``hop`` in seconds; ``key_size``: numbers a frame and head by which frames are compared, about.
# ``paper``: the form of 14.5 million parameters. ``demo``: longer windows, an eighth of the places along frequency and
# masks, so that it learns in minutes on a CPU.
SIZES: dict[str, dict[str, Any]] = {
    "demo": {
        "window": 0.020,
        "hop": 0.010,
        "patch": 8,
        "masking": True,
        "width": 40,
        "blocks": 2,
        "kernel": 2,
        "stride": 2,
        "hidden": 32,
        "heads": 2,
        "key_size": 84,
        "eeg_width": 24,
    },
    "paper": {
        "window": 0.032,
        "hop": 0.008,
        "patch": 1,
        "masking": False,
        "width": 64,
        "blocks": 6,
        "kernel": 4,
        "stride": 1,
        "hidden": 256,
        "heads": 4,
        "key_size": 512,
        "eeg_width": 64,
    },
}

SOURCE = "Wang et al. 2023, doi:10.1109/TASLP.2023.3304482"


class _Tfgridnet(MaskingSystem):
    """What both share."""

    plan = Plan(steps={"demo": 120, "hour": 1200, "full": 100_000}, batch=8, segment_seconds=2.0)

    @property
    def inner_rate(self) -> int:
        """The study's: windows are in seconds."""
        return self.context.audio_rate

    def compose(self, sensors: int, talkers: int, rate: int) -> nn.Module:
        """The network; windows last equally long at any rate."""
        size = dict(SIZES[self.settings.size])
        hop = round(rate * size.pop("hop"))
        window = max(2 * round(rate * size.pop("window") / 2), 2 * hop)
        places = math.ceil((window // 2 + 1) / size["patch"])
        key_width = math.ceil(size.pop("key_size") / places)
        return GridNet(sensors, talkers, window, hop, key_width=key_width, **size)


class TfgridnetSeparator(_Tfgridnet, Separator):
    """Blind separation into two talkers, from which ``Tfgridnet`` starts."""

    facts = Facts(title="TF-GridNet, blind separation, first output", licence="MIT", source=SOURCE, uses_eeg=False)
    plan = Plan(steps={"demo": 240, "hour": 2400, "full": 200_000}, batch=8, segment_seconds=2.0)


class Tfgridnet(_Tfgridnet, Extractor):
    """Extraction with EEG."""

    facts = Facts(title="TF-GridNet with EEG", licence="MIT", source=SOURCE)
    separator = TfgridnetSeparator
