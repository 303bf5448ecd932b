"""SparrKULee as its authors prepare it: whole recordings or their parts, with envelopes or mels."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzz import damaged
from study_sparrkulee_files import (
    CHANNELS,
    FEATURE,
    STIMULI,
    envelope,
    mel,
    noise,
    save,
    stem_of,
    whole_eeg,
    write_features,
    write_split,
)

from eeg2speech.data.store import Store
from eeg2speech.data.studies.sparrkulee_features import (
    SparrkuleeFeatureSteps,
    eeg,
    features,
    source,
    sparrkulee_envelopes,
    sparrkulee_mels,
)
from eeg2speech.errors import BadInput
from eeg2speech.splits import make_split

pytestmark = pytest.mark.filterwarnings("ignore:sparrkulee")
WHOLE = f"{stem_of(27, 1)}_{STIMULI[0]}"
STIMULUS_FOLDER = Path("derivatives") / "preprocessed_stimuli"
SPLIT_FOLDER = Path("derivatives") / "split_data"


def prepared(root: Path, feature: str = "envelope", **given: Any) -> Store:
    study = sparrkulee_envelopes() if feature == "envelope" else sparrkulee_mels()
    study.raw, study.given = root, given
    return study.prepare(root.parent / f"store{len(list(root.parent.iterdir()))}")


def of(store: Store, trial: str) -> np.ndarray:
    return store.stimulus(store.trial(trial).attended)


@pytest.mark.parametrize("fortran", [False, True])
@pytest.mark.parametrize("separator", ["_", "_-_"])
def test_whole_recordings_are_as_written(tmp_path: Path, separator: str, fortran: bool) -> None:
    root = write_features(tmp_path / "raw", fortran=fortran, separator=separator)
    store = prepared(root)
    store.verify()
    assert [*store.trials] == [
        f"{stem_of(5, 1)}_{STIMULI[0]}",
        WHOLE,
        f"{stem_of(27, 2)}_{STIMULI[1]}",
    ]
    assert store.subjects == ("sub-005", "sub-027") and len(store.stimuli) == 2
    # As long as both: 505 of 520 samples.
    assert store.trial(WHOLE).duration == 505 / FEATURE
    np.testing.assert_array_equal(store.eeg(WHOLE), whole_eeg(27, STIMULI[0])[:505].T.astype(np.float32))
    np.testing.assert_array_equal(of(store, WHOLE), envelope(STIMULI[0]).T.astype(np.float32))
    about = store.stimuli[store.trial(WHOLE).attended]
    assert (about.speaker, about.story, about.language, about.bands) == ("audiobook_7", "audiobook_7", "nl", 1)
    assert store.facts.stimuli == "envelope" and store.facts.audio_rate == store.facts.eeg_rate == 64


@pytest.mark.parametrize("bands", [28, 10])
@pytest.mark.parametrize("write, trial", [(write_features, WHOLE), (write_split, "sub-027_audiobook_7_5_train")])
def test_mels_keep_their_bands(tmp_path: Path, bands: int, write: Callable[..., Path], trial: str) -> None:
    store = prepared(write(tmp_path / "raw", bands), "mel")
    length = round(store.trial(trial).duration * 64)
    np.testing.assert_array_equal(of(store, trial), mel(STIMULI[0], bands)[:length].T)
    assert store.facts.stimuli == "mel" and {each.bands for each in store.stimuli.values()} == {bands}


def test_parts_of_the_authors_are_kept(tmp_path: Path) -> None:
    store = prepared(write_split(tmp_path / "raw"))
    split = make_split(store.index, "given", 0)
    for part, (begin, end), name in (
        ("train", (0, 400), "train"),
        ("valid", (400, 450), "val"),
        ("test", (450, 500), "test"),
    ):
        trial = store.trial(f"sub-027_podcast_3_{name}")
        assert trial.part == part and trial.id in split.trials(part)
        np.testing.assert_array_equal(of(store, trial.id)[0], envelope("podcast_3")[begin:end, 0].astype(np.float32))
        place = round(trial.start * 64)
        found = store.eeg(trial.recording)[:, place : place + end - begin]
        np.testing.assert_array_equal(found, whole_eeg(27, "podcast_3")[begin:end].T.astype(np.float32))
    # The same speech, whoever heard it.
    assert store.trial("sub-005_audiobook_7_5_val").attended == store.trial("sub-027_audiobook_7_5_val").attended


def test_the_folder_may_be_named_in_four_ways(tmp_path: Path) -> None:
    write_features(tmp_path / "a" / "b")
    steps = SparrkuleeFeatureSteps()
    found = [
        [item.id for item in source("envelope", root, steps).items]
        for root in (tmp_path / "a", tmp_path / "a" / "b", tmp_path / "a" / "b" / "derivatives")
    ]
    assert found[0] == found[1] == found[2] and len(found[0]) == 3


def test_of_both_kinds_one_has_to_be_chosen(tmp_path: Path) -> None:
    root = write_split(write_features(tmp_path / "raw"))
    with pytest.raises(BadInput, match="files: expected --set files=preprocessed .* or --set files=split"):
        prepared(root)
    assert len(prepared(root, files="preprocessed").trials) == 3
    assert len(prepared(root, files="split").trials) == 9
    shutil.rmtree(root / SPLIT_FOLDER)
    with pytest.raises(BadInput, match="expected .npy files in split_data, found none"):
        prepared(root, files="split")


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    root = write_features(tmp_path / "raw")
    (root / STIMULUS_FOLDER / "podcast_3_-_envelope.npy").unlink()
    save(root / "derivatives" / "preprocessed_eeg" / "sub-027" / "odd_eeg.npy", noise(CHANNELS, 9))
    found = source("envelope", root, SparrkuleeFeatureSteps())
    assert len(found.items) == 2 and {*found.missing} == {
        "files of 2 of 85 subjects",
        f"no podcast_3_-_envelope.npy or podcast_3_envelope.npy in preprocessed_stimuli: {stem_of(27, 2)}_podcast_3",
        "names that are not understood: odd_eeg.npy",
    }


def test_parts_that_are_not_there_are_told(tmp_path: Path) -> None:
    root = write_split(tmp_path / "raw")
    (root / SPLIT_FOLDER / "val_-_sub-027_-_podcast_3_-_eeg.npy").unlink()
    (root / SPLIT_FOLDER / "test_-_sub-027_-_podcast_3_-_envelope.npy").unlink()
    save(root / SPLIT_FOLDER / "dev_-_sub-027_-_podcast_3_-_eeg.npy", noise(9, CHANNELS))
    found = source("envelope", root, SparrkuleeFeatureSteps())
    assert {*found.missing} == {
        "files of 2 of 85 subjects",
        "no part val: sub-027_podcast_3",
        "no test_-_sub-027_-_podcast_3_-_envelope.npy in split_data: sub-027_podcast_3_test",
        "names that are not understood: dev_-_sub-027_-_podcast_3_-_eeg.npy",
    }
    assert [take.id for take in found.items[-1].takes()] == ["sub-027_podcast_3_train"]


def test_an_envelope_may_have_one_axis(tmp_path: Path) -> None:
    root = write_features(tmp_path / "raw")
    save(root / STIMULUS_FOLDER / f"{STIMULI[0]}_-_envelope.npy", envelope(STIMULI[0])[:, 0])
    np.testing.assert_array_equal(of(prepared(root), WHOLE), envelope(STIMULI[0]).T.astype(np.float32))


def normalised(part: np.ndarray) -> np.ndarray:
    return (part - part.mean(axis=0)) / part.std(axis=0)


def test_normalised_parts_are_refused(tmp_path: Path) -> None:
    root = write_split(tmp_path / "raw")
    path = root / SPLIT_FOLDER / "train_-_sub-027_-_podcast_3_-_eeg.npy"
    save(path, normalised(np.load(path)))
    with pytest.raises(BadInput, match="EEG: expected microvolt, .* found mean 0 and deviation 1: normalised"):
        prepared(root)


def test_impulses_are_found_within_one_sample(tmp_path: Path) -> None:
    """A quarter of an hour, as long as trials are."""
    count, root = 15 * 60 * FEATURE, tmp_path / "raw"
    places = (32, count // 2, count - 32)
    signal, slow = np.zeros((CHANNELS, count)), np.zeros((count, 1))
    for place in places:
        signal[:, place], slow[place] = 1000, 1
    write_features(root)
    folder = root / "derivatives" / "preprocessed_eeg" / "sub-027" / "ses-varyingStories01"
    save(folder / f"{stem_of(27, 1)}_desc-preproc-audio-{STIMULI[0]}_eeg.npy", signal)
    save(root / STIMULUS_FOLDER / f"{STIMULI[0]}_-_envelope.npy", slow)
    for given in ({}, {"eeg_rate": 128, "high_pass": 0.5}):
        store = prepared(root, **given)
        rate = given.get("eeg_rate", FEATURE)
        for place in places:
            for wave, hz in ((store.eeg(WHOLE)[3], rate), (of(store, WHOLE)[0], FEATURE)):
                near = slice(round((place - 16) / FEATURE * hz), round((place + 16) / FEATURE * hz))
                assert abs((near.start + np.argmax(np.abs(wave[near]))) / hz - place / FEATURE) <= 1 / rate


# Refusals


def other_bands(root: Path) -> None:
    save(root / STIMULUS_FOLDER / "podcast_3_-_mel.npy", mel("podcast_3", 10))


def both_names(root: Path) -> None:
    save(root / STIMULUS_FOLDER / "podcast_3_mel.npy", mel("podcast_3", 28))


def turned(root: Path) -> None:
    (path,) = (root / "derivatives").rglob(f"{stem_of(27, 1)}*_eeg.npy")
    save(path, np.load(path).T)


def turned_mel(root: Path) -> None:
    save(root / STIMULUS_FOLDER / "podcast_3_-_mel.npy", mel("podcast_3", 28).T)


def objects(root: Path) -> None:
    np.save(root / STIMULUS_FOLDER / "podcast_3_-_mel.npy", np.array([[None] * 28]), allow_pickle=True)


def integers(root: Path) -> None:
    save(root / STIMULUS_FOLDER / "podcast_3_-_mel.npy", np.ones((9, 28), np.int16))


def several(root: Path) -> None:
    with (root / STIMULUS_FOLDER / "podcast_3_-_mel.npy").open("wb") as file:
        np.savez(file, mel("podcast_3", 28))


def not_finite(root: Path) -> None:
    save(root / STIMULUS_FOLDER / "podcast_3_-_mel.npy", np.full((9, 28), np.nan, np.float32))


def cut(root: Path) -> None:
    path = root / STIMULUS_FOLDER / "podcast_3_-_mel.npy"
    path.write_bytes(path.read_bytes()[:-1])


def longer(root: Path) -> None:
    path = root / STIMULUS_FOLDER / "podcast_3_-_mel.npy"
    path.write_bytes(path.read_bytes() + b"x")


def no_stimuli(root: Path) -> None:
    shutil.rmtree(root / STIMULUS_FOLDER)


def no_eeg(root: Path) -> None:
    for path in (root / "derivatives" / "preprocessed_eeg").rglob("*.npy"):
        path.unlink()


BROKEN: list[tuple[Callable[[Path], None], str]] = [
    (other_bands, "podcast_3_-_mel.npy: bands: expected 28, as audiobook_7_5_-_mel.npy, found 10"),
    (both_names, "files: expected one of the two ways to name it, found podcast_3_mel.npy as well"),
    (turned, r"shape: expected \[64, T\], found \[520, 64\]"),
    (turned_mel, r"expected 28, as .*, found 500|shape"),
    (objects, "an array in a .npy file, found Array can't be memory-mapped|Object arrays"),
    (integers, "expected floating-point numbers, found int16"),
    (several, "expected floating-point numbers, found several arrays|an array in a .npy file"),
    (not_finite, "finite"),
    (cut, "an array in a .npy file|length"),
    (longer, "length: expected .* bytes, as its header says"),
    (no_stimuli, "expected EEG with the mel of its stimulus, found no audiobook_7_5_-_mel.npy"),
    (no_eeg, "files: expected .npy files in preprocessed_eeg, found none"),
    (lambda root: shutil.rmtree(root / "derivatives"), "the folder derivatives with preprocessed_eeg or split_data"),
]


@pytest.mark.parametrize("spoil, told", BROKEN)
def test_broken_copies_are_refused(tmp_path: Path, spoil: Callable[[Path], None], told: str) -> None:
    root = write_features(tmp_path / "raw")
    spoil(root)
    with pytest.raises(BadInput, match=told):
        prepared(root, "mel")


def test_mels_are_no_envelopes(tmp_path: Path) -> None:
    root = write_features(tmp_path / "raw")
    for name in STIMULI:
        save(root / STIMULUS_FOLDER / f"{name}_-_envelope.npy", mel(name, 28))
    with pytest.raises(BadInput, match=r"shape: expected \[T, 1\], found \[500, 28\]"):
        prepared(root)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("fortran", [False, True])
@pytest.mark.parametrize("kind", ["eeg", "mel"])
def test_damaged_arrays_are_refused_or_have_their_shape(tmp_path: Path, kind: str, fortran: bool) -> None:
    """2,000 damaged files in all. There is no checksum: values may be others, the shape may not."""
    path = save(tmp_path / "a.npy", noise(CHANNELS, 5) if kind == "eeg" else noise(40, 28), fortran)
    rows, refused = (CHANNELS, 0) if kind == "eeg" else (28, 0)
    for version in damaged(path.read_bytes(), 500):
        path.write_bytes(version)
        try:
            blocks = eeg(path, times_first=False) if kind == "eeg" else features(path, "mel")
        except BadInput:
            refused += 1
            continue
        block = blocks.read(0, blocks.samples)
        assert block.shape == (blocks.channels, blocks.samples)
        assert blocks.channels == rows or (kind == "mel" and blocks.channels == 10)
        assert block.size * block.itemsize < len(version)
    assert refused > 100
