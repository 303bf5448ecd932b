"""What an audit finds: the findings, what each means, how to cure it, and the verdict over all of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from eeg2speech.errors import unknown_name

Level = Literal["fatal", "warning", "note"]
LEVELS: tuple[Level, ...] = get_args(Level)
"""The gravest first."""


class Known(NamedTuple):
    """What is to be said of a finding wherever it is found."""

    meaning: str
    cure: str


_COIN = "use data with attention by a coin in each trial"
_STRICT = "use the split stimulus"
KNOWN: dict[str, Known] = {
    "overlapping windows": Known("the same EEG is learned from and scored", "cut trials before windows are taken"),
    "valid used as test": Known(
        "what chose the weights is what they are scored on", "keep a valid part that shares no time with the test"
    ),
    "windows counted twice": Known(
        "the same EEG is scored more than once, and intervals are too narrow", "take windows side by side"
    ),
    "trial in train and test": Known(
        "a fingerprint of the trial gives the target away", "use the split trial, stimulus or subject"
    ),
    "trial in valid and test": Known(
        "a fingerprint of the trial helps to choose the weights", "keep each trial in one part"
    ),
    "attended audio in train and test": Known("a system can know by heart what is to be extracted", _STRICT),
    "audio in train and test": Known("a system can know one of the talkers by heart, and so the other", _STRICT),
    "near-duplicate audio in train and test": Known(
        "sounds with different bytes are the same speech: a copy, another gain or cut", f"remove one, or {_STRICT}"
    ),
    "audio in valid and test": Known("weights are chosen by how well they know the test's speech", _STRICT),
    "subject in train and test": Known(
        "nothing is said about new listeners", "use the split subject for a claim about new listeners"
    ),
    "subject decides target": Known(
        "knowing who listens is enough", "report subject_id_oracle; use data with balanced attention"
    ),
    "speaker decides target": Known("knowing the voices is enough, without EEG", "use voices that take both roles"),
    "story decides target": Known("knowing the stories is enough, without EEG", "use stories that take both roles"),
    "ear decides target": Known(
        "a system that reads where attention is directed need not follow speech", "use attention to both ears"
    ),
    "trial order decides target": Known(
        "when in a recording it was tells the target, and drifts of the EEG tell when", "draw the order by chance"
    ),
    "attention told by training": Known("who attended what in training tells the test", _COIN),
    "unbalanced attended roles": Known(
        "the audio alone tells the target", "use pairs heard with attention on either talker"
    ),
    "attention told by EEG alone": Known(
        "a linear probe that never hears the talkers names the attended one", "report fingerprint_select beside it"
    ),
    "trial fingerprint": Known(
        "the EEG tells of which trial it is: where trials or their neighbours are shared between parts, a system can "
        "answer from that",
        "report time_shift beside the score; use the split subject",
    ),
    "probe": Known("what a linear probe reads from the EEG of test trials alone", "none needed"),
    "amounts": Known("how much independent evidence there is", "intervals cluster over subjects and pairs"),
}


@dataclass(frozen=True)
class Finding:
    """One thing the audit found. What it means and how to cure it follow from its name."""

    level: Level
    name: str
    detail: str

    def __post_init__(self) -> None:
        if self.name not in KNOWN:
            raise unknown_name("audit", "finding", self.name, KNOWN)

    @property
    def meaning(self) -> str:
        """What it means for a score."""
        return KNOWN[self.name].meaning

    @property
    def cure(self) -> str:
        """What to do about it."""
        return KNOWN[self.name].cure

    @property
    def text(self) -> str:
        """One line for people."""
        return f"{self.level}: {self.name}: {self.detail}; {self.meaning}. Cure: {self.cure}."


def gravest_first(findings: Iterable[Finding]) -> list[Finding]:
    """Findings by level, else in their order."""
    return sorted(findings, key=lambda finding: LEVELS.index(finding.level))


def verdict(findings: Iterable[Finding]) -> str:
    """``clean``, or the gravest level with the names of its findings; notes do not count."""
    findings = list(findings)
    for level in ("fatal", "warning"):
        names = sorted({f.name for f in findings if f.level == level})
        if names:
            return f"{level}: {', '.join(names)}"
    return "clean"
