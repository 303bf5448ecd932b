"""Commands about evidence, as a user calls them."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from eeg2speech import cli
from eeg2speech.errors import BadInput
from eeg2speech.records.audits import AUDITS, MANIFESTS, read_audit
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
    import re

    text = (ROOT / "leaderboard.md").read_text()
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert links and all((ROOT / link).exists() for link in links)
    for word in ("[record](", "[scores](", "[manifest](", "[audit](", "[report]("):
        assert text.count(word) > 1, word
    ranked = {line.split(" | ")[2] for line in text.splitlines() if re.match(r"\| (\d+|ref) \|", line)}
    traced = {line.split(" | ")[0].removeprefix("| ") for line in text.splitlines() if "[record](" in line}
    assert ranked <= traced
