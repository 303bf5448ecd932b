"""The whole way of an evaluation on the small study: trained, scored, recorded, killed, resumed, rendered."""

import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import eeg2speech
from eeg2speech.controls import CONTROLS
from eeg2speech.data import Store
from eeg2speech.errors import BadInput
from eeg2speech.evaluation.run import run_suite
from eeg2speech.evaluation.suite import Machine, Suite, read_suite
from eeg2speech.records import RecordStore
from eeg2speech.report import render_leaderboard
from eeg2speech.splits import make_split

QUIET = Machine(jobs=1, device="cpu", precision="32-true", progress=False)
SYSTEMS: list[Any] = [
    "mixture",
    "random_speaker",
    "subject_id_oracle",
    "oracle_target",
    "oracle_mask",
    "mtrf_select_true_sources",
    {"system": "mtrf_select_separated", "steps": 1},
    {"system": "dprnn", "steps": 2},
    {"system": "dprnn_blind", "steps": 1},
]


def suite(root: Path, systems: list[Any], controls: list[str] | str = "all") -> Suite:
    return Suite(name="test", studies=[str(root)], splits=["trial"], controls=controls, systems=systems)


def silent(line: str) -> None:
    assert line


@pytest.fixture(scope="module")
def finished(small_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished")
    run_suite(suite(small_root, SYSTEMS), out, QUIET, silent)
    return out


def test_every_system_has_a_record_for_every_control(finished: Path, store: Store) -> None:
    records = RecordStore(finished / "records").read_all()
    assert {(r.system.name, r.control) for r in records} == {
        (s if isinstance(s, str) else s["system"], c) for s in SYSTEMS for c in CONTROLS
    }
    manifest = make_split(store.index, "trial").hash
    for record in records:
        assert record.complete and record.split.manifest_hash == manifest
        assert record.study.revision == store.index.revision and "simulated EEG" in record.study.data_note


def scores(out: Path, system: str, control: str = "true_eeg") -> pd.DataFrame:
    records = RecordStore(out / "records")
    record = next(r for r in records.read_all() if (r.system.name, r.control) == (system, control))
    return records.scores(record)


def test_ceilings_and_floors_score_as_they_must(finished: Path) -> None:
    target = scores(finished, "oracle_target")
    assert (target["si_sdr"] == 100).all() and (target["selection_accuracy"] == 1).all()
    assert scores(finished, "mixture")["si_sdri"].abs().max() < 1e-9
    mask = scores(finished, "oracle_mask")
    assert (mask["si_sdr"] > 5).all() and (mask["selection_accuracy"] == 1).all()
    coin = scores(finished, "random_speaker")["selection_accuracy"]
    assert set(coin) <= {0.0, 1.0}


def test_without_eeg_no_control_changes_anything(finished: Path) -> None:
    for system in ("mixture", "dprnn_blind", "random_speaker", "oracle_mask"):
        for control in CONTROLS:
            pd.testing.assert_frame_equal(scores(finished, system, control), scores(finished, system))


def test_with_eeg_the_controls_matter(finished: Path) -> None:
    for system in ("mtrf_select_true_sources", "dprnn"):
        assert not scores(finished, system, "noise_cue").equals(scores(finished, system))


def test_all_systems_are_scored_on_the_same_segments(finished: Path) -> None:
    identity = ["segment", "subject", "trial", "pair", "attended", "unattended", "start", "duration"]
    for system in ("dprnn", "oracle_mask", "mtrf_select_separated"):
        pd.testing.assert_frame_equal(scores(finished, system)[identity], scores(finished, "mixture")[identity])


def test_a_second_run_finds_everything_done(finished: Path, small_root: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in (finished / "records").rglob("*.*")}
    lines: list[str] = []
    run_suite(suite(small_root, SYSTEMS), finished, QUIET, lines.append)
    assert lines == ["9 of 9 systems are done; 0 to go"]
    assert {p: p.stat().st_mtime_ns for p in (finished / "records").rglob("*.*")} == before


def test_records_of_other_settings_are_not_taken_for_these(finished: Path, small_root: Path) -> None:
    other = suite(small_root, [{"system": "dprnn", "steps": 3}])
    with pytest.raises(BadInput, match=r"true_eeg\.json: system: expected .*'steps': 3.*\(or remove the record\)"):
        run_suite(other, finished, QUIET, silent)


def test_the_leaderboard_shows_every_system(finished: Path, tmp_path: Path) -> None:
    text = render_leaderboard(finished / "records", tmp_path / "leaderboard.md")
    assert "simulated EEG" in text and "eeg2speech run" in text
    for system in SYSTEMS:
        assert f"| {system if isinstance(system, str) else system['system']} |" in text


def repeatable(out: Path) -> dict[str, Any]:
    records = RecordStore(out / "records")
    return {str(records.path(r.unit).relative_to(out)): r.repeatable() for r in records.read_all()}


KILLED: list[Any] = ["mixture", "mtrf_select_true_sources", {"system": "dprnn", "steps": 2}]
KILLED_CONTROLS = ["true_eeg", "noise_cue"]


def child_run(small_root: Path, out: Path) -> int:
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        torch.set_num_threads(1)
        run_suite(suite(small_root, KILLED, KILLED_CONTROLS), out, QUIET, silent)
        os._exit(0)
    return child


@pytest.mark.slow
def test_a_run_killed_at_any_of_20_moments_gives_the_same_records(small_root: Path, tmp_path: Path) -> None:
    began = time.monotonic()
    assert os.waitpid(child_run(small_root, tmp_path / "calm"), 0)[1] == 0
    whole = time.monotonic() - began
    expected = repeatable(tmp_path / "calm")
    assert len(expected) == len(KILLED) * len(KILLED_CONTROLS)
    killed = 0
    for moment in range(20):
        out = tmp_path / f"killed{moment}"
        child = child_run(small_root, out)
        time.sleep(whole * (moment + random.Random(moment).random()) / 20)
        done, _ = os.waitpid(child, os.WNOHANG)
        if done == 0:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            killed += 1
        for path in (out / "records").rglob("*.json"):
            json.loads(path.read_text())
        run_suite(suite(small_root, KILLED, KILLED_CONTROLS), out, QUIET, silent)
        assert repeatable(out) == expected, moment
        assert {p.name: p.read_bytes() for p in (out / "records").rglob("*.parquet")} == {
            p.name: p.read_bytes() for p in (tmp_path / "calm" / "records").rglob("*.parquet")
        }
        assert not list((out / "records").rglob("*.tmp*"))
    assert killed >= 15


def test_a_run_killed_once_gives_the_same_records(small_root: Path, tmp_path: Path) -> None:
    assert os.waitpid(child_run(small_root, tmp_path / "calm"), 0)[1] == 0
    out = tmp_path / "killed"
    child = child_run(small_root, out)
    until = time.monotonic() + 120
    while not list((out / "records").rglob("true_eeg.json")):
        assert time.monotonic() < until
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert len(repeatable(out)) < len(KILLED) * len(KILLED_CONTROLS)
    run_suite(suite(small_root, KILLED, KILLED_CONTROLS), out, QUIET, silent)
    assert repeatable(out) == repeatable(tmp_path / "calm")


def test_two_processes_give_the_records_of_one(finished: Path, small_root: Path, tmp_path: Path) -> None:
    few = ["mixture", "oracle_mask", "subject_id_oracle"]
    run_suite(suite(small_root, few, ["true_eeg"]), tmp_path, Machine(2, "cpu", 1, "32-true", False), silent)
    expected = repeatable(finished)
    found = repeatable(tmp_path)
    assert len(found) == 3 and all(expected[path] == record for path, record in found.items())


def test_five_lines_evaluate_a_callable(store: Store) -> None:
    result = eeg2speech.evaluate(lambda mixture, eeg, subject: mixture, study=store, split="trial", jobs=1)
    assert list(result.table()["control"]) == ["true_eeg", "noise_cue"]
    assert result.records["true_eeg"].metrics["si_sdri"].mean == 0
    assert (result.drop().mean, result.drop().low, result.drop().high) in {(0.0, 0.0, 0.0), (0.0, None, None)}


def test_an_answer_that_is_not_finite_is_counted_as_failed(store: Store) -> None:
    def half(mixture: torch.Tensor, eeg: torch.Tensor, subject: torch.Tensor) -> torch.Tensor:
        return torch.where(torch.arange(len(mixture))[:, None] % 2 == 0, mixture, torch.nan)

    record = eeg2speech.evaluate(half, study=store, split="trial", controls=["true_eeg"], jobs=1).records["true_eeg"]
    result = record.metrics["si_sdr"]
    assert result.n_failed > 0 and result.reasons == {"non-finite estimate": result.n_failed}
    assert result.n + result.n_failed == record.n_segments_expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"systems": ["dprn"]}, "did you mean 'dprnn'"),
        ({"splits": ["stimuli"]}, "did you mean 'stimulus'"),
        ({"controls": ["noise"]}, "did you mean 'noise_cue'"),
        ({"protocol": "demo-9"}, "did you mean 'demo-1'"),
        ({"studies": ["simulated-clean"]}, "did you mean 'simulated-clear'"),
        ({"systms": []}, "did you mean 'systems'"),
        ({"systems": ["dprnn", "dprnn"]}, "'dprnn' twice"),
        ({"systems": [{"system": "dprnn", "settings": {"sise": "demo"}}]}, "did you mean 'size'"),
        ({"budget": "hours"}, "budget: expected"),
    ],
)
def test_a_suite_with_a_wrong_name_is_refused_before_anything_runs(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    good = {"name": "x", "studies": ["simulated-clear"], "splits": ["trial"], "systems": ["mixture"]}
    path = tmp_path / "suite.yaml"
    path.write_text(json.dumps(good))
    assert read_suite(path).name == "x"
    path.write_text(json.dumps(good | change))
    with pytest.raises(BadInput, match=message):
        read_suite(path)


def test_the_committed_suites_are_valid() -> None:
    paths = sorted((Path(__file__).parent.parent / "benchmarks").glob("*.yaml"))
    assert {read_suite(path).name for path in paths} >= {"bench", "leaderboard", "null"}
