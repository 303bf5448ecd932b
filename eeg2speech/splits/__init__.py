"""Which trials are train, valid and test: splitters on metadata alone, manifests, the leakage audit."""

from eeg2speech.splits.audit import Finding, audit
from eeg2speech.splits.manifest import Span, Split
from eeg2speech.splits.splitters import KINDS, make_split

__all__ = ["KINDS", "Finding", "Span", "Split", "audit", "make_split"]
