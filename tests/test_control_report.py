"""Control reports: the verdict that the records give, twins and curves of the same data, links, the same bytes."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import stdtrit

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
from eeg2speech.records.audits import Audit, place, write_audit
from eeg2speech.records.curves import FISHER, NORMAL, Curve, CurvePoint, CurveStore, ModelCurve, SwitchingRef
from eeg2speech.report.compare import Comparison
from eeg2speech.report.control_report import control_pages, control_reports_stale, render_control_reports
from eeg2speech.report.control_tables import interval_over_pairs, subject_drops
from eeg2speech.report.judgement import audit_verdict, evidence, measures_of, verdict_of
from eeg2speech.report.results import read_groups

SUBJECTS, PAIRS, TWICE, FEW = 6, 8, 2, 200
CONTROLS = ("true_eeg", "noise_cue", "time_shift", "zero")
GROUP = "demo-1_made-up_stimulus-s0"


@dataclass(frozen=True)
class Facts:
    """A metric's declaration."""

    name: str
    unit: str
    decimals: int
    higher_is_better: bool = True


METRICS = (Facts("si_sdr", "dB", 2), Facts("distance", "dB", 2, False), Facts("selection_accuracy", "fraction", 3))


@dataclass(frozen=True)
class Made:
    """A made-up system: its SI-SDR, what controls take from it, and how much its choices depend on chance."""

    name: str
    level: float = 5.0
    drops: dict[str, float] = field(default_factory=dict)
    wild: bool = False
    uses_eeg: bool = True
    settings: dict[str, Any] = field(default_factory=dict)
    conditions: dict[str, Any] = field(default_factory=dict)
    checkpoint: str | None = "abc"
    cls: str = ""

    @property
    def declaration(self) -> dict[str, Any]:
        given = {"conditions": self.conditions} if self.conditions else {}
        return {"system": self.cls or self.name, "version": 1, "settings": self.settings, "steps": 9} | given


FOLLOWS = Made("follows", drops={"noise_cue": 3.0, "time_shift": 2.0, "zero": 3.0})
READER = Made("reader", drops={"noise_cue": 3.0, "zero": 3.0})
WILD = Made("wild", wild=True)
BLIND = Made("blind", uses_eeg=False)
TWIN = Made("follows-twin", 1.5, settings=FOLLOWS.settings, conditions={"noise_share": 1.0}, cls="follows")


def scores_of(system: Made, control: str, seed: int = 0) -> pd.DataFrame:
    """Subjects crossed with pairs, twice; a wild system's choices are by chance, another's follow its SI-SDR."""
    subject, pair, _ = (index.ravel() for index in np.indices((SUBJECTS, PAIRS, TWICE)))
    rng = np.random.default_rng([seed, *system.name.encode(), *(control.encode() if system.wild else b"")])
    lost = system.drops.get(control, 0.0)
    si_sdr = system.level - lost + np.random.default_rng(5).normal(0, 1, PAIRS)[pair] + rng.normal(0, 0.3, len(pair))
    chosen = rng.random(len(pair)) < 0.5 if system.wild else np.full(len(pair), lost == 0.0)
    names = {"trial": "t", "pair": "p", "attended": "a", "unattended": "b"}
    values = {"si_sdr": si_sdr, "distance": -si_sdr, "selection_accuracy": chosen.astype(float)}
    return pd.DataFrame(
        {"segment": np.arange(len(pair)), "subject": [f"s{index}" for index in subject], "start": 0.0, "duration": 4.0}
        | {column: [f"{letter}{index}" for index in pair] for column, letter in names.items()}
        | values
        | {f"{name}_reason": None for name in values}
    )


def add(root: Path, system: Made, control: str = "true_eeg", seed: int = 0, **fields: Any) -> Record:
    scores = scores_of(system, control, seed)
    about = {"uses_subject": False, "causal": False, "sees": "mixture", "parameters": 5, "licence": "MIT"}
    usual: dict[str, Any] = {
        "protocol": ProtocolRef(name="demo", version=1),
        "task": "extraction",
        "study": StudyRef(name="made-up", revision="abc", data_note="simulated EEG, real speech"),
        "split": SplitRef(kind="stimulus", seed=0, manifest_hash="def"),
        "system": SystemRef(name=system.name, declaration=system.declaration, uses_eeg=system.uses_eeg,
                            checkpoint_hash=system.checkpoint, source="here", **about),
        "control": control,
        "budget": BudgetRef(name="demo", steps=9, seconds=1.0, device="cpu"),
        "seed": seed,
        "evaluation_seed": 0,
        "code": CodeRef(commit="0123456789abcdef", dirty=False, version="0.1"),
        "packages": {},
        "machine": {},
        "n_segments_expected": len(scores),
        "metrics": summarise(scores, METRICS, resamples=FEW),
        "timings": {},
        "created": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    return RecordStore(root).write(Record(**usual | fields), scores)


def add_all(root: Path, *systems: Made, controls: tuple[str, ...] = CONTROLS, **fields: Any) -> None:
    for system in systems:
        for control in controls:
            add(root, system, control, **fields)


def add_curve(results: Path, control: str = "true_eeg", **fields: Any) -> Curve:
    """A curve of FOLLOWS: more often right in longer windows."""
    lengths, rows = (1.0, 2.0, 4.0), []
    for place_, seconds in enumerate(lengths):
        part = scores_of(FOLLOWS, "true_eeg").assign(duration=seconds)
        part["selection_accuracy"] = (np.arange(len(part)) % 4 <= 1 + place_).astype(float)
        rows.append(part)
    scores = pd.concat(rows, ignore_index=True).assign(segment=lambda frame: np.arange(len(frame)))
    n = len(rows[0])
    points = (CurvePoint(window=w, n=n, n_failed=0, accuracy=0.25 * (2 + k), low=0.25 * (2 + k) - 0.1,
                         high=0.25 * (2 + k), no_interval=None) for k, w in enumerate(lengths))  # fmt: skip
    usual: dict[str, Any] = {
        "protocol": ProtocolRef(name="demo", version=1),
        "task": "extraction",
        "metric": "selection_accuracy",
        "study": StudyRef(name="made-up", revision="abc", data_note="simulated EEG, real speech"),
        "split": SplitRef(kind="stimulus", seed=0, manifest_hash="def"),
        "system": "follows",
        "checkpoint_hash": "abc",
        "control": control,
        "seed": 0,
        "evaluation_seed": 0,
        "per_span": 2,
        "points": tuple(points),
        "models": (ModelCurve(form=NORMAL, parameters={"d": 0.5}, accuracy=(0.61, 0.71, 0.81), note="fitted"),
                   ModelCurve(form=FISHER, parameters={}, accuracy=None, note="no correlations")),
        "switching": SwitchingRef(seconds=17.3, window=2.0, accuracy=0.75, levels=7, confidence=0.8, comfort=0.65),
        "code": CodeRef(commit="0", dirty=False, version="0.1"),
        "created": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    return CurveStore(results / "curves").write(Curve(**usual | fields), scores)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every kind of system, under all controls."""
    root = tmp_path_factory.mktemp("made") / "results"
    add_all(root, FOLLOWS, READER, WILD, BLIND)
    return root


@pytest.fixture
def results(made: Path, tmp_path: Path) -> Path:
    """A copy of them, to be added to."""
    return Path(shutil.copytree(made, tmp_path / "results"))


def texts(results: Path, system: str = "follows") -> dict[str, str]:
    """The page of one system, and the index; no figure is drawn."""
    pages = control_pages(results, results.parent / "out", FEW, [system])
    return {page.path.name: page.text for page in pages}


def report(results: Path, system: str = "follows") -> str:
    return texts(results, system)[f"{system}.md"]


def section(text: str, title: str) -> str:
    return text.split(f"## {title}\n", 1)[1].split("\n## ")[0]


def index_row(index: str, system: str) -> list[str]:
    (row,) = [line for line in index.splitlines() if line.startswith((f"| {system} |", f"| [{system}]("))]
    return [cell.strip() for cell in row.strip("|").split(" | ")]


def comparison_of(results: Path) -> Comparison:
    (group,) = read_groups(RecordStore(results))
    return Comparison(RecordStore(results), group, FEW)


def answers(comparison: Comparison) -> dict[str, str]:
    return {run.system.name: verdict_of(comparison, run).answer for run in comparison.group.runs}


def test_the_verdict_tells_who_follows_speech_from_who_reads_a_fingerprint(made: Path) -> None:
    comparison = comparison_of(made)
    found = {"follows": "uses the EEG", "reader": "does not", "wild": "cannot tell", "blind": "does not"}
    assert answers(comparison) == found
    reasons = {run.label: verdict_of(comparison, run).reason for run in comparison.group.runs}
    assert "who listens" in reasons["reader"] and reasons["blind"] == "it is given none"
    assert "too few trials" in reasons["wild"]


def test_the_measures_of_a_verdict_are_those_that_the_group_has(made: Path) -> None:
    comparison = comparison_of(made)
    ranks, choice = measures_of(comparison.group)
    assert (ranks.name, ranks.margin, choice.name, choice.margin) == ("si_sdr", None, "selection_accuracy", 0.1)
    (run,) = [run for run in comparison.group.runs if run.label == "follows"]
    means = {key: drop.mean for key, drop in evidence(comparison, run).items() if drop is not None}
    expected = {("si_sdr", "noise_cue"): 3.0, ("si_sdr", "time_shift"): 2.0}
    shares = {("selection_accuracy", control): 1.0 for control in ("noise_cue", "time_shift")}
    assert means == pytest.approx(expected | shares)


def test_what_is_incomplete_or_lacks_a_control_is_not_judged(tmp_path: Path) -> None:
    asked = ("true_eeg", "noise_cue")
    add_all(tmp_path, FOLLOWS, READER)
    for control in asked:
        add(tmp_path, Made("brief", drops={"noise_cue": 1.0}), control, controls=asked)
    add(tmp_path, Made("begun"), "noise_cue")
    comparison = comparison_of(tmp_path)
    found = {run.label: verdict_of(comparison, run).text for run in comparison.group.runs}
    assert found["brief"] == "cannot tell: not evaluated under time_shift"
    assert found["begun"] == "cannot tell: incomplete (1 of 4 controls)"
    page = report(tmp_path, "begun")
    assert "**Cannot tell**: incomplete (1 of 4 controls)." in page and "| noise_cue |" not in page
    assert "begun-s0/noise_cue.json" in page


def test_the_report_shows_the_verdict_its_rule_and_every_difference(made: Path) -> None:
    text = report(made)
    verdict, drops = section(text, "Verdict"), section(text, "Controls").split("### Drops")[1]
    assert "**Uses the EEG**: SI-SDR drops under noise_cue and time_shift." in verdict
    assert "**Cannot tell**: everything else" in verdict and "0.1 or more" in verdict
    rows = {row.split(" | ")[0].strip("| "): row for row in drops.splitlines() if row.startswith("| ")}
    assert list(rows)[2:] == ["noise_cue", "zero", "time_shift"]
    for row, mean in (("noise_cue", "3.00"), ("time_shift", "2.00")):
        first, choice, distance = rows[row].strip("|").split(" | ")[1:]
        assert first.startswith(f"{mean} [") and distance.startswith(f"-{mean} [") and choice.startswith("1.000")
        assert all("p <0.001" in cell for cell in (first, distance))
    assert "distance (dB), lower is better" in text and "simulated EEG, real speech" in text.splitlines()[2]


def test_drops_by_subject_are_means_of_the_differences_of_that_subject(made: Path) -> None:
    comparison = comparison_of(made)
    (run,) = [run for run in comparison.group.runs if run.label == "wild"]
    found = subject_drops(comparison, run, "si_sdr", "noise_cue")
    true, noise = (scores_of(WILD, control) for control in ("true_eeg", "noise_cue"))
    expected = (true["si_sdr"] - noise["si_sdr"]).groupby(true["subject"]).mean().to_dict()
    assert {name: drop.mean for name, drop in found.items()} == pytest.approx(expected)
    table = section(report(made, "wild"), "Per subject")
    assert [line.split(" | ")[0] for line in table.splitlines() if line.startswith("| s")][1:] == [
        f"| s{index}" for index in range(SUBJECTS)
    ]


def test_a_subjects_interval_is_a_t_interval_over_the_means_of_its_pairs() -> None:
    values, pairs = np.array([1.0, 3.0, 2.0, 6.0, 5.0, 9.0]), np.array(["a", "a", "b", "b", "c", "c"], object)
    found, means = interval_over_pairs(values, pairs), np.array([2.0, 4.0, 7.0])
    reach = stdtrit(2, 0.975) * means.std(ddof=1) / np.sqrt(3)
    assert found.mean == pytest.approx(13 / 3)
    # The ends stay within the range of the values.
    assert (found.low, found.high) == (max(1.0, 13 / 3 - reach), min(9.0, 13 / 3 + reach))
    assert interval_over_pairs(values, np.full(6, "a", object)).note == "only one stimulus pair"
    assert interval_over_pairs(np.ones(6), pairs).low is None


def test_a_twin_is_compared_on_the_same_segments(results: Path) -> None:
    assert "No twin of this system was trained" in section(report(results), "Twin trained with noise")
    add_all(results / "twins", TWIN, controls=("true_eeg",))
    found = texts(results)
    twin, index = section(found["follows.md"], "Twin trained with noise"), found["index.md"]
    expected = (scores_of(FOLLOWS, "true_eeg")["si_sdr"] - scores_of(TWIN, "true_eeg")["si_sdr"]).mean()
    assert "`follows-twin`" in twin and f"| {expected:.2f} [" in twin
    assert index_row(index, "follows")[-2].startswith(f"{expected:.2f} [")
    assert index_row(index, "reader")[-2] == "–"


@pytest.mark.parametrize(
    ("twin", "fields", "told"),
    [
        (TWIN, {"study": StudyRef(name="made-up", revision="new", data_note="simulated EEG, real speech")},
         "its study.revision is `new`, the system's is `abc`"),
        (TWIN, {"split": SplitRef(kind="stimulus", seed=0, manifest_hash="other")}, "split.manifest_hash is `other`"),
        (Made("follows-twin", cls="follows", conditions={"noise_share": 1.0, "channels": 8}), {}, "`{'channels': 8}`"),
    ],
)  # fmt: skip
def test_a_twin_of_other_data_is_told_and_not_compared(
    twin: Made, fields: dict[str, Any], told: str, results: Path
) -> None:
    add_all(results / "twins", twin, controls=("true_eeg",), **fields)
    found = texts(results)
    text = section(found["follows.md"], "Twin trained with noise")
    assert "The twin `follows-twin` is not compared" in text and told in text and "|" not in text
    assert index_row(found["index.md"], "follows")[-2] == "–"


@pytest.mark.parametrize(
    "other",
    [
        Made("half", cls="follows", conditions={"noise_share": 0.5}),
        Made("else", cls="follows", settings={"size": "big"}, conditions={"noise_share": 1.0}),
        Made("reader-twin", cls="reader", conditions={"noise_share": 1.0}),
    ],
)
def test_what_is_no_twin_is_not_taken_for_one(other: Made, results: Path) -> None:
    add_all(results / "twins", other, controls=("true_eeg",))
    assert "No twin of this system was trained" in report(results)


def test_the_curve_of_the_same_weights_is_shown(results: Path) -> None:
    assert "No curve of these weights was measured." in report(results)
    add_curve(results)
    add_curve(results, "noise_cue")
    render_control_reports(results, results.parent / "out", FEW, ["follows"])
    text = section((results.parent / "out" / GROUP / "follows.md").read_text(), "Accuracy and the length of the window")
    index = (results.parent / "out" / "index.md").read_text()
    assert "| 2 | 96 | 0 | 0.750 [0.650, 0.750] | 0.710 |" in text
    assert "**17.3 s**, at windows of 2 s, accuracy 0.750, 7 levels of gain" in text
    assert "no correlations" in text and "model (from correlations) |" not in text
    assert text.index("`true_eeg`") < text.index("`noise_cue`")
    svg = results.parent / "out" / GROUP / "follows_window.svg"
    assert "follows; MESD 17.3 s" in svg.read_text() and svg.name in text
    assert index_row(index, "follows")[-1] == "17.3 s" and index_row(index, "reader")[-1] == "–"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"checkpoint_hash": "other"}, "its weights are `other`, the record's `abc`"),
        ({"split": SplitRef(kind="stimulus", seed=0, manifest_hash="new")}, "its manifest is `new`"),
        ({"study": StudyRef(name="made-up", revision="new", data_note="made up")}, "its study's revision is `new`"),
    ],
)
def test_a_curve_of_other_weights_or_data_is_told_and_not_shown(
    fields: dict[str, Any], told: str, results: Path
) -> None:
    add_curve(results, **fields)
    found = texts(results)
    text = section(found["follows.md"], "Accuracy and the length of the window")
    assert told in text and "No curve of these weights" in text and "svg" not in text
    assert index_row(found["index.md"], "follows")[-1] == "–"


def test_links_exist_and_the_command_names_the_record(results: Path) -> None:
    add_curve(results)
    assert report(results).count("none of exactly this data and split lies beside the records") == 2
    manifest = results / "manifests" / place("made-up", "stimulus", 0)
    manifest.parent.mkdir(parents=True)
    manifest.write_text("{}")
    audit = Audit(study="made-up", revision="abc", split="stimulus", seed=0, manifest_hash="def", window_seconds=4.0,
                  verdict="warning: few pairs", findings=(), probes=(), alike=())  # fmt: skip
    write_audit(results / "audits" / place("made-up", "stimulus", 0), audit)
    out = results.parent / "out"
    render_control_reports(results, out, FEW)
    pages = sorted(out.rglob("*.md"))
    assert [page.name for page in pages] == ["follows.md", "reader.md", "wild.md", "index.md"]
    for page in pages:
        links = re.findall(r"\]\(([^)]+)\)", page.read_text())
        assert links and all((page.parent / link).is_file() for link in links), page
        assert page.stat().st_size < 12_000
    text = (out / GROUP / "follows.md").read_text()
    assert len(re.findall(r"\[(?:record|scores|manifest|audit)\]", text)) == 4
    assert "eeg2speech repeat results/demo-1/made-up/stimulus-s0/follows-s0/true_eeg.json" in text
    assert "Audit of the split: warning: few pairs." in text and "0123456789abcdef" in text
    assert index_row((out / "index.md").read_text(), "follows")[4] == "warning: few pairs"


def test_the_audit_of_other_data_is_not_this_splits(results: Path) -> None:
    comparison = comparison_of(results)
    run = comparison.group.runs[0]
    assert audit_verdict(comparison, run) == "not audited"
    audit = Audit(study="made-up", revision="old", split="stimulus", seed=0, manifest_hash="def", window_seconds=4.0,
                  verdict="fatal: all", findings=(), probes=(), alike=())  # fmt: skip
    write_audit(results / "audits" / place("made-up", "stimulus", 0), audit)
    assert audit_verdict(comparison, run) == "not audited"


def test_the_index_lists_every_system_and_what_is_given_no_eeg(made: Path) -> None:
    index = texts(made)["index.md"]
    row = index_row(index, "blind")
    assert row[2:4] == ["does not", "it is given none"] and row[-4:] == ["–"] * 4
    assert index_row(index, "follows")[5] == "SI-SDR (dB)"
    # Only what was asked for has a page; a page that does not exist is not linked.
    assert index_row(index, "reader")[0] == "reader" and index_row(index, "follows")[0].startswith("[follows](")
    with pytest.raises(BadInput, match="did you mean 'follows'"):
        texts(made, "folows")


def test_the_same_records_give_the_same_bytes_and_small_figures(results: Path) -> None:
    add_curve(results)
    add_all(results / "twins", TWIN, controls=("true_eeg",))
    first, second = results.parent / "a", results.parent / "b"
    for out in (first, second):
        render_control_reports(results, out, FEW, ["follows", "reader"])
    names = sorted(path.relative_to(first) for path in first.rglob("*.*"))
    assert len(names) == 6 and names == sorted(path.relative_to(second) for path in second.rglob("*.*"))
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
        assert str(results.parent) not in (first / name).read_text()
    assert all((first / GROUP / f"{name}.svg").stat().st_size < 15_000 for name in ("follows", "reader"))


def test_reports_are_stale_when_a_text_or_a_file_differs(results: Path) -> None:
    out = results.parent / "out"
    assert control_reports_stale(results, out, FEW)
    render_control_reports(results, out, FEW)
    assert not control_reports_stale(results, out, FEW)
    (out / GROUP / "gone.md").write_text("a system that is no longer there")
    assert control_reports_stale(results, out, FEW)
    (out / GROUP / "gone.md").unlink()
    add_curve(results)
    assert control_reports_stale(results, out, FEW)


def test_seeds_are_taken_together_and_each_has_its_record(tmp_path: Path) -> None:
    results = tmp_path / "results"
    for seed in (0, 1):
        add_all(results, FOLLOWS, seed=seed)
        add_all(results / "twins", TWIN, controls=("true_eeg",), seed=seed)
    text = report(results)
    assert text.startswith("# follows (mean of 2 seeds): does it use the EEG?")
    assert text.count("eeg2speech repeat ") == 2 and "`follows-twin (mean of 2 seeds)`" in text
    drops = [(scores_of(FOLLOWS, "true_eeg", seed)["si_sdr"] - scores_of(TWIN, "true_eeg", seed)["si_sdr"]).mean()
             for seed in (0, 1)]  # fmt: skip
    assert f"| {np.mean(drops):.2f} [" in section(text, "Twin trained with noise")
