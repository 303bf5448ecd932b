"""Studies without audio, and with one talker: what can be done on them is done, the rest is refused in one sentence."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from study_dtu_files import write as write_dtu

from eeg2speech.controls import CONTROLS
from eeg2speech.data.mixing import Mixer
from eeg2speech.data.preparation.blocks import ArrayBlocks
from eeg2speech.data.preparation.montages import montage
from eeg2speech.data.preparation.source import Item, Source, Speech, Take
from eeg2speech.data.preparation.steps import Steps
from eeg2speech.data.preparation.study import RawStudy
from eeg2speech.data.store import Store
from eeg2speech.data.studies.registry import prepare, study, study_names
from eeg2speech.data.types import Segment, StudyFacts
from eeg2speech.errors import BadInput
from eeg2speech.evaluation.protocol import PROTOCOLS
from eeg2speech.evaluation.run import run_suite
from eeg2speech.evaluation.study_protocols import FEATURES, ONE_TALKER, TWO_TALKERS
from eeg2speech.evaluation.suite import Machine, Suite, read_suite
from eeg2speech.metrics.retrieval import ATTENTION
from eeg2speech.report import render_leaderboard
from eeg2speech.systems.interface import Context
from eeg2speech.systems.registry import build, declare, system_class

RATE, SECONDS, TRIALS, SUBJECTS = 64, 60, 6, 3


def envelopes(count: int, bands: int) -> list[np.ndarray]:
    """Slow, positive, of independent talkers."""
    rng = np.random.default_rng(0)
    kernel = np.hanning(RATE // 4)
    waves = rng.standard_normal((count, bands, SECONDS * RATE))
    return [np.abs(np.apply_along_axis(np.convolve, -1, wave, kernel, "same")) for wave in waves]


def made(root: Path, kept: str = "envelope", talkers: int = 2) -> Store:
    """EEG that follows the attended talker 100 ms later."""
    bands = 1 if kept == "envelope" else 10
    speech = envelopes(2 * TRIALS, bands)
    sensors, rng = montage("biosemi64"), np.random.default_rng(1)
    weights = rng.standard_normal((64, bands))

    def heard(k: int) -> Speech:
        return Speech(
            f"s{k}", lambda: ArrayBlocks(speech[k], RATE), speaker=f"speaker {k % 2}", story=f"story {k // 2}"
        )

    def take(subject: int, k: int) -> Take:
        attended, other = (2 * k, 2 * k + 1) if (subject + k) % 2 else (2 * k + 1, 2 * k)
        follows = np.roll(speech[attended], RATE // 10, axis=1)
        eeg = weights @ follows + 3 * rng.standard_normal((64, SECONDS * RATE))
        pair = (heard(attended), heard(other) if talkers == 2 else None)
        return Take(f"S{subject}-{k}", ArrayBlocks(eeg.astype(np.float32), RATE), *pair)

    def item(subject: int) -> Item:
        return Item(f"S{subject}", f"S{subject}", (), lambda: [take(subject, k) for k in range(TRIALS)])

    about = {"stimuli": kept, "audio_rate": RATE, "eeg_rate": RATE}
    facts = StudyFacts("written", "t", "CC0", "c", "10.1/x", "write it", "noise", **about)  # type: ignore[arg-type]
    source = Source(sensors, tuple(item(k) for k in range(SUBJECTS)))
    study = RawStudy(facts, Steps, lambda folder, steps: source)
    study.raw = root
    study.given = {"audio_rate": RATE, "eeg_rate": RATE, "reference": "none", "high_pass": 0}
    return study.prepare(root / "written")


def suite(store: Store, protocol: str, *systems: Any) -> Suite:
    return Suite(
        name="written",
        protocol=protocol,
        studies=[str(store.root)],
        splits=["stimulus"],
        controls=["true_eeg", "noise_cue"],
        systems=list(systems),
    )


def accuracy(out: Path, store: Store, protocol: str, *systems: Any) -> dict[tuple[str, str, str], float]:
    records = run_suite(suite(store, protocol, *systems), out, Machine(jobs=1), lambda text: None).read_all()
    return {(r.system.name, r.control, name): m.mean for r in records for name, m in r.metrics.items()}


def test_retrieval_and_attention_are_decoded_from_envelopes(tmp_path: Path) -> None:
    store = made(tmp_path)
    found = accuracy(tmp_path / "out", store, "dtu-features-1", "ridge_envelope", "retrieval_chance")
    assert found["ridge_envelope", "true_eeg", ATTENTION.name] > 0.9
    assert found["ridge_envelope", "true_eeg", "top10"] > 0.9
    assert found["ridge_envelope", "noise_cue", ATTENTION.name] < 0.75
    assert found["retrieval_chance", "true_eeg", ATTENTION.name] == 0.5


def test_retrieval_from_mels_of_one_talker(tmp_path: Path) -> None:
    store = made(tmp_path, "mel", talkers=1)
    encoder = {"system": "brain_encoder", "steps": 40, "settings": {"negatives": 15}}
    found = accuracy(tmp_path / "out", store, "folder-mels-1", "ridge_envelope", encoder)
    assert found["ridge_envelope", "true_eeg", "top10"] > 0.9
    assert found["brain_encoder", "true_eeg", "top10"] > 1.5 * found["brain_encoder", "noise_cue", "top10"]


def test_a_task_that_needs_audio_refuses_features_in_one_sentence(tmp_path: Path) -> None:
    store = made(tmp_path)
    told = "speech: expected audio, for extraction .ku-leuven-1., found no audio, only its envelope, on which"
    with pytest.raises(BadInput, match=told):
        accuracy(tmp_path / "out", store, "ku-leuven-1", "mixture")
    with pytest.raises(BadInput, match="audio, for generation"):
        accuracy(tmp_path / "out", store, "natural-speech-generation-1", "mean_speech")


def test_a_system_that_reads_audio_refuses_features(tmp_path: Path) -> None:
    context = Context.of(made(tmp_path), 5.0)
    assert (context.speech, context.bands, context.audio_rate) == ("envelope", 1, 64)
    with pytest.raises(BadInput, match="a study that has audio or mel of the speech, found one that publishes only"):
        build(declare("brain_encoder"), context)
    with pytest.raises(BadInput, match="a study that has audio of the speech"):
        build(declare("ridge_mel"), context)


def test_two_talkers_are_needed_for_extraction_and_attention(tmp_path: Path) -> None:
    store = made(tmp_path, talkers=1)
    with pytest.raises(BadInput, match="two talkers in every segment"):
        accuracy(tmp_path / "out", store, "dtu-features-1", "ridge_envelope")
    spoken = replace(store.index.study, stimuli="audio")
    monkey = SimpleNamespace(facts=spoken, trials=store.trials)
    with pytest.raises(BadInput, match="two talkers in each, for extraction .ku-leuven-1., found 18 of 18 with one"):
        PROTOCOLS["ku-leuven-1"].require_possible(monkey)  # type: ignore[arg-type]


def test_features_are_mixed_with_nothing_and_keep_their_level(tmp_path: Path) -> None:
    store = made(tmp_path)
    scene = Mixer(store).scene(Segment("S0-0", 1.0, 2.0))
    trial = store.trial("S0-0")
    np.testing.assert_array_equal(scene.target, store.stimulus(trial.attended)[:, 64:192])
    np.testing.assert_array_equal(scene.mixture, scene.target)
    assert trial.unattended is not None
    np.testing.assert_array_equal(scene.interferer, store.stimulus(trial.unattended)[:, 64:192])


def test_every_protocol_of_a_study_is_named_after_it() -> None:
    names = {*study_names()}
    for table in (TWO_TALKERS, ONE_TALKER, FEATURES):
        assert {*table} <= names


SUITES = Path(__file__).parent.parent / "benchmarks" / "studies"


def test_every_study_of_real_data_has_a_suite_that_its_systems_answer() -> None:
    made = {
        name for name in study_names() if not name.startswith(("simulated", "cocktail-party-c", "cocktail-party-p"))
    }
    assert {path.stem for path in SUITES.glob("*.yaml")} == made
    for name in made:
        asked = read_suite(SUITES / f"{name}.yaml")
        task, kept = PROTOCOLS[asked.protocol].task, study(name).facts.stimuli
        assert asked.studies == [name] and asked.protocol == f"{name}-1"
        for declaration in asked.declarations:
            facts = system_class(declaration.system).facts
            assert task in facts.tasks and kept in facts.speech


def test_the_suite_of_a_study_runs_to_a_leaderboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EEG2SPEECH_CACHE", str(tmp_path / "cache"))
    with pytest.warns(UserWarning, match="no file of S4"):
        prepare("dtu-features", raw=write_dtu(tmp_path / "raw", subjects=3, trials=10))
    records = run_suite(read_suite(SUITES / "dtu-features.yaml"), tmp_path / "out", Machine(jobs=1), lambda text: None)
    assert len(records.read_all()) == 2 * 2 * len(CONTROLS)
    page = render_leaderboard(tmp_path / "out" / "records", tmp_path / "leaderboard.md")
    assert "dtu-features-1" in page and "ridge_envelope" in page
