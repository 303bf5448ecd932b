"""Protocols: named, versioned choices of task, windows, mixing and metrics. Changing any of them bumps the version."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from eeg2speech.controls import TRUE_EEG
from eeg2speech.data.store import Store
from eeg2speech.data.types import Segment
from eeg2speech.data.windows import even_segments, tiled_segments
from eeg2speech.errors import BadInput, unknown_name
from eeg2speech.evaluation.study_protocols import retrieval_metrics, study_protocols
from eeg2speech.metrics import Metric, metric
from eeg2speech.metrics.retrieval import ATTENTION, RANK_METRICS, SPOKEN, RankMetric, rank_metric
from eeg2speech.splits.manifest import Split


@dataclass(frozen=True)
class Protocol:
    """How systems are compared. ``segments_per_span`` windows are scored of each test trial (or its test part), evenly
    spread; 0: all of them, side by side.

    Scores are computed at ``audio_rate`` whatever a system uses inside. ``costly`` metrics are computed under
    ``COSTLY_CONTROLS`` alone. ``study_rate`` is the study's number of sound samples to a second of EEG where that is
    another than the sound's own rate, as in the published preparation of the Cocktail Party data.
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
    costly: tuple[str, ...] = ()
    study_rate: int | None = None

    @property
    def label(self) -> str:
        """``name-version``."""
        return f"{self.name}-{self.version}"

    def adding(self, metrics: Iterable[str]) -> Protocol:
        """This protocol with more metrics, each once. Raises BadInput for one that nobody knows, or of another task."""
        more = [measure(name).name for name in metrics]
        for name in more:
            ranks = isinstance(measure(name), RankMetric)
            if name not in self.metrics and (ranks or self.task == "retrieval"):
                known = "one of ranks" if self.task == "retrieval" else "one of sound"
                raise BadInput(f"protocol {self.label}", "metrics", f"{known}, for {self.task}", repr(name))
        return replace(self, metrics=tuple(dict.fromkeys((*self.metrics, *more))))

    def test_segments(self, store: Store, split: Split) -> list[Segment]:
        """The segments that are scored.

        Raises:
            BadInput: a study at another audio rate, or one that the task cannot be set on.
        """
        self.require_possible(store)
        expected = self.study_rate or self.audio_rate
        if store.facts.audio_rate != expected:
            raise BadInput(store.root, "audio rate", f"{expected} Hz ({self.label})", f"{store.facts.audio_rate} Hz")
        spans, rate = split.parts["test"], store.facts.eeg_rate
        if self.segments_per_span == 0:
            return tiled_segments(spans, self.segment_seconds, rate)
        return even_segments(spans, self.segment_seconds, self.segments_per_span, rate)

    def require_possible(self, store: Store) -> None:
        """Refuse a study that the task cannot be set on: one without audio, or, for extraction, with one talker."""
        where, kept = f"study {store.facts.name!r}", store.facts.stimuli
        if kept != "audio" and self.task != "retrieval":
            found = f"no audio, only its {kept}, on which retrieval alone can be done"
            raise BadInput(where, "speech", f"audio, for {self.task} ({self.label})", found)
        alone = [trial.id for trial in store.trials.values() if trial.unattended is None]
        if alone and self.task == "extraction":
            found = f"{len(alone)} of {len(store.trials)} with one, as {alone[0]!r}"
            raise BadInput(where, "trials", f"two talkers in each, for {self.task} ({self.label})", found)

    def metrics_under(self, control: str) -> tuple[str, ...]:
        """Metrics that are computed under a control."""
        left_out = () if control in COSTLY_CONTROLS else self.costly
        return tuple(name for name in self.metrics if name not in left_out)


COSTLY_CONTROLS = (TRUE_EEG, "noise_cue")


EXTRACTION_METRICS = ("si_sdr", "si_sdri", "sdr", "pesq_wb", "pesq_nb", "stoi", "estoi", "selection_accuracy")
PUBLISHED_METRICS = ("si_sdr_voiced", "sdr_voiced", "pesq_nb_8k", "stoi", "si_sdr", "selection_accuracy")
"""Those of published code on the Cocktail Party data; beside them, SI-SDR of the whole signal and who was chosen."""
RETRIEVAL_METRICS = retrieval_metrics(2)
GENERATION_METRICS = (
    *("mel_correlation", *SPOKEN, "envelope_correlation", "log_spectral_distance", "mcd", "f0_correlation"),
    *("stoi", "estoi", "pesq_wb", "speaker_similarity", "dnsmos"),
)


def _of_study(name: str, task: str, rate: int, seconds: float, per_span: int, talkers: int) -> Protocol:
    about = (name, 1, task, rate, seconds, per_span, 0.0, 0, 0)
    if task == "generation":
        return Protocol(*about, GENERATION_METRICS, ("dnsmos",))
    return Protocol(*about, EXTRACTION_METRICS if task == "extraction" else retrieval_metrics(talkers))


PROTOCOLS = {
    protocol.label: protocol
    for protocol in (
        Protocol("demo", 1, "extraction", 16_000, 4.0, 2, 0.0, 0, 0, EXTRACTION_METRICS),
        Protocol("demo-retrieval", 1, "retrieval", 16_000, 3.0, 0, 0.0, 0, 0, RETRIEVAL_METRICS),
        Protocol("demo-generation", 1, "generation", 16_000, 4.0, 2, 0.0, 0, 0, GENERATION_METRICS, ("dnsmos",)),
        Protocol(
            *("cocktail-party-published", 1, "extraction", 14_700, 20.0, 0, 0.0, 14, 0),
            metrics=PUBLISHED_METRICS,
            study_rate=14_592,
        ),
        Protocol("cocktail-party-corrected", 1, "extraction", 16_000, 20.0, 0, 0.0, 14, 0, EXTRACTION_METRICS),
        *(_of_study(*about) for about in study_protocols()),
    )
}


def protocol_for(tasks: Iterable[str]) -> str:
    """Label of the first protocol of the embedded study whose task is one of ``tasks``. Raises BadInput if none is."""
    answered = {*tasks}
    for label, entry in PROTOCOLS.items():
        if entry.task in answered:
            return label
    raise BadInput("protocols", "task", ", ".join(sorted({entry.task for entry in PROTOCOLS.values()})), answered)


def measure(name: str) -> Metric | RankMetric:
    """A metric of signals or of ranks by name; an unknown one is refused with the nearest."""
    if name in SPOKEN:
        return replace(RANK_METRICS[SPOKEN[name]], name=name)
    if name in RANK_METRICS or name == ATTENTION.name:
        return rank_metric(name)
    return metric(name)


def protocol(label: str) -> Protocol:
    """A protocol by ``name-version``; an unknown one is refused with the nearest."""
    if label not in PROTOCOLS:
        raise unknown_name("protocols", "protocol", label, PROTOCOLS)
    return PROTOCOLS[label]
