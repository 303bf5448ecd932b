"""A record from elsewhere: sound ones pass whole, each kind of fault is found and named, and runs are repeated."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from torch import Tensor

import eeg2speech
from eeg2speech.data import Store
from eeg2speech.errors import BadInput
from eeg2speech.evaluation.audit import audit_split
from eeg2speech.evaluation.repeat import declaration_of, repeat, suite_of
from eeg2speech.evaluation.repeat import told as repetition_told
from eeg2speech.evaluation.rescore import predictions_of, rescore
from eeg2speech.evaluation.run import run_suite
from eeg2speech.evaluation.suite import Machine, Suite
from eeg2speech.evaluation.verify import told, verify
from eeg2speech.records import Record, RecordStore
from eeg2speech.records.files import content_hash
from eeg2speech.records.intervals import IDENTITY
from eeg2speech.records.scores import from_parquet, to_parquet
from eeg2speech.records.verify import Check
from eeg2speech.records.verify import verify as verify_alone
from eeg2speech.splits import make_split
from eeg2speech.systems.conditions import Conditions

QUIET = Machine(jobs=1, device="cpu", precision="32-true", progress=False)
SYSTEMS: list[Any] = ["mixture", {"system": "subject_id_oracle", "name": "told"}]
RECORD = "demo-1/simulated-clear/trial-s0/{}-s0/{}.json"


def silent(line: str) -> None:
    assert line


@pytest.fixture(scope="module")
def made(small_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run: two systems under two controls."""
    out = tmp_path_factory.mktemp("made")
    asked = Suite(name="t", studies=[str(small_root)], splits=["trial"], controls=["noise_cue"], systems=SYSTEMS)
    run_suite(asked, out, QUIET, silent)
    return out


@pytest.fixture
def sent(made: Path, tmp_path: Path) -> Path:
    """The record of ``mixture`` in a copy that a test may spoil."""
    shutil.copytree(made / "records", tmp_path / "records")
    return tmp_path / "records" / RECORD.format("mixture", "true_eeg")


def failed(checks: list[Check]) -> dict[str, str]:
    return {check.name: check.detail for check in checks if not check.passed}


def spoil(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    body = json.loads(path.read_text())
    change(body)
    path.write_text(json.dumps(body))


def spoil_scores(path: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    """Change the scores, and the record's hash of them with it."""
    file = path.with_suffix(".parquet")
    content = to_parquet(change(from_parquet(file, file.read_bytes())))
    file.write_bytes(content)
    spoil(path, lambda body: body.update(scores_hash=content_hash(content)))


@pytest.mark.parametrize("system", ["mixture", "told"])
@pytest.mark.parametrize("control", ["true_eeg", "noise_cue"])
def test_a_record_of_this_code_passes_every_check(made: Path, store: Store, system: str, control: str) -> None:
    checks = verify(made / "records" / RECORD.format(system, control), store)
    assert failed(checks) == {}
    assert {"aggregates", "intervals", "controls", "study", "protocol", "metrics", "split", "audit", "segments"} <= {
        check.name for check in checks
    }
    assert told(checks).endswith(f"all {len(checks)} checks passed")


def test_what_is_no_record_is_told_and_nothing_more_is_asked(sent: Path, store: Store) -> None:
    spoil(sent, lambda body: body["metrics"]["stoi"].update(n=-1))
    assert list(failed(verify(sent, store))) == ["schema"] and len(verify(sent, store)) == 1
    assert "metrics.stoi.n" in failed(verify(sent, store))["schema"]
    sent.write_text("{")
    assert "not a JSON document" in failed(verify_alone(sent))["schema"]
    assert "No such file" in failed(verify_alone(sent.with_name("none.json")))["schema"]


@pytest.mark.parametrize(
    ("field", "value", "check", "words"),
    [
        ("mean", 5.0, "aggregates", "si_sdr.mean: expected"),
        ("low", -9.0, "intervals", "si_sdr.low: expected"),
        ("higher_is_better", False, "metrics", "si_sdr.higher_is_better: expected True, found False"),
        ("unit", "B", "metrics", "si_sdr.unit: expected 'dB', found 'B'"),
        ("right", {"mean": 9.0, "n": 1}, "aggregates", "si_sdr.right.mean"),
    ],
)
def test_a_number_that_is_not_of_the_scores_is_found(
    sent: Path, store: Store, field: str, value: Any, check: str, words: str
) -> None:
    spoil(sent, lambda body: body["metrics"]["si_sdr"].update({field: value}))
    found = failed(verify(sent, store))
    assert list(found) == [check] and words in found[check]


def test_scores_that_were_changed_are_found_even_with_a_new_hash(sent: Path) -> None:
    file = sent.with_suffix(".parquet")
    changed = from_parquet(file, file.read_bytes()).assign(si_sdr=9.0)
    file.write_bytes(to_parquet(changed))
    found = failed(verify_alone(sent))
    assert "SHA-256" in found["scores file"] and "si_sdr.mean" in found["aggregates"]
    spoil_scores(sent, lambda frame: frame)
    assert "scores file" not in failed(verify_alone(sent)) and "aggregates" in failed(verify_alone(sent))


def test_scores_that_cannot_be_used_leave_out_what_builds_on_them(sent: Path, store: Store) -> None:
    spoil_scores(sent, lambda frame: frame.assign(loud=1.0, loud_reason=None))
    checks = verify(sent, store)
    assert "'loud'" in failed(checks)["scores"]
    assert not {"aggregates", "complete"} & {check.name for check in checks}
    sent.with_suffix(".parquet").write_bytes(b"PAR")
    assert "a Parquet file" in failed(verify_alone(sent))["scores"]
    sent.with_suffix(".parquet").unlink()
    assert "no file 'true_eeg.parquet'" in failed(verify_alone(sent))["scores file"]
    spoil(sent, lambda body: body.update(scores_file="../mixture-s0/noise_cue.parquet"))
    assert "beside the record" in failed(verify_alone(sent))["scores file"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda frame: frame.assign(start=frame["start"] + 0.5), "start: 8 rows differ, segment 0 has"),
        (lambda frame: frame.assign(subject=frame["subject"].replace("S01", "S09")), "subject: "),
        (lambda frame: frame.assign(attended=frame["unattended"], unattended=frame["attended"]), "attended: 8 rows"),
        (lambda frame: frame.assign(segment=frame["segment"] + 1), "segment: expected 0 to 7"),
    ],
)
def test_other_segments_than_those_of_the_split_are_found(sent: Path, store: Store, change: Any, words: str) -> None:
    spoil_scores(sent, change)
    assert words in failed(verify(sent, store))["segments"]


def test_a_record_that_lacks_segments_is_incomplete(sent: Path, store: Store) -> None:
    spoil_scores(sent, lambda frame: frame.iloc[1:])
    found = failed(verify(sent, store))
    assert "7 scored of 8" in found["complete"] and "segment: expected" in found["segments"]


@pytest.mark.parametrize(
    ("change", "check", "words"),
    [
        ({"protocol": {"name": "demo", "version": 9}}, "protocol", "'demo-9' is none of"),
        ({"study": {"name": "simulated-null"}}, "study", "name: expected 'simulated-clear', found 'simulated-null'"),
        ({"study": {"revision": "another"}}, "revision", "found 'another'"),
        ({"split": {"manifest_hash": "another"}}, "split", "manifest_hash: expected"),
        ({"split": {"kind": "by_moon"}}, "split", "by_moon"),
        ({"split": {"seed": 3}}, "protocol", "split.seed: expected 0, found 3"),
        ({"evaluation_seed": 5}, "protocol", "evaluation_seed"),
        ({"task": "generation"}, "protocol", "task: expected 'extraction'"),
        ({"control": "moonlight", "controls": None}, "protocol", "control 'moonlight' is unknown"),
        ({"budget": {"steps": 10}}, "system", "10 steps of training, but no checkpoint"),
        ({"system": {"parameters": 10}}, "system", "10 learned parameters, but no checkpoint"),
        ({"n_segments_expected": 9}, "complete", "8 in the record of 9"),
        ({"system": {"name": "other"}}, "place", "a store has this record at demo-1"),
        ({"system": {"source": "elsewhere"}}, "controls", "noise_cue: system.source"),
    ],
)
def test_facts_that_are_not_so_are_found(
    sent: Path, store: Store, change: dict[str, Any], check: str, words: str
) -> None:
    def put(body: dict[str, Any]) -> None:
        for name, value in change.items():
            body[name] = body[name] | value if isinstance(value, dict) else value

    spoil(sent, put)
    assert words in failed(verify(sent, store))[check]


def test_the_same_spans_of_another_revision_are_the_same_split(sent: Path, store: Store) -> None:
    manifest = replace(make_split(store.index, "trial"), revision="another")
    for path in sent.parent.glob("*.json"):
        spoil(path, lambda body: body["study"].update(revision="another"))
        spoil(path, lambda body: body["split"].update(manifest_hash=manifest.hash))
    assert list(failed(verify(sent, store))) == ["revision"]


def test_a_missing_metric_is_found_and_one_more_is_told(sent: Path, store: Store) -> None:
    spoil(sent, lambda body: body["metrics"].pop("stoi"))
    assert "stoi is missing" in failed(verify(sent, store))["metrics"]


def test_controls_that_are_missing_or_of_another_network_are_found(sent: Path) -> None:
    other = sent.with_name("noise_cue.json")
    spoil_scores(other, lambda frame: frame.assign(stoi=0.5))
    assert "noise_cue: other scores, though no EEG is given" in failed(verify_alone(sent))["controls"]
    other.unlink()
    assert "noise_cue: not a JSON document" in failed(verify_alone(sent))["controls"]


def test_a_study_that_nobody_knows_ends_the_checks(sent: Path) -> None:
    spoil(sent, lambda body: body["study"].update(name="my-own"))
    checks = verify(sent)
    assert checks[-1].name == "study" and "'my-own' is none of" in checks[-1].detail and not checks[-1].passed


def test_a_fatal_leak_is_told_and_not_held_against_the_sender(
    sent: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fails is to say otherwise than the audit: that a leaking split is clean."""
    fatal = audit_split(store, make_split(store.index, "trial")).model_copy(update={"verdict": "fatal: shared audio"})
    monkeypatch.setattr("eeg2speech.evaluation.verify.audit_split", lambda store, split: fatal)
    spoil(sent, lambda body: body.update(audit=None))
    checks = verify(sent, store)
    assert failed(checks) == {} and "fatal: shared audio" in told(checks)
    spoil(sent, lambda body: body.update(audit="clean"))
    assert list(failed(verify(sent, store))) == ["audit"]


@pytest.fixture(scope="module")
def sound(made: Path, store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``told`` answered, from its checkpoint."""
    folder = tmp_path_factory.mktemp("sound")
    checkpoint = next((made / "training").rglob("told-s0/system.safetensors"))
    record = made / "records" / RECORD.format("told", "true_eeg")
    assert predictions_of(record, checkpoint, folder, store) == 8
    return folder


@pytest.fixture
def audio(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "audio"))


def told_record(made: Path, control: str = "true_eeg", records: str = "records") -> Path:
    return made / records / RECORD.format("told", control)


FEW = ("si_sdr", "stoi")


@pytest.fixture
def light(made: Path, tmp_path: Path) -> Path:
    """The record of ``told`` with two metrics that are computed quickly."""
    shutil.copytree(made / "records", tmp_path / "light")
    path = told_record(tmp_path / "light", records="")
    wanted = [name for metric in FEW for name in (metric, f"{metric}_reason")]
    spoil_scores(path, lambda frame: frame[[*IDENTITY, *wanted]])
    spoil(path, lambda body: body.update(metrics={name: body["metrics"][name] for name in FEW}))
    return path


def test_predicted_audio_gives_the_scores_back(made: Path, store: Store, audio: Path) -> None:
    checks = verify(told_record(made), store, audio)
    assert failed(checks) == {}
    rescored = [check for check in checks if check.name.startswith("rescored")]
    assert len(rescored) == 8 and all("largest difference 0, allowed 0.0" in check.detail for check in rescored)


@pytest.mark.parametrize(("subtype", "end"), [("PCM_16", "wav"), ("PCM_24", "flac")])
def test_rounded_audio_is_taken_within_the_stated_tolerance(
    light: Path, store: Store, audio: Path, subtype: str, end: str
) -> None:
    for path in list(audio.iterdir()):
        wave, rate = soundfile.read(path, dtype="float32")
        path.unlink()
        soundfile.write(path.with_suffix(f".{end}"), wave, rate, subtype=subtype)
    checks = rescore(light, audio, store)
    assert failed(checks) == {} and "integers" in checks[0].detail
    assert [check.detail.rpartition("allowed ")[2] for check in checks[1:]] == ["0.01", "0.001"]


def test_audio_of_other_scores_is_found(light: Path, store: Store, audio: Path) -> None:
    first, second = (soundfile.read(audio / f"{k}.wav", dtype="float32")[0] for k in (0, 1))
    soundfile.write(audio / "0.wav", second, 16_000, subtype="FLOAT")
    soundfile.write(audio / "1.wav", first, 16_000, subtype="FLOAT")
    found = failed(rescore(light, audio, store))
    assert "segment 0 has" in found["rescored si_sdr"] and "segment 1 has" in found["rescored si_sdr"]


def test_a_sample_that_is_not_a_number_is_a_failure_as_in_the_record(light: Path, store: Store, audio: Path) -> None:
    wave = soundfile.read(audio / "0.wav", dtype="float32")[0]
    wave[100] = np.nan
    soundfile.write(audio / "0.wav", wave, 16_000, subtype="FLOAT")
    assert "scored again nan" in failed(rescore(light, audio, store))["rescored stoi"]


def test_files_that_are_missing_or_of_another_form_are_named(made: Path, store: Store, audio: Path) -> None:
    wave = soundfile.read(audio / "0.wav", dtype="float32")[0]
    soundfile.write(audio / "0.wav", wave, 8_000)
    soundfile.write(audio / "1.wav", wave[:-1], 16_000)
    soundfile.write(audio / "2.wav", np.stack([wave, wave], 1), 16_000)
    checks = rescore(told_record(made), audio, store)
    assert len(checks) == 1
    assert "0.wav: 8000 Hz, expected 16000" in checks[0].detail and "2.wav: 2 channels, expected 1" in checks[0].detail
    assert "1.wav: 63999 samples, expected 64000" in checks[0].detail
    (audio / "0.wav").unlink()
    (audio / "1.wav").write_bytes(b"sound")
    (detail,) = failed(rescore(told_record(made), audio, store)).values()
    assert "0.wav is missing" in detail and "1.wav: " in detail
    shutil.rmtree(audio)
    (detail,) = failed(rescore(told_record(made), audio, store)).values()
    assert detail == "0.wav is missing; 1.wav is missing; 2.wav is missing; and 5 more"


def test_predictions_of_other_weights_are_refused(made: Path, store: Store, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="weights: expected .* found None"):
        predictions_of(told_record(made), None, tmp_path / "none", store)
    mixture = made / "records" / RECORD.format("mixture", "noise_cue")
    assert predictions_of(mixture, None, tmp_path / "mixture", store) == 8
    assert soundfile.info(str(tmp_path / "mixture" / "7.wav")).frames == 64_000


def half(mixture: Tensor, eeg: Tensor, subject: Tensor) -> Tensor:
    return torch.roll(mixture, 5, dims=-1) / 2


def test_a_strangers_own_function_gives_a_record_that_passes(store: Store, tmp_path: Path) -> None:
    result = eeg2speech.evaluate(half, store, "trial")
    records = RecordStore(tmp_path)
    for control, record in result.records.items():
        records.write(record, result.scores[control])
    record = result.records["true_eeg"]
    assert failed(verify(records.path(record.unit), store)) == {}
    with pytest.raises(BadInput, match="did you mean|system: expected one of"):
        suite_of(record)


def read(path: Path) -> Record:
    return Record.model_validate_json(path.read_text())


def test_a_record_repeated_is_the_same(made: Path, small_root: Path, tmp_path: Path) -> None:
    found = repeat(told_record(made), tmp_path, str(small_root), QUIET, silent)
    assert found.outcome == "identical" and found.first is None
    assert found.again.system.name == "told" and found.path.is_relative_to(tmp_path)
    assert repetition_told(found).startswith(f"{found.path}: identical\n  estoi")
    assert len(RecordStore(tmp_path / "records").read_all()) == 2


def test_a_repetition_tells_how_far_it_is_from_the_record(sent: Path, small_root: Path, tmp_path: Path) -> None:
    out = tmp_path / "again"
    spoil(sent, lambda body: body["metrics"]["si_sdr"].update(mean=body["metrics"]["si_sdr"]["mean"] + 1e-5))
    close = repeat(sent, out, str(small_root), QUIET, silent)
    assert close.outcome == "same means" and str(close.first).startswith("metrics.si_sdr.mean: expected")
    spoil(sent, lambda body: body["metrics"]["si_sdr"].update(mean=0.5 * body["metrics"]["si_sdr"]["low"]))
    assert repeat(sent, out, str(small_root), QUIET, silent).outcome == "within intervals"
    spoil(sent, lambda body: body["metrics"]["si_sdr"].update(mean=40.0, low=39.0, high=41.0))
    other = repeat(sent, out, str(small_root), QUIET, silent)
    assert other.outcome == "different" and "first difference: metrics.si_sdr" in repetition_told(other)


def test_the_suite_of_a_record_is_the_one_that_made_it(made: Path) -> None:
    record = read(told_record(made))
    suite = suite_of(record)
    assert (suite.protocol, suite.studies, suite.splits, suite.seeds) == ("demo-1", ["simulated-clear"], ["trial"], [0])
    assert suite.control_names == ["true_eeg", "noise_cue"] and suite.declarations[0].label == "told"


RESULTS = Path(__file__).parent.parent / "results"


def test_committed_records_give_back_their_own_requests() -> None:
    """What a run of the suite would record of its system is what the record says, conditions and names included."""
    from eeg2speech.systems.registry import recorded

    given = sorted((RESULTS / "ablations").rglob("true_eeg.json"))[::15]
    paths = [*sorted(RESULTS.glob("demo-1/simulated-null/*/*/true_eeg.json"))[::2], *given]
    assert len(paths) > 5 and any("conditions" in read(path).system.declaration for path in paths)
    for path in paths:
        record = read(path)
        suite = suite_of(record)
        assert recorded(suite.declarations[0], suite.budget) == record.system.declaration, path
        assert suite.declarations[0].label == record.system.name


def test_conditions_come_back(made: Path) -> None:
    record = read(told_record(made))
    given = record.system.declaration | {"conditions": {"channels": 8, "delay": 0.1}}
    changed = record.model_copy(update={"system": record.system.model_copy(update={"declaration": given})})
    assert declaration_of(changed).conditions == Conditions(channels=8, delay=0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"system": {"declaration": {"system": "mixtur", "settings": {}}}}, "did you mean 'mixture'"),
        ({"system": {"declaration": {"system": "mixture", "settings": {}}}}, "a callable, 'mixture'"),
        (
            {"system": {"declaration": {"system": "mixture", "version": 7, "settings": {}}}},
            "that of this code, found 7",
        ),
        ({"split": {"seed": 3}}, r"split.seed: expected 0 \(demo-1\), found 3"),
        ({"protocol": {"name": "demo", "version": 9}}, "did you mean 'demo-1'"),
    ],
)
def test_what_this_code_cannot_repeat_is_refused(
    sent: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    spoil(sent, lambda body: [body[name].update(value) for name, value in change.items()] and None)
    with pytest.raises(BadInput, match=message):
        repeat(sent, tmp_path / "out", machine=QUIET, tell=silent)
    with pytest.raises(BadInput, match="one of the schema"):
        repeat(tmp_path / "none.json", tmp_path / "out")
