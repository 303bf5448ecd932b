"""The leaderboard is the same bytes each time, ranks only what may be ranked, and shows what is missing as missing."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from eeg2speech.errors import BadInput
from eeg2speech.records import (
    BudgetRef,
    CodeRef,
    ProtocolRef,
    Record,
    RecordStore,
    SplitRef,
    StudyRef,
    SystemRef,
    summarise,
)
from eeg2speech.report import render_leaderboard, render_page
from eeg2speech.report.compare import Comparison
from eeg2speech.report.figures import STYLE, palette, svg
from eeg2speech.report.judgement import verdict_of
from eeg2speech.report.results import read_groups
from eeg2speech.report.sections import uses_eeg
from eeg2speech.report.tables import NOTHING, number, size

SUBJECTS, PAIRS, FEW = 4, 6, 300
CONTROLS = ("true_eeg", "noise_cue", "zero", "other_subject")


@dataclass(frozen=True)
class Facts:
    """A metric's declaration."""

    name: str
    unit: str
    decimals: int
    higher_is_better: bool = True


METRICS = (Facts("si_sdr", "dB", 2), Facts("pesq_wb", "MOS-LQO", 2), Facts("selection_accuracy", "fraction", 3))


@dataclass(frozen=True)
class Made:
    """A made-up system: its mean SI-SDR in dB, what noise in place of the EEG takes away, what it is given."""

    name: str
    level: float
    drop: float = 0.0
    sees: Literal["mixture", "sources", "target"] = "mixture"
    steps: int = 0


SYSTEMS = (
    Made("mixture", 0.0),
    Made("oracle_target", 80.0, sees="target"),
    Made("random_speaker", 20.0, sees="sources"),
    Made("dprnn", 5.0, drop=3.0, steps=600),
    Made("dprnn_blind", 2.0, steps=600),
)
RANKED = ["dprnn", "dprnn_blind", "mixture"]


def made_scores(system: Made, control: str, seed: int, failed: int = 0) -> pd.DataFrame:
    """Scores of one unit: an effect of the pair shared by all, a little noise of the system, the control's drop."""
    subject, pair = (index.ravel() for index in np.indices((SUBJECTS, PAIRS)))
    n = len(subject)
    noise = np.random.default_rng([seed, *system.name.encode()]).normal(0, 0.3, n)
    lost = 0.0 if control == "true_eeg" else system.drop
    si_sdr = system.level - lost + np.random.default_rng(5).normal(0, 1, PAIRS)[pair] + noise
    bad = np.arange(n) < failed
    names = {"trial": "t", "pair": "p", "attended": "a", "unattended": "b"}
    return pd.DataFrame(
        {"segment": np.arange(n), "subject": [f"s{index}" for index in subject], "start": 0.0, "duration": 4.0}
        | {column: [f"{letter}{index}" for index in pair] for column, letter in names.items()}
        | {"si_sdr": si_sdr, "si_sdr_reason": None}
        | {
            "pesq_wb": np.where(bad, np.nan, 2.0),
            "pesq_wb_reason": ["no utterance | found" if failed else None for failed in bad],
        }
        | {"selection_accuracy": (noise > 0).astype(float), "selection_accuracy_reason": None}
    )


def made_record(system: Made, control: str, seed: int, scores: pd.DataFrame, fields: dict[str, Any]) -> Record:
    eeg = system.drop != 0
    usual: dict[str, Any] = {
        "protocol": ProtocolRef(name="demo", version=1),
        "task": "extraction",
        "study": StudyRef(name="made-up", revision="abc", data_note="simulated EEG, real speech"),
        "split": SplitRef(kind="stimulus", seed=0, manifest_hash="def"),
        "system": SystemRef(name=system.name, declaration={"class": system.name}, uses_eeg=eeg, uses_subject=False,
                            causal=False, sees=system.sees, parameters=12345 if system.steps else 0,
                            checkpoint_hash=None, licence="MIT", source="here"),
        "control": control,
        "budget": BudgetRef(name="demo", steps=system.steps, seconds=60.0 if system.steps else 0.0, device="cpu"),
        "seed": seed,
        "evaluation_seed": 0,
        "code": CodeRef(commit="0123456789abcdef", dirty=False, version="0.1"),
        "packages": {},
        "machine": {},
        "n_segments_expected": SUBJECTS * PAIRS,
        "metrics": summarise(scores, METRICS, resamples=FEW),
        "timings": {},
        "created": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    return Record(**usual | fields)


Add = Callable[..., Record]


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    return RecordStore(tmp_path / "records")


@pytest.fixture
def add(store: RecordStore) -> Add:
    """Adds one record to the store."""

    def one(
        system: Made, control: str = "true_eeg", seed: int = 0, failed: int = 0, rows: int = 10_000, **fields: Any
    ) -> Record:
        scores = made_scores(system, control, seed, failed).iloc[:rows]
        return store.write(made_record(system, control, seed, scores, fields), scores)

    return one


@pytest.fixture
def full(store: RecordStore, add: Add) -> RecordStore:
    """A store with every system under every control."""
    for system in SYSTEMS:
        for control in CONTROLS:
            add(system, control)
    return store


def render(store: RecordStore, folder: str = "out") -> str:
    return render_leaderboard(store.root, store.root.parent / folder / "leaderboard.md", resamples=FEW)


def rows_of(text: str, first: str) -> list[list[str]]:
    """Cells of the rows of the table whose header starts with ``first``."""
    lines = text.split(f"| {first} |", 1)[1].splitlines()[2:]
    table = lines[: next((index for index, line in enumerate(lines) if not line), len(lines))]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table]


def ranks(text: str) -> dict[str, str]:
    return {row[2]: row[0] for row in rows_of(text, "rank")}


def comparison_of(store: RecordStore) -> Comparison:
    (group,) = read_groups(store)
    return Comparison(store, group, FEW)


def test_the_same_records_give_the_same_bytes(full: RecordStore, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        render(full, folder)
        render_page(full.root, tmp_path / folder / "page.html", resamples=FEW)
    names = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*"))
    assert len(names) == 4
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
        assert str(tmp_path) not in (tmp_path / "a" / name).read_text()


def test_where_the_records_lie_does_not_show(full: RecordStore, tmp_path: Path) -> None:
    shutil.copytree(full.root, tmp_path / "elsewhere" / "again")
    there = render(RecordStore(tmp_path / "elsewhere" / "again"))
    assert render(full).replace("../records/", "../again/") == there, "but in links"


def test_the_top_says_what_it_is_and_how_to_repeat_it(full: RecordStore) -> None:
    top = render(full).split("\n## ")[0]
    for text in ("simulated EEG, real speech", "demo-1", "stimulus", "eeg2speech run benchmarks/leaderboard.yaml",
                 "eeg2speech leaderboard", "0123456789"):  # fmt: skip
        assert text in top
    row = dict(zip(("segments", "subjects", "pairs"), rows_of(top, "protocol")[0][5:], strict=False))
    assert row == {"segments": str(SUBJECTS * PAIRS), "subjects": str(SUBJECTS), "pairs": str(PAIRS)}


def test_figures_are_linked_from_the_file(full: RecordStore, tmp_path: Path) -> None:
    text = render_leaderboard(full.root, tmp_path / "leaderboard.md", full.root / "figures", resamples=FEW)
    links = [line.split("](")[1].rstrip(")") for line in text.splitlines() if line.startswith("![")]
    assert len(links) == 2
    assert all((tmp_path / link).is_file() for link in links)


def test_rows_from_elsewhere_are_explained_where_there_are_some(full: RecordStore, add: Add) -> None:
    assert "from elsewhere" not in render(full)
    for control in CONTROLS:
        add(Made("mine+uni-x", 4.0), control)
    assert "a row from elsewhere" in render(full)


def test_ranks_come_with_those_that_the_data_leaves_possible(full: RecordStore) -> None:
    assert {row[2]: row[1] for row in rows_of(render(full), "rank") if row[0] != "ref"} == {
        label: str(span) for label, span in comparison_of(full).rank_ranges.items()
    }


def test_paired_differences_are_corrected_for_their_number(full: RecordStore) -> None:
    rows = {row[0]: row[4:] for row in rows_of(render(full), "difference")}
    assert rows["dprnn minus mixture"][1] == "differs" and all(
        row[1] in ("differs", "may be equal") for row in rows.values()
    )


def test_every_row_leads_to_its_record(full: RecordStore) -> None:
    traced = {row[0]: row[1:] for row in rows_of(render(full), "system | record")}
    assert {*traced} == {system.name for system in SYSTEMS}
    record = traced["dprnn"][0].partition("](")[2].rstrip(")")
    assert (full.root.parent / "out" / record).resolve().is_file()


def test_oracles_are_never_ranked(full: RecordStore) -> None:
    found = ranks(render(full))
    assert found == {"dprnn": "1", "dprnn_blind": "2", "mixture": "3", "oracle_target": "ref", "random_speaker": "ref"}


def test_the_drop_of_identical_scores_is_exactly_zero(full: RecordStore) -> None:
    comparison = comparison_of(full)
    drops = {run.label: comparison.drop(run, "noise_cue") for run in comparison.ranking}
    blind, dprnn = drops["dprnn_blind"], drops["dprnn"]
    assert blind is not None and dprnn is not None
    assert (blind.mean, blind.low, blind.high) == (0.0, 0.0, 0.0)
    assert dprnn.mean == pytest.approx(3.0)
    verdicts = {run.label: uses_eeg(verdict_of(comparison, run)) for run in comparison.ranking}
    assert verdicts == {"dprnn": "cannot tell", "dprnn_blind": "no", "mixture": "no"}, "none of them has a time_shift"


def test_named_pairs_are_compared_with_the_mixture_and_the_next_rank(full: RecordStore) -> None:
    names = [row[0] for row in rows_of(render(full), "difference")]
    assert names == ["dprnn minus dprnn_blind", "dprnn minus mixture", "dprnn_blind minus mixture"]


def test_a_missing_control_is_shown_and_nothing_is_averaged(full: RecordStore, add: Add) -> None:
    late = Made("late", 9.0, drop=1.0)
    for control in CONTROLS[:3]:
        add(late, control)
    text = render(full)
    (row,) = [row for row in rows_of(text, "rank") if row[2] == "late"]
    assert row[4] == "incomplete (3 of 4 controls)"
    assert {*row[:2], *row[5:]} == {NOTHING}
    assert "9.0" not in "".join(row) and "late minus" not in text and "#### late" not in text
    assert list(ranks(text).values())[:3] == ["1", "2", "3"]


def test_a_system_that_was_asked_for_few_controls_is_complete_with_them(full: RecordStore, add: Add) -> None:
    asked = ("true_eeg", "noise_cue")
    add(Made("brief", 9.0, drop=1.0), controls=asked)
    (row,) = [row for row in rows_of(render(full), "rank") if row[2] == "brief"]
    assert row[4] == "incomplete (1 of 2 controls)"
    add(Made("brief", 9.0, drop=1.0), "noise_cue", controls=asked)
    text = render(full)
    assert ranks(text)["brief"] == "1" and "incomplete (" not in text
    # The table of every control and its figure are for those that have every control.
    assert "#### brief" not in text and "some of them only, see the table above: brief." in text
    assert "#### dprnn\n" in text


def test_a_variant_is_compared_with_what_it_varies(full: RecordStore, add: Add) -> None:
    for name in ("dprnn-short", "dprnn-short-relu", "dprnnlike"):
        for control in CONTROLS:
            add(Made(name, -5.0 - len(name)), control)
    names = [row[0] for row in rows_of(render(full), "difference")]
    assert {"dprnn-short minus dprnn", "dprnn-short-relu minus dprnn-short"} <= set(names)
    assert not {"dprnn-short-relu minus dprnn", "dprnnlike minus dprnn"} & set(names)


def test_missing_segments_are_shown_and_nothing_is_averaged(full: RecordStore, add: Add) -> None:
    for control in CONTROLS:
        add(Made("short", 9.0), control, rows=20 if control == "zero" else 24)
    (row,) = [row for row in rows_of(render(full), "rank") if row[2] == "short"]
    assert (row[0], row[4]) == (NOTHING, "incomplete (20 of 24 segments of zero)")


def test_only_incomplete_systems_still_give_a_table(store: RecordStore, add: Add) -> None:
    add(SYSTEMS[3], rows=5)
    assert "incomplete (5 of 24 segments of true_eeg)" in render(store)


def test_complete_seeds_are_combined(store: RecordStore, add: Add) -> None:
    records = [add(SYSTEMS[3], control, seed) for control in CONTROLS for seed in (0, 1)]
    comparison = comparison_of(store)
    (run,) = comparison.ranking
    assert run.label == "dprnn (mean of 2 seeds)"
    result = comparison.result(run, "si_sdr")
    means = [record.metrics["si_sdr"].mean for record in records[:2]]
    assert result is not None and result.mean == pytest.approx(np.mean(means))  # type: ignore[arg-type]


def test_incomplete_seeds_are_listed_apart(store: RecordStore, add: Add) -> None:
    for control in CONTROLS:
        add(SYSTEMS[3], control, seed=0)
    add(SYSTEMS[3], seed=1)
    assert ranks(render(store)) == {"dprnn (seed 0)": "1", "dprnn (seed 1)": NOTHING}


def test_failed_scores_are_counted_with_their_reason(full: RecordStore, add: Add) -> None:
    for control in CONTROLS:
        add(Made("odd", 1.0), control, failed=5)
    text = render(full)
    (row,) = [row for row in rows_of(text, "rank") if row[2] == "odd"]
    assert row[5] == "2.00 *" and row[-3] == "5"
    (failures,) = rows_of(text, "system | metric")
    assert failures[:4] == ["odd (seed 0)", "PESQ-WB", "no utterance \\| found", "20"]
    assert failures[4] == "true_eeg (5), noise_cue (5), zero (5), other_subject (5)"


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("split.manifest_hash", {"split": SplitRef(kind="stimulus", seed=0, manifest_hash="other")}),
        ("study.revision", {"study": StudyRef(name="made-up", revision="new", data_note="simulated EEG, real speech")}),
        ("evaluation_seed", {"evaluation_seed": 1}),
    ],
)
def test_what_cannot_be_compared_is_refused(field: str, fields: dict[str, Any], full: RecordStore, add: Add) -> None:
    record = add(Made("other", 1.0), **fields)
    with pytest.raises(BadInput, match=field) as caught:
        render(full)
    assert caught.value.where == str(full.path(record.unit))


def test_a_system_that_heard_what_it_is_tested_on_is_marked(full: RecordStore, tmp_path: Path) -> None:
    before = render(full)
    assert "heard the audio" not in before
    for name, heard in (("codec_a", 3), ("codec_b", 0)):
        for control in CONTROLS:
            made, scores = Made(name, 1.0), made_scores(Made(name, 1.0), control, 0)
            about = made_record(made, control, 0, scores, {}).system.model_copy(update={"segments_heard": heard})
            full.write(made_record(made, control, 0, scores, {"system": about}), scores)
    sentence = "a pretrained part has heard the audio of 3 of 24 test segments."
    text = render(full)
    assert f"`codec_a`: {sentence}" in text and text.count("heard the audio") == 1
    assert sentence in render_page(full.root, tmp_path / "report.html", resamples=FEW)


def test_no_records_are_refused(store: RecordStore) -> None:
    with pytest.raises(BadInput, match="records: expected at least one"):
        render(store)


def test_the_page_is_one_file_with_its_sounds(full: RecordStore, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    assert "<audio" not in render_page(full.root, out, resamples=FEW)
    segment = full.root / "examples" / "made-up" / "stimulus" / "7"
    segment.mkdir(parents=True)
    for name in ("target", "dprnn", "mixture"):
        (segment / f"{name}.ogg").write_bytes(b"OggS")
    (segment / "index.json").write_text('{"title": "Segment <7>", "notes": {"dprnn": "5.1 dB"}}')
    text = render_page(full.root, out, resamples=FEW)
    assert text == out.read_text()
    assert text.count("<audio") == 3 and text.index(">mixture<") < text.index(">target<") < text.index(
        ">dprnn: 5.1 dB<"
    )
    assert "Segment &lt;7&gt;" in text and text.count("<svg") == 2
    assert 'src="http' not in text and "<link" not in text and "<script" not in text


def test_numbers_have_fixed_formats() -> None:
    assert [number(value, 2) for value in (-0.001, 1.005, -1.5, None)] == ["0.00", "1.00", "-1.50", NOTHING]
    assert [size(count) for count in (0, 950, 12_345, 4_560_000)] == ["0", "950", "12.3 k", "4.56 M"]


def test_the_style_is_seaborns() -> None:
    import matplotlib
    import seaborn as sns

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        sns.set_theme(context="paper", style="whitegrid", font_scale=1.1)
        theirs = dict(matplotlib.rcParams)
    own = {
        "svg.hashsalt",
        "svg.fonttype",
        "font.sans-serif",
        "axes.edgecolor",
        "axes.labelcolor",
        "grid.color",
        "axes.titley",
        "figure.dpi",
    }
    for name in STYLE.keys() - own:
        # A font family is kept as a list.
        assert theirs[name] in (STYLE[name], [STYLE[name]], pytest.approx(STYLE[name], abs=1e-12)), name
    assert sns.color_palette("colorblind").as_hex() == palette()


def test_places_in_a_figure_are_hundredths_of_a_point_and_what_is_written_is_as_it_was() -> None:
    def canvas() -> Figure:
        drawn = Figure(figsize=(2, 1))
        axes = drawn.subplots()
        axes.plot([0.0, 1 / 3, 1.0], [0.0, 1 / 7, 1.0])
        axes.set_title("0.123456 of 1.5")
        axes.set_ylabel("turned")
        return drawn

    drawn = svg(canvas)
    places = re.findall(r' (?:d|x|y|width|height|viewBox|transform)="([^"]*)"', drawn)
    assert ">0.123456 of 1.5<" in drawn and "rotate(-90 " in drawn and "rotate(-0 " not in drawn
    assert any("." in place for place in places) and not any(re.search(r"\.\d{3}", place) for place in places)
