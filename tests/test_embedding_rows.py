"""Rows of the original project's layout: read as written to the bit, refused where the original would go on."""

import json
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from eeg2speech.errors import BadInput
from eeg2speech.training.embedding_rows import NewRow, read_rows, write_rows

RATE = 44_100
RNG = np.random.default_rng(0)


def original(root: Path) -> Path:
    """Three waves as the original keeps them: two to train on, one to test on; paths begin at ``root``."""
    torch.manual_seed(0)
    rows = []
    for k in range(3):
        wave = RNG.integers(-(2**15), 2**15, 3 * RATE, dtype=np.int16)
        (root / "audio" / "clips").mkdir(parents=True, exist_ok=True)
        soundfile.write(root / "audio" / "clips" / f"{k}.wav", wave, RATE, subtype="PCM_16")
        torch.save(torch.randn(1, 1024, 343), root / f"eeg_{k}.pt")
        torch.save(torch.randn(1024, 361), root / f"speech_{k}.pt")
        rows.append({"wav": f"clips/{k}.wav", "embedding": f"./eeg_{k}.pt", "audio_embedding": f"./speech_{k}.pt"})
    parts = {"train": rows[:2], "val": rows[2:], "test": rows[2:]}
    for part, data in parts.items():
        (root / f"{part}.json").write_text(json.dumps({"data": data}))
    paths = {part: f"./{part}.json" for part in parts} | {"class_label_indices": "./labels.csv"}
    body = {"audioeeg": "./audio", "metadata": {"path": {"audioeeg": paths}}}
    (root / "dataset_root.json").write_text(json.dumps(body))
    return root / "dataset_root.json"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return original(tmp_path)


def edited(path: Path, change: Callable[[Any], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def new_rows(count: int = 2, dtype: str = "int16", frames: int = 7) -> list[NewRow]:
    waves = RNG.integers(-(2**15), 2**15, (count, 3 * RATE), dtype=np.int16)
    scaled = waves if dtype == "int16" else (waves / 2**15 + 1e-6).astype(np.float32)
    eeg, speech = (RNG.standard_normal((count, 5, f)).astype(np.float32) for f in (frames, frames + 2))
    return [NewRow(*each) for each in zip(scaled, eeg, speech, strict=True)]


def test_the_original_s_layout_is_read_from_its_working_directory(root: Path) -> None:
    rows = read_rows(root, "train")
    assert [row.wav.resolve() for row in rows] == [root.parent / "audio" / "clips" / f"{k}.wav" for k in (0, 1)]
    for k, row in enumerate(rows):
        assert row.eeg.shape == row.eeg_shape == (1024, 343) and row.speech.shape == row.speech_shape == (1024, 361)
        assert row.eeg.dtype == row.speech.dtype == np.float32
        np.testing.assert_array_equal(row.eeg, torch.load(f"eeg_{k}.pt", weights_only=True)[0].numpy())
        np.testing.assert_array_equal(row.speech, torch.load(f"speech_{k}.pt", weights_only=True).numpy())
    assert len(read_rows(root, "test", "audioeeg")) == len(read_rows(root, "val")) == 1


def test_paths_begin_at_the_base(
    root: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = read_rows(root, "train")[0].eeg
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    with pytest.raises(BadInput, match="train.json"):
        read_rows(root, "train")
    np.testing.assert_array_equal(read_rows(root, "train", base=root.parent)[0].eeg, expected)


def test_a_tensor_with_a_gradient_in_half_precision_is_read_as_plain_float32(root: Path) -> None:
    tensor = torch.randn(1, 1, 1024, 343, dtype=torch.float16, requires_grad=True)
    torch.save(tensor, "eeg_0.pt")
    np.testing.assert_array_equal(read_rows(root, "train")[0].eeg, tensor.detach().float()[0, 0].numpy())


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_what_is_written_is_read_to_the_bit(tmp_path: Path, dtype: str) -> None:
    parts = {part: new_rows(3, dtype) for part in ("train", "val", "test")}
    for part, rows in parts.items():
        assert write_rows(tmp_path, part, iter(rows), RATE) == tmp_path / "dataset_root.json"  # type: ignore[arg-type]
    for part, rows in parts.items():
        found = read_rows(tmp_path / "dataset_root.json", part)  # type: ignore[arg-type]
        assert len(found) == 3
        for row, new in zip(found, rows, strict=True):
            wave, rate = soundfile.read(row.wav, dtype=dtype)
            assert soundfile.info(row.wav).subtype == {"int16": "PCM_16", "float32": "FLOAT"}[dtype]
            assert rate == RATE and row.eeg.dtype == row.speech.dtype == np.float32
            for one, other in ((wave, new.wave), (row.eeg, new.eeg), (row.speech, new.speech)):
                np.testing.assert_array_equal(one, other)
    assert not [*tmp_path.rglob("*.tmp")]


def test_files_are_as_the_original_loads_them(tmp_path: Path) -> None:
    """Bare tensors of the original's shapes, that hold nothing beyond the row, and the JSON that it looks for."""
    many = RNG.standard_normal((50, 5, 14)).astype(np.float32)[..., ::2]
    write_rows(tmp_path, "train", [NewRow(row.wave, many[k], row.speech) for k, row in enumerate(new_rows())], RATE)
    body = json.loads((tmp_path / "dataset_root.json").read_text())
    (row, _) = json.loads(Path(body["metadata"]["path"]["audioeeg"]["train"]).read_text())["data"]
    assert set(row) == {"wav", "embedding", "audio_embedding"}
    assert (Path(body["audioeeg"]) / row["wav"]).is_file() and not row["wav"].startswith("/")
    eeg, speech = (torch.load(row[name], weights_only=True) for name in ("embedding", "audio_embedding"))
    assert type(eeg) is type(speech) is torch.Tensor and eeg.dtype == speech.dtype == torch.float32
    assert eeg.shape == (1, 5, 7) and speech.shape == (5, 9)
    assert eeg.untyped_storage().nbytes() == 4 * eeg.numel()


def test_an_export_with_a_base_can_be_moved(tmp_path: Path) -> None:
    rows = new_rows()
    write_rows(tmp_path / "one" / "data", "train", rows, RATE, base=tmp_path / "one")
    (tmp_path / "one").rename(tmp_path / "two")
    found = read_rows(tmp_path / "two" / "data" / "dataset_root.json", "train", base=tmp_path / "two")
    np.testing.assert_array_equal(found[1].eeg, rows[1].eeg)
    with pytest.raises(BadInput, match="base: expected a folder that holds the export"):
        write_rows(tmp_path / "three", "train", rows, RATE, base=tmp_path / "two")


def test_several_data_sets_share_a_root(tmp_path: Path) -> None:
    kept = new_rows()
    write_rows(tmp_path, "train", kept, RATE, "one")
    path = write_rows(tmp_path, "train", new_rows(1, frames=3), RATE, "two")
    np.testing.assert_array_equal(read_rows(path, "train", "one")[0].speech, kept[0].speech)
    assert len(read_rows(path, "train", "two")) == 1
    with pytest.raises(BadInput, match="dataset: expected which one of one, two, found no name"):
        read_rows(path, "train")
    with pytest.raises(BadInput, match=r"dataset: .*'tow' \(did you mean 'two'\?\)"):
        read_rows(path, "train", "tow")


def dying(rows: list[NewRow]) -> Iterator[NewRow]:
    yield rows[0]
    raise KeyboardInterrupt


def test_an_export_that_is_stopped_names_nothing_and_can_be_started_again(tmp_path: Path) -> None:
    first, second = new_rows(), new_rows()
    path = write_rows(tmp_path, "train", first, RATE)
    before = path.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        write_rows(tmp_path, "val", dying(second), RATE)
    assert path.read_bytes() == before and {p.name for p in tmp_path.rglob("*.json")} == {path.name, "train.json"}
    write_rows(tmp_path, "val", second, RATE)
    for part, rows in (("train", first), ("val", second)):
        np.testing.assert_array_equal(read_rows(path, part)[1].eeg, rows[1].eeg)  # type: ignore[arg-type]


REFUSED_LAYOUTS: dict[str, tuple[str, Callable[[Any], object], str]] = {
    "no metadata": ("dataset_root.json", lambda c: c.pop("metadata"), "metadata: expected an object, found nothing"),
    "no paths": ("dataset_root.json", lambda c: c["metadata"].update(path=[]), r"metadata\.path: .*found list"),
    "no audio root": ("dataset_root.json", lambda c: c.pop("audioeeg"), "audioeeg: expected a path, found nothing"),
    "no such part": (
        "dataset_root.json",
        lambda c: c["metadata"]["path"]["audioeeg"].pop("train"),
        r"metadata\.path\.audioeeg: expected one of test, val, found 'train'",
    ),
    "no data": ("train.json", lambda c: c.pop("data"), "data: expected a list of at least one row, found nothing"),
    "no rows": ("train.json", lambda c: c.update(data=[]), "data: expected a list of at least one row, found list"),
    "a row of text": ("train.json", lambda c: c["data"].append("x"), r"data\[2\]: expected an object, found str 'x'"),
    "no wav": ("train.json", lambda c: c["data"][1].pop("wav"), r"data\[1\]\.wav: expected a path, found nothing"),
    "a number": ("train.json", lambda c: c["data"][0].update(embedding=3), r"data\[0\]\.embedding: .*found int 3"),
    "an absolute wav": (
        "train.json",
        lambda c: c["data"][1].update(wav=f"{Path.cwd()}/audio/clips/1.wav"),
        r"train\.json: data\[1\]\.wav: expected a path relative to audio, found /",
    ),
    "a missing wav": (
        "train.json",
        lambda c: c["data"][1].update(wav="clips/9.wav"),
        r"train\.json: data\[1\]\.wav: expected a file that is there, found no such file: audio/clips/9\.wav",
    ),
    "a missing embedding": (
        "train.json",
        lambda c: c["data"][1].update(audio_embedding="audio/clips/x.pt"),
        r"data\[1\]\.audio_embedding: .*no such file: audio/clips/x\.pt",
    ),
}


@pytest.mark.parametrize(("file", "change", "message"), REFUSED_LAYOUTS.values(), ids=REFUSED_LAYOUTS)
def test_another_layout_is_refused(root: Path, file: str, change: Callable[[Any], object], message: str) -> None:
    edited(root.parent / file, change)
    with pytest.raises(BadInput, match=message):
        read_rows(root, "train")


def test_what_is_no_json_is_refused(root: Path) -> None:
    with pytest.raises(BadInput, match="file: expected a JSON file, found no such file"):
        read_rows(root.with_name("other.json"), "train")
    root.write_bytes(b"\xff{")
    with pytest.raises(BadInput, match="content: expected JSON"):
        read_rows(root, "train")
    root.write_text("[1]")
    with pytest.raises(BadInput, match=r"content: expected an object, found list \[1\]"):
        read_rows(root, "train")


REFUSED_TENSORS: dict[str, tuple[object, str]] = {
    "another size": (torch.zeros(1, 1024, 344), r"shape: expected \[1024, 343\], as in .*, found \[1024, 344\]"),
    "several": (torch.zeros(2, 1024, 343), r"shape: expected \[D, F\], not empty, found \[2, 1024, 343\]"),
    "averaged": (torch.zeros(1024), r"shape: expected \[D, F\], not empty, found \[1024\]"),
    "empty": (torch.zeros(1024, 0), r"shape: expected \[D, F\], not empty"),
    "NaN": (torch.full((1024, 343), torch.nan), "embedding: expected finite numbers"),
    "too large": (torch.full((1024, 343), 1e300, dtype=torch.float64), "embedding: expected finite numbers"),
    "integers": (torch.zeros(1024, 343, dtype=torch.int64), "a dense tensor of floats, found torch.int64"),
    "sparse": (torch.eye(3).to_sparse(), "a dense tensor of floats, found torch.float32, torch.sparse_coo"),
    "meta": (torch.zeros(1024, 343, device="meta"), "a dense tensor of floats"),
    "a dictionary": ({"embedding": torch.zeros(1024, 343)}, "content: expected one tensor by torch.save, found dict"),
    "text": ("no tensor", "content: expected one tensor by torch.save, found str"),
}


@pytest.mark.parametrize(("content", "message"), REFUSED_TENSORS.values(), ids=REFUSED_TENSORS)
def test_another_embedding_is_refused(root: Path, content: object, message: str) -> None:
    torch.save(content, "eeg_1.pt")
    with pytest.raises(BadInput, match=rf"eeg_1\.pt: .*{message}"):
        read_rows(root, "train")


class Harm:
    """Leaves a file behind where it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, ("harm",)


@pytest.mark.parametrize("save", [torch.save, lambda content, path: Path(path).write_bytes(pickle.dumps(content))])
def test_an_object_is_refused_and_not_run(root: Path, save: Callable[[object, str], object]) -> None:
    save(Harm(), "speech_1.pt")
    with pytest.raises(BadInput, match=r"speech_1\.pt: content: expected one tensor .* it was not run"):
        read_rows(root, "train")
    assert not Path("harm").exists()


def test_a_damaged_embedding_is_refused(root: Path) -> None:
    whole = Path("eeg_1.pt").read_bytes()
    for content in (b"", b"noise", whole[: len(whole) // 2]):
        Path("eeg_1.pt").write_bytes(content)
        with pytest.raises(BadInput, match=r"eeg_1\.pt: content: expected one tensor"):
            read_rows(root, "train")


def test_an_embedding_that_changes_after_its_row_was_made_is_refused(root: Path) -> None:
    (row,) = read_rows(root, "test")
    torch.save(torch.zeros(1024, 5), "eeg_2.pt")
    with pytest.raises(BadInput, match=r"shape: expected \[1024, 343\]"):
        _ = row.eeg
    Path("speech_2.pt").unlink()
    with pytest.raises(BadInput, match="embedding: expected a .pt file, found no such file"):
        _ = row.speech


REFUSED_ROWS: dict[str, tuple[Callable[[NewRow], NewRow], str]] = {
    "two channels": (lambda r: r._replace(wave=r.wave.reshape(2, -1)), r"wave: expected \[T\]"),
    "float64": (lambda r: r._replace(wave=r.wave.astype(np.float64)), r"wave: .*found float64"),
    "NaN in the wave": (lambda r: r._replace(wave=np.array([np.nan], np.float32)), "wave: expected finite samples"),
    "another size": (lambda r: r._replace(eeg=r.eeg[:, 1:]), "train row 1: shapes of eeg and speech: .*first row"),
    "one axis": (lambda r: r._replace(speech=r.speech[0]), r"speech shape: expected \[D, F\]"),
    "NaN": (lambda r: r._replace(speech=r.speech * np.float32(np.nan)), "speech: expected finite numbers"),
    "doubles": (lambda r: r._replace(eeg=r.eeg.astype(np.float64)), "eeg dtype: expected float32, found float64"),
}


@pytest.mark.parametrize(("change", "message"), REFUSED_ROWS.values(), ids=REFUSED_ROWS)
def test_a_row_that_could_not_be_read_is_not_written(
    tmp_path: Path, change: Callable[[NewRow], NewRow], message: str
) -> None:
    one, two = new_rows()
    with pytest.raises(BadInput, match=message):
        write_rows(tmp_path, "train", [one, change(two)], RATE)
    assert not [*tmp_path.rglob("*.json")]


def test_an_export_refuses_what_it_cannot_enter(tmp_path: Path) -> None:
    path = write_rows(tmp_path, "train", new_rows(), RATE)
    with pytest.raises(BadInput, match=r"metadata\.path\.audioeeg\.train: expected a part that is not there yet"):
        write_rows(tmp_path, "train", new_rows(), RATE)
    with pytest.raises(BadInput, match="audioeeg: expected the audio root audioeeg/audio, found /"):
        write_rows(tmp_path, "val", new_rows(), RATE, base=tmp_path)
    with pytest.raises(BadInput, match="rows of val: expected at least one"):
        write_rows(tmp_path, "val", [], RATE)
    with pytest.raises(BadInput, match="part: expected one of test, train, val, found 'valid'"):
        write_rows(tmp_path, "valid", new_rows(), RATE)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="rate: expected a whole number"):
        write_rows(tmp_path, "val", new_rows(), 0)
    for name in ("../up", "metadata", ""):
        with pytest.raises(BadInput, match="dataset: expected a name"):
            write_rows(tmp_path, "val", new_rows(), RATE, name)
    path.write_text('{"metadata": 1}')
    with pytest.raises(BadInput, match="metadata: expected an object, found int 1"):
        write_rows(tmp_path, "val", new_rows(), RATE)
