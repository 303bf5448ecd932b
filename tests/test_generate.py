"""Generation from EEG files, and embeddings written for elsewhere, on the small study with untrained networks."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import mne
import numpy as np
import pytest
import soundfile
import torch
from scipy.signal import resample_poly
from torch import Tensor
from typer.testing import CliRunner

import eeg2speech
from eeg2speech import cli
from eeg2speech.data import Store
from eeg2speech.data.mixing import Mixer
from eeg2speech.data.types import Samples, Segment
from eeg2speech.errors import BadInput
from eeg2speech.evaluation.api import CallableSystem
from eeg2speech.evaluation.embeddings import check_embeddings, export_embeddings, import_rows
from eeg2speech.evaluation.files import EegOptions, load_alone
from eeg2speech.evaluation.generate import Generation, generate_file, generate_signals
from eeg2speech.evaluation.protocol import protocol
from eeg2speech.evaluation.trained import train
from eeg2speech.splits import make_split
from eeg2speech.splits.manifest import Split
from eeg2speech.systems.interface import Context
from eeg2speech.systems.registry import declare
from eeg2speech.training.budget import Budget, RunOptions
from eeg2speech.training.checkpoint import save_weights
from eeg2speech.training.parts import AUTOENCODER, VOCODER, new_autoencoder, new_vocoder

OPTIONS = EegOptions(256.0, "uV")
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Autoencoder and vocoder without training, as files."""
    folder = tmp_path_factory.mktemp("parts")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = {"autoencoder": (new_autoencoder(), AUTOENCODER), "vocoder": (new_vocoder(), VOCODER)}
    for name, (module, arguments) in made.items():
        save_weights(folder / f"{name}.safetensors", module.state_dict(), {name: arguments})
    return {name: str(folder / f"{name}.safetensors") for name in made}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Features in a folder of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EEG2SPEECH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def split(store: Store) -> Split:
    return make_split(store.index, "stimulus")


@pytest.fixture(scope="module")
def checkpoints(
    store: Store, split: Split, parts: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Two steps of training each."""
    out = tmp_path_factory.mktemp("runs")
    sampling = {"steps": 2, "encoder_steps": 2}
    settings: dict[str, dict[str, Any]] = {
        "eeg2speech": parts | sampling,
        "eeg2speech_blind": parts | {"steps": 2},
        "nearest_segment": {"bank": 8},
        "brain_encoder": {},
    }
    for name, given in settings.items():
        task = "demo-retrieval-1" if name == "brain_encoder" else "demo-generation-1"
        declaration = declare({"system": name, "settings": given})
        options = RunOptions(out / name, None, 0, "cpu", progress=False)
        train(declaration, store, split, protocol(task), Budget("demo", 2), options)
    return {name: out / name / "system.safetensors" for name in settings}


@pytest.fixture(scope="module")
def files(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds of a trial at 256 Hz: ``.npy`` and HDF5 in the system's order, FIF in reverse with one more."""
    h5py = pytest.importorskip("h5py")
    folder = tmp_path_factory.mktemp("files")
    scene = Mixer(store).scene(Segment(next(iter(store.trials)), 0.0, 6.0))
    eeg = resample_poly(scene.eeg, 2, 1, axis=1).astype(np.float32)
    names = store.index.sensors.names
    np.save(folder / "rec.npy", eeg)
    with h5py.File(folder / "rec.h5", "w") as file:
        file["eeg"] = eeg / 1000
        file["eeg"].attrs.update({"rate": 256.0, "unit": "mV", "names": list(names)})
    info = mne.create_info([*names[::-1], "EXG1"], 256.0, "eeg", verbose="ERROR")
    more = np.concatenate([eeg[::-1], eeg[:1]]) * 1e-6
    mne.io.RawArray(more, info, verbose="ERROR").save(folder / "rec_raw.fif", verbose="ERROR")
    return folder


@pytest.fixture(scope="module")
def first(files: Path, checkpoints: dict[str, Path]) -> Generation:
    """The first two seconds, from which others differ in what they are asked."""
    return made(files, checkpoints)


def made(files: Path, checkpoints: dict[str, Path], system: str = "eeg2speech", **more: Any) -> Generation:
    given: dict[str, Any] = {"seconds": 2.0, "options": OPTIONS, "checkpoint": checkpoints[system]} | more
    return generate_file(system, files / "rec.npy", **given)


# -- files --------------------------------------------------------------------------------------------------------


def test_speech_is_as_long_as_the_eeg_and_is_written(
    files: Path, checkpoints: dict[str, Path], first: Generation, tmp_path: Path
) -> None:
    assert first.rate == 16_000 and first.speech.shape == (32_000,) and first.speech.dtype == np.float32
    assert np.isfinite(first.speech).all() and first.speech.std() > 0
    again = made(files, checkpoints, out=tmp_path / "made" / "a.wav")
    info = soundfile.info(tmp_path / "made" / "a.wav")
    assert (info.samplerate, info.frames, info.subtype) == (16_000, 32_000, "FLOAT")
    np.testing.assert_array_equal(soundfile.read(tmp_path / "made" / "a.wav", dtype="float32")[0], again.speech)
    np.testing.assert_array_equal(again.speech, first.speech)


def test_the_result_says_weights_listener_and_settings(checkpoints: dict[str, Path], first: Generation) -> None:
    assert str(checkpoints["eeg2speech"]) in first.weights and "split stimulus" in first.weights
    assert first.settings == {"guidance": 2.0, "steps": 2, "solver": "dpm", "candidates": 1, "seed": 0}
    assert (first.listener, first.control, first.windows) == ("a stranger", "true_eeg", 1)


@pytest.mark.parametrize("name", ["rec.h5", "rec_raw.fif"])
def test_every_kind_of_file_gives_the_same_speech(
    files: Path, checkpoints: dict[str, Path], first: Generation, name: str
) -> None:
    found = generate_file("eeg2speech", files / name, checkpoint=checkpoints["eeg2speech"], seconds=2.0)
    np.testing.assert_allclose(found.speech, first.speech, atol=0.02 * np.abs(first.speech).max())


def test_a_part_is_the_speech_of_that_part(files: Path, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    found = made(files, checkpoints, start=1.5)
    np.save(tmp_path / "cut.npy", np.load(files / "rec.npy")[:, 384:896])
    words: dict[str, Any] = {"checkpoint": checkpoints["eeg2speech"], "options": OPTIONS}
    np.testing.assert_array_equal(generate_file("eeg2speech", tmp_path / "cut.npy", **words).speech, found.speech)
    odd = made(files, checkpoints, seconds=1.2345)
    assert len(odd.speech) == 19_752


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"noise": True},
        {"start": 0.5},
        {"guidance": 4.0},
        {"steps": 3},
        {"subject": "S02"},
    ],
)
def test_what_is_asked_for_is_heard(
    files: Path, checkpoints: dict[str, Path], first: Generation, change: dict[str, Any]
) -> None:
    found = made(files, checkpoints, **change)
    assert np.abs(found.speech - first.speech).max() > 1e-6 * np.abs(first.speech).max()
    assert found.settings == first.settings | {k: v for k, v in change.items() if k in first.settings}
    assert found.control == ("noise_cue" if "noise" in change else "true_eeg")
    assert found.listener == change.get("subject", "a stranger")


def test_of_several_candidates_one_is_taken(files: Path, checkpoints: dict[str, Path], first: Generation) -> None:
    found = made(files, checkpoints, candidates=2)
    assert found.settings["candidates"] == 2 and found.speech.shape == first.speech.shape


def test_without_eeg_only_the_seed_is_heard(files: Path, checkpoints: dict[str, Path]) -> None:
    true, noise, other = (made(files, checkpoints, "eeg2speech_blind", **m) for m in ({}, {"noise": True}, {"seed": 1}))
    np.testing.assert_array_equal(true.speech, noise.speech)
    assert np.abs(true.speech - other.speech).max() > 0 and true.listener == "not asked for by this system"


def test_long_eeg_is_generated_in_windows_of_the_training(files: Path, checkpoints: dict[str, Path]) -> None:
    long, short = (made(files, checkpoints, seconds=seconds) for seconds in (6.0, 4.0))
    assert (long.windows, short.windows) == (2, 1) and len(long.speech) == 6 * 16_000
    scale = np.abs(long.speech).max()
    # The second window is heard from where the first one ends.
    before = slice(0, 4 * 16_000 - 640)
    np.testing.assert_allclose(long.speech[before], short.speech[before], atol=1e-4 * scale)
    assert np.abs(long.speech[before.stop : 64_000] - short.speech[before.stop :]).max() > 1e-4 * scale


def test_shorter_eeg_is_the_systems_own_matter(files: Path, checkpoints: dict[str, Path]) -> None:
    assert len(made(files, checkpoints, seconds=0.75).speech) == 12_000
    assert made(files, checkpoints, "nearest_segment", seconds=4.0).speech.std() > 0
    with pytest.raises(BadInput, match="nearest_segment: eeg: expected 512 samples, as the bank's windows, found 256"):
        made(files, checkpoints, "nearest_segment")


def test_what_does_not_fit_is_refused(files: Path, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    known: dict[str, Any]
    for known, message in (
        ({"system": "eeg2speec"}, "did you mean 'eeg2speech'"),
        ({"system": "eeg2speech_blind"}, 'system: expected "eeg2speech_blind"'),
        ({"checkpoint": checkpoints["brain_encoder"], "system": "brain_encoder"}, "tasks: expected generation"),
        ({"out": tmp_path / "x.mp3"}, "--out: expected a file ending in .wav"),
        ({"out": tmp_path}, "--out: expected a file ending in .wav"),
        ({"start": -1.0}, "--start: expected 0 s or later"),
        ({"start": 6.5}, "part: expected one within its 6.000 s, found the rest from 6.5 s on"),
        ({"start": 5.0, "seconds": 2.0}, "part: expected one within its 6.000 s, found 2 s from 5 s on"),
        ({"seconds": 0.0}, "--seconds: expected more than 0 s"),
        ({"seconds": 0.3}, "part: expected at least 0.5 s of EEG, found 0.300 s"),
        ({"seed": -1}, "--seed: expected at least 0"),
        ({"guidance": -1.0}, "guidance: expected .*greater than or equal to 0"),
        ({"steps": 0}, "steps: expected .*greater than or equal to 1"),
        ({"candidates": 0}, "candidates: expected .*greater than or equal to 1"),
        ({"subject": "S2"}, "did you mean 'S02'"),
        ({"montage": "biosemi64"}, "--montage: expected none"),
        ({"options": None}, "give --eeg-rate"),
    ):
        words = {"system": "eeg2speech", "checkpoint": checkpoints["eeg2speech"], "options": OPTIONS} | known
        with pytest.raises(BadInput, match=message):
            generate_file(words.pop("system"), files / "rec.npy", **words)


def test_a_system_without_sampling_takes_no_settings_of_it(files: Path, checkpoints: dict[str, Path]) -> None:
    for name in ("guidance", "steps", "candidates"):
        with pytest.raises(BadInput, match=f"nearest_segment: --{name}: expected a system that has this setting"):
            made(files, checkpoints, "nearest_segment", seconds=4.0, **{name: 1})


# -- systems on arrays --------------------------------------------------------------------------------------------


def held(eeg: Tensor, subject: Tensor) -> Tensor:
    """Each sample of EEG, held as long as it lasts."""
    return eeg.mean(1).repeat_interleave(125, dim=-1)


@pytest.mark.parametrize("samples", [512, 513, 1018, 1019, 1024, 1600])
def test_windows_are_in_their_places(store: Store, samples: int) -> None:
    eeg = np.tile(np.arange(samples, dtype=np.float32), (64, 1))
    found = generate_signals(CallableSystem(Context.of(store, 4.0), held), eeg)
    whole = np.arange(samples, dtype=np.float32).repeat(125)
    assert found.shape == whole.shape and found.dtype == np.float32
    # Where windows agree, a fade of equal power is louder, by 3 dB at most, and for 40 ms a seam.
    same = np.isclose(found, whole)
    assert (~same).sum() <= 640 * ((samples - 1) // 505)
    assert (found <= whole * 1.4143 + 1e-3).all() and (found >= whole - 1e-3).all()


def test_each_window_has_noise_of_its_own(store: Store) -> None:
    class Noise(CallableSystem):
        def generate(self, eeg: Tensor, subject: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
            return torch.stack([torch.randn(125 * eeg.shape[-1], generator=generator) for generator in generators])

    system = Noise(Context.of(store, 1.0), held)
    eeg = np.ones((64, 128 * 12), np.float32)
    long, short = generate_signals(system, eeg), generate_signals(system, eeg[:, :600])
    other = generate_signals(system, eeg, seed=1)
    # Levels hold across seams; a window's noise depends on its number, not on how many there are.
    power = np.square(long).reshape(-1, 640).mean(1)
    assert power.min() > 0.75 and power.max() < 1.25
    np.testing.assert_array_equal(long[:45_000], short[:45_000])
    assert abs(np.corrcoef(long[:14_000], long[16_000:30_000])[0, 1]) < 0.05
    assert abs(np.corrcoef(long, other)[0, 1]) < 0.05


def test_windows_are_asked_for_together(store: Store) -> None:
    seen: list[Samples] = []

    def spy(eeg: Tensor, subject: Tensor) -> Tensor:
        seen.append(subject.numpy())
        return held(eeg, subject)

    generate_signals(CallableSystem(Context.of(store, 1.0), spy), np.ones((64, 128 * 9), np.float32), subject=2)
    assert [len(batch) for batch in seen] == [8, 2] and all((batch == 2).all() for batch in seen)


def test_signals_that_do_not_fit_are_refused(store: Store) -> None:
    system = CallableSystem(Context.of(store, 4.0), held)
    for eeg in (np.ones((63, 128), np.float32), np.ones((64, 128)), np.ones((64, 0), np.float32)):
        with pytest.raises(BadInput, match=r"eeg: expected float32 \[64, N\], not empty"):
            generate_signals(system, eeg)
    with pytest.raises(BadInput, match="speech: expected finite samples"):
        generate_signals(
            CallableSystem(system.context, lambda e, s: held(e, s) * float("nan")), np.ones((64, 128), np.float32)
        )


# -- embeddings ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(
    store: Store, split: Split, checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("exported")
    return export_embeddings(store, split, checkpoints["brain_encoder"], out, limit=3)


def test_rows_are_the_encoders_own(store: Store, split: Split, checkpoints: dict[str, Path], exported: Path) -> None:
    rows = check_embeddings(exported)
    assert {part: len(found) for part, found in rows.items()} == {"train": 3, "val": 3, "test": 3}
    row = import_rows(exported, "test")[0]
    trial = store.trial(split.parts["test"][0].trial)
    scene = Mixer(store).scene(Segment(trial.id, 0.0, 3.0))
    wave, rate = soundfile.read(row.wav, dtype="float32")
    assert rate == 16_000
    np.testing.assert_array_equal(wave, scene.target)
    encoder, _ = load_alone(checkpoints["brain_encoder"], "brain_encoder")
    number = torch.tensor([store.subjects.index(trial.subject)])
    with torch.inference_mode():
        felt = encoder.embed_eeg(torch.from_numpy(scene.eeg[None]), number)[0]
        heard = encoder.embed_speech(torch.from_numpy(scene.target[None]))[0]
    np.testing.assert_allclose(row.eeg, felt, atol=1e-5)
    np.testing.assert_allclose(row.speech, heard, atol=1e-5)
    assert row.eeg.shape == row.speech.shape


def test_all_windows_lie_side_by_side(store: Store, split: Split, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    entry = export_embeddings(store, split, checkpoints["brain_encoder"], tmp_path, ("valid",), seconds=6.0)
    assert {part: len(rows) for part, rows in check_embeddings(entry).items()} == {"val": 2 * len(split.parts["valid"])}


def test_embeddings_that_do_not_fit_are_refused(
    store: Store, split: Split, checkpoints: dict[str, Path], exported: Path, tmp_path: Path
) -> None:
    known: dict[str, Any]
    for known, message in (
        ({"parts": ("val",)}, "part: expected one of test, train, valid, found 'val'"),
        ({"parts": ()}, "parts: expected one or more"),
        ({"limit": 0}, "limit: expected at least 1"),
        ({"seconds": 0.0}, "seconds: expected more than 0 s"),
        ({"seconds": 20.0}, "at least one window of 20.0 s"),
        ({"split": make_split(store.index, "trial")}, "split: expected"),
        ({"checkpoint": checkpoints["eeg2speech"]}, "tasks: expected retrieval"),
        ({"out": exported.parent}, "a part that is not there yet"),
    ):
        given = {"split": split, "checkpoint": checkpoints["brain_encoder"], "out": tmp_path} | known
        with pytest.raises(BadInput, match=message):
            export_embeddings(store, **given)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "content: expected JSON"),
        ("[]", "content: expected an object"),
        ("{}", "metadata: expected an object, found nothing"),
        ('{"metadata": {"path": {}}}', "dataset: expected which one of none"),
        ('{"metadata": {"path": {"a": 5}}}', "metadata.path.a: expected an object"),
        ('{"metadata": {"path": {"a": {}}}}', "metadata.path.a: expected one of"),
    ],
)
def test_a_root_that_names_no_part_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "root.json").write_text(text)
    with pytest.raises(BadInput, match=message):
        check_embeddings(tmp_path / "root.json")


def test_a_row_that_cannot_be_used_is_found(exported: Path, tmp_path: Path) -> None:
    datafile = Path(json.loads(exported.read_text())["metadata"]["path"]["audioeeg"]["val"])
    rows = json.loads(datafile.read_text())["data"]
    root = {"audioeeg": str(datafile.parent.parent / "audio")}
    root |= {"metadata": {"path": {"audioeeg": {"val": str(tmp_path / "val.json")}}}}  # type: ignore[dict-item]
    (tmp_path / "root.json").write_text(json.dumps(root))
    (tmp_path / "val.json").write_text(json.dumps({"data": [*rows[:2], rows[2] | {"wav": "gone.wav"}]}))
    with pytest.raises(BadInput, match=r"data\[2\].wav: expected a file that is there"):
        check_embeddings(tmp_path / "root.json")


# -- shell --------------------------------------------------------------------------------------------------------


def invoke(*words: object) -> str:
    return CliRunner().invoke(cli.app, list(map(str, words)), catch_exceptions=False).output


def test_shell_generates(files: Path, checkpoints: dict[str, Path], first: Generation, tmp_path: Path) -> None:
    out = tmp_path / "a.wav"
    words = ("--checkpoint", checkpoints["eeg2speech"], "--eeg", files / "rec.npy", "--eeg-rate", "256")
    shown = invoke("generate", *words, "--eeg-unit", "uV", "--seconds", "2", "--out", out)
    assert f"{out}: 2.000 s at 16000 Hz, one window" in shown and "listener: a stranger; EEG: true_eeg" in shown
    assert "settings: guidance 2.0, steps 2, solver dpm, candidates 1, seed 0" in shown
    np.testing.assert_array_equal(soundfile.read(out, dtype="float32")[0], first.speech)


def test_shell_exports_and_checks(store: Store, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    words = ("--study", store.root, "--checkpoint", checkpoints["brain_encoder"], "--out", tmp_path, "--limit", "2")
    shown = invoke("export-embeddings", *words, "--parts", "valid,test")
    again = invoke("check-embeddings", tmp_path / "dataset_root.json")
    assert shown == again and "val: 2 rows, EEG [64, " in shown and "test: 2 rows" in shown and "train" not in shown


def test_names_are_public() -> None:
    assert eeg2speech.generate_file is generate_file and eeg2speech.import_rows is import_rows
    assert eeg2speech.export_embeddings is export_embeddings and eeg2speech.check_embeddings is check_embeddings
