"""The manifest of a split: plain data with a hash, the same on every machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from eeg2speech.errors import BadInput

PARTS = ("train", "valid", "test")
SCHEMA_VERSION = 1


@dataclass(frozen=True, order=True)
class Span:
    """A stretch of a trial, in seconds from the trial's beginning; the whole trial for most splits."""

    trial: str
    start: float
    stop: float


@dataclass(frozen=True)
class Split:
    """Spans of a study by part. ``study`` and ``revision`` say which data it cuts, ``kind`` and ``seed`` how."""

    kind: str
    seed: int
    study: str
    revision: str
    parts: Mapping[str, tuple[Span, ...]]

    def __post_init__(self) -> None:
        where = f"split {self.kind!r} of {self.study!r}"
        if set(self.parts) != set(PARTS):
            raise BadInput(where, "parts", ", ".join(PARTS), ", ".join(sorted(self.parts)))
        for part in PARTS:
            if not self.parts[part]:
                raise BadInput(where, part, "at least one span", "none (an empty split)")

    @cached_property
    def hash(self) -> str:
        """First 16 hex digits of SHA-256 over the canonical manifest."""
        return hashlib.sha256(json.dumps(self._body(), sort_keys=True).encode()).hexdigest()[:16]

    def trials(self, part: str) -> tuple[str, ...]:
        """Names of the trials that a part touches, in its order, each once."""
        return tuple(dict.fromkeys(span.trial for span in self.parts[part]))

    def save(self, path: Path) -> None:
        """Write the manifest as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self._body() | {"hash": self.hash}, indent=1, sort_keys=True) + "\n")

    @classmethod
    def load(cls, path: Path) -> Split:
        """Read a manifest.

        Raises:
            BadInput: no such file, a missing or an unknown field, or a hash that is not that of the content.
        """
        if not path.exists():
            raise BadInput(path, "file", "a split manifest", "no such file")
        try:
            body = json.loads(path.read_text())
            split = cls(
                body["kind"],
                body["seed"],
                body["study"],
                body["revision"],
                {part: tuple(Span(**span) for span in spans) for part, spans in body["parts"].items()},
            )
        except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise BadInput(path, "content", "a split manifest", f"{type(error).__name__}: {error}") from error
        if body.get("schema_version") != SCHEMA_VERSION:
            raise BadInput(path, "schema_version", SCHEMA_VERSION, body.get("schema_version"))
        if body.get("hash") != split.hash:
            raise BadInput(path, "hash", split.hash, body.get("hash"))
        return split

    def _body(self) -> dict[str, Any]:
        return {
            "schema_version": SCHEMA_VERSION,
            "kind": self.kind,
            "seed": self.seed,
            "study": self.study,
            "revision": self.revision,
            "parts": {part: [asdict(span) for span in self.parts[part]] for part in PARTS},
        }
