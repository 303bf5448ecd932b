"""EEG files, their matching to a system, and extraction from files and of a study's segments."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mne
import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import save_file
from scipy.signal import resample_poly
from torch import Tensor
from typer.testing import CliRunner

from eeg2speech import cli
from eeg2speech.controls import noise_cue
from eeg2speech.data import Store
from eeg2speech.data.eeg_files import EegFile, arranged, read_eeg, resample
from eeg2speech.data.mixing import Mixer
from eeg2speech.data.types import Samples, Segment
from eeg2speech.errors import BadInput
from eeg2speech.evaluation.api import CallableSystem
from eeg2speech.evaluation.extract import (
    MIXTURE_LEVEL,
    EegOptions,
    Part,
    extract_files,
    extract_signals,
    extract_study,
    load_alone,
    read_audio,
)
from eeg2speech.evaluation.protocol import protocol
from eeg2speech.evaluation.scoring import ExtractionTest
from eeg2speech.evaluation.trained import SHIPPED
from eeg2speech.metrics import Scorer
from eeg2speech.report.panels import draw_panels, save_panels, spectrogram_db
from eeg2speech.splits import make_split
from eeg2speech.systems.interface import Context
from eeg2speech.training.checkpoint import load_weights, save_weights

RNG = np.random.default_rng(0)
NAMES = ("Fz", "Cz", "Pz", "Oz")
EEG = (20 * RNG.standard_normal((4, 512)) + 100).astype(np.float32)
RATE = 256.0
DPRNN = SHIPPED / "simulated-clear" / "stimulus" / "dprnn.safetensors"


def write_edf(path: Path, eeg: Samples, rate: int, names: tuple[str, ...], unit: str = "uV", span: float = 500) -> None:
    """Whole seconds of EEG [C, N] in ``unit`` over +-``span``: EDF, 16 bit, or by its suffix BDF, 24 bit."""
    count, records, top = len(eeg), eeg.shape[1] // rate, 1 << (23 if path.suffix == ".bdf" else 15)
    fixed = [("X", 80), ("X", 80), ("01.01.20", 8), ("00.00.00", 8), (str(256 * (count + 1)), 8)]
    fixed += [("24BIT" if path.suffix == ".bdf" else "", 44), (str(records), 8), ("1", 8), (str(count), 4)]
    each = [(n, 16) for n in names] + [("", 80)] * count + [(unit, 8)] * count
    for value in (f"{-span:g}", f"{span:g}", str(-top), str(top - 1)):
        each += [(value, 8)] * count
    each += [("", 80)] * count + [(str(rate), 8)] * count + [("", 32)] * count
    header = "".join(text.ljust(width) for text, width in fixed + each).encode()
    digital = (
        np.round((eeg.astype(float) + span) * ((2 * top - 1) / (2 * span)) - top).clip(-top, top - 1).astype("<i4")
    )
    ordered = np.ascontiguousarray(digital[:, : records * rate].reshape(count, records, rate).transpose(1, 0, 2))
    body = ordered.view(np.uint8).reshape(-1, 4)[:, : 3 if path.suffix == ".bdf" else 2].tobytes()
    path.write_bytes((b"\xffBIOSEMI" if path.suffix == ".bdf" else b"0       ") + header + body)


def write_brainvision(path: Path, eeg: Samples, rate: float, names: tuple[str, ...], unit: str = "µV") -> None:
    """EEG [C, N] in ``unit`` as three BrainVision files, 32-bit float."""
    channels = "\n".join(f"Ch{k}={name},,1,{unit}" for k, name in enumerate(names, 1))
    path.write_text(
        "Brain Vision Data Exchange Header File Version 1.0\n[Common Infos]\nCodepage=UTF-8\n"
        f"DataFile={path.stem}.eeg\nMarkerFile={path.stem}.vmrk\nDataFormat=BINARY\nDataOrientation=MULTIPLEXED\n"
        f"NumberOfChannels={len(names)}\nSamplingInterval={1e6 / rate:g}\n"
        f"[Binary Infos]\nBinaryFormat=IEEE_FLOAT_32\n[Channel Infos]\n{channels}\n",
        encoding="utf-8",
    )
    marks = "Brain Vision Data Exchange Marker File, Version 1.0\n[Common Infos]\nCodepage=UTF-8\n"
    path.with_suffix(".vmrk").write_text(f"{marks}DataFile={path.stem}.eeg\n[Marker Infos]\n")
    path.with_suffix(".eeg").write_bytes(np.ascontiguousarray(eeg.T).astype("<f4").tobytes())


def write_fif(path: Path, eeg: Samples, rate: float, names: tuple[str, ...], kinds: Any = "eeg") -> None:
    info = mne.create_info(list(names), rate, kinds, verbose="ERROR")
    mne.io.RawArray(eeg * 1e-6, info, verbose="ERROR").save(path, verbose="ERROR")


def test_edf_is_read_in_microvolt_to_its_quantisation(tmp_path: Path) -> None:
    write_edf(tmp_path / "a.edf", EEG, 256, NAMES)
    found = read_eeg(tmp_path / "a.edf")
    assert (found.rate, found.names, found.seconds) == (256.0, NAMES, 2.0)
    assert found.samples.dtype == np.float32
    np.testing.assert_allclose(found.samples, EEG, atol=0.51 * 1000 / 65535)
    write_edf(tmp_path / "b.edf", EEG / 1000, 256, NAMES, unit="mV", span=0.5)
    np.testing.assert_allclose(read_eeg(tmp_path / "b.edf").samples, EEG, atol=0.51 * 1000 / 65535)


def test_bdf_keeps_microvolts_beside_a_large_offset(tmp_path: Path) -> None:
    write_edf(tmp_path / "a.bdf", EEG + 30_000, 256, NAMES, span=262_144)
    found = read_eeg(tmp_path / "a.bdf")
    assert (found.rate, found.names) == (256.0, NAMES)
    np.testing.assert_allclose(found.samples - 30_000, EEG, atol=0.51 / 32 + 0.004)  # its step, and float32 at 30 mV


def test_brainvision_and_fif_are_read_in_microvolt(tmp_path: Path) -> None:
    write_brainvision(tmp_path / "a.vhdr", EEG, RATE, NAMES)
    write_brainvision(tmp_path / "b.vhdr", EEG / 1000, RATE, NAMES, unit="mV")
    write_fif(tmp_path / "a_raw.fif", EEG, RATE, NAMES)
    for name in ("a.vhdr", "b.vhdr", "a_raw.fif"):
        found = read_eeg(tmp_path / name)
        assert (found.rate, found.names) == (RATE, NAMES)
        np.testing.assert_allclose(found.samples, EEG, rtol=1e-5)


@pytest.mark.parametrize(("unit", "scale"), [("V", 1e6), ("mV", 1e3), ("uV", 1.0), ("µV", 1.0), ("\u03bcV", 1.0)])
def test_numpy_needs_rate_and_unit(tmp_path: Path, unit: str, scale: float) -> None:
    path = tmp_path / "a.npy"
    np.save(path, EEG.astype(np.float64) / scale)
    found = read_eeg(path, RATE, unit)
    assert found.names is None and found.rate == RATE
    np.testing.assert_allclose(found.samples, EEG, rtol=1e-6)
    with pytest.raises(BadInput, match="rate: expected its rate in Hz: give --eeg-rate"):
        read_eeg(path, None, unit)
    with pytest.raises(BadInput, match="unit: expected its unit: give --eeg-unit V, mV or uV"):
        read_eeg(path, RATE)


def test_hdf5_says_rate_unit_and_names_by_attributes_or_is_told(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["told/eeg"] = EEG / 1000
        file["told/eeg"].attrs.update({"rate": RATE, "unit": "mV", "names": list(NAMES)})
    found = read_eeg(path)
    assert (found.rate, found.names) == (RATE, NAMES)
    np.testing.assert_allclose(found.samples, EEG, rtol=1e-6)
    for given, message in (({"unit": "uV"}, "mV, as the file says"), ({"rate": 128.0}, "256.0, as the file says")):
        with pytest.raises(BadInput, match=message):
            read_eeg(path, **given)
    for rate in (0.0, -128.0, float("nan"), 1e-6):
        with h5py.File(path, "a") as file:
            file["told/eeg"].attrs["rate"] = rate
        with pytest.raises(BadInput, match="rate: expected at least 0.001 Hz"):
            read_eeg(path)
    with h5py.File(path, "a") as file:
        file["bare"] = EEG
    with pytest.raises(BadInput, match="--eeg-key: expected the name of a data set, found .*bare, told/eeg"):
        read_eeg(path)
    with pytest.raises(BadInput, match="did you mean 'bare'"):
        read_eeg(path, key="bar")
    np.testing.assert_array_equal(read_eeg(path, RATE, "uV", "bare").samples, EEG)


def test_a_unit_is_never_guessed(tmp_path: Path) -> None:
    write_edf(tmp_path / "a.edf", EEG, 256, NAMES, unit="")
    with pytest.raises(BadInput, match="unit of 'Fz': expected its unit: give --eeg-unit"):
        read_eeg(tmp_path / "a.edf")
    np.testing.assert_allclose(read_eeg(tmp_path / "a.edf", unit="uV").samples, EEG, atol=0.01)
    write_edf(tmp_path / "b.edf", EEG, 256, NAMES, unit="nV")
    with pytest.raises(BadInput, match="unit of 'Fz': expected V, mV or uV, found 'nV'"):
        read_eeg(tmp_path / "b.edf")
    write_edf(tmp_path / "c.edf", EEG, 256, NAMES)
    with pytest.raises(BadInput, match="--eeg-unit: expected none, for the file says its own"):
        read_eeg(tmp_path / "c.edf", unit="uV")
    with pytest.raises(BadInput, match="--eeg-rate: expected 256.0, as the file says"):
        read_eeg(tmp_path / "c.edf", rate=128.0)
    with pytest.raises(BadInput, match=r"unit: expected one of V, mV, uV, found 'uVolt' \(did you mean 'uV'"):
        read_eeg(tmp_path / "c.edf", unit="uVolt")


def test_other_kinds_of_channels_are_left_out_unless_they_are_sensors(tmp_path: Path) -> None:
    path = tmp_path / "a_raw.fif"
    write_fif(path, EEG, RATE, ("Fz", "EOG1", "STI", "Cz"), ["eeg", "eog", "stim", "eeg"])
    assert read_eeg(path).names == ("Fz", "Cz")
    assert read_eeg(path, sensors=("eog1",)).names == ("Fz", "EOG1", "Cz")


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("a.edf", lambda p: None, "expected a file, found no such file"),
        ("a.edf", lambda p: p.write_bytes(b"none"), "one that MNE reads"),
        ("a.xyz", lambda p: p.write_bytes(b"none"), "one that MNE reads"),
        ("a.npy", lambda p: p.write_bytes(b"none"), "one that MNE reads"),
        ("a.npy", lambda p: np.save(p, EEG[0]), r"numbers \[channels, samples\], found float32 \[512\]"),
        ("a.npy", lambda p: np.save(p, np.array([["a"]])), r"numbers \[channels, samples\]"),
        ("a.npy", lambda p: np.save(p, np.full((2, 3), np.nan)), "finite numbers, found 6"),
    ],
)
def test_what_is_no_eeg_is_refused(tmp_path: Path, name: str, write: Callable[[Path], None], message: str) -> None:
    write(tmp_path / name)
    with pytest.raises(BadInput, match=message):
        read_eeg(tmp_path / name, RATE, "uV")


def test_channels_are_picked_and_ordered_by_name() -> None:
    file = EegFile(EEG, RATE, NAMES)
    np.testing.assert_array_equal(arranged(file, ("Oz", "FZ"), "x"), EEG[[3, 0]])
    with pytest.raises(BadInput, match="all 3 sensors .*none named T7, T8; the file has Fz, Cz, Pz, Oz"):
        arranged(file, ("Oz", "T7", "T8"), "x")
    for names, wanted in ((("Fz", "Fz", "Pz", "Oz"), "Fz"), (("fz", "FZ", "Pz", "Oz"), "Fz")):
        with pytest.raises(BadInput, match="EEG channels: expected one named 'Fz', found several"):
            arranged(EegFile(EEG, RATE, names), (wanted, "Oz"), "x")
    np.testing.assert_array_equal(arranged(EegFile(EEG, RATE, ("fz", "FZ", "Pz", "Oz")), ("FZ",), "x"), EEG[[1]])
    np.testing.assert_array_equal(arranged(EegFile(EEG, RATE, None), tuple("abcd"), "x"), EEG)
    with pytest.raises(BadInput, match=r"EEG shape: expected \[3, samples\].*found \[4, 512\]"):
        arranged(EegFile(EEG, RATE, None), tuple("abc"), "x")


@pytest.mark.parametrize(
    ("rate", "wanted"), [(500.0, 128), (512.0, 128), (100.0, 128), (499.97, 128), (44_100.0, 16_000)]
)
def test_resampling_does_not_drift(rate: float, wanted: int) -> None:
    seconds = 20
    times = np.arange(round(seconds * rate)) / rate
    tone = (1000 + np.sin(2 * np.pi * 5 * times)).astype(np.float32)
    found = resample(np.stack([tone, -tone]), rate, wanted, "line")
    assert abs(found.shape[1] - seconds * wanted) <= 1
    again = np.arange(found.shape[1]) / wanted
    inside = slice(wanted, -wanted)
    expected = 1000 + np.sin(2 * np.pi * 5 * again)
    np.testing.assert_allclose(found[0][inside], expected[inside], atol=2e-3)
    np.testing.assert_allclose(found[0], expected, atol=1.5)  # an offset makes no jump at the ends
    np.testing.assert_allclose(found[1], -found[0], atol=1e-3)


def test_audio_with_several_channels_needs_a_choice(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    wave = (0.1 * RNG.standard_normal((800, 2))).astype(np.float32)
    soundfile.write(path, wave, 8000)
    with pytest.raises(BadInput, match="--channel: expected which one to take, 1 to 2"):
        read_audio(path)
    with pytest.raises(BadInput, match="--channel: expected 1 to 2, found 3"):
        read_audio(path, 3)
    np.testing.assert_allclose(read_audio(path, 2).samples, wave[:, 1], atol=1e-4)
    with pytest.raises(BadInput, match="WAV or FLAC"):
        read_audio(Path(__file__))


# -- systems on arrays --------------------------------------------------------------------------------------------


def context(store: Store) -> Context:
    return Context.of(store, 4.0)


def half(mixture: Tensor, eeg: Tensor, subject: Tensor) -> Tensor:
    """Memoryless, and it needs the EEG to be at the same place."""
    held = eeg.mean(1).repeat_interleave(125, dim=-1)
    return mixture * (1 + torch.tanh(held / 50)) / 2


@pytest.mark.parametrize("window", [1.0, 3.0, 7.3, 500.0])
def test_windows_are_the_whole_for_a_system_without_memory(store: Store, window: float) -> None:
    system = CallableSystem(context(store), half)
    mixture = (0.3 * RNG.standard_normal(16_000 * 9 + 77)).astype(np.float32)
    eeg = (50 * RNG.standard_normal((64, 128 * 9 + 1))).astype(np.float32)
    whole = extract_signals(system, mixture, eeg)
    assert whole.shape == mixture.shape and whole.dtype == np.float32
    np.testing.assert_allclose(extract_signals(system, mixture, eeg, window=window), whole, atol=1e-6)


def test_a_system_is_asked_in_whole_eeg_samples_at_the_level_of_training(store: Store) -> None:
    seen: list[Tensor] = []

    def spy(mixture: Tensor, eeg: Tensor, subject: Tensor) -> Tensor:
        seen.extend((mixture, eeg, subject))
        return mixture

    mixture = (3e-4 * RNG.standard_normal(16_000 + 3)).astype(np.float32)
    found = extract_signals(CallableSystem(context(store), spy), mixture, np.ones((64, 128), np.float32), subject=2)
    heard, eeg, subject = seen
    assert heard.shape[1] == 125 * eeg.shape[2] and int(subject) == 2
    assert float(heard.square().mean().sqrt()) == pytest.approx(MIXTURE_LEVEL, rel=0.01)
    np.testing.assert_allclose(found, mixture, rtol=1e-5)


def test_long_mixtures_are_extracted_in_windows_of_30_s(store: Store) -> None:
    lengths: list[int] = []

    def spy(mixture: Tensor, eeg: Tensor, subject: Tensor) -> Tensor:
        lengths.append(mixture.shape[1])
        return mixture

    system = CallableSystem(context(store), spy)
    for seconds, expected in ((60, [60]), (61, [30, 30, 30])):
        lengths.clear()
        noise = RNG.standard_normal(16_000 * seconds).astype(np.float32)
        extract_signals(system, noise, np.ones((64, 128 * seconds), np.float32))
        assert lengths == [16_000 * length for length in expected]


def test_signals_that_do_not_fit_are_refused(store: Store) -> None:
    system = CallableSystem(context(store), lambda m, e, s: m)
    noise, eeg = RNG.standard_normal(16_000).astype(np.float32), np.ones((64, 128), np.float32)
    for mixture, recorded, window, message in (
        (noise, eeg[:63], None, r"eeg: expected float32 \[64, N\]"),
        (noise, eeg[:, :100], None, "durations: .* found 1.000 s and 0.781 s"),
        (0 * noise, eeg, None, "level: expected audible sound"),
        (noise, eeg, 0.5, "--window: expected 1 s or more"),
        (noise[None], eeg, None, r"mixture: expected float32 \[T\]"),
    ):
        with pytest.raises(BadInput, match=message):
            extract_signals(system, mixture, recorded, window=window)
    with pytest.raises(BadInput, match="estimate: expected finite samples"):
        extract_signals(CallableSystem(context(store), lambda m, e, s: m * float("nan")), noise, eeg)


# -- files --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds of a trial: mixture and target at 22.05 kHz, EEG at 256 Hz, sensors in reverse and one more."""
    folder = tmp_path_factory.mktemp("files")
    trial = next(iter(store.trials.values()))
    scene = Mixer(store).scene(Segment(trial.id, 0.0, 6.0))
    for name, wave in (("mix", scene.mixture), ("clean", scene.target)):
        soundfile.write(folder / f"{name}.wav", resample_poly(wave, 441, 320), 22_050, subtype="FLOAT")
    names = store.index.sensors.names
    more = np.concatenate([scene.eeg[::-1], scene.eeg[:1]])
    eeg = resample_poly(more, 2, 1, axis=1).astype(np.float32)
    write_edf(folder / "rec.edf", eeg, 256, (*names[::-1], "EXG1"))
    write_edf(folder / "few.edf", eeg[:5], 256, names[::-1][:5])
    np.save(folder / "rec.npy", eeg[-2::-1])
    np.save(folder / "long.npy", np.pad(eeg[-2::-1], ((0, 0), (512, 768))))
    return folder


@pytest.fixture(scope="module")
def checkpoint(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained: what the shell writes when it trains."""
    out = tmp_path_factory.mktemp("runs")
    words = ("train", "dprnn", "--study", str(store.root), "--split", "trial", "--steps", "1", "--device", "cpu")
    shown = CliRunner().invoke(cli.app, [*words, "--out", str(out)], catch_exceptions=False).output
    return Path(shown.strip().rpartition(": ")[2])


def test_output_has_the_rate_and_the_length_of_the_input(files: Path, tmp_path: Path) -> None:
    out, plot = tmp_path / "made" / "out.wav", tmp_path / "panels.png"
    made = extract_files(
        "dprnn", files / "mix.wav", files / "rec.edf", checkpoint=DPRNN, target=files / "clean.wav", out=out, plot=plot
    )
    info, source = soundfile.info(out), soundfile.info(files / "mix.wav")
    assert (info.samplerate, info.frames, info.channels) == (22_050, source.frames, 1) and info.subtype == "FLOAT"
    np.testing.assert_array_equal(soundfile.read(out, dtype="float32")[0], made.estimate)
    assert made.si_sdr["estimate"].value > made.si_sdr["mixture"].value
    assert plot.read_bytes().startswith(b"\x89PNG") and "simulated-clear" in made.weights
    # The same EEG in the system's own order, without names.
    other = extract_files(
        "dprnn", files / "mix.wav", files / "rec.npy", checkpoint=DPRNN, options=EegOptions(256.0, "uV")
    )
    np.testing.assert_allclose(other.estimate, made.estimate, atol=2e-3)


def test_a_part_is_the_extraction_of_that_part(files: Path, tmp_path: Path) -> None:
    options = EegOptions(256.0, "uV")
    part = Part(start=1.0, duration=3.0)
    short = extract_files("dprnn", files / "mix.wav", files / "rec.npy", options=options, part=part)
    assert len(short.estimate) == 3 * 22_050
    mixture, rate = soundfile.read(files / "mix.wav", dtype="float32")
    soundfile.write(tmp_path / "cut.wav", mixture[rate : 4 * rate], rate, subtype="FLOAT")
    np.save(tmp_path / "cut.npy", np.load(files / "rec.npy")[:, 256 : 4 * 256])
    cut = extract_files("dprnn", tmp_path / "cut.wav", tmp_path / "cut.npy", options=options)
    np.testing.assert_allclose(short.estimate, cut.estimate, atol=1e-5)
    # Where in the EEG the audio begins: two seconds into the long file.
    placed = Part(start=1.0, duration=3.0, eeg_start=2.0)
    late = extract_files("dprnn", files / "mix.wav", files / "long.npy", options=options, part=placed)
    np.testing.assert_allclose(late.estimate, short.estimate, atol=1e-5)


def test_durations_that_differ_are_refused_with_both(files: Path) -> None:
    options = EegOptions(256.0, "uV")
    for part in (None, Part(start=1.0), Part(eeg_start=2.0)):
        with pytest.raises(BadInput, match="durations: .*--duration.*found 6.000 s of audio and 11.000 s of EEG"):
            extract_files("dprnn", files / "mix.wav", files / "long.npy", options=options, part=part)
    with pytest.raises(BadInput, match="part: expected one that both hold, found 5.000 s from 2 s"):
        extract_files("dprnn", files / "mix.wav", files / "rec.npy", options=options, part=Part(2.0, 5.0))
    with pytest.raises(BadInput, match="--duration: expected more than 0 s"):
        Part(duration=0.0)


def test_noise_cue_is_the_controls(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Samples] = []

    def spy(eeg: Samples, place: Any, rng: np.random.Generator) -> Samples:
        seen.append(noise_cue(eeg, place, rng))
        return seen[-1]

    monkeypatch.setattr("eeg2speech.evaluation.files.noise_cue", spy)
    first, again = (extract_files("dprnn", files / "mix.wav", files / "rec.edf", noise=True) for _ in range(2))
    np.testing.assert_array_equal(first.estimate, again.estimate)
    assert seen[0].shape == (64, 768)
    other = extract_files("dprnn", files / "mix.wav", files / "rec.edf")
    assert np.abs(other.estimate - first.estimate).max() > 1e-3


def test_files_that_do_not_fit_are_refused(files: Path, tmp_path: Path) -> None:
    mix, eeg = files / "mix.wav", files / "rec.edf"
    known: Any
    for known, message in (
        ({"eeg": files / "few.edf"}, "all 64 sensors of the system, found none named Fp1"),
        ({"eeg": files / "rec.npy"}, "give --eeg-rate"),
        ({"out": tmp_path / "x.mp3"}, r"--out: expected a file ending in .wav"),
        ({"plot": tmp_path / "x.doc"}, r"--plot: expected a file ending in .png"),
        ({"out": mix}, "another file than those that are read"),
        ({"out": mix / "x.wav"}, r"--out: expected a folder, found .*mix.wav is a file"),
        ({"part": Part(0.5, 0.001)}, "part: expected at least one sample of each"),
        ({"part": Part(5.9999)}, "part: expected at least one sample of each"),
        ({"subject": "S1"}, "--subject: .*did you mean 'S01'|did you mean 'S1"),
        ({"system": "dprn"}, "did you mean 'dprnn'"),
        ({"system": "dprnn_blind", "checkpoint": DPRNN}, 'system: expected "dprnn_blind"'),
        ({"system": "subject_id_oracle"}, "extracts from mixture and EEG alone"),
        ({"system": "mtrf_select_separated"}, "--subject: expected one of S01, .*, found none"),
    ):
        with pytest.raises(BadInput, match=message):
            extract_files(**({"system": "dprnn", "audio": mix, "eeg": eeg} | known))


# -- checkpoints --------------------------------------------------------------------------------------------------


def test_a_checkpoint_brings_its_context(checkpoint: Path, store: Store) -> None:
    system, about = load_alone(checkpoint, "dprnn")
    assert system.context == context(store)
    with pytest.raises(BadInput, match="--montage: expected none"):
        load_alone(checkpoint, "dprnn", "biosemi64")
    state, _ = load_weights(checkpoint)
    for field in ("positions", "segment_seconds"):
        del about[field]
    save_weights(checkpoint.with_name("old.safetensors"), state, about)
    assert load_alone(checkpoint.with_name("old.safetensors"), "dprnn")[0].context == context(store)


def test_positions_that_are_missing_come_from_a_montage(store: Store, tmp_path: Path) -> None:
    state, about = load_weights(DPRNN)
    path = tmp_path / "a.safetensors"
    save_weights(path, state, about)
    made = load_alone(path, "dprnn", "biosemi64")[0].context.sensors
    np.testing.assert_allclose(made.positions, store.index.sensors.positions, atol=1e-6)
    with pytest.raises(BadInput, match="did you mean 'biosemi64'"):
        load_alone(path, "dprnn", "biosemi46")
    with pytest.raises(BadInput, match="a montage with all sensors"):
        load_alone(path, "dprnn", "biosemi32")
    save_weights(path, state, about | {"sensors": [f"A{k}" for k in range(64)]})
    with pytest.raises(BadInput, match="positions: expected --montage"):
        load_alone(path, "dprnn")
    save_weights(path, state, {"system": "dprnn"})
    with pytest.raises(BadInput, match="one without audio_rate"):
        load_alone(path, "dprnn")


@pytest.mark.parametrize(
    "wrong",
    [{"audio_rate": "x"}, {"segment_seconds": [4]}, {"sensors": 5}, {"subjects": None}, {"positions": [[1, 2]]}],
)
def test_a_checkpoint_that_says_nonsense_of_itself_is_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    state, about = load_weights(DPRNN)
    save_weights(tmp_path / "a.safetensors", state, about | wrong)
    with pytest.raises(BadInput, match=f"a.safetensors.*{next(iter(wrong))}"):
        load_alone(tmp_path / "a.safetensors", "dprnn")


@pytest.mark.parametrize(("text", "found"), [("{", "no JSON"), ("[1]", "list")])
def test_weights_that_do_not_say_what_they_are_are_refused(tmp_path: Path, text: str, found: str) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", {"about": text})
    with pytest.raises(BadInput, match=f"metadata.about: expected .*JSON object, found .*{found}"):
        load_weights(tmp_path / "a.safetensors")


# -- a study's segments -------------------------------------------------------------------------------------------


def test_samples_of_a_study_are_those_of_an_evaluation(store: Store, checkpoint: Path, tmp_path: Path) -> None:
    words: Any = {"out": tmp_path, "count": 2, "checkpoint": checkpoint, "plot": "panels.svg"}
    true = extract_study("dprnn", store, "trial", **words)
    noise = extract_study("dprnn", store, "trial", noise=True, **words)
    system, demo = load_alone(checkpoint, "dprnn")[0], protocol("demo-1")
    segments = demo.test_segments(store, make_split(store.index, "trial", demo.split_seed))
    chosen = [segments[int(sample.folder.name)] for sample in true]
    for samples, control in ((true, "true_eeg"), (noise, "noise_cue")):
        with Scorer(("si_sdr",), 16_000) as scorer:
            test = ExtractionTest(system, chosen, Mixer(store), scorer, demo.evaluation_seed)
            expected = test.scores(control, demo.metrics)
        found = [sample.si_sdr["estimate"].value for sample in samples]
        np.testing.assert_allclose(found, expected["si_sdr"], atol=1e-4)
    first = true[0].folder
    names = {path.name for path in first.iterdir()}
    sounds = {"mixture.wav", "target.wav", "estimate.wav", "estimate_noise_cue.wav"}
    assert names == sounds | {"panels.svg", "panels_noise_cue.svg"}
    assert all(soundfile.info(first / name).frames == 64_000 for name in sounds)


def test_systems_without_weights_and_other_parts_work_too(store: Store, tmp_path: Path) -> None:
    [sample] = extract_study("oracle_target", store, "trial", out=tmp_path, subset="valid", count=1)
    assert sample.si_sdr["estimate"].value == 100.0 and "nothing to learn" in sample.weights


def test_a_study_refuses_what_it_has_not(store: Store, checkpoint: Path, tmp_path: Path) -> None:
    known: Any
    for known, message in (
        ({"subset": "tests"}, "did you mean 'test'"),
        ({"count": 10_000}, "--n-samples: expected 1 to"),
        ({"count": 0}, "--n-samples: expected 1 to"),
        ({"plot": "there/panels.png"}, "--plot: expected a file name"),
        ({"split": "stimulus"}, "split: expected"),
        ({"out": checkpoint}, "--out: expected a folder"),
        ({"system": "dprnn_blind"}, "system: expected"),
    ):
        given = {"system": "dprnn", "study": store, "split": "trial", "checkpoint": checkpoint, "out": tmp_path} | known
        with pytest.raises(BadInput, match=message):
            extract_study(**given)


# -- panels and shell ---------------------------------------------------------------------------------------------


def test_panels_share_axes_and_show_a_tone_at_its_place(tmp_path: Path) -> None:
    times = np.arange(16_000) / 8000
    tone = np.sin(2 * np.pi * 1000 * times).astype(np.float32)
    picture = spectrogram_db(tone, 8000)
    assert np.all(np.linspace(0, 4000, len(picture))[picture.argmax(0)] == pytest.approx(1000, abs=20))
    canvas = draw_panels({"mixture": tone, "estimate": 0 * tone}, 8000, "title")
    waves, pictures = canvas.axes[:2], canvas.axes[2:4]
    assert len(canvas.axes) == 5 and len({axes.get_ylim() for axes in waves}) == 1
    assert len({axes.get_xlim() for axes in (*waves, *pictures)}) == 1 and pictures[0].get_ylim() == (0.0, 4.0)
    for suffix in ("png", "svg", "pdf"):
        save_panels(tmp_path / f"a.{suffix}", {"mixture": tone}, 8000)
        assert (tmp_path / f"a.{suffix}").stat().st_size > 1000
    with pytest.raises(BadInput, match="signals: expected one or more of one length"):
        draw_panels({"mixture": tone, "estimate": tone[1:]}, 8000)


def test_panels_load_no_torch() -> None:
    code = "import sys, eeg2speech.report.panels, eeg2speech.data.eeg_files as e; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def invoke(*words: object) -> str:
    return CliRunner().invoke(cli.app, ["extract", *map(str, words)], catch_exceptions=False).output


def test_shell(files: Path, store: Store, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.wav"
    both = ("--system", "dprnn", "--checkpoint", checkpoint, "--audio", files / "mix.wav", "--eeg", files / "rec.edf")
    shown = invoke(*both, "--target", files / "clean.wav", "--out", out, "--window", "2", "--duration", "5")
    assert f"{out}: 5.000 s at 22050 Hz" in shown and "SI-SDR: mixture " in shown
    words = ("--system", "mixture", "--study", store.root, "--split", "trial", "--n-samples", "1", "--out", tmp_path)
    shown = invoke(*words)
    assert "attends" in shown and (tmp_path / "0000" / "target.wav").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "either --audio and --eeg, or --study, found none of them"),
        (("--audio", "a.wav"), "found --audio$"),
        (("--audio", "a.wav", "--eeg", "a.edf", "--study", "x"), "found --audio and --eeg and --study"),
        (("--study", "x", "--target", "a.wav"), "--target: expected no such option with --study"),
        (
            ("--audio", "a.wav", "--eeg", "a.edf", "--n-samples", "2"),
            "--n-samples: expected no such option with --audio",
        ),
    ],
)
def test_shell_takes_files_or_a_study(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        invoke("--system", "dprnn", *words)
