"""Whether a run uses the EEG, by the rule of ``records.verdict``, from the drops of its records."""

from __future__ import annotations

from eeg2speech.records.intervals import Interval
from eeg2speech.records.multiple import ALPHA
from eeg2speech.records.verdict import MARGIN, NOISE, SHIFT, Measure, Verdict, judge
from eeg2speech.report.compare import Comparison
from eeg2speech.report.results import Group, Run
from eeg2speech.report.words import BESIDE, metric_label

RULE = (
    "**Uses the EEG**: the score drops both with noise in place of the EEG (`noise_cue`) and with the EEG of another "
    "time of the same trial (`time_shift`), in the metric that ranks or in the share of right choices.",
    "**Does not**: under `time_shift` neither drops, and the interval of the share of right choices excludes a drop of "
    f"{MARGIN:g} or more. If it drops under `noise_cue` all the same, it reads who listens, or which trial it is, and "
    "not the speech. A system that is given no EEG does not either.",
    "**Cannot tell**: everything else. An interval that holds 0 is no proof of absence, only a narrow one is.",
    f"A drop is one if its p is below {ALPHA:g} after Holm's correction over all differences of the verdict.",
)
"""The rule in words, an item each."""


def choice_metric(group: Group) -> str | None:
    """The share of right choices, as the task has it; None where the group lacks it."""
    name = BESIDE[group.task]
    return name if name in group.metrics else None


def measures_of(group: Group) -> tuple[Measure, ...]:
    """What a verdict in this group rests on: the metric that ranks, and the share of right choices where there is one.

    A drop that would matter is stated for the share of right choices alone.
    """
    choice = choice_metric(group)
    names = dict.fromkeys((group.headline, *([choice] if choice else [])))
    margins = {choice: MARGIN}
    return tuple(Measure(n, group.facts(n).higher_is_better, margins.get(n), metric_label(n)) for n in names)


def verdict_of(comparison: Comparison, run: Run) -> Verdict:
    """The verdict on a run. Nothing is judged of one that is incomplete, unless it is given no EEG."""
    if run.problem is not None and run.system.uses_eeg:
        return Verdict("cannot tell", run.problem)

    def drop(metric: str, control: str) -> Interval | None:
        return comparison.drop(run, control, metric)

    return judge(measures_of(comparison.group), drop, run.system.uses_eeg)


def evidence(comparison: Comparison, run: Run) -> dict[tuple[str, str], Interval | None]:
    """The differences that ``verdict_of`` judges, by metric and control; None where there is no such record."""
    keys = [(measure.name, control) for measure in measures_of(comparison.group) for control in (NOISE, SHIFT)]
    return {(metric, control): comparison.drop(run, control, metric) for metric, control in keys}


def audit_verdict(comparison: Comparison, run: Run) -> str:
    """What the audit says of the split: 'clean', or the gravest level with its findings; 'not audited' where none does.

    The audit that lies beside the records, if it is about exactly this data and split, else what the record repeats.
    """
    audit = comparison.audit
    return (run.every_record()[0].audit if audit is None else audit.verdict) or "not audited"
