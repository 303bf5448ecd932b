import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from study_dtu_files import write as write_dtu
from typer.testing import CliRunner

from eeg2speech import cli
from eeg2speech.data.studies.registry import study, study_names
from eeg2speech.errors import BadInput
from eeg2speech.systems.parts import load_autoencoder

RUN = CliRunner()
COMMANDS = (
    *("list", "prepare", "audit", "train", "evaluate", "extract", "generate", "export-embeddings", "check-embeddings"),
    *("run", "ablation", "leaderboard", "doctor", "ablate", "window-curve", "power", "verify", "repeat", "report"),
    *("template", "check-folder", "profile"),
)


def invoke(*words: str) -> str:
    result = RUN.invoke(cli.app, list(words))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


def test_help_answers_in_half_a_second_and_loads_no_torch() -> None:
    seconds = []
    for _ in range(3):
        began = _children_seconds()
        done = subprocess.run(
            [sys.executable, "-m", "eeg2speech.cli", "--help"], capture_output=True, text=True, check=True
        )
        seconds.append(_children_seconds() - began)
    assert min(seconds) < 0.5
    assert all(command in done.stdout for command in COMMANDS)
    code = "import sys, eeg2speech, eeg2speech.cli; sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def _children_seconds() -> float:
    """Seconds that children have computed: by the clock on the wall, other tests beside this one would count too."""
    times = os.times()
    return times.children_user + times.children_system


@pytest.mark.parametrize("command", COMMANDS)
def test_every_commands_help_shows_an_example(command: str) -> None:
    assert f"eeg2speech {command}" in invoke(command, "--help").split("Example:")[1]


def test_list_names_everything() -> None:
    shown = invoke("list")
    for name in ("simulated-clear", "dprnn", "si_sdr", "noise_cue", "stimulus", "demo-1"):
        assert f"  {name} " in shown
    with pytest.raises(BadInput, match="did you mean 'systems'"):
        invoke("list", "system")


def test_doctor_says_what_is_there_and_what_is_missing() -> None:
    shown = invoke("doctor")
    assert "all that is needed is here" in shown and "embedded speech: 5 tracks" in shown
    assert "bfloat16 in hardware" in shown and "cuda" in shown


def test_train_then_evaluate(small_root: Path, tmp_path: Path) -> None:
    words = ("--study", str(small_root), "--split", "trial")
    shown = invoke("train", "dprnn", *words, "--steps", "1", "--out", str(tmp_path), "--device", "cpu")
    checkpoint = Path(shown.strip().rpartition(": ")[2])
    assert checkpoint.name == "system.safetensors" and checkpoint.exists()
    table = invoke("evaluate", "dprnn", *words, "--checkpoint", str(checkpoint), "--jobs", "1")
    assert "true_eeg" in table and "noise_cue" in table
    other = ("--study", str(small_root), "--split", "stimulus", "--checkpoint", str(checkpoint), "--jobs", "1")
    with pytest.raises(BadInput, match="split: expected .*--allow-other-split"):
        invoke("evaluate", "dprnn", *other)
    assert "true_eeg" in invoke("evaluate", "dprnn", *other, "--allow-other-split", "--controls", "true_eeg")
    with pytest.raises(BadInput, match=r'system: expected "dprnn_blind", found "dprnn"'):
        invoke("evaluate", "dprnn_blind", *words, "--checkpoint", str(checkpoint), "--jobs", "1")


def test_evaluate_shows_the_headline_of_the_protocols_task(small_root: Path) -> None:
    words = ("--study", str(small_root), "--split", "trial", "--jobs", "1", "--controls", "true_eeg")
    assert "si_sdr [dB]" in invoke("evaluate", "mixture", *words)
    assert "top10" in invoke("evaluate", "retrieval_chance", *words, "--protocol", "demo-retrieval-1")
    assert "rank" in invoke(
        "evaluate", "retrieval_chance", *words, "--protocol", "demo-retrieval-1", "--metric", "rank"
    )
    with pytest.raises(BadInput, match="did you mean 'demo-generation-1'"):
        invoke("evaluate", "eeg2speech", *words, "--protocol", "demo-generation")
    with pytest.raises(BadInput, match="tasks: expected generation among them, found extraction"):
        invoke("evaluate", "mixture", *words, "--protocol", "demo-generation-1")


def test_list_names_protocols_with_their_tasks() -> None:
    shown = invoke("list", "protocols")
    assert re.search(r"demo-generation-1 +generation, 16000 Hz", shown) and "demo-retrieval-1" in shown


def test_train_an_embedded_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Of the embedded speech, to read all takes longer than to learn from it.
    noise = (0.05 * np.random.default_rng(0).standard_normal(64_000)).astype(np.float32)
    monkeypatch.setattr("eeg2speech.training.parts.pretraining_audio", lambda kept_out=False: {"noise": [noise]})
    words = ("train", "autoencoder", "--out", str(tmp_path), "--steps", "1", "--seed", "3", "--device", "cpu")
    shown = invoke(*words)
    path = tmp_path / "training" / "autoencoder-s3" / "autoencoder.safetensors"
    assert shown.endswith(f"trained autoencoder: {path}\n")
    assert load_autoencoder(str(path)).channels == 8


@pytest.mark.parametrize("part", ["codec", "autoencoder", "vocoder"])
@pytest.mark.parametrize(
    ("word", "value"), [("--study", "x"), ("--split", "trial"), ("--set", "size=demo"), ("--devices", "2")]
)
def test_embedded_parts_take_no_options_of_systems(part: str, word: str, value: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=f"{word}: expected no such option with `train {part}`"):
        invoke("train", part, "--out", str(tmp_path), word, value)


def test_training_on_other_data_does_not_take_up_this_checkpoint(small_root: Path, tmp_path: Path) -> None:
    words = ("--study", str(small_root), "--split", "trial", "--out", str(tmp_path), "--device", "cpu")
    invoke("train", "subject_id_oracle", *words)
    with pytest.raises(BadInput, match=r"system\.safetensors: budget: expected .*hour.*, found .*demo"):
        invoke("train", "subject_id_oracle", *words, "--budget", "hour")


def test_a_setting_is_checked(small_root: Path, tmp_path: Path) -> None:
    words = ("train", "dprnn", "--study", str(small_root), "--out", str(tmp_path))
    with pytest.raises(BadInput, match="did you mean 'size'"):
        invoke(*words, "--set", "siz=demo")
    with pytest.raises(BadInput, match="--set: expected key=value, found 'size'"):
        invoke(*words, "--set", "size")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train", "dprnn", "--seed", "-1"), "seed: expected at least 0, found -1"),
        (("train", "dprnn", "--compile"), "--compile: expected no such option with `train dprnn`"),
        (("train", "dprnn", "--steps", "0"), "steps: expected .*greater than or equal to 1, found 0"),
        (("train", "dprnn", "--devices", "0"), "devices: expected at least 1, found 0"),
        (("train", "dprnn", "--device", "gpus"), "device: expected one of auto, cpu, cuda, mps"),
        (("train", "dprnn", "--precision", "16"), "precision: expected one of .*16-mixed"),
        (("run", "none.yaml", "--jobs", "-1"), "jobs: expected at least 1, found -1"),
        (("evaluate", "mixture", "--jobs", "-1"), "jobs: expected at least 1, found -1"),
        (("evaluate", "mixture", "--device", "gpus"), "device: expected one of auto, cpu, cuda, mps"),
        (("evaluate", "mixture", "--metric", "si_sdrr"), "did you mean 'si_sdr'"),
        (("evaluate", "mixtures"), "did you mean 'mixture'"),
    ],
)
def test_a_number_or_word_that_cannot_be_is_refused_before_anything_runs(words: tuple[str, ...], message: str) -> None:
    # The study is looked up first when something runs, and there is none of that name.
    more = () if words[0] == "run" else ("--study", "/no/such/study")
    with pytest.raises(BadInput, match=message):
        invoke(*words, *more)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("codec", "--budget", "hour"), "--budget: expected no such option with `train codec`"),
        (("codec", "--seed", "-1"), "training of the codec: seed: expected at least 0"),
        (("codec", "--steps", "0"), "steps: expected at least 1"),
        (("vocoder", "--compile"), "--compile: expected no such option with `train vocoder`"),
        (("vocoder", "--budget", "day"), "budget: name: expected one of demo, full, hour, found 'day'"),
        (("vocoder", "--seed", "-1"), "training of the vocoder: seed: expected at least 0"),
        (("autoencoder", "--steps", "0"), "budget: steps: expected at least 1"),
        (("autoencoder", "--device", "gpus"), "device: expected "),
    ],
)
def test_training_of_a_part_is_refused_before_anything_runs(
    words: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=message):
        invoke("train", *words, "--out", str(tmp_path))
    assert not any(tmp_path.iterdir())


def test_generate_names_weights_that_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="did you mean 'eeg2speech'"):
        invoke("generate", "--eeg", "rec.edf", "--system", "eeg2speeches")
    with pytest.raises(BadInput, match="rec.safetensors: checkpoint: expected a safetensors file, found no such file"):
        invoke("generate", "--eeg", "rec.edf", "--checkpoint", str(tmp_path / "rec.safetensors"))
    assert "Missing option '--eeg'" in invoke("generate")


def test_a_refusal_is_one_line_and_status_2() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "eeg2speech.cli", "prepare", "simulated-cleer"], capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "did you mean 'simulated-clear'" in done.stderr


def test_run_writes_records_leaderboard_and_page(small_root: Path, tmp_path: Path) -> None:
    suite = tmp_path / "suite.yaml"
    suite.write_text(
        f"name: x\nstudies: ['{small_root}']\nsplits: [trial]\ncontrols: [true_eeg, noise_cue]\n"
        "examples: 1\nsystems: [mixture, oracle_mask]\n"
    )
    shown = invoke("run", str(suite), "--out", str(tmp_path / "out"), "--jobs", "1")
    assert "mixture" in shown and "oracle_mask" in shown
    assert "oracle_mask" in (tmp_path / "out" / "leaderboard.md").read_text()
    page = (tmp_path / "out" / "report.html").read_text()
    # Names of XML namespaces are no addresses: what would be fetched is what an attribute or a style sheet asks for.
    assert page.count("<audio") == 4 and not re.search(r"""(src|href|url\(|@import)[="'( ]*https?:""", page)


def test_the_committed_leaderboard_is_what_its_records_give() -> None:
    assert "up to date" in invoke("leaderboard", "--check")


def test_the_page_of_studies_is_what_they_declare() -> None:
    page = (Path(__file__).parent.parent / "docs" / "studies.md").read_text()
    assert page == invoke("list", "studies", "--markdown"), "eeg2speech list studies --markdown > docs/studies.md"
    with pytest.raises(BadInput, match="expected list studies, found list systems"):
        invoke("list", "systems", "--markdown")


def test_every_study_declares_what_its_users_need() -> None:
    for name in study_names():
        facts = study(name).facts
        assert facts.name == name and facts.licence and facts.citation and facts.how_to_get and facts.note
        if not name.startswith(("simulated", "folder")):
            assert facts.doi.startswith("10.") and facts.known_problems
            assert facts.splits or name in ("cocktail-party-published", "cocktail-party-corrected")


def test_prepare_takes_raw_files_settings_and_a_place(tmp_path: Path) -> None:
    raw = write_dtu(tmp_path / "raw")
    words = ("prepare", "dtu-features", "--root", str(raw), "--out", str(tmp_path / "store"), "--set", "high_pass=1")
    shown = invoke(*words)
    assert "2 subjects, 6 trials" in shown and "EEG and speech are at most 0 ms apart" in shown
    assert "no file of S3" in shown
    assert shown.endswith(invoke(*words))
    with pytest.raises(BadInput, match="settings: high_pass: expected 2.0, found 1.0"):
        invoke(*words[:-1], "high_pass=2")
    with pytest.raises(BadInput, match="did you mean 'high_pass'"):
        invoke(*words[:-1], "hihg_pass=2")
