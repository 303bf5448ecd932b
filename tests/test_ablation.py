"""An ablation: suites that name what exists, a table and a figure from records alone, refusals of what says nothing."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from eeg2speech import cli
from eeg2speech.errors import BadInput
from eeg2speech.evaluation.suite import Suite, read_suite
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
from eeg2speech.report.ablation import ablation_report, render_ablation
from eeg2speech.report.leaderboard import render_leaderboard
from eeg2speech.report.results import read_groups
from eeg2speech.report.tables import NOTHING
from eeg2speech.report.variation import Variation
from eeg2speech.systems.registry import recorded, system_class

ROOT = Path(__file__).parent.parent
SUITES = sorted((ROOT / "benchmarks" / "suites").glob("*.yaml"))
PAGE = ROOT / "docs" / "ablations.md"
SUBJECTS, PAIRS, FEW = 3, 4, 50
LEVELS = {"few": 2.0, "more": 4.0, "most": 5.0}
"""Mean SI-SDR of each made-up system in dB; noise in place of the EEG takes half of it away."""


class Facts:
    """A metric's declaration."""

    def __init__(self, name: str, unit: str, decimals: int) -> None:
        self.name, self.unit, self.decimals, self.higher_is_better = name, unit, decimals, True


METRICS = (Facts("si_sdr", "dB", 2), Facts("selection_accuracy", "fraction", 3))


def made_suite(**varies: Any) -> Suite:
    usual: dict[str, Any] = {"name": "size", "unit": "cm", "values": {"few": 4, "more": 8, "most": 16}}
    systems = [{"system": "mixture", "name": name} for name in LEVELS]
    about: dict[str, Any] = {"studies": ["made-up"], "splits": ["stimulus"], "controls": ["noise_cue"]}
    return Suite(name="made", systems=systems, varies=Variation(**usual | varies), **about)


def add(store: RecordStore, name: str, control: str, seed: int = 0, **fields: Any) -> None:
    subject, pair = (index.ravel() for index in np.indices((SUBJECTS, PAIRS)))
    level = LEVELS.get(name, 1.0) * (1.0 if control == "true_eeg" else 0.5)
    noise = np.random.default_rng([seed, *name.encode()]).normal(0, 0.1, len(pair))
    text = {"trial": "t", "pair": "p", "attended": "a", "unattended": "b"}
    scores = pd.DataFrame(
        {"segment": np.arange(len(pair)), "subject": [f"s{k}" for k in subject], "start": 0.0, "duration": 4.0}
        | {column: [f"{letter}{k}" for k in pair] for column, letter in text.items()}
        | {"si_sdr": level + 0.5 * pair + noise, "si_sdr_reason": None}
        | {"selection_accuracy": (noise > -0.1).astype(float), "selection_accuracy_reason": None}
    )
    usual: dict[str, Any] = {
        "protocol": ProtocolRef(name="demo", version=1),
        "task": "extraction",
        "study": StudyRef(name="made-up", revision="abc", data_note="simulated EEG, real speech"),
        "split": SplitRef(kind="stimulus", seed=0, manifest_hash="def"),
        "system": SystemRef(name=name, declaration={"class": name}, uses_eeg=True, uses_subject=False, causal=False,
                            sees="mixture", parameters=1, checkpoint_hash=None, licence="MIT", source="here"),
        "control": control,
        "controls": ("true_eeg", "noise_cue"),
        "budget": BudgetRef(name="hour", steps=600, seconds=90.0, device="cpu"),
        "seed": seed,
        "evaluation_seed": 0,
        "code": CodeRef(commit=None, dirty=None, version="0.1"),
        "packages": {},
        "machine": {},
        "n_segments_expected": len(pair),
        "metrics": summarise(scores, METRICS, resamples=FEW),
        "timings": {},
        "created": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    store.write(Record(**usual | fields), scores)


@pytest.fixture
def records(tmp_path: Path) -> RecordStore:
    store = RecordStore(tmp_path / "records")
    for name in LEVELS:
        for control in ("true_eeg", "noise_cue"):
            add(store, name, control)
    return store


def rows_of(text: str) -> dict[str, list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: row[1:] for row in cells}


def first(cell: str) -> float:
    return float(cell.split(" ")[0])


def test_the_table_has_a_row_a_value(records: RecordStore) -> None:
    rows = rows_of(ablation_report(made_suite(), records, FEW).text)
    assert list(rows) == ["size (cm)", "---:", "4", "8", "16"]
    assert rows["size (cm)"] == [
        *("SI-SDR (dB)", "SI-SDR with noise (dB)", "noise-cue drop (dB)", "difference to 4 (dB)"),
        *("selection accuracy", "steps", "minutes"),
    ]
    groups = read_groups(records)
    for run, value in zip(groups[0].runs, ("4", "8", "16"), strict=True):
        true, noise = (run.records[control][0].metrics["si_sdr"] for control in ("true_eeg", "noise_cue"))
        assert true.mean is not None and noise.mean is not None and true.low is not None
        row, level = rows[value], LEVELS[run.system.name]
        assert row[0] == f"{true.mean:.2f} [{true.low:.2f}, {true.high:.2f}]"
        assert first(row[1]) == pytest.approx(noise.mean, abs=0.005)
        assert first(row[2]) == pytest.approx(level / 2, abs=0.005) and "[" in row[2]
        if run.system.name == "few":
            assert row[3] == NOTHING
        else:
            assert first(row[3]) == pytest.approx(level - 2, abs=0.2) and "[" in row[3]
        assert 0 <= float(row[4]) <= 1 and row[5:] == ["600", "1.5"]


def test_the_suite_names_what_is_compared_with(records: RecordStore) -> None:
    rows = rows_of(ablation_report(made_suite(reference="most"), records, FEW).text)
    assert rows["size (cm)"][3] == "difference to 16 (dB)" and rows["16"][3] == NOTHING
    assert first(rows["4"][3]) == pytest.approx(-3, abs=0.2)


def test_report_is_the_same_bytes_each_time_and_written_beside_its_figure(records: RecordStore, tmp_path: Path) -> None:
    report = ablation_report(made_suite(asks="How large?"), records, FEW)
    assert report == ablation_report(made_suite(asks="How large?"), records, FEW)
    paths = render_ablation(made_suite(asks="How large?"), records, tmp_path / "out", FEW)
    assert [path.name for path in paths] == ["made.md", "made.svg"]
    assert [path.read_text() for path in paths] == [report.text, report.figures["made.svg"]]
    assert "How large?" in report.text and "](made.svg)" in report.text and "simulated EEG" in report.text


def texts(svg: str) -> set[str]:
    return {"".join(node.itertext()) for node in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")}


def circles(svg: str) -> list[tuple[float, float]]:
    """Places of the dots on the page, lines of the legend among them."""
    found = re.findall(r'<use xlink:href="#[^"]+" x="([\d.]+)" y="([\d.]+)" style="fill: #[^"]+; stroke: #fff', svg)
    return [(float(x), float(y)) for x, y in found]


def test_the_figure_shows_both_scores_at_their_values(records: RecordStore) -> None:
    svg = ablation_report(made_suite(), records, FEW).figures["made.svg"]
    shown = texts(svg)
    assert {"4", "8", "16", "size (cm)", "with the true EEG", "with noise in its place"} <= shown
    assert any("simulated EEG, real speech" in text for text in shown)
    assert any(text.startswith("SI-SDR (dB), higher is better") for text in shown)
    true, noise = circles(svg)[:3], circles(svg)[3:6]
    # The page's y runs downwards: a higher score has a smaller one.
    assert true[0][1] > true[1][1] > true[2][1] and all(a[1] < b[1] for a, b in zip(true, noise, strict=True))
    assert true[2][0] - true[1][0] == pytest.approx(2 * (true[1][0] - true[0][0]), rel=1e-3)
    log = circles(ablation_report(made_suite(logarithmic=True), records, FEW).figures["made.svg"])[:3]
    assert log[2][0] - log[1][0] == pytest.approx(log[1][0] - log[0][0], rel=1e-3)


def test_words_stand_side_by_side(records: RecordStore) -> None:
    values = {"few": "first block", "more": "last", "most": "all"}
    report = ablation_report(made_suite(values=values, unit=""), records, FEW)
    assert {"first block", "last", "all"} <= texts(report.figures["made.svg"]) & rows_of(report.text).keys()
    places = circles(report.figures["made.svg"])[:3]
    assert places[2][0] - places[1][0] == pytest.approx(places[1][0] - places[0][0], rel=1e-3)


def test_what_is_missing_is_shown_as_missing(records: RecordStore) -> None:
    group = {record.system.name: record for record in records.read_all() if record.control == "noise_cue"}
    records.path(group["few"].unit).unlink()
    for path in records.path(group["most"].unit).parent.iterdir():
        path.unlink()
    report = ablation_report(made_suite(), records, FEW)
    rows = rows_of(report.text)
    assert rows["4"][:2] == ["incomplete (1 of 2 controls)", NOTHING] and rows["16"][0] == "no records"
    # What it would be compared with is incomplete: no number stands for it.
    assert rows["8"][3] == NOTHING and len(circles(report.figures["made.svg"])) == 2


def test_seeds_are_averaged(records: RecordStore) -> None:
    for name in LEVELS:
        for control in ("true_eeg", "noise_cue"):
            add(records, name, control, seed=1)
    rows = rows_of(ablation_report(made_suite(), records, FEW).text)
    assert list(rows)[2:] == [f"{value} (mean of 2 seeds)" for value in ("4", "8", "16")]
    assert first(rows["8 (mean of 2 seeds)"][3]) == pytest.approx(2, abs=0.2)


def test_records_of_other_systems_stay_out(records: RecordStore) -> None:
    add(records, "stranger", "true_eeg")
    assert "stranger" not in ablation_report(made_suite(), records, FEW).text


def test_two_studies_have_two_tables_and_two_figures(records: RecordStore) -> None:
    other = StudyRef(name="other", revision="xyz", data_note="simulated EEG, real speech")
    for control in ("true_eeg", "noise_cue"):
        add(records, "few", control, study=other)
    report = ablation_report(made_suite(), records, FEW)
    assert len(report.figures) == 2 and all(f"]({name})" in report.text for name in report.figures)
    assert report.text.count("| size (cm) |") == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": {"few": 1, "mor": 2, "most": 3}}, r"varies\.values: expected .*'mor' \(did you mean 'more'\?\)"),
        ({"values": {"few": 1, "more": 2}}, r"varies\.values: expected a value for 'most' too"),
        ({"values": {"few": 1, "more": 2, "most": 2}}, r"varies\.values: expected each once, found 2 twice"),
        ({"reference": "mots"}, r"varies\.reference: .*'mots' \(did you mean 'most'\?\)"),
        (
            {"logarithmic": True, "values": {"few": 0, "more": 2, "most": 3}},
            "positive numbers as values, found 0, 2, 3",
        ),
        ({"logarithmic": True, "values": {"few": "a", "more": "b", "most": "c"}}, "positive numbers"),
    ],
)
def test_values_that_say_nothing_are_refused(records: RecordStore, change: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        ablation_report(made_suite(**change), records, FEW)


def test_a_suite_in_which_nothing_varies_and_one_without_records_are_refused(
    records: RecordStore, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match="suite 'made': varies: expected what varies"):
        ablation_report(made_suite().model_copy(update={"varies": None}), records)
    with pytest.raises(BadInput, match="records: expected at least one, found none"):
        ablation_report(made_suite(), RecordStore(tmp_path / "empty"))
    with pytest.raises(BadInput, match="records: expected some of suite 'made', found none"):
        ablation_report(made_suite().model_copy(update={"splits": ["trial"]}), records)


# Suites


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_suites_name_systems_settings_and_conditions_that_exist(path: Path) -> None:
    suite = read_suite(path)
    assert suite.name == path.stem and suite.varies is not None and suite.varies.asks
    assert path.read_text().startswith("# ") and suite.protocol == "demo-1" and suite.budget == "hour"
    for declaration in suite.declarations:
        assert declaration.steps == 600
        system_class(declaration.system).Settings(**declaration.settings)
        assert recorded(declaration, suite.budget)["settings"] is not None
    told = [recorded(declaration, suite.budget) for declaration in suite.declarations]
    assert all(told.count(one) == 1 for one in told), "two values stand for the same training"


def test_all_questions_have_their_suite() -> None:
    assert {path.stem for path in SUITES} >= {"fusion", "channels", "window", "noise-cue", "delay", "data"}


def test_values_are_those_of_the_conditions() -> None:
    scale = {"channels": 1, "window": 1, "delay": 1, "noise_share": 100, "train_share": 100}
    usual = {"channels": 64, "delay": 0, "noise_share": 0, "train_share": 1}
    for path in SUITES:
        suite = read_suite(path)
        assert suite.varies is not None
        names = {name for declaration in suite.declarations for name in declaration.conditions.told()}
        for declaration in suite.declarations if names else ():
            (name,) = names
            value = declaration.conditions.told().get(name, usual.get(name))
            assert value is not None and suite.varies.values[declaration.label] == pytest.approx(value * scale[name])


def test_the_page_tells_of_every_suite_and_links_to_what_is_there() -> None:
    page = PAGE.read_text()
    for path in SUITES:
        assert f"`{path.stem}`" in page
    links = re.findall(r"\]\(([^)#:]+)\)", page)
    assert all((PAGE.parent / link).exists() for link in links)
    committed = {path.name for path in (ROOT / "results" / "ablations").glob("*.*")}
    assert committed <= {Path(link).name for link in links}, "link committed tables and figures in docs/ablations.md"


def written(tmp_path: Path, **change: Any) -> Path:
    body = made_suite().model_dump(exclude_none=True) | change
    path = tmp_path / "suite.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in body.items() if value is not None}))
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"varies": {"name": "size", "values": {"few": 1, "mor": 2}}}, "did you mean 'more'"),
        ({"varies": {"name": "size", "vlues": {}}}, "varies: key: .*did you mean 'values'"),
        ({"varies": {"name": "size", "values": {"few": 1}}}, "values: expected .*at least 2 items"),
        ({"name": "../made"}, "name: expected a name of the form"),
    ],
)
def test_reading_a_suite_checks_what_varies(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = written(tmp_path, studies=["simulated-clear"], splits=["stimulus"], **change)
    with pytest.raises(BadInput, match=message):
        read_suite(path)


# The command


def test_the_command_runs_what_is_missing_and_writes_table_and_figure(small_root: Path, tmp_path: Path) -> None:
    systems = [{"system": "mixture", "name": name, "conditions": {"channels": int(name)}} for name in ("4", "8")]
    varies = {"name": "channels", "values": {"4": 4, "8": 8}, "reference": "8"}
    path = written(tmp_path, studies=[str(small_root)], splits=["trial"], systems=systems, varies=varies)
    words = ["ablation", str(path), "--out", str(tmp_path / "out"), "--jobs", "1", "--device", "cpu"]
    shown = CliRunner().invoke(cli.app, [*words, "--results", str(tmp_path / "results")], catch_exceptions=False).output
    assert "0 of 2 systems are done" in shown and str(tmp_path / "results" / "made.svg") in shown
    rows = rows_of((tmp_path / "results" / "made.md").read_text())
    assert rows["4"][3] == "0.00 [0.00, 0.00]" and rows["8"][3] == NOTHING
    assert len(RecordStore(tmp_path / "results" / "made").read_all()) == 4
    # They lie where a leaderboard of the folder around them does not look.
    with pytest.raises(BadInput, match="records: expected at least one, found none"):
        render_leaderboard(tmp_path, tmp_path / "leaderboard.md")
    shown = CliRunner().invoke(cli.app, [*words, "--results", str(tmp_path / "results")], catch_exceptions=False).output
    assert "2 of 2 systems are done" in shown


def test_the_command_refuses_a_suite_in_which_nothing_varies(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="varies: expected what varies.*eeg2speech run"):
        CliRunner().invoke(cli.app, ["ablation", str(ROOT / "benchmarks" / "bench.yaml")], catch_exceptions=False)
