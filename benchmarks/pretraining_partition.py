"""Write the partition of the embedded corpus for pretrained parts anew: ``python benchmarks/pretraining_partition.py``.

The rule is in ``eeg2speech.assets.pretraining``. Weights that were trained with another partition are then void.
"""

from __future__ import annotations

import json
from typing import Any

from eeg2speech.assets.corpus import Utterance, utterances
from eeg2speech.assets.pretraining import PARTITION
from eeg2speech.data.store import Store
from eeg2speech.data.studies.registry import prepare
from eeg2speech.data.studies.simulated import corpus_range
from eeg2speech.splits import make_split

STUDY, SPLIT, SEED = "simulated-clear", "stimulus", 0


def partition(store: Store) -> dict[str, Any]:
    """Content of the partition's file: the utterances that overlap a stimulus of validation or test."""
    split = make_split(store.index, SPLIT, SEED)
    trials = [store.trial(span.trial) for part in ("valid", "test") for span in split.parts[part]]
    wanted = {name for trial in trials for name in (trial.attended, trial.unattended)}
    kept = [corpus_range(stimulus) for stimulus in store.index.stimuli if stimulus.id in wanted]
    names = [utterance.utterance for utterance in utterances() if _touches(utterance, kept)]
    return {"study": store.facts.name, "split": SPLIT, "seed": SEED, "held_out": names}


def _touches(utterance: Utterance, kept: list[tuple[str, int, int]]) -> bool:
    """Whether an utterance overlaps one of these stretches (track, start, stop)."""
    return any(
        utterance.track == track and utterance.start < stop and utterance.stop > start for track, start, stop in kept
    )


if __name__ == "__main__":
    PARTITION.write_text(json.dumps(partition(prepare(STUDY)), indent=1) + "\n", encoding="utf-8")
