"""DTU as its authors prepared it: the first envelope is attended, whatever the event says of the sex."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzz import damaged
from study_dtu_files import RATE, SECONDS, attended, cell, content, eeg, envelope, save, write

from eeg2speech.data.store import Store
from eeg2speech.data.studies.dtu_features import DtuFeatureSteps, dtu_features, source
from eeg2speech.errors import BadInput

pytestmark = pytest.mark.filterwarnings("ignore:dtu-features")


def prepared(raw: Path, out: Path, **given: object) -> Store:
    study = dtu_features()
    study.raw, study.given = raw, given
    return study.prepare(out)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    root = tmp_path_factory.mktemp("dtu")
    return prepared(write(root / "raw"), root / "store")


def test_trials_have_the_first_envelope_attended_and_the_sex_of_its_talker(store: Store) -> None:
    assert [*store.trials] == [f"S{s}_{k:02d}" for s in (1, 2) for k in (1, 2, 3)]
    for subject in (1, 2):
        for k in range(3):
            trial, sex = store.trial(f"S{subject}_{k + 1:02d}"), attended(subject, k)
            np.testing.assert_allclose(store.stimulus(trial.attended)[0], envelope(k, sex)[:, 0], rtol=1e-6)
            assert store.stimuli[trial.attended].speaker == {1: "male", 2: "female"}[sex]
            assert trial.unattended is not None
            np.testing.assert_allclose(store.stimulus(trial.unattended)[0], envelope(k, 3 - sex)[:, 0], rtol=1e-6)


def test_an_envelope_is_stored_once_whoever_heard_it(store: Store) -> None:
    assert len(store.stimuli) == 6 and store.facts.stimuli == "envelope"


@pytest.mark.parametrize("named", [True, False])
def test_eeg_is_that_of_the_sensors_without_the_mastoids(tmp_path: Path, named: bool) -> None:
    found = prepared(write(tmp_path / "raw", named=named), tmp_path / "store")
    for k in range(3):
        trial = found.trial(f"S2_{k + 1:02d}")
        begin = round(trial.start * RATE)
        cut = found.eeg("S2")[:, begin : begin + SECONDS * RATE]
        np.testing.assert_allclose(cut, eeg(2, k)[:, :64].T, rtol=1e-5, atol=1e-5)


def test_columns_are_found_by_their_names(tmp_path: Path) -> None:
    body = content(1)
    turned = np.random.default_rng(0).permutation(66)
    names = body["dim"]["chan"]["eeg"][0, 0]
    body["dim"]["chan"]["eeg"] = cell([cell([names[0, k] for k in turned])] * 3)
    body["eeg"] = cell([eeg(1, k)[:, turned] for k in range(3)])
    (tmp_path / "raw").mkdir()
    save(tmp_path / "raw" / "S1_data_preproc.mat", body)
    found = prepared(tmp_path / "raw", tmp_path / "store")
    np.testing.assert_allclose(found.eeg("S1")[:, : SECONDS * RATE], eeg(1, 0)[:, :64].T, rtol=1e-5, atol=1e-5)


def test_events_may_be_one_struct_of_vectors(store: Store, tmp_path: Path) -> None:
    body = content(1)
    values = np.array([[float(attended(1, k))] for k in range(3)])
    for each in (values, cell([value[None] for value in values]).T):
        raw = tmp_path / each.dtype.kind
        raw.mkdir()
        save(raw / "S1_data_preproc.mat", body | {"event": {"eeg": {"sample": values, "value": each}}})
        found = prepared(raw, tmp_path / f"store-{each.dtype.kind}")
        assert [found.trials[name].attended for name in found.trials] == [
            store.trials[f"S1_{k:02d}"].attended for k in (1, 2, 3)
        ]


def test_missing_subjects_are_told_and_a_folder_above_will_do(tmp_path: Path) -> None:
    write(tmp_path / "raw" / "DATA_preproc")
    with pytest.warns(UserWarning, match="no file of S3, S4, "):
        assert len(prepared(tmp_path / "raw", tmp_path / "store").trials) == 6


def test_impulses_are_found_within_one_eeg_sample(tmp_path: Path) -> None:
    body, places = content(1), (0.5, 10.0, SECONDS - 0.5)
    signal, wave = np.zeros((SECONDS * RATE, 66)), np.zeros((SECONDS * RATE + 7, 1))
    for place in places:
        signal[round(place * RATE)] = wave[round(place * RATE)] = 100
    body["eeg"], body["wavA"] = cell([signal] * 3), cell([wave] * 3)
    (tmp_path / "raw").mkdir()
    save(tmp_path / "raw" / "S1_data_preproc.mat", body)
    found = prepared(tmp_path / "raw", tmp_path / "store", eeg_rate=128)
    trial = found.trial("S1_03")
    begin = round(trial.start * 128)
    for place in places:
        for each, rate in ((found.eeg("S1")[0, begin:], 128), (found.stimulus(trial.attended)[0], RATE)):
            near = slice(round((place - 0.25) * rate), round((place + 0.25) * rate))
            assert abs((near.start + np.argmax(np.abs(each[near]))) / rate - place) <= 1 / RATE


def but(**other: Any) -> dict[str, Any]:
    return content(1) | other


BROKEN: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "rate": (lambda: but(fsample={"eeg": 512.0, "wavA": 64.0, "wavB": 64.0}), "data.fsample.eeg: expected 64 Hz"),
    "no rate": (lambda: but(fsample={"eeg": 64.0}), "wavA"),
    "fewer envelopes": (
        lambda: but(wavB=cell([np.ones((9, 1))])),
        "data.wavB: expected 3 trials, as data.eeg",
    ),
    "no trials": (lambda: but(eeg=np.empty((1, 0), object)), "data.(eeg|wavA): expected"),
    "columns": (lambda: but(eeg=cell([np.ones((99, 64))] * 3)), r"trial 1: eeg: expected \[samples, 66\]"),
    "NaN": (lambda: but(wavA=cell([np.full((99, 1), np.nan)] * 3)), "trial 1: wavA: expected finite"),
    "two columns": (lambda: but(wavA=cell([np.ones((99, 2))] * 3)), r"trial 1: wavA: expected \[samples, 1\]"),
    "event": (
        lambda: but(event={"eeg": content(1)["event"]["eeg"][:, :2]}),
        "data.event.eeg: expected 3 trials, as data.eeg, found 2",
    ),
    "names": (
        lambda: but(dim={"chan": {"eeg": cell([cell([f"X{k}" for k in range(66)])] * 3)}}),
        "names of channels: expected the 64 sensors of BioSemi's cap, found none named Fp1",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_are_refused(tmp_path: Path, case: str) -> None:
    made, told = BROKEN[case]
    save(tmp_path / "S1_data_preproc.mat", made())
    with pytest.raises(BadInput, match=told):
        prepared(tmp_path, tmp_path / "store")


def test_a_value_that_is_no_sex_is_refused(tmp_path: Path) -> None:
    body = content(1)
    body["event"]["eeg"][0, 1]["value"] = cell([np.array([[3.0]])])
    save(tmp_path / "S1_data_preproc.mat", body)
    with pytest.raises(BadInput, match=r"trial 2: event.eeg.value: expected 1 \(male attended\) or 2"):
        prepared(tmp_path, tmp_path / "store")
    with pytest.raises(BadInput, match="here or one folder below, found none"):
        source(tmp_path / "nowhere", DtuFeatureSteps())


def test_damage_ends_in_a_refusal_or_in_what_the_file_said(tmp_path: Path) -> None:
    """2,000 damaged files, compressed with a checksum: what is read at all is what was written."""
    path = tmp_path / "S1_data_preproc.mat"
    body = content(1, trials=1)
    body |= {name: cell([body[name][0, 0][:8]]) for name in ("eeg", "wavA", "wavB")}
    save(path, body)
    refused = 0
    for version in damaged(path.read_bytes(), 2000):
        path.write_bytes(version)
        try:
            (take,) = source(tmp_path, DtuFeatureSteps()).items[0].takes()
            np.testing.assert_array_equal(take.eeg.read(0, 8), body["eeg"][0, 0][:, :64].T)
            np.testing.assert_array_equal(take.attended.open().read(0, 8), body["wavA"][0, 0].T)
        except BadInput:
            refused += 1
    assert refused > 1000
