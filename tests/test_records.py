"""Records are whole or not there, are read back as written, and are refused with the file and the field when broken."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from eeg2speech.errors import BadInput
from eeg2speech.records import (
    BudgetRef,
    CandidatesRef,
    CodeRef,
    MetricResult,
    ProtocolRef,
    Record,
    RecordStore,
    SetMetric,
    SplitRef,
    StudyRef,
    SystemRef,
    code_reference,
    json_schema,
    machine_facts,
    package_versions,
    summarise,
)
from eeg2speech.records import schema as schema_module
from eeg2speech.records.columns import Segments

SUBJECTS, PAIRS = 4, 5
FEW = 200
"""Resamples: enough for a test of anything but the interval itself."""


class Facts:
    """A metric's declaration."""

    unit, higher_is_better, decimals = "dB", True, 2

    def __init__(self, name: str) -> None:
        self.name = name


@pytest.fixture
def scores() -> pd.DataFrame:
    """Two metrics on every subject x pair; the second metric fails on the first three segments."""
    rng = np.random.default_rng(1)
    subject, pair = (index.ravel() for index in np.indices((SUBJECTS, PAIRS)))
    n = len(subject)
    failed = np.arange(n) < 3
    return pd.DataFrame(
        {
            "segment": np.arange(n),
            "subject": [f"s{index}" for index in subject],
            "trial": [f"t{index}" for index in pair],
            "pair": [f"p{index}" for index in pair],
            "attended": [f"a{index}" for index in pair],
            "unattended": [None if index == 0 else f"b{index}" for index in pair],
            "start": 4.0 * np.arange(n),
            "duration": 4.0,
            "si_sdr": rng.normal(3, 1, n),
            "si_sdr_reason": None,
            "pesq_wb": np.where(failed, np.nan, rng.normal(2, 0.1, n)),
            "pesq_wb_reason": [
                ("too quiet" if index else "too short") if bad else None for index, bad in enumerate(failed)
            ],
        }
    )


@pytest.fixture
def make(scores: pd.DataFrame) -> Callable[..., Record]:
    """Makes a record of ``scores``; keywords replace its fields."""

    def record(**fields: Any) -> Record:
        usual: dict[str, Any] = {
            "protocol": ProtocolRef(name="demo", version=1),
            "task": "extraction",
            "study": StudyRef(name="made-up", revision="abc", data_note="made-up EEG, made-up speech"),
            "split": SplitRef(kind="trial", seed=0, manifest_hash="def"),
            "system": SystemRef(name="net", declaration={"class": "Net", "size": 3}, uses_eeg=True, uses_subject=False,
                                causal=False, sees="mixture", parameters=1234, checkpoint_hash="123", licence="MIT",
                                source="here"),
            "control": "true_eeg",
            "budget": BudgetRef(name="demo", steps=10, seconds=1.5, device="cpu"),
            "seed": 0,
            "evaluation_seed": 0,
            "code": CodeRef(commit=None, dirty=None, version="0"),
            "packages": {"numpy": "2"},
            "machine": {"cores": "2"},
            "n_segments_expected": len(scores),
            "metrics": summarise(scores, [Facts("si_sdr"), Facts("pesq_wb")], resamples=FEW),
            "timings": {"score": 2.5},
            "created": "2026-01-01T00:00:00Z",
        }  # fmt: skip
        return Record(**usual | fields)

    return record


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    return RecordStore(tmp_path / "records")


def refusal(store: RecordStore, path: Path) -> BadInput:
    """What the store says of the record at ``path``."""
    with pytest.raises(BadInput) as caught:
        store.read(path)
    return caught.value


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_record_is_read_as_written(store: RecordStore, make: Callable[..., Record], scores: pd.DataFrame) -> None:
    written = store.write(make(), scores.sample(frac=1, random_state=0))
    assert store.read(store.path(written.unit)) == written
    assert store.read_all() == (written,)
    assert store.path(written.unit).relative_to(store.root).as_posix() == "demo-1/made-up/trial-s0/net-s0/true_eeg.json"
    read, given = (frame.astype(object).fillna("nothing") for frame in (store.scores(written), scores))
    pd.testing.assert_frame_equal(read[given.columns], given, check_column_type=False)


def test_failed_scores_are_counted_with_their_reasons(make: Callable[..., Record], scores: pd.DataFrame) -> None:
    result = make().metrics["pesq_wb"]
    assert (result.n, result.n_failed, result.reasons) == (17, 3, {"too quiet": 2, "too short": 1})
    assert result.mean == pytest.approx(np.nanmean(scores["pesq_wb"]))


def test_right_and_wrong_selections_leave_out_ties(scores: pd.DataFrame) -> None:
    selected = np.resize([1.0, 0.0, 0.5], len(scores))
    frame = scores.assign(selection_accuracy=selected, selection_accuracy_reason=None)
    result = summarise(frame, [Facts(name) for name in ("si_sdr", "pesq_wb", "selection_accuracy")], resamples=FEW)
    right, wrong = result["si_sdr"].right, result["si_sdr"].wrong
    assert right is not None and wrong is not None
    assert (right.n, wrong.n) == (7, 7)
    assert right.mean == pytest.approx(scores["si_sdr"][selected == 1].mean())
    assert result["selection_accuracy"].right is None


def test_the_same_scores_give_the_same_bytes(tmp_path: Path, make: Callable[..., Record], scores: pd.DataFrame) -> None:
    files = []
    for name, frame in (("a", scores), ("b", scores[::-1][sorted(scores.columns)])):
        store = RecordStore(tmp_path / name)
        record = store.write(make(), frame)
        files.append([store.path(record.unit).read_bytes(), (tmp_path / name / record.unit.scores_path).read_bytes()])
    assert files[0] == files[1]


def test_only_what_may_differ_is_left_out_of_repeatable(make: Callable[..., Record]) -> None:
    again = make(
        timings={"score": 9.0},
        created="later",
        code=CodeRef(commit="x", dirty=True, version="1"),
        machine={"cores": "64"},
        budget=BudgetRef(name="demo", steps=10, seconds=99.0, device="cpu"),
    )
    assert again.repeatable() == make().repeatable()
    assert make(seed=1).repeatable() != make().repeatable()
    assert set(make().model_dump()) - set(make().repeatable()) == {"timings", "created", "code", "machine"}


def test_truncated_json_is_refused(store: RecordStore, make: Callable[..., Record], scores: pd.DataFrame) -> None:
    path = store.path(store.write(make(), scores).unit)
    content = path.read_bytes()
    for length in (0, 1, len(content) // 2, len(content) - 3):
        path.write_bytes(content[:length])
        error = refusal(store, path)
        assert (error.where, error.field) == (str(path), "content")


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("schema_version", lambda content: content.update(schema_version=2)),
        ("schema_version", lambda content: content.pop("schema_version")),
        ("split.seed", lambda content: content["split"].update(seed="one")),
        ("budget.epochs", lambda content: content["budget"].update(epochs=3)),
        ("metrics.pesq_wb", lambda content: content["metrics"]["pesq_wb"].update(reasons={})),
        ("path", lambda content: content["split"].update(seed=7)),
        ("scores_file", lambda content: content.update(scores_file="other.parquet")),
        ("scores_hash", lambda content: content.update(scores_hash="0")),
    ],
)
def test_a_changed_record_is_refused(
    field: str, change: Callable[[dict[str, Any]], None], store: RecordStore, make: Callable[..., Record],
    scores: pd.DataFrame,
) -> None:  # fmt: skip
    path = store.path(store.write(make(), scores).unit)
    edit(path, change)
    error = refusal(store, path)
    assert error.field == field
    assert path.stem in error.where


def test_tampered_scores_are_refused(store: RecordStore, make: Callable[..., Record], scores: pd.DataFrame) -> None:
    record = store.write(make(), scores)
    path = store.root / record.unit.scores_path
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    error = refusal(store, store.path(record.unit))
    assert (error.where, error.field) == (str(path), "scores_hash")


def test_a_record_must_count_the_rows_of_its_scores(
    store: RecordStore, make: Callable[..., Record], scores: pd.DataFrame
) -> None:
    with pytest.raises(BadInput, match=r"metrics\.pesq_wb\.n") as caught:
        store.write(make(), scores.iloc[:-1])
    assert "17" in caught.value.expected and caught.value.found == "16"


@pytest.mark.parametrize(
    ("column", "value"),
    [("si_sdr", np.inf), ("si_sdr", np.nan), ("si_sdr_reason", "odd"), ("subject", None), ("segment", 1)],
)
def test_bad_scores_are_refused(
    column: str, value: Any, store: RecordStore, make: Callable[..., Record], scores: pd.DataFrame
) -> None:
    record = make()
    scores[column] = scores[column].astype(object)
    scores.loc[0, column] = value
    with pytest.raises(BadInput, match=column):
        store.write(record, scores)
    with pytest.raises(BadInput, match=column):
        summarise(scores, [Facts("si_sdr"), Facts("pesq_wb")], resamples=FEW)
    assert not store.root.exists()


def test_a_half_written_unit_is_not_done(store: RecordStore, make: Callable[..., Record], scores: pd.DataFrame) -> None:
    record = store.write(make(), scores)
    path, content = store.path(record.unit), store.path(record.unit).read_bytes()
    path.unlink()
    leftovers = [path.with_name(path.name + ".tmp"), path.with_name("true_eeg.parquet.tmp")]
    for leftover in leftovers:
        leftover.write_bytes(content[:50])
    assert not store.done(record.unit)
    assert store.read_all() == ()
    store.write(make(), scores)
    assert store.done(record.unit)
    assert not any(leftover.exists() for leftover in leftovers)
    assert path.read_bytes() == content


def test_a_record_written_anew_is_away_until_it_is_whole(
    store: RecordStore, make: Callable[..., Record], scores: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = store.write(make(), scores)

    def killed(path: Path, content: bytes) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("eeg2speech.records.store.write_atomically", killed)
    with pytest.raises(KeyboardInterrupt):
        store.write(make(), scores)
    assert not store.done(record.unit)


def test_a_record_of_another_request_is_not_reused(
    store: RecordStore, make: Callable[..., Record], scores: pd.DataFrame
) -> None:
    record = store.write(make(), scores)
    assert store.done(record.unit, record.request())
    with pytest.raises(BadInput, match="system"):
        store.done(record.unit, record.request() | {"system": {"class": "Net", "size": 4}})


def test_fewer_segments_than_expected_are_incomplete(make: Callable[..., Record], scores: pd.DataFrame) -> None:
    assert make().complete
    assert not make(n_segments_expected=len(scores) + 1).complete
    with pytest.raises(ValidationError, match="only 19 expected"):
        make(n_segments_expected=len(scores) - 1)


def test_a_result_cannot_hide_a_failure_or_an_interval() -> None:
    good = {"mean": 1.0, "low": 0.5, "high": 1.5, "unit": "dB", "higher_is_better": True, "decimals": 2, "n": 3,
            "n_failed": 0, "reasons": {}}  # fmt: skip
    MetricResult(**good)
    for wrong in ({"n_failed": 1}, {"mean": None}, {"low": None}, {"low": None, "high": None}, {"mean": float("nan")}):
        with pytest.raises(ValidationError):
            MetricResult(**good | wrong)


def test_a_record_from_before_a_field_was_added_is_still_read(
    store: RecordStore, make: Callable[..., Record], scores: pd.DataFrame
) -> None:
    written = store.write(make(), scores)
    edit(store.path(written.unit), lambda content: content["system"].pop("segments_heard"))
    assert store.read(store.path(written.unit)) == written and written.system.segments_heard is None


def test_a_record_from_before_the_tasks_without_a_mixture_is_still_read(
    store: RecordStore, make: Callable[..., Record], scores: pd.DataFrame
) -> None:
    written = store.write(make(), scores)

    def older(content: dict[str, Any]) -> None:
        del content["candidates"], content["set_metrics"]
        for result in content["metrics"].values():
            del result["aggregate"], result["chance"]

    edit(store.path(written.unit), older)
    assert store.read(store.path(written.unit)) == written
    assert written.candidates is None and written.set_metrics == {}
    assert {(result.aggregate, result.chance) for result in written.metrics.values()} == {("mean", None)}


def test_candidates_and_measures_of_the_set_are_read_as_written(
    store: RecordStore, make: Callable[..., Record], scores: pd.DataFrame
) -> None:
    system = make().system.model_dump() | {"sees": "candidates"}
    distance = SetMetric(value=3.5, unit="", higher_is_better=False, decimals=2, n=20, note="few rows")
    candidates = CandidatesRef(n=18, duplicates=2, hash="abc", seconds=5.0)
    record = make(task="retrieval", system=system, candidates=candidates, set_metrics={"frechet_distance": distance})
    written = store.write(record, scores)
    read = store.read(store.path(written.unit))
    assert (read.candidates, read.set_metrics) == (candidates, {"frechet_distance": distance})
    assert written.repeatable()["candidates"]["hash"] == "abc"


def test_odd_candidates_and_measures_of_the_set_are_refused(make: Callable[..., Record]) -> None:
    good = {"n": 18, "duplicates": 2, "hash": "abc", "seconds": 5.0}
    for wrong in ({"n": 0}, {"duplicates": -1}, {"hash": ""}, {"seconds": 0.0}):
        with pytest.raises(ValidationError):
            CandidatesRef(**good | wrong)
    about: dict[str, Any] = {"unit": "", "higher_is_better": False, "decimals": 2, "n": 0}
    with pytest.raises(ValidationError, match="needs a note"):
        SetMetric(value=None, **about)
    with pytest.raises(ValidationError, match="not both: si_sdr"):
        make(set_metrics={"si_sdr": SetMetric(value=1.0, **about)})


def test_a_median_metric_holds_its_median(scores: pd.DataFrame) -> None:
    ranked = Facts("si_sdr")
    ranked.aggregate = "median"  # type: ignore[attr-defined]
    found = summarise(scores, [ranked, Facts("pesq_wb")], resamples=FEW, chances={"si_sdr": 9.5})
    result, other = found["si_sdr"], found["pesq_wb"]
    assert (result.aggregate, result.chance) == ("median", 9.5)
    assert (other.aggregate, other.chance) == ("mean", None)
    assert result.mean is not None and result.low is not None and result.high is not None
    assert result.mean == pytest.approx(scores["si_sdr"].median()) != pytest.approx(scores["si_sdr"].mean())
    assert result.low <= result.mean <= result.high


def test_an_odd_aggregate_or_chance_is_refused(scores: pd.DataFrame) -> None:
    facts = [Facts("si_sdr"), Facts("pesq_wb")]
    with pytest.raises(BadInput, match="chances: .*did you mean 'si_sdr'"):
        summarise(scores, facts, FEW, chances={"si_sdri": 0.5})
    with pytest.raises(BadInput, match=r"chances\.si_sdr: expected a finite number"):
        summarise(scores, facts, FEW, chances={"si_sdr": np.nan})
    facts[0].aggregate = "mode"  # type: ignore[attr-defined]
    with pytest.raises(BadInput, match="one of mean, median"):
        summarise(scores, facts, FEW)


def test_more_segments_heard_than_there_are_is_refused(make: Callable[..., Record], scores: pd.DataFrame) -> None:
    system = make().system.model_dump()
    assert make(system=system | {"segments_heard": len(scores)}).repeatable()["system"]["segments_heard"] == len(scores)
    with pytest.raises(ValidationError, match="segments heard"):
        make(system=system | {"segments_heard": len(scores) + 1})


def test_a_control_that_nobody_asked_for_is_refused(make: Callable[..., Record]) -> None:
    with pytest.raises(ValidationError, match="not among those asked for"):
        make(controls=("another",))


def test_the_committed_json_schema_is_not_stale() -> None:
    committed = Path(schema_module.__file__).with_name("record.schema.json").read_text(encoding="utf-8")
    assert committed == json_schema(), "run: python -m eeg2speech.records > eeg2speech/records/record.schema.json"


def test_every_field_is_documented() -> None:
    schema = json.loads(json_schema())
    for part in (schema, *schema["$defs"].values()):
        undocumented = [name for name, field in part.get("properties", {}).items() if not field.get("description")]
        assert not undocumented, (part["title"], undocumented)


def test_records_and_report_import_no_torch() -> None:
    code = "import sys, eeg2speech.records, eeg2speech.report; print('torch' in sys.modules, 'pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_provenance_tells_no_names_or_paths() -> None:
    facts = machine_facts()
    assert set(facts) == {"cores", "platform", "processor", "python"}
    assert not any(str(Path.home()) in value for value in facts.values())
    assert package_versions(["numpy", "no-such-package"]) == {
        "no-such-package": "not installed",
        "numpy": np.__version__,
    }
    reference = code_reference()
    assert (reference.commit is None) == (reference.dirty is None)


def test_columns_are_those_of_the_frame(store: RecordStore, make: Callable[..., Record], scores: pd.DataFrame) -> None:
    record = store.write(make(), scores)
    names = sorted(record.metrics)
    first, frame = store.columns(record, names), store.scores(record)
    for name in names:
        assert np.array_equal(first.scores[name], frame[name].to_numpy(), equal_nan=True)
    assert first.segments.subjects.tolist() == frame["subject"].astype(str).tolist()
    assert first.segments.pairs.tolist() == frame["pair"].astype(str).tolist()
    # The segments are held once, by the same bytes, and by the same rows in other bytes.
    assert store.columns(record, names[:1], first.segments).segments is first.segments
    other = replace(first.segments, pages=b"")
    assert store.columns(record, names[:1], other).segments is other
    assert store.columns(record, names[:1], Segments(other.table[1:])).segments.subjects.size == len(frame)


def test_columns_of_other_segments_are_not_taken_for_the_same(
    store: RecordStore, make: Callable[..., Record], scores: pd.DataFrame
) -> None:
    record = store.write(make(), scores)
    known = store.columns(record, ["pesq_wb"]).segments
    for column, value in (("segment", 99), ("start", 0.25), ("unattended", "another")):
        changed = scores.copy()
        changed.loc[changed.index[3], column] = value
        again = store.write(make(), changed)
        assert store.columns(again, ["si_sdr"], known).segments is not known


def test_read_all_holds_scores_against_their_hash_and_columns_count_them(
    store: RecordStore, make: Callable[..., Record], scores: pd.DataFrame
) -> None:
    record = store.write(make(), scores)
    assert store.read_all() == (record,)
    edit(
        store.path(record.unit),
        lambda content: content["metrics"]["pesq_wb"].update(n=18, n_failed=2, reasons={"x": 2}),
    )
    (miscounted,) = store.read_all()
    with pytest.raises(BadInput, match=r"metrics\.pesq_wb\.n: expected 18 rows of the scores, found 17"):
        store.columns(miscounted, ["si_sdr", "pesq_wb"])
    scores_path = store.root / record.unit.scores_path
    scores_path.write_bytes(scores_path.read_bytes() + b"x")
    with pytest.raises(BadInput, match="scores_hash"):
        store.read_all()
