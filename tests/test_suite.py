"""The whole way of an evaluation on the small study: trained, scored, recorded, killed, resumed, rendered."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pytest
import torch
from eeg2speech_baselines.dprnn import Dprnn, ExtractionSettings

import eeg2speech
from eeg2speech.controls import CONTROLS
from eeg2speech.data import Store
from eeg2speech.errors import BadInput
from eeg2speech.evaluation.api import CallableSystem
from eeg2speech.evaluation.protocol import protocol
from eeg2speech.evaluation.run import run_suite, unit_of
from eeg2speech.evaluation.scoring import device_of, place
from eeg2speech.evaluation.suite import Machine, Suite, Work, options, read_suite, train_all, train_one, works
from eeg2speech.metrics import METRICS, Metric, Signals
from eeg2speech.records import RecordStore, Unit
from eeg2speech.records.files import write_atomically
from eeg2speech.report import render_leaderboard
from eeg2speech.splits import make_split
from eeg2speech.systems.interface import Context
from eeg2speech.systems.registry import declare

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


def loudness(signals: Signals, rate: int) -> float:
    return float((signals.estimate**2).mean())


LOUDNESS = Metric("loudness", loudness, "dB", True)
"""A metric that no protocol has."""


def suite(root: Path, systems: list[Any], controls: list[str] | str = "all", **more: Any) -> Suite:
    return Suite(name="test", studies=[str(root)], splits=["trial"], controls=controls, systems=systems, **more)


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
    unit = Unit("demo", 1, "simulated-clear", "trial", 0, system, 0, control)
    return records.scores(records.read(records.path(unit)))


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budget": "hour"}, r"dprnn-s0/true_eeg\.json: system: expected .*'budget': 'hour'"),
        (
            {"systems": [{"system": "dprnn", "steps": 2, "settings": {"envelope_weight": 1.0}}]},
            "'envelope_weight': 1.0",
        ),
        ({"metrics": ["loudness"]}, r"metrics: expected loudness too \(or remove the record\)"),
    ],
)
def test_records_of_another_request_are_not_taken_for_these(
    finished: Path, small_root: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], message: str
) -> None:
    monkeypatch.setitem(METRICS, "loudness", LOUDNESS)
    asked = {"systems": [{"system": "dprnn", "steps": 2}], "controls": ["true_eeg"]} | change
    with pytest.raises(BadInput, match=message):
        run_suite(suite(small_root, **asked), finished, QUIET, silent)


def of_another_revision(root: Path) -> Store:
    store = Store(root)
    store.index = replace(store.index, revision="another")
    return store


def test_records_of_other_data_are_not_taken_for_these(
    finished: Path, small_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A manifest is of one revision; so the split is told first.
    monkeypatch.setattr("eeg2speech.evaluation.run.prepare", lambda study: of_another_revision(small_root))
    with pytest.raises(BadInput, match=r"true_eeg\.json: split: expected .*'manifest_hash'.*\(or remove the record\)"):
        run_suite(suite(small_root, ["mixture"]), finished, QUIET, silent)


def test_a_changed_default_is_not_taken_for_the_same_system(
    finished: Path, small_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Settings(ExtractionSettings):
        envelope_weight: float = 7.0

    monkeypatch.setattr(Dprnn, "Settings", Settings)
    with pytest.raises(BadInput, match=r"true_eeg\.json: system: expected .*'envelope_weight': 7.0"):
        run_suite(suite(small_root, [{"system": "dprnn", "steps": 2}]), finished, QUIET, silent)


def test_what_has_nothing_to_learn_is_the_same_under_every_budget(finished: Path, small_root: Path) -> None:
    lines: list[str] = []
    run_suite(suite(small_root, ["mixture", "oracle_mask"], budget="full"), finished, QUIET, lines.append)
    assert lines == ["2 of 2 systems are done; 0 to go"]


def test_controls_of_one_network_are_not_joined_with_those_of_another(
    small_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = suite(small_root, ["subject_id_oracle"], ["noise_cue"])
    records = run_suite(few, tmp_path, QUIET, silent)
    records.path(unit_of(works(few)[0], "noise_cue")).unlink()
    monkeypatch.setattr("eeg2speech.evaluation.trained.state_hash", lambda state: "of others")
    with pytest.raises(BadInput, match=r"true_eeg\.json: checkpoint_hash: expected of others \(or remove"):
        run_suite(few, tmp_path, QUIET, silent)


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


def killed_suite(small_root: Path) -> Suite:
    return suite(small_root, KILLED, KILLED_CONTROLS, examples=1)


def clips(out: Path) -> dict[str, Any]:
    """Names of the clips, and what their indices say."""
    folder = out / "records" / "examples"
    indices = {str(path.relative_to(folder)): json.loads(path.read_text()) for path in folder.rglob("index.json")}
    return indices | {"clips": sorted(str(path.relative_to(folder)) for path in folder.rglob("*.ogg"))}


def child_run(small_root: Path, out: Path) -> int:
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        torch.set_num_threads(1)
        run_suite(killed_suite(small_root), out, QUIET, silent)
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
        run_suite(killed_suite(small_root), out, QUIET, silent)
        assert repeatable(out) == expected, moment
        assert clips(out) == clips(tmp_path / "calm"), moment
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
    run_suite(killed_suite(small_root), out, QUIET, silent)
    assert repeatable(out) == repeatable(tmp_path / "calm")
    assert clips(out) == clips(tmp_path / "calm") and len(clips(out)["clips"]) == 3 + len(KILLED) - 1


def test_a_run_killed_between_the_last_record_and_the_clips_writes_them_later(
    small_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = suite(small_root, ["mixture"], ["true_eeg"], examples=2)

    def killed(path: Path, content: bytes) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("eeg2speech.evaluation.examples.write_atomically", killed)
        run_suite(asked, tmp_path, QUIET, silent)
    assert len(repeatable(tmp_path)) == 1 and not clips(tmp_path)["clips"]
    run_suite(asked, tmp_path, QUIET, silent)
    # The mixture's answer is the mixture: no clip of its own.
    assert len(clips(tmp_path)["clips"]) == 2 * 3
    lines: list[str] = []
    run_suite(asked, tmp_path, QUIET, lines.append)
    assert lines == ["1 of 1 systems are done; 0 to go"]


def test_clips_of_other_weights_are_replaced(small_root: Path, tmp_path: Path) -> None:
    asked = suite(small_root, ["subject_id_oracle"], ["true_eeg"], examples=1)
    checkpoint_hash = run_suite(asked, tmp_path, QUIET, silent).read_all()[0].system.checkpoint_hash
    index = next((tmp_path / "records").rglob("index.json"))
    kept = json.loads(index.read_text())
    assert kept["checkpoints"] == {"subject_id_oracle": checkpoint_hash} and checkpoint_hash is not None
    index.write_text(json.dumps(kept | {"checkpoints": {"subject_id_oracle": "of others"}}))
    index.with_name("subject_id_oracle.ogg").write_bytes(b"other sound")
    run_suite(asked, tmp_path, QUIET, silent)
    assert json.loads(index.read_text()) == kept
    assert index.with_name("subject_id_oracle.ogg").read_bytes() != b"other sound"


def test_two_processes_give_the_records_of_one(
    finished: Path, small_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As this process has: one thread for each of two.
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1})
    few: list[Any] = ["mixture", "mtrf_select_true_sources", {"system": "dprnn", "steps": 2}]
    run_suite(suite(small_root, few, ["true_eeg"]), tmp_path, Machine(2, "cpu", 1, "32-true", False), silent)
    expected = repeatable(finished)
    found = repeatable(tmp_path)
    assert {tuple(record.pop("controls")) for record in found.values()} == {("true_eeg",)}
    assert len(found) == 3
    for path, record in found.items():
        assert expected[path].pop("controls")[0] == "true_eeg" and expected[path] == record


class InlinePool:
    """Stands in for the pool of processes; says with how many threads its children would start."""

    threads: ClassVar[list[str]] = []

    def __init__(self, *jobs: Any, **options: Any) -> None:
        assert options["initargs"] == (os.getpid(),)

    def __enter__(self) -> "InlinePool":
        return self

    def __exit__(self, *error: Any) -> None: ...

    def submit(self, function: Any, *arguments: Any) -> Future[float]:
        self.threads.append(os.environ["OMP_NUM_THREADS"] + os.environ["OPENBLAS_NUM_THREADS"])
        done: Future[float] = Future()
        done.set_result(1.0)
        return done


def one_work(small_root: Path) -> list[Work]:
    return works(suite(small_root, ["mixture"]))


def test_one_system_alone_has_the_threads_of_one_among_many(
    small_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eeg2speech.evaluation.suite.ProcessPoolExecutor", InlinePool)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {*range(8)})
    before = dict(os.environ)
    assert len(list(train_all(one_work(small_root), tmp_path, replace(QUIET, jobs=2)))) == 1
    assert InlinePool.threads == ["44"] and dict(os.environ) == before


def test_an_accelerator_trains_one_at_a_time(small_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eeg2speech.evaluation.suite.ProcessPoolExecutor", None)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    for device in ("auto", "cuda"):
        machine = replace(QUIET, jobs=2, device=device)
        assert len(list(train_all(one_work(small_root), tmp_path / device, machine))) == 1


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(ORPHANS)
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    until = time.monotonic() + 20
    while alive(worker):
        assert time.monotonic() < until
        time.sleep(0.05)


ORPHANS = """
import os, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from eeg2speech.processes import end_with_parent

if __name__ == "__main__":
    with ProcessPoolExecutor(1, get_context("spawn"), end_with_parent, (os.getpid(), 0.05)) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(time.sleep, 60).result()
"""


def alive(process: int) -> bool:
    """Not gone, and not waiting for whoever adopted it to notice."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_two_runs_in_one_folder_do_not_share_a_half_file(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    ours, other, left = (
        tmp_path / f"file.json{middle}.tmp" for middle in (f".{os.getpid()}", f".{os.getppid()}", f".{ended.pid}")
    )
    for half in (ours, other, left, tmp_path / "file.json.tmp"):
        half.write_bytes(b"half")
    write_atomically(path, b"whole")
    assert path.read_bytes() == b"whole"
    assert sorted(tmp_path.iterdir()) == sorted([path, other])


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


def test_a_table_of_a_metric_that_was_not_computed_is_refused(store: Store) -> None:
    result = eeg2speech.evaluate(lambda mixture, eeg, subject: mixture, study=store, split="trial")
    for call in (result.table, result.drop):
        with pytest.raises(BadInput, match="metric: expected one of .*did you mean 'si_sdri'"):
            call(metric="si_sdrii")  # type: ignore[operator]
    with pytest.raises(BadInput, match="did you mean 'noise_cue'"):
        result.drop("noise")


def test_more_metrics_than_the_protocols_may_be_asked_for(
    store: Store, small_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METRICS, "loudness", LOUDNESS)
    names = {"si_sdr", "loudness"}
    result = eeg2speech.evaluate(lambda mixture, eeg, subject: mixture, store, "trial", metrics=["loudness"])
    assert names <= set(result.records["true_eeg"].metrics) and "loudness [dB]" in result.table("loudness")
    asked = suite(small_root, ["mixture"], ["true_eeg"], metrics=["loudness", "si_sdr"])
    record = run_suite(asked, tmp_path, QUIET, silent).read_all()[0]
    assert names <= set(record.metrics) and len(record.metrics) == len(protocol("demo-1").metrics) + 1


def test_an_unknown_metric_is_refused_before_anything_runs() -> None:
    with pytest.raises(BadInput, match="did you mean 'si_sdr'"):
        eeg2speech.evaluate("mixture", study="no such study", metrics=["si_sdrr"])


def checkpoint_of(small_root: Path, out: Path, split: str = "trial", **declared: Any) -> Path:
    work = Work(declare({"system": "dprnn", "steps": 1} | declared), str(small_root), split, 3, "demo", "demo-1")
    train_one(work, out, QUIET)
    return options(work, out, QUIET).folder / "system.safetensors"


def test_a_checkpoint_says_its_settings_and_seed(store: Store, small_root: Path, tmp_path: Path) -> None:
    path = checkpoint_of(small_root, tmp_path, settings={"envelope_weight": 2.0})
    record = eeg2speech.evaluate("dprnn", store, "trial", ["true_eeg"], checkpoint=path).records["true_eeg"]
    settings = record.system.declaration["settings"]
    assert isinstance(settings, dict) and settings["envelope_weight"] == 2.0
    assert record.seed == 3 and record.system.declaration["steps"] == 1
    with pytest.raises(BadInput, match='system: expected "mixture", found "dprnn"'):
        eeg2speech.evaluate("mixture", store, "trial", checkpoint=path)


def test_a_checkpoint_of_another_split_or_revision_is_refused_unless_allowed(
    store: Store, small_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Work(declare("subject_id_oracle"), str(small_root), "within_trial", 0, "demo", "demo-1")
    train_one(work, tmp_path, QUIET)
    path = options(work, tmp_path, QUIET).folder / "system.safetensors"
    words: dict[str, Any] = {"study": store, "split": "trial", "controls": ["true_eeg"]}
    with pytest.raises(BadInput, match=r"safetensors: split: expected .* train on this .*--allow-other-split"):
        eeg2speech.evaluate("subject_id_oracle", checkpoint=path, **words)
    assert eeg2speech.evaluate("subject_id_oracle", checkpoint=path, allow_other_split=True, **words).records
    # Weights that come with the package are asked the same.
    shipped = tmp_path / "simulated-clear" / "trial" / "subject_id_oracle.safetensors"
    shipped.parent.mkdir(parents=True)
    shipped.write_bytes(path.read_bytes())
    monkeypatch.setattr("eeg2speech.evaluation.trained.SHIPPED", tmp_path)
    with pytest.raises(BadInput, match="split: expected .*--allow-other-split"):
        eeg2speech.evaluate("subject_id_oracle", **words)
    with pytest.raises(BadInput, match="revision: expected 'another'.*--allow-other-split"):
        eeg2speech.evaluate("subject_id_oracle", **words | {"study": of_another_revision(small_root)})


def test_a_network_is_asked_on_its_own_device_and_answers_come_back(store: Store) -> None:
    class Elsewhere(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1, device="meta"))

        def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
            assert {tensor.device.type for tensor in inputs} == {"meta"}
            return torch.zeros(inputs[0].shape, dtype=torch.float64)

    result = eeg2speech.evaluate(Elsewhere(), store, "trial", ["true_eeg"])
    assert result.records["true_eeg"].metrics["si_sdr"].n == 0


def test_a_network_is_moved_to_the_device_that_is_asked_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = CallableSystem(Context.of(store, 4.0), torch.nn.Linear(1, 1))
    monkeypatch.setattr("eeg2speech.evaluation.scoring.device_named", torch.device)
    place(asked, "meta")
    assert device_of(asked).type == "meta"
    assert device_of(CallableSystem(Context.of(store, 4.0), lambda mixture, eeg, subject: mixture)).type == "cpu"


@pytest.mark.skipif(torch.accelerator.is_available(), reason="needs a machine without an accelerator")
def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(BadInput, match="device: expected auto or cpu, found 'cuda'"):
        eeg2speech.evaluate("mixture", study="no such study", device="cuda")


def test_the_readmes_lines_need_no_main_guard(tmp_path: Path, small_root: Path) -> None:
    text = (Path(__file__).parent.parent / "README.md").read_text()
    snippet = next(part for part in text.split("```python\n")[1:] if "eeg2speech.evaluate(" in part).split("```")[0]
    assert "__main__" not in snippet
    script = tmp_path / "mine.py"
    script.write_text(snippet.replace('"simulated-clear"', repr(str(small_root))).replace('"stimulus"', '"trial"'))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert done.returncode == 0 and "noise_cue" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"jobs": -1}, "jobs: expected at least 1, found -1"),
        ({"devices": 0}, "devices: expected at least 1, found 0"),
        ({"device": "cudo"}, "did you mean 'cuda'"),
        ({"precision": "32"}, "did you mean '32-true'"),
    ],
)
def test_a_machine_that_cannot_be_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Machine(**change)


def test_the_true_eeg_is_always_among_the_controls_and_first(small_root: Path) -> None:
    for controls in (["noise_cue"], ["noise_cue", "true_eeg"], ["true_eeg", "noise_cue", "noise_cue"]):
        assert suite(small_root, ["mixture"], controls).control_names == ["true_eeg", "noise_cue"]


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
        ({"systems": [{"system": "dprnn", "name": "my/net"}]}, "name: expected .*pattern.*, found 'my/net'"),
        ({"systems": [{"system": "dprnn", "name": "-net"}]}, "name: expected .*pattern"),
        ({"systems": [3]}, "expected a name or a mapping, found 3"),
        (
            {"controls": "noise_cue"},
            "controls: expected 'all', or a list of names that is not empty, found 'noise_cue'",
        ),
        ({"controls": []}, r"controls: expected 'all', or a list of names that is not empty, found \[\]"),
        ({"seeds": [0, -1]}, r"seeds\.1: expected .*greater than or equal to 0, found -1"),
        ({"seeds": [0, 0]}, "seeds: expected each once"),
        ({"splits": ["trial", "trial"]}, "splits: expected each once"),
        ({"metrics": ["pesq"]}, "did you mean 'pesq_"),
        ({3: "x"}, "key: expected"),
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
