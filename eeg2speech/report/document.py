"""What the leaderboard and the page say, as blocks that either can write: one content, two formats."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from eeg2speech.records.intervals import RESAMPLES
from eeg2speech.records.latency import slug
from eeg2speech.records.store import RecordStore
from eeg2speech.report.chance import candidates_text, chances
from eeg2speech.report.compare import Comparison
from eeg2speech.report.results import Group, Run, read_groups
from eeg2speech.report.sections import controls_table, differences_table, failures_table, ranked_table
from eeg2speech.report.speed import devices_of, latencies_of, latency_of
from eeg2speech.report.subjects import subjects_table
from eeg2speech.report.tables import NOTHING, Table
from eeg2speech.report.trace import group_audit, trace_table, trace_texts
from eeg2speech.report.words import EXTRACTION, GENERATION, PER_SUBJECT, RETRIEVAL, SENDER, how_to_read, metric_label

SUITE = "benchmarks/leaderboard.yaml"
OTHER_SUITES = {
    EXTRACTION: ("benchmarks/masking.yaml", "benchmarks/neurocodec.yaml"),
    RETRIEVAL: ("benchmarks/retrieval.yaml",),
    GENERATION: ("benchmarks/generation.yaml", "benchmarks/generation-baselines.yaml"),
}
"""By task, what repeats the rest of the committed leaderboard."""


@dataclass(frozen=True)
class Heading:
    """A heading; level 1 is the title."""

    level: int
    text: str


@dataclass(frozen=True)
class Text:
    """A paragraph, or with ``bullet`` an item of a list; `code` between backticks."""

    text: str
    bullet: bool = False


@dataclass(frozen=True)
class Code:
    """Lines for the shell."""

    text: str


@dataclass(frozen=True)
class Figure:
    """A figure of ``comparison``: ``kind`` is 'systems', 'controls' or 'speed', of a ``device``."""

    comparison: Comparison
    kind: str
    alt: str
    device: str = ""

    @property
    def file(self) -> str:
        """Name of its file."""
        device = f"_{slug(self.device)}" if self.device else ""
        return f"{self.comparison.group.key.slug}_{self.kind}{device}.svg"


Block = Heading | Text | Code | Figure | Table


def blocks(
    store: RecordStore, suite: str = SUITE, resamples: int = RESAMPLES, link: str = "results"
) -> Iterator[Block]:
    """Everything the records in ``store`` have to say, in order; ``link`` leads from the page to their folder."""
    latencies = latencies_of(store.root)
    comparisons = [Comparison(store, group, resamples, latencies) for group in read_groups(store)]
    yield Heading(1, "EEG2Speech leaderboard")
    yield from _top(comparisons, suite)
    for comparison in comparisons:
        yield from _group_blocks(comparison)
        yield from _trace_blocks(comparison, link)


def _top(comparisons: list[Comparison], suite: str) -> Iterable[Block]:
    notes = sorted({comparison.group.first.study.data_note for comparison in comparisons})
    yield Text(f"Data: {'; '.join(notes)}.")
    yield _overview(comparisons)
    yield Text("Made from the records alone. To repeat it:")
    tasks = {comparison.group.task for comparison in comparisons} if suite == SUITE else set()
    suites = [suite, *(name for task, names in OTHER_SUITES.items() if task in tasks for name in names)]
    yield Code("\n".join([*(f"eeg2speech run {name}" for name in suites), "eeg2speech leaderboard"]))
    yield Text(_made_by(comparisons))
    yield Heading(2, "How to read it")
    groups, speed = [comparison.group for comparison in comparisons], bool(comparisons[0].latencies)
    yield from (Text(line, bullet=True) for line in _how_to_read(groups, speed))


def _how_to_read(groups: list[Group], speed: bool) -> list[str]:
    return how_to_read(
        {group.task for group in groups},
        chance=any(chances(group) for group in groups),
        median=any(group.facts(name).aggregate == "median" for group in groups for name in group.metrics),
        whole=any(group.set_metrics for group in groups),
        elsewhere=any(SENDER in run.system.name for group in groups for run in group.runs),
        speed=speed,
    )


def _overview(comparisons: list[Comparison]) -> Table:
    header = ("protocol", "study", "data", "split", "audit", "segments", "subjects", "stimulus pairs", "systems")
    rows = tuple(_overview_row(comparison) for comparison in comparisons)
    return Table((*header, "incomplete"), rows, frozenset(header[:5]))


def _overview_row(comparison: Comparison) -> tuple[str, ...]:
    group, key = comparison.group, comparison.group.key
    complete = (*comparison.ranking, *comparison.references)
    return (
        *(f"{key.protocol}-{key.version}", key.study, group.first.study.data_note),
        *(f"{key.split}, seed {key.split_seed}", group_audit(comparison), str(group.first.n_segments_expected)),
        *_clusters(comparison, complete[0] if complete else None),
        *(str(len({run.system.name for run in group.runs})), str(len(comparison.incomplete))),
    )


def _clusters(comparison: Comparison, run: Run | None) -> tuple[str, str]:
    """Numbers of subjects and stimulus pairs, known from any complete run."""
    if run is None:
        return NOTHING, NOTHING
    control, records = next(iter(run.records.items()))
    segments = comparison.rows(run, control, next(iter(records[0].metrics))).segments
    return str(len({*segments.subjects.tolist()})), str(len({*segments.pairs.tolist()}))


def _made_by(comparisons: list[Comparison]) -> str:
    records = [record for comparison in comparisons for run in comparison.group.runs for record in run.every_record()]
    versions = ", ".join(sorted({record.code.version for record in records}))
    commits = ", ".join(sorted({(record.code.commit or "unknown")[:10] for record in records}))
    dirty = sum(record.code.dirty is True for record in records)
    changed = f"; {dirty} of them with uncommitted changes" if dirty else ""
    return f"{len(records)} records, by eeg2speech {versions}, commit {commits}{changed}."


def _group_blocks(comparison: Comparison) -> Iterable[Block]:
    group, label = comparison.group, metric_label(comparison.group.headline)
    yield Heading(2, group.key.title)
    yield Text(f"{_capital(group.first.study.data_note)}. Task: {group.first.task}. Ranked by {label}.")
    if comparison.ranking or comparison.references:
        yield Figure(comparison, "systems", f"{label} of every complete system with its 95 % interval")
    candidates = candidates_text(group)
    if candidates is not None:
        yield Text(candidates)
    yield ranked_table(comparison)
    yield from map(Text, (*_set_notes(comparison), *_heard_before(group)))
    yield from _speed_blocks(comparison)
    yield from _difference_blocks(comparison)
    yield from _subject_blocks(comparison)
    yield from _control_blocks(comparison)
    yield from _failure_blocks(group, failures_table(comparison))


def _heard_before(group: Group) -> Iterable[str]:
    """A sentence for every system with a pretrained part that has heard what it is tested on."""
    systems = {run.system.name: run.system.segments_heard for run in group.runs}
    total = group.first.n_segments_expected
    for name, heard in systems.items():
        if heard:
            yield f"`{name}`: a pretrained part has heard the audio of {heard} of {total} test segments."


def _set_notes(comparison: Comparison) -> Iterable[str]:
    """A sentence for every note on a measure of the whole set, with the rows behind it and the systems it is about."""
    for name in comparison.group.set_metrics:
        about: dict[str, list[str]] = {}
        for run in (*comparison.ranking, *comparison.references):
            for result in comparison.set_result(run, name)[:1]:
                rows = f"{metric_label(name)}, over {result.n} rows"
                about.setdefault(f"{rows}: {result.note}" if result.note else rows, []).append(f"`{run.label}`")
        for note, labels in about.items():
            yield f"{_capital(note)}." if len(about) == 1 else f"{_capital(note)} ({', '.join(labels)})."


def _speed_blocks(comparison: Comparison) -> Iterable[Block]:
    """Quality against speed, a figure a device on which at least two ranked systems were measured."""
    group, label = comparison.group, metric_label(comparison.group.headline)
    for device in devices_of(comparison.latencies):
        of_device = [latency_of(comparison.latencies, run, device, group.task) for run in comparison.ranking]
        if sum(latency is not None for latency in of_device) > 1:
            yield Figure(comparison, "speed", f"{label} against the real-time factor, {device}", device)


def _difference_blocks(comparison: Comparison) -> Iterable[Block]:
    table = differences_table(comparison)
    if table.rows:
        mixture = "each with the mixture, " if comparison.group.task == EXTRACTION else ""
        yield Heading(3, "Paired differences")
        yield Text(
            f"On the same segments: with and without EEG, variants with what they vary, {mixture}"
            "and each rank with the next. p is corrected after Holm for all of the table."
        )
        yield table


def _subject_blocks(comparison: Comparison) -> Iterable[Block]:
    table = subjects_table(comparison) if comparison.group.task in PER_SUBJECT else None
    if table is not None and table.rows:
        label = _capital(metric_label(comparison.group.headline))
        yield Heading(3, "Per subject")
        yield Text(f"{label} of the ranked systems: over all segments, as the mean over subjects, and by subject.")
        yield table


def _control_blocks(comparison: Comparison) -> Iterable[Block]:
    runs = eeg_runs(comparison)
    if not runs or len(comparison.group.controls) < 2:
        return
    yield Heading(3, "Controls")
    yield Text("What happens when the EEG is replaced at test time, for every complete system that is given EEG.")
    yield Figure(comparison, "controls", f"{metric_label(comparison.group.headline)} under each control")
    few = [run.label for run in eeg_runs(comparison, every_control=False) if run not in runs]
    if few:
        yield Text(f"Evaluated under some of them only, see the table above: {', '.join(few)}.")
    for run in runs:
        yield Heading(4, run.label)
        yield controls_table(comparison, run)


def _trace_blocks(comparison: Comparison, link: str) -> Iterable[Block]:
    table = trace_table(comparison, link)
    if table.rows:
        yield Heading(3, "Where the numbers come from")
        yield from map(Text, trace_texts(comparison, link))
        yield table


def _failure_blocks(group: Group, table: Table) -> Iterable[Block]:
    yield Heading(3, "Failed scores")
    if table.rows:
        yield table
    elif all({*group.metrics} == {*record.metrics} for record in group.records()):
        yield Text(f"None: every metric could be computed on every segment, in all {len(group.controls)} controls.")
    else:
        yield Text("None: every metric could be computed on every segment, in the controls that it was asked for in.")


def eeg_runs(comparison: Comparison, every_control: bool = True) -> tuple[Run, ...]:
    """Complete runs of systems that are given EEG, ranked ones first; those alone that have all the group's controls,
    unless told otherwise."""
    runs = tuple(run for run in (*comparison.ranking, *comparison.references) if run.system.uses_eeg)
    return tuple(run for run in runs if not every_control or len(run.records) == len(comparison.group.controls))


def controls_runs(comparison: Comparison) -> tuple[Run, ...]:
    """Those of them in the figure of the controls: the ranked ones, or all if none is ranked."""
    runs = eeg_runs(comparison)
    return tuple(run for run in runs if run.ranked) or runs


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
