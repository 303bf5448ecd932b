"""Records of latency, the pages made of them, and the columns that they add to the leaderboard."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any, get_args

import pytest
from test_leaderboard import (
    CONTROLS,
    SYSTEMS,
    Add,
    add,
    comparison_of,
    made_record,
    made_scores,
    render,
    rows_of,
    store,
)

from eeg2speech.errors import BadInput
from eeg2speech.records import RecordStore
from eeg2speech.records.latency import LEVELS, Case, Growth, Latency, LatencyStore, Stage, Streaming, slug
from eeg2speech.records.schema import CodeRef
from eeg2speech.report.latency import cases_table, render_latency, slope, standard_table, streams_table
from eeg2speech.report.latency_figure import growth_svg, speed_points
from eeg2speech.report.speed import LATENCY, algorithmic_cell, factor, factor_cell, latency_of
from eeg2speech.systems.network import NetworkSystem
from eeg2speech.systems.registry import system_class, system_names

__all__ = ["add", "store"]
ROUNDS = (0.4, 0.2, 0.3)
SETTINGS: dict[str, Any] = {"size": "demo"}


def case(**fields: Any) -> Case:
    usual: dict[str, Any] = {
        "batch": 1, "seconds": 4.0, "precision": "float32", "compiled": False, "threads": 2, "first": 1.0,
        "rounds": ROUNDS, "loops": 1, "peak_megabytes": 12.5, "macs": 2_000_000_000,
    }  # fmt: skip
    return Case(**usual | fields)


def stream(chunk: float = 0.08, missed: int = 0, **fields: Any) -> Streaming:
    usual: dict[str, Any] = {
        "how": "chunks", "chunk": chunk, "window": None, "signal": 60.0, "paced": True, "algorithmic": 0.46,
        "first_sound": 0.48, "calls": round(60 / chunk), "compute": tuple(0.01 + 0.001 * k for k in range(len(LEVELS))),
        "mean": 0.02, "missed": missed, "worst_delay": 0.05, "state_bytes": 123_000, "threads": 2,
    }  # fmt: skip
    return Streaming(**usual | fields)


def latency(label: str = "dprnn", **fields: Any) -> Latency:
    usual: dict[str, Any] = {
        "label": label, "system": label, "settings": SETTINGS, "task": "extraction", "weights": "initial",
        "causal": False, "parameters": 1000, "audio_rate": 16_000, "eeg_rate": 128, "electrodes": 64, "device": "cpu",
        "machine": {"processor": "made up"}, "clock": 1e-7, "conditions": ({"used_by_others": 0.01}, {}),
        "cases": (case(), case(batch=8, rounds=(1.2,))), "code": CodeRef(commit="0123", dirty=False, version="0.1"),
        "created": "2026-01-01T00:00:00+00:00",
    }  # fmt: skip
    return Latency(**usual | fields)


def test_a_record_comes_back_as_it_went_and_rounds_stay_on_a_line(tmp_path: Path) -> None:
    made = latency(stages=(Stage(name="encoder", calls=2, seconds=0.1),), streams=(stream(),), growth=(growth(),))
    store = LatencyStore(tmp_path)
    path = store.write(made)
    assert path == tmp_path / "cpu" / "dprnn.json" and store.read(path) == made and store.read_all() == (made,)
    assert '"rounds": [0.4,0.2,0.3]' in path.read_text()
    assert json.loads(path.read_text())["settings"] == SETTINGS


def test_a_device_is_a_folder() -> None:
    assert slug("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3" and slug("cpu") == "cpu"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"parameters": -1}, "parameters"),
        ({"unknown": 1}, "unknown"),
        ({"schema_version": 2}, "schema_version"),
        ({"cases": []}, "cases"),
        ({"label": "other"}, "path"),
    ],
)
def test_a_record_that_is_not_one_is_refused(change: dict[str, Any], field: str, tmp_path: Path) -> None:
    store = LatencyStore(tmp_path)
    path = store.write(latency())
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(BadInput, match=field):
        store.read(path)
    with pytest.raises(BadInput, match="no such file"):
        store.read(tmp_path / "cpu" / "none.json")


def test_a_case_has_rounds_or_says_why_not() -> None:
    assert case(rounds=(), failure="no bfloat16").real_time_factor is None
    for fields in ({"rounds": ()}, {"failure": "why"}):
        with pytest.raises(ValueError, match="rounds must be given, or a failure"):
            case(**fields)


def test_numbers_of_a_case_are_of_its_rounds() -> None:
    one = case(batch=4, seconds=2.0)
    assert one.percentile(0.5) == 0.3 and one.percentile(0.9) == pytest.approx(0.38)
    assert one.real_time_factor == pytest.approx(0.3 / 8) and one.throughput == pytest.approx(4 / 0.3)


def growth(values: tuple[float, ...] = (1.0, 2.0, 4.0), power: float = 1.5) -> Growth:
    seconds = tuple(0.1 * value**power for value in values)
    return Growth(axis="seconds", what="an answer", values=values, seconds=seconds, megabytes=(1.0,) * len(values))


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_the_exponent_of_a_power_law_is_found(power: float) -> None:
    made = growth((1.0, 2.0, 8.0, 10.0), power)
    found = slope(made, made.seconds)
    assert found is not None and found.error is not None
    assert found.exponent == pytest.approx(power) and found.error == pytest.approx(0.0, abs=1e-6)
    two = slope(growth((1.0, 4.0), power), (1.0, 4.0**power))
    assert two is not None and two.error is None and two.exponent == pytest.approx(power)
    assert slope(made, (0.0, 1.0, 2.0, 3.0)) is None


def test_the_error_of_an_exponent_is_that_of_least_squares() -> None:
    values, seconds = (1.0, 2.0, 4.0, 8.0), (1.0, 2.2, 3.9, 8.3)
    made = Growth(axis="seconds", what="an answer", values=values, seconds=seconds, megabytes=values)
    found = slope(made, seconds)
    from scipy.stats import linregress

    fitted = linregress([math.log(v) for v in values], [math.log(s) for s in seconds])
    assert found is not None
    assert found == pytest.approx((fitted.slope, fitted.stderr))


def test_growth_that_does_not_rise_is_refused() -> None:
    with pytest.raises(ValueError, match="rise"):
        growth((2.0, 1.0))


def test_tables_say_what_the_records_say() -> None:
    made = latency(streams=(stream(), stream(0.01, missed=7)))
    (row,) = standard_table([made]).rows
    assert row[:8] == ("dprnn", "extraction", "initial", "300", "380", "398", "3", "0.075")
    assert row[-4:] == ("1.0 k", "2000.0", "0.500", "–")
    rows = streams_table([made]).rows
    assert [each[2] for each in rows] == ["80", "10"] and [each[10] for each in rows] == ["0 of 750", "7 of 6000"]
    (other,) = cases_table([made]).rows
    # 1.2 s for eight segments, where one takes 0.3 s.
    assert other[1] == "8" and other[11] == "0.50"


def test_the_stream_in_the_leaderboard_is_the_smallest_chunk_that_kept_up() -> None:
    of = latency(streams=(stream(0.01, missed=3), stream(0.04), stream(0.08)))
    best = of.best_stream()
    assert best is not None and best.chunk == 0.04 and algorithmic_cell(of) == "0.46"
    late = latency(streams=(stream(0.01, missed=3),))
    assert late.best_stream() is None and algorithmic_cell(late) == "does not keep up"
    window = stream(0.2, how="window", window=2.0, algorithmic=0.2, state_bytes=None)
    assert algorithmic_cell(latency(streams=(window,))) == "0.20 (window of 2 s)"
    assert algorithmic_cell(latency()) == "whole segment" and algorithmic_cell(None) == "–"


def test_factors_have_fixed_formats() -> None:
    assert [factor(value) for value in (None, 0.0001, 0.0123, 1.5, 42.0)] == ["–", "<0.001", "0.012", "1.500", "42.0"]
    assert factor_cell(latency()) == "0.075"


def test_pages_are_the_same_bytes_each_time_and_lead_to_their_figures(tmp_path: Path) -> None:
    records = LatencyStore(tmp_path)
    records.write(latency(growth=(growth(),), stages=(Stage(name="encoder", calls=2, seconds=0.1),)))
    records.write(latency("ubesd", device="Some GPU"))
    paths = [*render_latency(tmp_path)]
    before = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in render_latency(tmp_path)] == before
    assert {path.name for path in paths} == {"index.md", "growth_seconds.svg"} and len(paths) == 3
    text = (tmp_path / "cpu" / "index.md").read_text()
    assert "(growth_seconds.svg)" in text and "1.50 ± 0.00" in text and "encoder (2)" in text
    assert "ubesd" not in text and "ubesd" in (tmp_path / "some-gpu" / "index.md").read_text()
    assert growth_svg(records.read_all(), "seconds").count("1.50") == 1


def declared(store: RecordStore) -> None:
    """All made-up systems under all controls, declared as a suite declares them."""
    for system in SYSTEMS:
        for control in CONTROLS:
            scores = made_scores(system, control, 0)
            record = made_record(system, control, 0, scores, {})
            declaration = {"system": system.name, "settings": SETTINGS, "version": 1}
            of = record.system.model_copy(update={"declaration": declaration})
            store.write(record.model_copy(update={"system": of}), scores)


def test_without_records_of_latency_the_leaderboard_says_nothing_of_speed(store: RecordStore, add: Add) -> None:
    declared(store)
    text = render(store)
    assert "real-time factor" not in text and "_speed_" not in text


def test_speed_stands_beside_the_score(store: RecordStore) -> None:
    declared(store)
    where = LatencyStore(store.root / LATENCY)
    where.write(latency("dprnn", streams=(stream(),)))
    where.write(latency("dprnn_blind", settings={"size": "paper"}))
    where.write(latency("mixture", cases=(case(rounds=(0.004,)),)))
    text = render(store)
    header = next(line for line in text.splitlines() if line.startswith("| rank |"))
    assert header.endswith("| real-time factor, cpu | algorithmic latency (s), cpu |")
    cells = {row[2]: row[-2:] for row in rows_of(text, "rank")}
    assert cells["dprnn"] == ["0.075", "0.46"] and cells["mixture"] == ["0.001", "whole segment"]
    # Of other settings, or never measured: nothing is guessed.
    assert cells["dprnn_blind"] == cells["oracle_target"] == ["–", "–"]
    assert "_speed_cpu.svg)" in text and "`real-time factor` is" in text
    assert [*(store.root.parent / "out" / "figures").glob("*_speed_cpu.svg")]
    assert render(store, "again") == text


def test_the_figure_shows_what_has_a_score_and_a_speed(store: RecordStore) -> None:
    declared(store)
    comparison = comparison_of(store)
    comparison.latencies = (latency("dprnn"), latency("mixture"), latency("dprnn_blind", task="retrieval"))
    points = {run.label: (x, mean) for run, x, mean in speed_points(comparison, "cpu")}
    assert set(points) == {"dprnn", "mixture"} and points["dprnn"][0] == pytest.approx(0.075)
    assert points["dprnn"][1] == pytest.approx(5.0, abs=1.0)
    run = comparison.ranking[0]
    assert latency_of(comparison.latencies, run, "cpu", "extraction") == latency("dprnn")
    assert latency_of(comparison.latencies, run, "Some GPU", "extraction") is None


def test_the_committed_pages_are_made_from_the_committed_records(tmp_path: Path) -> None:
    committed = Path(__file__).parent.parent / "results" / LATENCY
    shutil.copytree(committed, tmp_path / LATENCY)
    for path in render_latency(tmp_path / LATENCY):
        if path.suffix == ".md":
            there = committed / path.relative_to(tmp_path / LATENCY)
            assert there.read_text(encoding="utf-8") == path.read_text(encoding="utf-8"), "run `eeg2speech report`"


def test_every_system_was_measured_and_every_published_size() -> None:
    committed = Path(__file__).parent.parent / "results" / LATENCY
    measured = [record for record in LatencyStore(committed).read_all() if record.device == "cpu"]
    assert {record.system for record in measured} == {*system_names()}, "run `make latency`"
    published = {record.system for record in measured if record.settings.get("size") == "paper"}
    assert published == {name for name in system_names() if has_published_size(name)}, "run `make latency`"


def has_published_size(name: str) -> bool:
    """Of networks that hear the EEG; to leave it out changes little."""
    cls = system_class(name)
    size = cls.Settings.model_fields.get("size")
    hears = issubclass(cls, NetworkSystem) and cls.facts.uses_eeg
    return hears and size is not None and "paper" in get_args(size.annotation)
