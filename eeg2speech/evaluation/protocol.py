"""Protocols: named, versioned choices of task, windows, mixing and metrics. Changing any of them bumps the version."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from eeg2speech.data.store import Store
from eeg2speech.data.types import Segment
from eeg2speech.data.windows import even_segments
from eeg2speech.errors import BadInput, unknown_name
from eeg2speech.metrics import metric
from eeg2speech.splits.manifest import Split


@dataclass(frozen=True)
class Protocol:
    """How systems are compared. ``segments_per_span`` windows are scored of each test trial (or its test part).

    Scores are computed at ``audio_rate`` whatever a system uses inside.
    """

    name: str
    version: int
    task: str
    audio_rate: int
    segment_seconds: float
    segments_per_span: int
    target_to_interferer_db: float
    split_seed: int
    evaluation_seed: int
    metrics: tuple[str, ...]

    @property
    def label(self) -> str:
        """``name-version``."""
        return f"{self.name}-{self.version}"

    def adding(self, metrics: Iterable[str]) -> Protocol:
        """This protocol with more metrics, each once. Raises BadInput for one that nobody knows."""
        more = [metric(name).name for name in metrics]
        return replace(self, metrics=tuple(dict.fromkeys((*self.metrics, *more))))

    def test_segments(self, store: Store, split: Split) -> list[Segment]:
        """The segments that are scored. Raises BadInput for a study at another audio rate."""
        if store.facts.audio_rate != self.audio_rate:
            raise BadInput(
                store.root, "audio rate", f"{self.audio_rate} Hz ({self.label})", f"{store.facts.audio_rate} Hz"
            )
        return even_segments(split.parts["test"], self.segment_seconds, self.segments_per_span, store.facts.eeg_rate)


EXTRACTION_METRICS = ("si_sdr", "si_sdri", "sdr", "pesq_wb", "pesq_nb", "stoi", "estoi", "selection_accuracy")

PROTOCOLS = {
    protocol.label: protocol
    for protocol in (Protocol("demo", 1, "extraction", 16_000, 4.0, 2, 0.0, 0, 0, EXTRACTION_METRICS),)
}


def protocol(label: str) -> Protocol:
    """A protocol by ``name-version``; an unknown one is refused with the nearest."""
    if label not in PROTOCOLS:
        raise unknown_name("protocols", "protocol", label, PROTOCOLS)
    return PROTOCOLS[label]
