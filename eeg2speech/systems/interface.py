"""What a system is: a class that says what it may see and answers its task.

A stranger's system derives from ``System`` (or ``NetworkSystem`` in ``eeg2speech.systems.network`` for anything that is
trained by gradient), declares ``facts`` and ``Settings``, and is found by the entry-point group ``eeg2speech.systems``.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from eeg2speech.data.store import Store
from eeg2speech.data.types import Sensors, Stimulus, StudyFacts
from eeg2speech.errors import BadInput
from eeg2speech.training.budget import Budget, RunOptions, Training
from eeg2speech.training.examples import Examples

Task = Literal["extraction", "retrieval", "generation"]
Sees = Literal["mixture", "sources", "target", "stimuli"]
SEEN = {"extraction": "mixture", "retrieval": "candidates", "generation": "nothing"}
"""The most that a task itself gives of the sound."""


@dataclass(frozen=True)
class Context:
    """What a system may know before it is built. Rates in Hz, window in seconds, sensor positions in metres.

    ``speech`` is what it gets of speech: ``audio`` [B, T], or a feature, ``envelope`` or ``mel``, [B, F, T] with
    ``bands`` F; ``audio_rate`` is its rate.
    """

    audio_rate: int
    eeg_rate: int
    sensors: Sensors
    subjects: tuple[str, ...]
    segment_seconds: float
    speech: str = "audio"
    bands: int = 0

    def __post_init__(self) -> None:
        for field in ("audio_rate", "eeg_rate", "segment_seconds"):
            if not getattr(self, field) > 0:
                raise BadInput("Context", field, "more than 0", getattr(self, field))
        if not self.subjects or not len(self.sensors):
            raise BadInput(
                "Context", "subjects, sensors", "at least one of each", (len(self.subjects), len(self.sensors))
            )

    @classmethod
    def of(cls, store: Store, segment_seconds: float) -> Context:
        """The context of a prepared study."""
        facts = store.facts
        bands = {stimulus.bands for stimulus in store.stimuli.values()}
        if len(bands) != 1:
            raise BadInput(store.root, "bands of the stimuli", "as many in all", sorted(bands))
        about = (facts.audio_rate, facts.eeg_rate, store.index.sensors, store.subjects, segment_seconds)
        return cls(*about, facts.stimuli, bands.pop())


@dataclass(frozen=True)
class Facts:
    """What a system declares of itself.

    ``uses_eeg`` False means that the harness hands it zeros in place of EEG, so its answer cannot depend on it.
    ``sees`` is what it is given besides EEG and what its task gives (a mixture, candidates, or nothing): no more
    (``mixture``), the clean talkers in an order that says nothing about attention (``sources``), target first
    (``target``), or, in retrieval, the whole stimuli from which the candidates are cut (``stimuli``). Only those that
    are given no more are ranked. ``speech`` is what it can work with: ``audio``, or the features that some studies
    publish in its place, ``envelope`` and ``mel``.
    """

    title: str
    licence: str
    source: str
    tasks: frozenset[Task] = frozenset({"extraction"})
    uses_eeg: bool = True
    uses_subject: bool = False
    causal: bool = False
    sees: Sees = "mixture"
    speech: frozenset[str] = frozenset({"audio"})


class NoSettings(BaseModel):
    """Settings of a system that has none; any key is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class System(ABC):
    """Anything that answers a task. Build it with a context and its own ``Settings``."""

    facts: ClassVar[Facts]
    Settings: ClassVar[type[BaseModel]] = NoSettings
    version: ClassVar[int] = 1
    """To be raised when what is learned or how changes: what was trained before is then not taken up."""

    def __init__(self, context: Context, settings: BaseModel) -> None:
        self.context, self.settings = context, settings

    def fit(self, train: Examples, valid: Examples, budget: Budget, options: RunOptions) -> Training:
        """Learn. Systems that have nothing to learn keep this one, which does nothing."""
        return Training.none()

    def recipe(self, budget: Budget) -> dict[str, Any]:
        """What decides a training beside settings, data and seed, as plain data."""
        return {"class": f"{type(self).__module__}.{type(self).__qualname__}", "version": self.version}

    def extract(self, mixture: Tensor, eeg: Tensor, subject: Tensor) -> Tensor:
        """Attended speech [B, T] from mixture [B, T], EEG [B, C, N] in microvolt and subject numbers [B].

        A subject's number is its place in ``context.subjects``.
        """
        raise self._no_answer("extract", "extraction")

    def extract_from(self, mixture: Tensor, eeg: Tensor, subject: Tensor, sources: Tensor) -> Tensor:
        """As ``extract``, for systems whose ``facts.sees`` is not ``mixture``; ``sources`` is [B, 2, T]."""
        raise BadInput(type(self).__name__, "extract_from", "a system that sees sources", f"sees {self.facts.sees!r}")

    def hear(self, mixture: Tensor) -> Tensor | None:
        """What ``extract`` makes of mixtures [B, T] before the EEG comes in, a row each, [B, ...]; None: nothing.

        It is asked once and its answer handed to ``extract_heard`` under every control, which all hear the same
        mixtures. Worth defining where a codec or a separator does much of the work.
        """
        return None

    def extract_heard(self, heard: Tensor, mixture: Tensor, eeg: Tensor, subject: Tensor) -> Tensor:
        """As ``extract``, with the answer of ``hear`` to the same mixtures: the same speech [B, T], to the bit."""
        return self.extract(mixture, eeg, subject)

    def embed_eeg(self, eeg: Tensor, subject: Tensor) -> Tensor:
        """Embedding [B, D, F] of EEG [B, C, N] in microvolt and subject numbers [B].

        The candidate whose embedding has the largest cosine with it, over all D x F numbers, is the answer.
        """
        raise self._no_answer("embed_eeg", "retrieval")

    def embed_speech(self, speech: Tensor) -> Tensor:
        """Embedding [B, D, F] of candidates, speech [B, T] as long as the EEG; in a study of features [B, F, T]."""
        raise self._no_answer("embed_speech", "retrieval")

    def embed_speech_in(self, stimulus: Tensor, begin: int, end: int) -> Tensor:
        """As ``embed_speech`` of samples ``begin`` to ``end``, [D, F], for systems whose ``facts.sees`` is ``stimuli``:
        from the whole stimulus [T], of which a candidate then carries what lies beyond its window."""
        raise BadInput(
            type(self).__name__, "embed_speech_in", "a system that sees stimuli", f"sees {self.facts.sees!r}"
        )

    def generate(self, eeg: Tensor, subject: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Speech [B, T] at ``context.audio_rate`` from EEG [B, C, N] in microvolt and subject numbers [B], as
        long as the EEG.

        Whatever is drawn at random for a segment comes from its own generator (on the CPU), so that an answer does not
        depend on what else is in the batch.
        """
        raise self._no_answer("generate", "generation")

    def generate_from(
        self, eeg: Tensor, subject: Tensor, generators: Sequence[torch.Generator], target: Tensor
    ) -> Tensor:
        """As ``generate``, for systems whose ``facts.sees`` is ``target``, the true speech [B, T]."""
        raise BadInput(
            type(self).__name__, "generate_from", "a system that sees the target", f"sees {self.facts.sees!r}"
        )

    def state(self) -> dict[str, Tensor]:
        """What was learned, as tensors; empty for systems that learn nothing."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take up what ``state`` gave. Raises BadInput when it is another system's."""
        if state:
            raise BadInput(
                type(self).__name__, "state", "nothing (this system learns nothing)", f"{len(state)} tensors"
            )

    def heard_before(self, stimulus: Stimulus, study: StudyFacts) -> bool | None:
        """Whether a pretrained part of this system may have heard a stimulus of ``study`` in its own training.

        None: it has no pretrained part. What ``fit`` learns from is the split's matter, and is not meant here.
        """
        return None

    @property
    def parts(self) -> dict[str, str]:
        """Hashes of the pretrained parts whose weights are not in its state, by what they are."""
        return {}

    @property
    def uses_parts_in(self) -> frozenset[Task]:
        """Tasks in which ``parts``, and what they have heard, have a part."""
        return self.facts.tasks

    def stages(self) -> dict[str, list[nn.Module]]:
        """Parts of an answer that ``eeg2speech profile`` times by themselves: modules, by what they are.

        Their calls are watched by hooks. Empty where there are none, or nothing is known of them.
        """
        return {}

    @property
    def parameters(self) -> int:
        """Number of learned values."""
        return sum(tensor.numel() for tensor in self.state().values())

    def _no_answer(self, method: str, task: str) -> BadInput:
        return BadInput(type(self).__name__, method, f"a system that answers {task}", f"tasks {set(self.facts.tasks)}")


def require_task(facts: Facts, task: str, where: object) -> None:
    """Refuse a system that does not answer a task."""
    if task not in facts.tasks:
        raise BadInput(where, "tasks", f"{task} among them", ", ".join(sorted(facts.tasks)))


def seen(facts: Facts, task: str) -> str:
    """The most that a system is given of the sound in a task, in a record's word."""
    return SEEN[task] if facts.sees == "mixture" else facts.sees


def heard_by(system: System, mixture: Tensor) -> Tensor | None:
    """What a system makes of mixtures [B, T] whatever the EEG, to be given to ``answer``; None where it keeps nothing.

    Raises:
        BadInput: something else than a tensor with a row a mixture.
    """
    if system.facts.sees != "mixture" or not _goes_on_from_heard(type(system)):
        return None
    with torch.inference_mode():
        heard = system.hear(mixture)
    if heard is not None and (not isinstance(heard, Tensor) or heard.shape[:1] != mixture.shape[:1]):
        found = list(heard.shape) if isinstance(heard, Tensor) else type(heard).__name__
        raise BadInput(type(system).__name__, "hear", f"None, or a tensor [{len(mixture)}, ...]", found)
    return heard


def answer(
    system: System, mixture: Tensor, eeg: Tensor, subject: Tensor, sources: Tensor, heard: Tensor | None = None
) -> Tensor:
    """Ask a system for its extraction, giving it what it declares and nothing else.

    Args:
        mixture: [B, T]. eeg: [B, C, N]. subject: [B].
        sources: [B, 2, T], in the order that ``system.facts.sees`` asks for; not given to ``mixture`` systems.
        heard: what ``heard_by`` gave for the same mixtures, if it was asked.

    Raises:
        BadInput: an answer of another shape or kind than [B, T] float32 (a NaN is scored as a failure, not refused).
    """
    given = _given(system.facts, eeg, subject)
    with torch.inference_mode():
        if system.facts.sees != "mixture":
            estimate = system.extract_from(mixture, *given, sources)
        elif heard is None:
            estimate = system.extract(mixture, *given)
        else:
            estimate = system.extract_heard(heard, mixture, *given)
    return _of_shape(system, estimate, list(mixture.shape))


def generated(
    system: System, eeg: Tensor, subject: Tensor, generators: Sequence[torch.Generator], target: Tensor
) -> Tensor:
    """Ask a system to generate speech, giving it what it declares and nothing else.

    Args:
        eeg: [B, C, N]. subject: [B]. generators: one a segment.
        target: [B, T], given to systems alone that see it; the answer's length is checked against it.

    Raises:
        BadInput: an answer of another shape or kind than [B, T].
    """
    given = _given(system.facts, eeg, subject)
    with torch.inference_mode():
        if system.facts.sees == "target":
            estimate = system.generate_from(*given, generators, target)
        else:
            estimate = system.generate(*given, generators)
    return _of_shape(system, estimate, list(target.shape))


def embedded(system: System, eeg: Tensor, subject: Tensor) -> Tensor:
    """Ask a system for its embedding of EEG, [B, D, F], giving it what it declares and nothing else."""
    with torch.inference_mode():
        embedding = system.embed_eeg(*_given(system.facts, eeg, subject))
    if not isinstance(embedding, Tensor) or embedding.ndim != 3 or len(embedding) != len(eeg):
        found = list(embedding.shape) if isinstance(embedding, Tensor) else type(embedding).__name__
        raise BadInput(type(system).__name__, "embedding of EEG", f"a tensor [{len(eeg)}, D, F]", found)
    return embedding.float()


def _goes_on_from_heard(system: type[System]) -> bool:
    """Whether ``extract_heard`` says what ``extract`` does: not where a derived class has an ``extract`` of its own."""
    heard, plain = (
        next(k for k, cls in enumerate(system.__mro__) if name in vars(cls)) for name in ("extract_heard", "extract")
    )
    return heard <= plain


def _given(facts: Facts, eeg: Tensor, subject: Tensor) -> tuple[Tensor, Tensor]:
    """EEG and subject numbers, zeros in place of what a system does not use."""
    return (
        eeg if facts.uses_eeg else torch.zeros_like(eeg),
        subject if facts.uses_subject else torch.zeros_like(subject),
    )


def _of_shape(system: System, estimate: object, shape: list[int]) -> Tensor:
    if not isinstance(estimate, Tensor) or list(estimate.shape) != shape:
        found = list(estimate.shape) if isinstance(estimate, Tensor) else type(estimate).__name__
        raise BadInput(type(system).__name__, "estimate", f"a tensor {shape}", found)
    return estimate.float()
