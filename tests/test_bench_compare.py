"""A slower ratio is seen, whatever the machine's speed; a ratio that is gone is not taken for a good one."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PATH = Path(__file__).parent.parent / "benchmarks" / "compare.py"


@pytest.fixture(scope="module")
def compare() -> ModuleType:
    """The script."""
    spec = importlib.util.spec_from_file_location("bench_compare", PATH)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    # Dataclasses look their module up by its name.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def written(path: Path, machine: str = "made up", **tests: dict[str, Any]) -> Path:
    benches = [{"fullname": f"b.py::{name}", "extra_info": info} for name, info in tests.items()]
    info = {"cpu": {"brand_raw": machine, "count": 2}}
    path.write_text(json.dumps({"benchmarks": benches, "machine_info": info, "commit_info": {"id": "abc"}}))
    return path


@pytest.fixture
def stored(compare: ModuleType, tmp_path: Path) -> Path:
    """Two ratios, one of each direction, and what is no ratio."""
    new = written(tmp_path / "old.json", one={"scoring_ratio": 2.0, "seconds": 1.0}, two={"control_cost": 1.2})
    assert compare.main([str(new), str(tmp_path / "stored.json"), "--store"]) == 0
    return tmp_path / "stored.json"


@pytest.mark.parametrize(
    ("scoring", "control", "status"),
    [
        (2.0, 1.2, 0),
        (1.7, 1.2, 0),
        (1.6, 1.2, 1),
        (5.0, 1.2, 0),
        (2.0, 1.43, 0),
        (2.0, 1.45, 1),
        (2.0, 0.5, 0),
    ],
)
def test_more_than_a_fifth_worse_fails(
    scoring: float, control: float, status: int, compare: ModuleType, stored: Path, tmp_path: Path
) -> None:
    # A machine ten times as slow has the same ratios.
    tests = {"one": {"scoring_ratio": scoring, "seconds": 10.0}, "two": {"control_cost": control}}
    assert compare.main([str(written(tmp_path / "new.json", **tests)), str(stored)]) == status


def test_what_was_not_measured_fails_and_what_is_new_is_told(
    compare: ModuleType, stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = written(tmp_path / "new.json", "another", one={"scoring_ratio": 2.0}, three={"more_ratio": 1.0})
    assert compare.main([str(new), str(stored)]) == 1
    told = capsys.readouterr().out
    assert "control_cost: 1.2 -> not measured" in told and "new, not compared: b.py::three" in told
    assert "another machine" in told and "2 ratios, 1 worse" in told


def test_files_that_are_not_of_benchmarks_are_refused(
    compare: ModuleType, stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.json").write_text("{")
    for path in (
        tmp_path / "none.json",
        tmp_path / "broken.json",
        written(tmp_path / "a.json", one={"seconds": 1.0}),
        written(tmp_path / "b.json", one={"x_ratio": 0.0}),
    ):
        assert compare.main([str(path), str(stored)]) == 2
        assert path.name in capsys.readouterr().err


def test_the_committed_ratios_are_such_a_file(compare: ModuleType) -> None:
    body = json.loads(compare.STORED.read_text(encoding="utf-8"))
    names = [name for numbers in body["ratios"].values() for name in numbers]
    assert names and all(name.endswith((compare.MORE, compare.LESS)) for name in names)
    assert all(value > 0 for numbers in body["ratios"].values() for value in numbers.values())
