"""The record: everything needed to read, judge and repeat one result.

One record is one system x study x split x seed x control. Its JSON schema is committed as ``record.schema.json``. A
field may be added without a new ``SCHEMA_VERSION`` if it has a default that is true of the records made before it; any
other change of a field needs one. Numbers are finite or null, never NaN; a score that could not be computed is counted
with its reason.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, ValidationError, model_validator

from eeg2speech.errors import BadInput
from eeg2speech.records.unit import Unit

SCHEMA_VERSION = 1
TRUE_EEG = "true_eeg"
"""Name of the control that leaves the EEG as it is."""

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$")]
"""A name that can be a part of a path on any system."""
Count = Annotated[int, Field(ge=0)]
Aggregate = Literal["mean", "median"]
"""How the scores of the segments become one number."""
GIVEN = {
    "extraction": frozenset({"mixture", "nothing"}),
    "retrieval": frozenset({"candidates", "nothing"}),
    "generation": frozenset({"nothing"}),
}
"""Of the sound, what each task gives. A system that sees anything else is a floor or a ceiling."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ProtocolRef(_Part):
    """The protocol under which the result was made."""

    name: Name = Field(description="Name of the protocol, such as 'demo'.")
    version: int = Field(ge=1, description="A change of task, study, split, windows, rates or metrics bumps it.")


class StudyRef(_Part):
    """The data."""

    name: Name = Field(description="Name of the study, with its level if it has levels.")
    revision: str = Field(min_length=1, description="Hash of the prepared data.")
    data_note: str = Field(min_length=1, description="What the data is, such as 'simulated EEG, real speech'.")


class SplitRef(_Part):
    """Which trials were learned from and which were scored."""

    kind: Name = Field(description="Name of the splitter: within_trial, trial, stimulus, subject, ...")
    seed: int = Field(description="Seed of the splitter.")
    manifest_hash: str = Field(min_length=1, description="Hash of the manifest that lists train, valid and test.")


class SystemRef(_Part):
    """The system, as declared and as built."""

    name: Name = Field(description="Name in the registry or the suite.")
    declaration: dict[str, JsonValue] = Field(description="The declaration that built it: class and settings.")
    uses_eeg: bool = Field(description="Whether it is given the EEG.")
    uses_subject: bool = Field(description="Whether it is given the subject's identity.")
    causal: bool = Field(description="Whether its output at a time depends on no later input.")
    sees: Literal["mixture", "sources", "target", "candidates", "stimuli", "nothing"] = Field(
        description="The most it is given of the sound: the mixture, both clean sources, or the target; in retrieval, "
        "each candidate segment by itself ('candidates') or within its whole stimulus, beyond its window ('stimuli'); "
        "'nothing' is the EEG alone. Only 'mixture', 'candidates' and 'nothing' are what a task gives; the others are "
        "floors and ceilings."
    )
    parameters: Count = Field(description="Number of learned parameters.")
    checkpoint_hash: str | None = Field(description="Hash of the weights used; null if it has none.")
    licence: str = Field(description="Licence of code and weights.")
    source: str = Field(description="Paper or repository it comes from.")
    segments_heard: Count | None = Field(
        default=None,
        description="Number of test segments of which a pretrained part, such as a codec, may have heard the target or "
        "the interferer in its own training; null if it has no pretrained part.",
    )
    parts: dict[str, str] | None = Field(
        default=None,
        description="Hashes of pretrained parts whose weights are not in the checkpoint, such as a vocoder, by what "
        "they are; null if there are none, or the record does not say.",
    )


class BudgetRef(_Part):
    """How much training was used."""

    name: Name = Field(description="Name of the budget: 'demo', 'full', ...")
    steps: Count = Field(description="Optimiser steps taken; 0 if nothing was learned by steps.")
    seconds: float = Field(ge=0, description="Wall-clock time of the training, in seconds.")
    device: str = Field(description="Device of the training, such as 'cpu' or the name of a GPU.")


class CodeRef(_Part):
    """The code that made the record."""

    commit: str | None = Field(description="Git commit; null outside a checkout.")
    dirty: bool | None = Field(description="Whether tracked files differed from the commit; null outside a checkout.")
    version: str = Field(description="Version of the package.")


class Subset(_Part):
    """A metric over some of the segments."""

    mean: float | None = Field(description="Mean over the scored segments of the subset; null if there are none.")
    n: Count = Field(description="Number of segments in that mean.")


class CandidatesRef(_Part):
    """The candidates among which retrieval looks for what was heard."""

    n: int = Field(ge=1, description="Number of distinct candidates.")
    duplicates: Count = Field(
        description="Number of segments' candidates that had the content of another and were counted as one with it."
    )
    hash: str = Field(min_length=1, description="Hash of the frozen set, in its order.")
    seconds: float = Field(gt=0, description="Length of a candidate, in seconds.")


class SetMetric(_Part):
    """A measure of the whole set of segments that no single segment has, such as a Frechet distance."""

    value: float | None = Field(description="Its value; null if it could not be computed.")
    unit: str = Field(description="Unit; empty if it has none.")
    higher_is_better: bool = Field(description="Direction.")
    decimals: int = Field(ge=0, le=9, description="Decimals to show.")
    n: Count = Field(description="Number of rows behind it, such as segments or frames.")
    note: str | None = Field(default=None, description="How it is to be read, or why it could not be computed.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.value is None and not self.note:
            raise ValueError("a set metric without a value needs a note that says why")
        return self


class MetricResult(_Part):
    """One metric over all segments, with all that a table needs to show it."""

    mean: float | None = Field(
        description="Mean over the scored segments, or what 'aggregate' says; null if none could be scored."
    )
    aggregate: Aggregate = Field(
        default="mean", description="What 'mean' and its interval are: the mean or the median."
    )
    chance: float | None = Field(default=None, description="What answering at random gives; null if it is not known.")
    low: float | None = Field(description="Lower end of the 95 % interval clustered over subjects and stimulus pairs.")
    high: float | None = Field(description="Upper end of that interval.")
    no_interval: str | None = Field(default=None, description="Why there is no interval; null if there is one.")
    unit: str = Field(description="Unit, such as 'dB'; empty if it has none.")
    higher_is_better: bool = Field(description="Direction.")
    decimals: int = Field(ge=0, le=9, description="Decimals to show.")
    n: Count = Field(description="Number of segments scored.")
    n_failed: Count = Field(description="Number of segments that could not be scored.")
    reasons: dict[str, int] = Field(description="How often each reason for failure occurred; sums to n_failed.")
    right: Subset | None = Field(default=None, description="Over the segments in which the attended talker was chosen.")
    wrong: Subset | None = Field(default=None, description="Over the segments in which the other talker was chosen.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if sum(self.reasons.values()) != self.n_failed:
            raise ValueError(f"reasons must sum to n_failed = {self.n_failed}, not {sum(self.reasons.values())}")
        if (self.mean is None) != (self.n == 0):
            raise ValueError(f"mean must be null exactly when n is 0, not {self.mean} with n = {self.n}")
        if (self.low is None) != (self.high is None) or (self.low is None) != (self.no_interval is not None):
            raise ValueError("low and high must both be given, or both be null with no_interval saying why")
        return self


class Record(_Part):
    """One result. See the module's docstring."""

    schema_version: Literal[1] = Field(default=1, description="Version of this schema.")
    protocol: ProtocolRef = Field(description="Protocol.")
    task: Literal["extraction", "retrieval", "generation"] = Field(description="Task.")
    study: StudyRef = Field(description="Data.")
    split: SplitRef = Field(description="Split.")
    system: SystemRef = Field(description="System.")
    control: Name = Field(description=f"What was done to the EEG at test time; '{TRUE_EEG}' is nothing.")
    controls: tuple[Name, ...] | None = Field(
        default=None,
        description="Controls under which the system was to be evaluated, this one among them: it is complete when "
        "there is a record of each. Null if the record does not say: then all controls of the study and split.",
    )
    budget: BudgetRef = Field(description="Training used.")
    seed: int = Field(description="Seed of the training.")
    evaluation_seed: int = Field(description="Seed of the evaluation: controls, mixtures and generation.")
    code: CodeRef = Field(description="Code.")
    packages: dict[str, str] = Field(description="Versions of the packages used.")
    machine: dict[str, str] = Field(description="Processor, cores, platform and Python; no host name.")
    n_segments_expected: int = Field(ge=1, description="Number of test segments that the split and the protocol give.")
    audit: str | None = Field(
        default=None,
        description="Verdict of the leakage audit of the split: 'clean', or the gravest level with what was found. The "
        "audit lies below the folder 'audits' beside the records. Null in records from before there were audits.",
    )
    interval_method: Literal["pigeonhole", "two-way"] = Field(
        default="pigeonhole",
        description="How the intervals of 'metrics' were made: percentiles of a bootstrap over subjects and stimulus "
        "pairs, crossed; or those with the width of two-way clustering, see records/intervals.py.",
    )
    candidates: CandidatesRef | None = Field(
        default=None, description="The set of candidates that retrieval looks in; null where none is looked for."
    )
    metrics: dict[str, MetricResult] = Field(min_length=1, description="Result of each metric, by its name.")
    set_metrics: dict[str, SetMetric] = Field(default={}, description="Measures of the whole set, by their names.")
    scores_file: str = Field(default="", description="Name of the Parquet file beside the record, a row a segment.")
    scores_hash: str = Field(default="", description="SHA-256 of that file's bytes.")
    timings: dict[str, float] = Field(description="Wall-clock seconds of each stage.")
    created: str = Field(description="Time at which the record was written, ISO 8601 in UTC.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        rows = {name: result.n + result.n_failed for name, result in self.metrics.items()}
        if len(set(rows.values())) != 1:
            raise ValueError(f"every metric must count the same number of segments, not {rows}")
        if self.n_segments > self.n_segments_expected:
            raise ValueError(f"{self.n_segments} segments, but only {self.n_segments_expected} expected")
        if (self.system.segments_heard or 0) > self.n_segments_expected:
            raise ValueError(f"{self.system.segments_heard} segments heard of {self.n_segments_expected}")
        if both := sorted(set(self.metrics) & set(self.set_metrics)):
            raise ValueError(f"a name is either a metric or a set metric, not both: {', '.join(both)}")
        if self.controls is not None and self.control not in self.controls:
            raise ValueError(f"control {self.control!r} is not among those asked for: {', '.join(self.controls)}")
        return self

    @property
    def unit(self) -> Unit:
        """The unit of work that this record is the result of."""
        protocol, split = self.protocol, self.split
        about = (protocol.name, protocol.version, self.study.name, split.kind, split.seed)
        return Unit(*about, self.system.name, self.seed, self.control)

    @property
    def n_segments(self) -> int:
        """Number of segments with a row of scores, failed ones among them."""
        result = next(iter(self.metrics.values()))
        return result.n + result.n_failed

    @property
    def complete(self) -> bool:
        """Whether every expected segment has a row of scores."""
        return self.n_segments == self.n_segments_expected

    def repeatable(self) -> dict[str, Any]:
        """Without what may differ when a run is repeated: timings, created, code, machine, budget.seconds."""
        return self.model_dump(
            mode="json",
            exclude={"timings": True, "created": True, "code": True, "machine": True, "budget": {"seconds"}},
        )

    def request(self) -> dict[str, Any]:
        """What was asked for, known before the run: a stored record with another request is not to be reused."""
        fields = ("protocol", "task", "study", "split", "control", "seed", "evaluation_seed")
        found = self.model_dump(mode="json", include={*fields})
        return found | {"system": self.system.declaration, "budget": self.budget.name}


SHOWN = 80
"""Characters of what is wrong that a refusal shows."""


def json_schema() -> str:
    """JSON schema of a record, as text ending in a newline."""
    return json.dumps(Record.model_json_schema(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def first_difference(left: Mapping[str, Any], right: Mapping[str, Any], fields: Iterable[str]) -> str | None:
    """The first of ``fields`` whose values differ, or None."""
    return next((field for field in fields if left.get(field) != right.get(field)), None)


def refusal(path: object, error: ValidationError, whole: str) -> BadInput:
    """The first thing that is wrong with a document, as this package says it; ``whole`` names the document."""
    first = error.errors()[0]
    field, found = ".".join(str(part) for part in first["loc"]) or whole, repr(first["input"])
    return BadInput(path, field, first["msg"], found if len(found) <= SHOWN else f"{found[: SHOWN - 3]}...")
