"""Records: what one run gave, how it is stored, and the intervals around its numbers. Imports no torch, no pandas."""

from eeg2speech.records.intervals import Interval, clustered_interval, paired_difference
from eeg2speech.records.provenance import code_reference, machine_facts, package_versions
from eeg2speech.records.schema import (
    SCHEMA_VERSION,
    BudgetRef,
    CandidatesRef,
    CodeRef,
    MetricResult,
    ProtocolRef,
    Record,
    SetMetric,
    SplitRef,
    StudyRef,
    Subset,
    SystemRef,
    json_schema,
)
from eeg2speech.records.store import RecordStore
from eeg2speech.records.summary import MetricFacts, metric_result, summarise
from eeg2speech.records.unit import Unit

__all__ = [
    "SCHEMA_VERSION",
    "BudgetRef",
    "CandidatesRef",
    "CodeRef",
    "Interval",
    "MetricFacts",
    "MetricResult",
    "ProtocolRef",
    "Record",
    "RecordStore",
    "SetMetric",
    "SplitRef",
    "StudyRef",
    "Subset",
    "SystemRef",
    "Unit",
    "clustered_interval",
    "code_reference",
    "json_schema",
    "machine_facts",
    "metric_result",
    "package_versions",
    "paired_difference",
    "summarise",
]
