"""The audit of a split with its signals: metadata (``splits.audit``), stimuli that sound alike, probes of the EEG.

It is made once for each revision of a study, split and version of the audit, and kept beside the prepared study.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from eeg2speech.data.fingerprint import Alike, near_duplicates
from eeg2speech.data.store import Store
from eeg2speech.evaluation.probes import PERMUTATIONS, Probe, probe_all
from eeg2speech.records.audits import (
    AUDIT_VERSION,
    AUDITS,
    MANIFESTS,
    AlikeRef,
    Audit,
    FindingRef,
    ProbeRef,
    read_audit,
    write_audit,
)
from eeg2speech.splits.audit import Finding, audit, verdict
from eeg2speech.splits.findings import Level, gravest_first
from eeg2speech.splits.manifest import Split

WINDOW_SECONDS = 4.0
"""Length of the windows that are counted and probed, where the test's spans are as long."""
ATTENDED = "attended "
"""Begin of the names of probes whose answer is the target, or tells it."""


def audit_split(store: Store, split: Split, seconds: float | None = None, permutations: int = PERMUTATIONS) -> Audit:
    """The audit of a split, from the study's folder or made now. ``seconds`` is the length of the windows.

    Raises BadInput for a test span that is shorter.
    """
    if seconds is None:
        seconds = min(WINDOW_SECONDS, *(span.stop - span.start for span in split.parts["test"]))
    path = store.root / AUDITS / f"{split.kind}-{split.hash}-{seconds:g}s-{permutations}-v{AUDIT_VERSION}.json"
    known = read_audit(path)
    if known is not None and (known.revision, known.manifest_hash) == (store.index.revision, split.hash):
        return known
    made = _made(store, split, seconds, permutations)
    # A study that others prepared may not be ours to write to; then it is made again each time.
    if os.access(store.root, os.W_OK):
        write_audit(path, made)
    return made


def _made(store: Store, split: Split, seconds: float, permutations: int) -> Audit:
    alike = near_duplicates(store)
    probes = probe_all(store, split, seconds, permutations)
    found = audit(store.index, split, [(each.first, each.second) for each in alike], seconds)
    findings = gravest_first([*found, *probed(probes, store, split)])
    return Audit(
        study=store.facts.name,
        revision=store.index.revision,
        split=split.kind,
        seed=split.seed,
        manifest_hash=split.hash,
        window_seconds=seconds,
        verdict=verdict(findings),
        findings=tuple(_finding(finding) for finding in findings),
        probes=tuple(ProbeRef(**asdict(probe)) for probe in probes),
        alike=tuple(_alike(each) for each in alike),
    )


def keep(audit: Audit, split: Split, root: Path) -> None:
    """Put the audit and the manifest of a split beside records in ``root``, unless they are there."""
    manifest = root / MANIFESTS / audit.place
    if not manifest.exists() or Split.load(manifest).hash != split.hash:
        split.save(manifest)
    if read_audit(root / AUDITS / audit.place) != audit:
        write_audit(root / AUDITS / audit.place, audit)


def probed(probes: Sequence[Probe], store: Store, split: Split) -> list[Finding]:
    """What probes say, as findings."""
    if not probes:
        return []
    findings = [Finding("note", "probe", "; ".join(probe.text for probe in probes))]
    told = [probe for probe in probes if probe.told]
    attended = [probe.text for probe in told if probe.name.startswith(ATTENDED)]
    if attended:
        findings.append(Finding("warning", "attention told by EEG alone", "; ".join(attended)))
    for probe in told:
        if probe.name.startswith("trial"):
            level: Level = "warning" if _shares_recordings(store, split) else "note"
            findings.append(Finding(level, "trial fingerprint", probe.text))
    return findings


def _shares_recordings(store: Store, split: Split) -> bool:
    """Whether training has trials of the recordings that are tested: neighbours in time, of the same cap."""
    train, test = ({store.trial(name).recording for name in split.trials(part)} for part in ("train", "test"))
    return bool(train & test)


def _finding(finding: Finding) -> FindingRef:
    return FindingRef(**asdict(finding), meaning=finding.meaning, cure=finding.cure)


def _alike(each: Alike) -> AlikeRef:
    return AlikeRef(first=each.first, second=each.second, offset=round(each.offset, 3), error=round(each.error, 4))
