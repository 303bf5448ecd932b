"""What the leaderboard says of one group, and what the top of the page has to know of it.

A chapter needs nothing of other groups. Those of many records are written by processes side by side.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from eeg2speech.errors import BadInput
from eeg2speech.processes import without_collector
from eeg2speech.records.latency import Latency, slug
from eeg2speech.records.store import RecordStore
from eeg2speech.report.blocks import Block, Figure, Heading, Text
from eeg2speech.report.chance import candidates_text, chances
from eeg2speech.report.compare import Comparison, eeg_runs
from eeg2speech.report.figures import figure_svg
from eeg2speech.report.results import Group, GroupKey, Run, read_groups
from eeg2speech.report.sections import controls_table, differences_table, failures_table, ranked_table
from eeg2speech.report.speed import devices_of, latencies_of, latency_of
from eeg2speech.report.subjects import subjects_table
from eeg2speech.report.tables import NOTHING, Table
from eeg2speech.report.trace import group_audit, trace_table, trace_texts
from eeg2speech.report.words import EXTRACTION, PER_SUBJECT, SENDER, TASKS, metric_label
from eeg2speech.team import ALONE, Team


@dataclass(frozen=True)
class Chapter:
    """Of one group.

    Args:
        overview: its row in the table of all groups. special: what in it has to be explained, of ``words.SPECIAL``.
        code: version and commit, and whether there were changes, of each record. blocks: all that is said of it.
    """

    key: GroupKey
    task: str
    data_note: str
    overview: tuple[str, ...]
    special: frozenset[str]
    code: tuple[tuple[str, str, bool], ...]
    blocks: tuple[Block, ...]


def read_chapters(store: RecordStore, resamples: int, link: str, team: Team = ALONE) -> tuple[Chapter, ...]:
    """Chapters of all groups, by task and key. ``link`` leads from the page to the folder of the records.

    The ``team`` shares the groups. Raises BadInput if there are no records, or some that are broken or do not fit
    together.
    """
    folders = store.folders()
    if not folders:
        raise BadInput(store.root, "records", "at least one", "none")
    largest_first = sorted(folders, key=lambda folder: (-folders[folder], folder))
    write = partial(_chapters, store, resamples, link, tuple(latencies_of(store.root)))
    with without_collector():
        found = [chapter for chapters in team.map(write, largest_first) for chapter in chapters]
    return tuple(sorted(found, key=lambda chapter: (TASKS.index(chapter.task), chapter.key)))


def _chapters(
    store: RecordStore, resamples: int, link: str, latencies: tuple[Latency, ...], folder: str
) -> list[Chapter]:
    """Of the groups in a folder: one, unless folders were named by hand."""
    chapters = []
    for group in read_groups(store, folder, with_scores=False):
        comparison = Comparison(store, group, resamples, latencies)
        chapters.append(chapter_of(comparison, link))
        comparison.check_rest()
    return chapters


def chapter_of(comparison: Comparison, link: str) -> Chapter:
    """All of it."""
    group = comparison.group
    code = tuple(
        (record.code.version, (record.code.commit or "unknown")[:10], record.code.dirty is True)
        for record in group.records()
    )
    blocks = (*_group_blocks(comparison), *_trace_blocks(comparison, link))
    about = group.key, group.task, group.first.study.data_note, _overview_row(comparison), _special(comparison)
    return Chapter(*about, code, blocks)


def _special(comparison: Comparison) -> frozenset[str]:
    group = comparison.group
    there = {
        "chance": bool(chances(group)),
        "median": any(group.facts(name).aggregate == "median" for name in group.metrics),
        "whole set": bool(group.set_metrics),
        "elsewhere": any(SENDER in run.system.name for run in group.runs),
        "speed": bool(comparison.latencies),
    }
    return frozenset(name for name, is_there in there.items() if is_there)


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


def _group_blocks(comparison: Comparison) -> Iterable[Block]:
    group, label = comparison.group, metric_label(comparison.group.headline)
    yield Heading(2, group.key.title)
    yield Text(f"{_capital(group.first.study.data_note)}. Task: {group.first.task}. Ranked by {label}.")
    if comparison.ranking or comparison.references:
        yield _figure(comparison, "systems", f"{label} of every complete system with its 95 % interval")
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


def _figure(comparison: Comparison, kind: str, alt: str, device: str = "") -> Figure:
    """'systems', 'controls' or 'speed', of a ``device``."""
    suffix = f"_{slug(device)}" if device else ""
    file = f"{comparison.group.key.slug}_{kind}{suffix}.svg"
    return Figure(file, figure_svg(comparison, kind, device), alt)


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
            yield _figure(comparison, "speed", f"{label} against the real-time factor, {device}", device)


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
    yield _figure(comparison, "controls", f"{metric_label(comparison.group.headline)} under each control")
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


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
