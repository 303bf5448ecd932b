"""The audit of a split as a document: findings, probes, stimuli that sound alike, beside the manifest they are about.

``<root>/audits/<study>/<split>-s<seed>.json`` and ``<root>/manifests/<study>/<split>-s<seed>.json``: from a record, its
study and split lead to both, and their hashes must be the record's.
"""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from eeg2speech.errors import BadInput
from eeg2speech.records.files import write_atomically
from eeg2speech.records.schema import Record

AUDITS, MANIFESTS = "audits", "manifests"
AUDIT_VERSION = 1
"""Bumped when the audit looks for more, or otherwise: documents of another version are made anew."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FindingRef(_Part):
    """One finding."""

    level: Literal["fatal", "warning", "note"] = Field(description="How grave it is.")
    name: str = Field(description="What it is.")
    detail: str = Field(description="What was found.")
    meaning: str = Field(description="What it means for a score.")
    cure: str = Field(description="What to do about it.")


class ProbeRef(_Part):
    """What a linear probe reads from the EEG of test trials alone."""

    name: str = Field(description="What was to be told.")
    accuracy: float = Field(ge=0, le=1, description="Share of the windows told right.")
    chance: float = Field(ge=0, le=1, description="The same with permuted labels, mean.")
    p: float = Field(gt=0, le=1, description="Share of the permutations that do as well.")
    n: int = Field(ge=1, description="Windows.")
    classes: int = Field(ge=2, description="Classes.")


class AlikeRef(_Part):
    """Two stimuli of the study that share three seconds of sound."""

    first: str = Field(description="Stimulus.")
    second: str = Field(description="Stimulus.")
    offset: float = Field(description="Seconds by which the second begins after the first.")
    error: float = Field(ge=0, le=1, description="Share of differing bits of their fingerprints.")


class Audit(_Part):
    """All that the audit of one split of a study found."""

    version: Literal[1] = Field(default=1, description="Version of the audit.")
    study: str = Field(description="Study.")
    revision: str = Field(description="Hash of the prepared data.")
    split: str = Field(description="Kind of the split.")
    seed: int = Field(description="Seed of the split.")
    manifest_hash: str = Field(description="Hash of the manifest.")
    window_seconds: float = Field(gt=0, description="Length of the windows that were counted and probed.")
    verdict: str = Field(description="'clean', or the gravest level with the names of its findings.")
    findings: tuple[FindingRef, ...] = Field(description="The gravest first.")
    probes: tuple[ProbeRef, ...] = Field(description="Probes of the EEG.")
    alike: tuple[AlikeRef, ...] = Field(description="Stimuli that sound alike, wherever they are.")

    @property
    def place(self) -> PurePosixPath:
        """Where it, and the manifest, lie below their folders."""
        return place(self.study, self.split, self.seed)


def place(study: str, split: str, seed: int) -> PurePosixPath:
    """Path of a split's documents, relative to the folder of audits or of manifests."""
    return PurePosixPath(study, f"{split}-s{seed}.json")


def write_audit(path: Path, audit: Audit) -> None:
    """Store an audit, whole or not at all."""
    text = json.dumps(audit.model_dump(mode="json"), indent=1, sort_keys=True, ensure_ascii=False)
    write_atomically(path, (text + "\n").encode("utf-8"))


def read_audit(path: Path) -> Audit | None:
    """The audit at ``path``; None if there is none, or one of another version.

    Raises BadInput for a file that is no audit.
    """
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and content.get("version") != AUDIT_VERSION:
            return None
        return Audit.model_validate(content)
    except (ValueError, ValidationError) as error:
        raise BadInput(path, "content", "an audit", str(error).partition("\n")[0]) from error


def audit_of(root: Path, record: Record) -> Audit | None:
    """The audit below ``root`` that is about a record's data and split; None if there is none of exactly those."""
    split, study = record.split, record.study
    found = read_audit(root / AUDITS / place(study.name, split.kind, split.seed))
    about = found and (found.revision, found.manifest_hash)
    return found if about == (study.revision, split.manifest_hash) else None
