"""A slower ratio is seen, whatever the machine's speed; a ratio that is gone is not taken for a good one."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
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
    # Dataclasses look their module up by its name.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def written(path: Path, machine: str = "made up", failed: tuple[str, ...] = (), **tests: dict[str, Any]) -> Path:
    benches = [{"fullname": f"b.py::{name}", "extra_info": info} for name, info in tests.items()]
    info = {"cpu": {"brand_raw": machine, "count": 2}}
    body = {"benchmarks": benches, "machine_info": info, "commit_info": {"id": "abc"}}
    path.write_text(json.dumps(body | {"failed": [f"b.py::{name}" for name in failed]}))
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
    tests: Any = {"one": {"scoring_ratio": scoring, "seconds": 10.0}, "two": {"control_cost": control}}
    assert compare.main([str(written(tmp_path / "new.json", **tests)), str(stored)]) == status


def test_what_was_not_measured_fails_and_what_is_new_is_told(
    compare: ModuleType, stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = written(tmp_path / "new.json", "another", one={"scoring_ratio": 2.0}, three={"more_ratio": 1.0})
    assert compare.main([str(new), str(stored)]) == 1
    told = capsys.readouterr().out
    assert "control_cost: 1.2 -> not measured" in told and "new, not compared: b.py::three" in told
    assert "another machine" in told and "2 ratios, 1 worse" in told


def test_a_benchmark_that_missed_its_own_bound_fails_and_is_not_stored(
    compare: ModuleType, stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ratios: Any = {"one": {"scoring_ratio": 2.0}, "two": {"control_cost": 1.2}}
    new = written(tmp_path / "new.json", failed=("two",), **ratios)
    before = stored.read_bytes()
    assert compare.main([str(new), str(stored)]) == 1 and "FAILS  b.py::two" in capsys.readouterr().out
    assert compare.main([str(new), str(stored), "--store"]) == 1 and "b.py::two" in capsys.readouterr().err
    assert stored.read_bytes() == before


BENCHMARK = """
from pathlib import Path

import pytest

RUNS = Path(__file__).with_name("runs")


@pytest.mark.parametrize("name", ["lucky", "slow", "bound", "good"])
def test_it(benchmark, name):
    run = len(RUNS.read_text().split()) if RUNS.exists() else 0
    if name == "good":
        RUNS.write_text("run " * (run + 1))
    benchmark.extra_info["speed_ratio"] = {"lucky": 1.0 + run, "slow": 1.0, "bound": 2.0, "good": 2.0}[name]
    benchmark.pedantic(lambda: None, rounds=1)
    assert name != "bound" or run > 0
"""
"""The first time, "lucky" is half as fast as it is the next time, and "bound" misses a bound of its own."""


@pytest.fixture
def benchmarks(compare: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose benchmarks are measured again."""
    (tmp_path / "conftest.py").write_bytes((PATH.parent / "conftest.py").read_bytes())
    monkeypatch.setattr(compare, "ROOT", tmp_path)
    for name in [name for name in os.environ if name.startswith("PYTEST_")]:
        # Where these tests are shared among processes, benchmarks are not timed.
        monkeypatch.delenv(name)
    return tmp_path


@pytest.mark.parametrize("when", ["before", "after"])
def test_what_breaks_down_when_it_is_measured_again_fails(
    when: str, compare: ModuleType, stored: Path, benchmarks: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # Before anything is timed pytest-benchmark writes no file, after that one without ratios.
    timed = "" if when == "before" else "    benchmark.pedantic(lambda: None, rounds=1)\n"
    (benchmarks / "b.py").write_text(f"def test_one(benchmark):\n{timed}    raise RuntimeError('broken')\n")
    old, new = (written(benchmarks / f"{ratio}.json", test_one={"x_ratio": ratio}) for ratio in (2.0, 1.0))
    assert compare.main([str(old), str(stored), "--store"]) == 0
    assert compare.main([str(new), str(stored), "--looks", "2"]) == 1
    told = capfd.readouterr().out
    assert "RuntimeError: broken" in told and "FAILS  b.py::test_one x_ratio: 2 -> 1" in told


def test_what_fails_is_measured_again_and_fails_if_it_does_every_time(
    compare: ModuleType, benchmarks: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (benchmarks / "test_made.py").write_text(BENCHMARK)
    (benchmarks / "runs").write_text("")
    made = {name: f"test_made.py::test_it[{name}]" for name in ("lucky", "slow", "bound", "good")}
    (benchmarks / "stored.json").write_text(
        json.dumps({"ratios": {test: {"speed_ratio": 2.0} for test in made.values()}})
    )
    command = [sys.executable, "-m", "pytest", "test_made.py", "--benchmark-enable", "--benchmark-json=new.json"]
    assert subprocess.run(command, cwd=benchmarks, check=False).returncode == 1
    asked = [str(benchmarks / "new.json"), str(benchmarks / "stored.json"), "--looks"]
    capfd.readouterr()
    assert compare.main([*asked, "1"]) == 1
    once = capfd.readouterr().out
    assert all((f"FAILS  {made[name]}" in once) == (name != "good") for name in made)
    assert compare.main([*asked, "2"]) == 1
    told = capfd.readouterr().out.rpartition("look 2 of 2")[2].partition(" passed")[2]
    assert all((f"FAILS  {made[name]}" in told) == (name == "slow") for name in made)


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
