"""Leakage audit on metadata: what a test score could owe to something other than the EEG.

Each finding has a level: ``fatal`` (the score means nothing for the claim the split makes), ``warning`` (a known
way to score without the EEG is open) and ``note`` (a fact to state beside the score). What only signals can tell, that
stimuli sound alike and what a probe reads from EEG, is measured elsewhere (``evaluation.audit``) and handed in.
"""

from __future__ import annotations

from eeg2speech.data.types import Index
from eeg2speech.splits.amounts import amounts
from eeg2speech.splits.deciders import deciding, told_by_training, unbalanced_roles
from eeg2speech.splits.findings import Finding, gravest_first, verdict
from eeg2speech.splits.leaks import Duplicates, overlapping_windows, shared_audio, shared_subjects, shared_trials
from eeg2speech.splits.manifest import Split

__all__ = ["Finding", "audit", "verdict"]


def audit(index: Index, split: Split, duplicates: Duplicates = (), seconds: float | None = None) -> list[Finding]:
    """All findings for a split of a study, the gravest first.

    ``duplicates`` are pairs of stimuli that sound alike; ``seconds`` is the length of the windows that are counted.
    """
    trials = {t.id: t for t in index.trials}
    decided = deciding(index)
    findings = [
        *overlapping_windows(split, trials),
        *shared_trials(split),
        *shared_audio(split, trials, duplicates),
        *shared_subjects(split, trials),
        *decided,
        *amounts(split, trials, seconds),
    ]
    # Where something decides every target, training tells it and roles are unbalanced as a matter of course.
    if all(finding.name == "subject decides target" for finding in decided):
        findings += [*unbalanced_roles(index.trials), *told_by_training(index, split)]
    return gravest_first(findings)
