"""Commands about evidence, as a user calls them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from eeg2speech import cli
from eeg2speech.errors import BadInput
from eeg2speech.records import RecordStore
from eeg2speech.records.audits import AUDITS, MANIFESTS, audit_of, read_audit
from eeg2speech.records.renew import renew_all
from eeg2speech.report.control_report import control_reports_stale
from eeg2speech.report.results import read_groups
from eeg2speech.splits import Split

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results"
RECORD = RESULTS / "demo-1" / "simulated-clear" / "stimulus-s0" / "random_speaker-s0" / "true_eeg.json"


def invoke(*words: str) -> Result:
    result = CliRunner().invoke(cli.app, list(words))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_an_audit_tells_each_finding_with_meaning_and_cure_and_ends_with_its_verdict(
    small_root: Path, tmp_path: Path
) -> None:
    shown = invoke("audit", str(small_root), "within_trial", "--out", str(tmp_path), "--manifest", str(tmp_path / "m"))
    assert shown.exit_code == 1
    assert "fatal: trial in train and test: " in shown.output and "Cure: use the split trial" in shown.output
    assert "note: probe: " in shown.output and "note: amounts: train: " in shown.output
    assert shown.output.splitlines()[-1].startswith("split within_trial, seed 0, manifest ")
    (audit,) = (tmp_path / AUDITS).rglob("*.json")
    (manifest,) = (tmp_path / MANIFESTS).rglob("*.json")
    found = read_audit(audit)
    assert found is not None and found.verdict in shown.output
    assert Split.load(manifest).hash == Split.load(tmp_path / "m").hash == found.manifest_hash


def test_an_audit_of_metadata_alone_reads_no_signal(small_root: Path) -> None:
    shown = invoke("audit", str(small_root), "subject", "--metadata")
    assert "probe" not in shown.output and "attended audio in train and test" in shown.output and shown.exit_code == 0


def test_verify_passes_what_is_committed_and_fails_what_was_changed(tmp_path: Path) -> None:
    for path in RECORD.parent.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    record = tmp_path / RECORD.name
    text = record.read_text()
    changed = text.replace('"n_segments_expected": 160', '"n_segments_expected": 161')
    assert changed != text
    record.write_text(changed)
    shown = invoke("verify", str(record))
    assert shown.exit_code == 1 and "failed" in shown.output.splitlines()[-1]


def test_power_says_what_a_difference_needs() -> None:
    shown = invoke("power", "dprnn", "dprnn_blind", "--difference", "1", "--results", str(RESULTS))
    assert "dprnn" in shown.output and "subjects" in shown.output and "trials" in shown.output
    with pytest.raises(BadInput, match="dprn"):
        invoke("power", "dprn", "--results", str(RESULTS))


def test_windows_of_a_curve_must_be_numbers() -> None:
    with pytest.raises(BadInput, match="--windows: value: expected numbers joined by commas"):
        invoke("window-curve", "mtrf_select_true_sources", "--windows", "1;2")


def test_every_number_of_the_leaderboard_leads_to_its_source() -> None:
    """Links of the committed leaderboard: records, scores, manifests, audits and control reports are there."""
    text = (ROOT / "leaderboard.md").read_text()
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert links and all((ROOT / link).exists() for link in links)
    for word in ("[record](", "[scores](", "[manifest](", "[audit](", "[report]("):
        assert text.count(word) > 1, word
    ranked = {line.split(" | ")[2] for line in text.splitlines() if re.match(r"\| (\d+|ref) \|", line)}
    traced = {line.split(" | ")[0].removeprefix("| ") for line in text.splitlines() if "[record](" in line}
    assert ranked <= traced


def test_committed_control_reports_are_what_the_records_give() -> None:
    assert not control_reports_stale(RESULTS, RESULTS / "controls"), "run `eeg2speech report`"


def test_every_system_of_the_results_has_a_verdict_of_the_audit_and_one_on_its_use_of_the_eeg() -> None:
    store = RecordStore(RESULTS)
    index = (RESULTS / "controls" / "index.md").read_text()
    for group in read_groups(store):
        for run in group.runs:
            assert all(record.audit == audit_of(RESULTS, record).verdict for record in run.every_record())  # type: ignore[union-attr]
            row = next(
                line for line in index.splitlines() if f"| {group.key.title} |" in line and _names(line, run.label)
            )
            assert any(f"| {answer} |" in row for answer in ("uses the EEG", "does not", "cannot tell"))


def _names(line: str, label: str) -> bool:
    return line.startswith((f"| {label} |", f"| [{label}]("))


def test_older_records_are_renewed_from_their_own_scores(tmp_path: Path) -> None:
    """Intervals of an older method and a missing audit come back as they are committed; scores are not touched."""
    store = RecordStore(tmp_path)
    committed = RecordStore(RESULTS).read(RECORD)
    scores = RecordStore(RESULTS).scores(committed)
    worn = {name: result.model_copy(update={"low": -1.0, "high": 1.0}) for name, result in committed.metrics.items()}
    old = committed.model_copy(update={"metrics": worn, "interval_method": "pigeonhole", "audit": None})
    store.write(old, scores)
    (path,) = renew_all(tmp_path, RESULTS)
    assert store.read(path) == committed and store.scores(store.read(path)).equals(scores)
    assert list(renew_all(tmp_path, RESULTS)) == []


def test_everything_is_made_from_records_by_one_command(tmp_path: Path) -> None:
    """Control reports, ablation tables, the leaderboard and its figures, in a folder with a few committed records."""
    for name in ("random_speaker", "mtrf_select_true_sources"):
        folder = RECORD.parent.parent / f"{name}-s0"
        shutil.copytree(folder, tmp_path / "results" / folder.relative_to(RESULTS))
    shutil.copytree(RESULTS / "ablations" / "noise-cue", tmp_path / "results" / "ablations" / "noise-cue")
    words = ("--results", str(tmp_path / "results"), "--suites", str(ROOT / "benchmarks" / "suites"))
    made = invoke("report", *words, "--out", str(tmp_path / "leaderboard.md")).output.splitlines()
    assert all(Path(path).is_file() for path in made)
    names = {Path(path).name for path in made}
    assert {"index.md", "mtrf_select_true_sources.md", "noise-cue.md", "noise-cue.svg", "leaderboard.md"} <= names
    text = (tmp_path / "leaderboard.md").read_text()
    assert "[report](results/controls/demo-1_simulated-clear_stimulus-s0/mtrf_select_true_sources.md)" in text
