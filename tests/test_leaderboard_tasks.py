"""Retrieval and generation on the leaderboard: chance and sets are shown, and what is not there is not asked for."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure as Canvas

from eeg2speech.errors import BadInput
from eeg2speech.processes import without_collector
from eeg2speech.records import (
    BudgetRef,
    CandidatesRef,
    CodeRef,
    MetricResult,
    ProtocolRef,
    Record,
    RecordStore,
    SetMetric,
    SplitRef,
    StudyRef,
    SystemRef,
    summarise,
)
from eeg2speech.report import render_leaderboard, render_page
from eeg2speech.report.chance import against_chance
from eeg2speech.report.chapter import read_chapters
from eeg2speech.report.compare import Comparison
from eeg2speech.report.everything import render_run
from eeg2speech.report.figures import Dot, draw, draw_intervals, figure_svg
from eeg2speech.report.results import read_groups
from eeg2speech.report.subjects import subjects_table
from eeg2speech.report.tables import NOTHING
from eeg2speech.report.terminal import summary
from eeg2speech.report.words import how_to_read, what_it_sees
from eeg2speech.team import Team

SUBJECTS, PAIRS, CANDIDATES, FEW = 4, 10, 38, 200
CONTROLS = ("true_eeg", "noise_cue", "other_subject")
Task = Literal["extraction", "retrieval", "generation"]


@dataclass(frozen=True)
class Facts:
    """A metric's declaration."""

    name: str
    decimals: int = 3
    higher_is_better: bool = True
    aggregate: Literal["mean", "median"] = "mean"
    unit: str = ""


METRICS = {
    "extraction": (Facts("si_sdr", 2, unit="dB"), Facts("selection_accuracy")),
    "retrieval": (
        *(Facts(name, unit="fraction") for name in ("attention_accuracy", "top1", "top10")),
        Facts("rank", 1, higher_is_better=False, aggregate="median"),
    ),
    "generation": (Facts("estoi"), Facts("mel_correlation"), Facts("mel_top10", unit="fraction"), Facts("dnsmos", 2)),
}
CHANCES = {
    "extraction": {},
    "retrieval": {"attention_accuracy": 0.5, "top1": 1 / CANDIDATES, "top10": 10 / CANDIDATES, "rank": 19.5},
    "generation": {"mel_top10": 10 / CANDIDATES},
}
COSTLY = "dnsmos"


@dataclass(frozen=True)
class Made:
    """A made-up system: how good it is from 0 (chance) to 1, what it is given, whether the EEG matters to it."""

    name: str
    skill: float
    sees: str
    eeg: bool = True


SYSTEMS: dict[str, tuple[Made, ...]] = {
    "extraction": (Made("dprnn", 0.9, "mixture"), Made("mixture", 0.0, "mixture", eeg=False)),
    "retrieval": (
        Made("brain_encoder", 0.9, "candidates"),
        Made("brain_encoder-short", 0.6, "candidates"),
        Made("ridge_mel", 0.5, "candidates"),
        Made("random_candidate", 0.0, "candidates", eeg=False),
        Made("brain_encoder_in_context", 1.0, "stimuli"),
    ),
    "generation": (
        Made("eeg2speech", 0.8, "nothing"),
        Made("ridge_mel", 0.7, "nothing"),
        Made("mean_speech", 0.0, "nothing", eeg=False),
        Made("vocoded_target", 1.0, "target", eeg=False),
    ),
}


def made_scores(task: Task, system: Made, control: str, seed: int = 0) -> pd.DataFrame:
    """Scores of one unit; without its EEG a system has no skill. DNSMOS is there for two controls only."""
    subject, pair = (index.ravel() for index in np.indices((SUBJECTS, PAIRS)))
    n = len(subject)
    skill = 0.0 if system.eeg and control != "true_eeg" else system.skill
    rng = np.random.default_rng([seed, *system.name.encode(), *control.encode()])
    rank = np.where(rng.random(n) < skill, 1.0, rng.integers(1, CANDIDATES + 1, n))
    first = {name: (rank <= most).astype(float) for name, most in (("top1", 1), ("top10", 10), ("mel_top10", 10))}
    smooth = skill + rng.normal(0, 0.05, n)
    values = first | {"rank": rank, "attention_accuracy": (rank < 20).astype(float), "si_sdr": 10 * smooth}
    values |= {"selection_accuracy": first["top10"], "mel_correlation": smooth, "estoi": smooth, COSTLY: 2 + smooth}
    names = {"trial": "t", "pair": "p", "attended": "a", "unattended": "b"}
    frame = pd.DataFrame(
        {"segment": np.arange(n), "subject": [f"s{9 + index}" for index in subject], "start": 0.0, "duration": 5.0}
        | {column: [f"{letter}{index}" for index in pair] for column, letter in names.items()}
    )
    for metric in metrics_of(task, control):
        frame[metric.name], frame[f"{metric.name}_reason"] = values[metric.name], None
    return frame


def metrics_of(task: Task, control: str) -> tuple[Facts, ...]:
    return tuple(metric for metric in METRICS[task] if metric.name != COSTLY or control in CONTROLS[:2])


def made_record(task: Task, system: Made, control: str, scores: pd.DataFrame, fields: dict[str, Any]) -> Record:
    metrics = metrics_of(task, control)
    distance = SetMetric(value=9 - system.skill, unit="", higher_is_better=False, decimals=2, n=40, note="few rows")
    usual: dict[str, Any] = {
        "protocol": ProtocolRef(name="demo" if task == "extraction" else f"demo-{task}", version=1),
        "task": task,
        "study": StudyRef(name="made-up", revision="abc", data_note="simulated EEG, real speech"),
        "split": SplitRef(kind="stimulus", seed=0, manifest_hash="def"),
        "system": SystemRef(name=system.name, declaration={"class": system.name}, uses_eeg=system.eeg,
                            uses_subject=False, causal=False, sees=system.sees, parameters=0, checkpoint_hash=None,
                            licence="MIT", source="here"),
        "control": control,
        "budget": BudgetRef(name="demo", steps=0, seconds=0.0, device="cpu"),
        "seed": 0,
        "evaluation_seed": 0,
        "code": CodeRef(commit="0123456789abcdef", dirty=False, version="0.1"),
        "packages": {},
        "machine": {},
        "n_segments_expected": SUBJECTS * PAIRS,
        "candidates": None if task == "extraction" else CandidatesRef(n=CANDIDATES, duplicates=2, hash="c0ffee",
                                                                      seconds=5.0),
        "metrics": fields.get("metrics") or summarise(scores, metrics, FEW, chances=CHANCES[task]),
        "set_metrics": {"frechet_distance": distance} if task == "generation" and control == "true_eeg" else {},
        "timings": {},
        "created": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    return Record(**usual | fields)


Add = Callable[..., Record]


def fill(store: RecordStore, tasks: Iterable[str]) -> RecordStore:
    """Every system of ``tasks`` under every control."""
    for task in tasks:
        for system in SYSTEMS[task]:
            for control in CONTROLS:
                add(store, task, system, control)  # type: ignore[arg-type]
    return store


def add(store: RecordStore, task: Task, system: Made, control: str = "true_eeg", **fields: Any) -> Record:
    scores = made_scores(task, system, control, fields.get("seed", 0))
    return store.write(made_record(task, system, control, scores, fields), scores)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The leaderboard of all three tasks."""
    root = tmp_path_factory.mktemp("all")
    store = fill(RecordStore(root / "records"), SYSTEMS)
    return render_leaderboard(store.root, root / "leaderboard.md", resamples=FEW)


@pytest.fixture
def retrieval(tmp_path: Path) -> RecordStore:
    return fill(RecordStore(tmp_path / "records"), ["retrieval"])


@pytest.fixture
def generation(tmp_path: Path) -> RecordStore:
    return fill(RecordStore(tmp_path / "records"), ["generation"])


def part(text: str, task: str) -> str:
    """What the leaderboard says of one group."""
    return next(part for part in text.split("\n## ") if f"Task: {task}" in part)


def table(text: str, first: str, after: str = "") -> tuple[list[str], list[list[str]]]:
    """Header and rows of the first table after ``after`` whose header starts with ``first``."""
    lines = text[text.index(after) :].split(f"| {first} |", 1)[1].splitlines()
    rows = lines[2 : next((index for index, line in enumerate(lines) if not line), len(lines))]
    cells = [[cell.strip() for cell in row.strip("|").split(" | ")] for row in (f"| {first} |{lines[0]}", *rows)]
    return cells[0], cells[1:]


def column(found: tuple[list[str], list[list[str]]], name: str) -> dict[str, str]:
    """System -> cell of one column of the ranked table."""
    header, rows = found
    return {row[2] if row[0] != "chance" else "chance": row[header.index(name)] for row in rows}


def comparison_of(store: RecordStore) -> Comparison:
    (group,) = read_groups(store)
    return Comparison(store, group, FEW)


def test_groups_come_in_the_order_of_the_tasks(text: str) -> None:
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert [heading.split(",")[0] for heading in headings[1:]] == ["## demo-1", "## demo-retrieval-1",
                                                                   "## demo-generation-1"]  # fmt: skip
    ranked_by = [line.split("Ranked by ")[1] for line in text.splitlines() if "Ranked by " in line]
    assert ranked_by == ["SI-SDR.", "top-10.", "mel correlation."]


def test_only_what_sees_no_more_than_its_task_gives_is_ranked(text: str) -> None:
    places = column(table(part(text, "retrieval"), "rank"), "rank")
    assert places == {"brain_encoder": "1", "brain_encoder-short": "2", "ridge_mel": "3", "random_candidate": "4",
                      "chance": "chance", "brain_encoder_in_context": "ref"}  # fmt: skip
    places = column(table(part(text, "generation"), "rank"), "rank")
    assert places == {"eeg2speech": "1", "ridge_mel": "2", "mean_speech": "3", "chance": "chance",
                      "vocoded_target": "ref"}  # fmt: skip


def test_a_mixture_is_more_than_generation_gives(generation: RecordStore) -> None:
    for control in CONTROLS:
        add(generation, "generation", Made("cheat", 1.0, "mixture"), control)
    assert "cheat" in [run.label for run in comparison_of(generation).references]


@pytest.mark.parametrize(
    ("sees", "eeg", "words"),
    [("candidates", True, "candidates + EEG"), ("candidates", False, "candidates only"), ("nothing", True, "EEG only"),
     ("stimuli", True, "whole stimuli + EEG"), ("nothing", False, "nothing")],
)  # fmt: skip
def test_what_a_system_sees_in_words(sees: str, eeg: bool, words: str) -> None:
    made = Made("net", 0.5, sees, eeg)
    scores = made_scores("retrieval", made, "true_eeg")
    assert what_it_sees(made_record("retrieval", made, "true_eeg", scores, {}).system) == words


def test_columns_are_those_of_the_task_in_its_order(text: str) -> None:
    more = ["noise-cue drop (fraction)", "uses EEG", "audit", "failed scores", "parameters", "training"]
    header, _ = table(part(text, "retrieval"), "rank")
    metrics = ["top-1 (fraction)", "top-10 (fraction)", "median rank among candidates", "attention accuracy (fraction)"]
    assert header == ["rank", "ranks", "system", "sees", *metrics, *more]
    header, _ = table(part(text, "generation"), "rank")
    metrics = ["mel correlation", "mel top-10 (fraction)", "ESTOI", "DNSMOS", "Frechet distance", "noise-cue drop"]
    assert header == ["rank", "ranks", "system", "sees", *metrics, *more[1:]]
    assert "SI-SDR right (dB)" in table(part(text, "extraction"), "rank")[0]


def test_chance_is_a_row_and_a_sentence(text: str) -> None:
    found = part(text, "retrieval")
    chance = {name: column(table(found, "rank"), name)["chance"] for name in table(found, "rank")[0][4:9]}
    assert list(chance.values()) == ["0.026", "0.263", "19.5", "0.500", NOTHING]
    assert "Chance: top-1 0.026, top-10 0.263, median rank among candidates 19.5, attention accuracy 0.500." in found
    assert "Candidates: 38 distinct ones of 5 s (duplicates by content, counted once: 2), set" in found
    assert "`c0ffee`" in found
    assert "Candidates" not in part(text, "extraction") and "| chance |" not in part(text, "extraction")


def test_a_median_is_shown_as_the_median(retrieval: RecordStore) -> None:
    comparison = comparison_of(retrieval)
    for run in comparison.ranking:
        result, scores = comparison.result(run, "rank"), comparison.scores(run, "true_eeg")
        assert result is not None and result.mean == np.median(scores["rank"])


def test_seeds_of_a_median_metric_keep_its_aggregate_and_chance(tmp_path: Path) -> None:
    store = RecordStore(tmp_path / "records")
    for seed in (0, 1):
        for control in CONTROLS:
            add(store, "retrieval", SYSTEMS["retrieval"][2], control, seed=seed)
    comparison = comparison_of(store)
    (run,) = comparison.ranking
    result = comparison.result(run, "rank")
    assert run.label.endswith("(mean of 2 seeds)") and result is not None
    assert (result.aggregate, result.chance) == ("median", 19.5)
    assert result.mean == np.median(comparison.scores(run, "true_eeg")["rank"])


def test_measures_of_the_whole_set_have_a_column_without_interval(text: str, tmp_path: Path) -> None:
    found = part(text, "generation")
    values = column(table(found, "rank"), "Frechet distance")
    assert values == {"eeg2speech": "8.20", "ridge_mel": "8.30", "mean_speech": "9.00", "vocoded_target": "8.00",
                      "chance": NOTHING}  # fmt: skip
    assert "\nFrechet distance, over 40 rows: few rows.\n" in found


def test_a_measure_of_the_set_that_failed_is_a_dash_with_its_note(generation: RecordStore, tmp_path: Path) -> None:
    failed = SetMetric(value=None, unit="", higher_is_better=False, decimals=2, n=0, note="a singular covariance")
    for control in CONTROLS:
        fields = {"set_metrics": {"frechet_distance": failed}} if control == "true_eeg" else {}
        add(generation, "generation", Made("odd", 0.2, "nothing"), control, **fields)
    text = render_leaderboard(generation.root, tmp_path / "leaderboard.md", resamples=FEW)
    assert column(table(text, "rank"), "Frechet distance")["odd"] == NOTHING
    assert "Frechet distance, over 0 rows: a singular covariance (`odd`)." in text


def test_a_costly_metric_may_be_missing_from_a_control(text: str) -> None:
    found = part(text, "generation")
    assert column(table(found, "rank"), "DNSMOS")["vocoded_target"] == "3.00"
    assert "in the controls that it was asked for in" in found and "incomplete (" not in found
    assert "in all 3 controls" in part(text, "retrieval")


def test_a_headline_missing_from_a_control_gives_no_drop(generation: RecordStore, tmp_path: Path) -> None:
    made = Made("thrifty", 0.9, "nothing")
    for control in CONTROLS:
        scores = made_scores("generation", made, control)
        if control != "true_eeg":
            scores = scores.drop(columns=["mel_correlation", "mel_correlation_reason"])
        metrics = [metric for metric in metrics_of("generation", control) if metric.name in scores]
        results = summarise(scores, metrics, FEW, chances=CHANCES["generation"])
        generation.write(made_record("generation", made, control, scores, {"metrics": results}), scores)
    text = render_leaderboard(generation.root, tmp_path / "leaderboard.md", resamples=FEW)
    assert column(table(text, "rank"), "noise-cue drop")["thrifty"] == NOTHING
    assert column(table(text, "rank"), "uses EEG")["thrifty"] == "cannot tell"
    header, rows = table(text, "control", "#### thrifty")
    assert [row[header.index("mel correlation")] == NOTHING for row in rows] == [False, True, True]


def test_seeds_with_other_metrics_are_refused(generation: RecordStore) -> None:
    made = Made("uneven", 0.5, "nothing")
    add(generation, "generation", made)
    scores = made_scores("generation", made, "true_eeg", 1).drop(columns=["estoi", "estoi_reason"])
    metrics = [metric for metric in METRICS["generation"] if metric.name != "estoi"]
    results = summarise(scores, metrics, FEW, chances=CHANCES["generation"])
    generation.write(made_record("generation", made, "true_eeg", scores, {"seed": 1, "metrics": results}), scores)
    with pytest.raises(BadInput, match="metrics: expected"):
        read_groups(generation)


@pytest.mark.parametrize(
    ("field", "fields"),
    [("candidates", {"candidates": CandidatesRef(n=CANDIDATES, duplicates=2, hash="other", seconds=5.0)}),
     ("candidates", {"candidates": None})],
)  # fmt: skip
def test_other_candidates_are_refused(field: str, fields: dict[str, Any], retrieval: RecordStore) -> None:
    add(retrieval, "retrieval", Made("other", 0.5, "candidates"), **fields)
    with pytest.raises(BadInput, match=field):
        read_groups(retrieval)


def test_another_chance_is_refused(retrieval: RecordStore) -> None:
    made = Made("other", 0.5, "candidates")
    scores = made_scores("retrieval", made, "true_eeg")
    results = summarise(scores, METRICS["retrieval"], FEW, chances=CHANCES["retrieval"] | {"top10": 0.5})
    add(retrieval, "retrieval", made, metrics=results)
    with pytest.raises(BadInput, match=r"metrics\.top10"):
        read_groups(retrieval)


def test_controls_say_whether_they_contain_chance(text: str) -> None:
    header, rows = table(part(text, "retrieval"), "control", "#### brain_encoder\n")
    assert header[2:] == ["top-10 (fraction)", "attention accuracy (fraction)", "drop (fraction)", "drop's interval",
                          "top-10 against chance", "attention accuracy against chance"]  # fmt: skip
    verdicts = {row[0]: row[6] for row in rows}
    assert verdicts["true_eeg"] == "better than chance" and verdicts["other_subject"] == "contains chance"
    header, rows = table(part(text, "generation"), "control", "#### eeg2speech\n")
    assert header[-2:] == ["drop's interval", "mel top-10 against chance"] and rows[0][-1] == "better than chance"
    assert table(part(text, "extraction"), "control")[0][-1] == "drop's interval"


@pytest.mark.parametrize(
    ("low", "high", "higher", "verdict"),
    [(0.4, 0.6, True, "contains chance"), (0.5, 0.6, True, "contains chance"), (0.6, 0.7, True, "better than chance"),
     (0.1, 0.2, True, "worse than chance"), (0.1, 0.2, False, "better than chance"), (None, None, True, "none")],
)  # fmt: skip
def test_an_interval_against_chance(low: float | None, high: float | None, higher: bool, verdict: str) -> None:
    about: dict[str, Any] = {"unit": "", "decimals": 2, "n": 4, "n_failed": 0, "reasons": {}}
    why = "only one subject" if low is None else None
    about |= {"mean": 0.5, "low": low, "high": high, "no_interval": why, "higher_is_better": higher}
    assert against_chance(MetricResult(**about, chance=0.5)) == verdict
    assert against_chance(MetricResult(**about)) == against_chance(None) == "none"


def test_pairs_variants_and_neighbours_are_compared(text: str) -> None:
    names = [row[0] for row in table(part(text, "retrieval"), "difference")[1]]
    assert names == ["brain_encoder minus ridge_mel", "brain_encoder-short minus brain_encoder",
                     "brain_encoder-short minus ridge_mel", "ridge_mel minus random_candidate"]  # fmt: skip
    names = [row[0] for row in table(part(text, "generation"), "difference")[1]]
    assert names == ["eeg2speech minus mean_speech", "eeg2speech minus ridge_mel", "ridge_mel minus mean_speech"]


def test_subjects_are_those_of_the_ranked_systems(retrieval: RecordStore, text: str) -> None:
    comparison = comparison_of(retrieval)
    found = subjects_table(comparison)
    assert found.header[2:] == tuple(run.label for run in comparison.ranking)
    assert [row[0] for row in found.rows] == ["all, pooled", "mean over subjects", "s9", "s10", "s11", "s12"]
    assert [row[1] for row in found.rows] == ["40", NOTHING, *["10"] * 4]
    scores = comparison.scores(comparison.ranking[0], "true_eeg")
    means = scores.groupby("subject")["top10"].mean()
    assert [row[2] for row in found.rows[2:]] == [f"{means[name]:.3f}" for name in ("s9", "s10", "s11", "s12")]
    assert found.rows[1][2] == f"{means.mean():.3f}" and found.rows[0][2].startswith(f"{scores['top10'].mean():.3f} [")
    assert "### Per subject" in part(text, "retrieval")
    assert "### Per subject" not in part(text, "extraction") + part(text, "generation")


def test_a_subject_without_scores_has_a_dash_and_no_part_in_the_mean(tmp_path: Path) -> None:
    store, made = RecordStore(tmp_path / "records"), SYSTEMS["retrieval"][2]
    for control in CONTROLS:
        scores = made_scores("retrieval", made, control)
        silent = scores["subject"] == "s10"
        scores.loc[silent, "top10"], scores.loc[silent, "top10_reason"] = np.nan, "no EEG"
        store.write(made_record("retrieval", made, control, scores, {}), scores)
    rows = {row[0]: row for row in subjects_table(comparison_of(store)).rows}
    kept = [float(rows[name][2]) for name in ("s9", "s11", "s12")]
    assert rows["s10"][1:] == ("10", NOTHING) and float(rows["mean over subjects"][2]) == pytest.approx(
        np.mean(kept), abs=2e-3
    )


def test_only_what_is_there_is_explained(text: str) -> None:
    extraction, both = how_to_read({"extraction"}), how_to_read({"retrieval", "generation"}, {"chance"})
    assert any("given. Only those" in line for line in extraction) and any("`sees`" in line for line in both)
    assert len(extraction) == 7 and not any("retrieval" in line.lower() for line in extraction)
    assert not any("`right`" in line or "mixture" in line for line in both)
    explained = text.split("## How to read it")[1].split("\n## ")[0]
    for words in ("`right`", "Retrieval: which", "Generation: speech", "row `chance`", "`median`", "whole set"):
        assert words in explained
    assert [f"- {line}" in explained for line in extraction] == [True, True, False, *[True] * 4]
    assert "given. In extraction, only those" in explained


@pytest.mark.parametrize("task", ["retrieval", "generation", "extraction"])
def test_chance_is_a_dotted_line_where_there_is_one(task: str, tmp_path: Path) -> None:
    comparison = comparison_of(fill(RecordStore(tmp_path / "records"), [task]))
    for kind in ("systems", "controls"):
        axes = draw(comparison, kind).axes
        dotted = [(axis, line) for axis in axes for line in axis.lines if line.get_linestyle() == ":"]
        shown = sum(axis.get_visible() for axis in axes)
        assert len(dotted) == (shown if task == "retrieval" else 0)
        for axis, line in dotted:
            assert np.asarray(line.get_xdata()) == pytest.approx(10 / CANDIDATES)
            assert -0.2 < axis.get_xlim()[0] < 10 / CANDIDATES < axis.get_xlim()[1] < 1.2


def test_a_figure_keeps_nothing_of_what_it_was_drawn_from(tmp_path: Path) -> None:
    """matplotlib's way to measure would keep the frames of all callers, and with them thousands of records, until
    garbage is looked for."""
    comparison = comparison_of(fill(RecordStore(tmp_path / "records"), ["extraction"]))
    with without_collector():
        for kind in ("systems", "controls"):
            assert figure_svg(comparison, kind).startswith("<?xml")
        still_there = weakref.ref(comparison)
        del comparison
        assert still_there() is None


def test_means_are_dots_with_their_intervals_and_arrows_where_they_lie_outside() -> None:
    """Rows 0 to 2 lie inside, 1 has no interval, 3 and 4 lie beyond the ends, 5 could not be scored."""
    means = [0.0, 1.0, -0.5, 9.0, -9.0, None]
    ends = [(-0.2, 0.2), (None, None), (-3.0, 3.0), (8.0, 10.0), (-10.0, -8.0), (None, None)]
    axes = Canvas().add_subplot()
    axes.set_xlim(-2.0, 2.0)
    draw_intervals(axes, [Dot("", a_result(mean, *end), "#000000") for mean, end in zip(means, ends, strict=True)])
    lines, *markers = axes.collections
    assert isinstance(lines, LineCollection)
    segments = [np.asarray(segment).tolist() for segment in lines.get_segments()]
    assert segments == [[[-0.2, 0.0], [0.2, 0.0]], [[-3.0, 2.0], [3.0, 2.0]]]
    dots, before, beyond = (np.asarray(found.get_offsets()).tolist() for found in markers)
    assert dots == [[0.0, 0.0], [1.0, 1.0], [-0.5, 2.0]]
    assert before == [[-2.0, 4.0]] and beyond == [[2.0, 3.0]]


def a_result(mean: float | None, low: float | None, high: float | None) -> MetricResult:
    """Of a metric without facts of interest."""
    n, why = (0, "nothing scored") if mean is None else (9, None if low is not None else "one subject")
    failed: Any = {"n": n, "n_failed": 9 - n, "reasons": {} if n else {"silent": 9}}
    about: Any = {"unit": "", "higher_is_better": True, "decimals": 2, "no_interval": why}
    return MetricResult(mean=mean, low=low, high=high, **failed, **about)


def test_the_same_records_give_the_same_bytes(retrieval: RecordStore, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        render_leaderboard(retrieval.root, tmp_path / folder / "leaderboard.md", resamples=FEW)
        page = render_page(retrieval.root, tmp_path / folder / "page.html", resamples=FEW)
    names = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*"))
    assert len(names) == 4
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    assert '<tr class="ref"><td class="word">chance</td>' in page


def test_processes_that_share_the_groups_write_the_same_bytes(tmp_path: Path) -> None:
    store = fill(RecordStore(tmp_path / "records"), SYSTEMS)
    for size in (1, 2):
        with Team(size) as team:
            render_leaderboard(store.root, tmp_path / str(size) / "leaderboard.md", resamples=FEW, team=team)
    names = sorted(path.relative_to(tmp_path / "1") for path in (tmp_path / "1").rglob("*.*"))
    assert len(names) == 1 + 2 * len(SYSTEMS)
    for name in names:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes(), name


def test_both_documents_of_a_run_are_those_that_each_is_by_itself(tmp_path: Path) -> None:
    store = fill(RecordStore(tmp_path / "run" / "records"), ["extraction"])
    leaderboard, page = render_run(store.root, tmp_path / "run", "a.yaml", resamples=FEW)
    found = leaderboard.read_bytes(), page.read_bytes()
    figures = {path: path.read_bytes() for path in (tmp_path / "run" / "figures").iterdir()}
    for path in (leaderboard, page, *figures):
        path.unlink()
    render_leaderboard(store.root, leaderboard, suite="a.yaml", resamples=FEW)
    render_page(store.root, page, suite="a.yaml", resamples=FEW)
    assert (leaderboard.read_bytes(), page.read_bytes()) == found and figures
    assert all(path.read_bytes() == content for path, content in figures.items())


def test_scores_that_are_not_those_recorded_are_refused_wherever_they_lie(tmp_path: Path) -> None:
    """Those that no table asks for too."""
    store = fill(RecordStore(tmp_path / "records"), ["retrieval"])
    paths = sorted(store.root.rglob("*.parquet"))
    for path in paths:
        content = path.read_bytes()
        path.write_bytes(content + b" ")
        with pytest.raises(BadInput, match="scores_hash") as refusal:
            read_chapters(store, FEW, "records")
        assert str(path) in str(refusal.value)
        path.write_bytes(content)
    assert len(paths) > 5 and read_chapters(store, FEW, "records")


def test_what_another_process_refuses_is_refused(tmp_path: Path) -> None:
    """Whichever process took its group."""
    store = fill(RecordStore(tmp_path / "records"), SYSTEMS)
    (smallest, _), *_ = sorted(store.folders().items(), key=lambda each: each[1])
    broken = next((store.root / smallest).rglob("*.parquet"))
    broken.write_bytes(b"")
    with pytest.raises(BadInput, match="scores_hash"), Team(2) as team:
        render_leaderboard(store.root, tmp_path / "leaderboard.md", resamples=FEW, team=team)


def test_the_terminal_shows_the_columns_of_each_task(tmp_path: Path) -> None:
    text = summary(fill(RecordStore(tmp_path / "records"), SYSTEMS), width=200)
    first, second, third = text.split("simulated EEG, real speech")[1:]
    assert "SI-SDR (dB)" in first and "selection accuracy" in first and "top-1" not in first
    assert all(name in second for name in ("top-1 (fraction)", "top-10 (fraction)", "median rank among candidates"))
    assert "chance" in second and "mel correlation" in third and "SI-SDR" not in second + third
