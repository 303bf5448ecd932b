"""Has an edit made something slower? Ratios of a new run of benchmarks against the stored ones.

    make bench-compare        # runs the benchmarks that state ratios, compares with benchmarks/ratios.json
    make bench-store          # stores the ratios of a new run in their place

    python benchmarks/compare.py NEW.json [STORED.json] [--looks N] [--store]

NEW is what ``pytest --benchmark-json`` wrote. Compared are ratios alone, never seconds: numbers in ``extra_info`` whose
names end in ``_ratio`` (times as fast as something else in the same run: more is better) or ``_cost`` (the time over
that of something else: less is better). A ratio that is worse by more than 20 % fails, and so does one that is stored
and was not measured, and a benchmark that missed a bound of its own or broke down. A machine that is not the stored one
is told, since some ratios depend on it.

Chance can make a ratio worse once. With ``--looks`` N, benchmarks that fail are run again until they have been run N
times, and what fails is what did every time; what was seen each time is told. What misses a bound of its own every time
is not stored.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eeg2speech.errors import BadInput
from eeg2speech.records.files import write_atomically

STORED, ROOT = Path(__file__).parent / "ratios.json", Path(__file__).parent.parent
MORE, LESS = "_ratio", "_cost"
OWN = "a bound of its own, or broken"
ALLOWED = 0.20
Ratios = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Change:
    """A ratio as it was stored and as it is now; None if it was not measured."""

    test: str
    name: str
    stored: float
    new: float | None

    @property
    def worse(self) -> float:
        """By which share it is worse; negative if it is better, infinite if it was not measured."""
        if self.new is None:
            return float("inf")
        return self.stored / self.new - 1 if self.name.endswith(MORE) else self.new / self.stored - 1

    @property
    def fails(self) -> bool:
        """Whether that is more than is allowed."""
        return self.worse > ALLOWED

    def __str__(self) -> str:
        new = "not measured" if self.new is None else f"{self.new:.3g}"
        mark = "FAILS " if self.fails else "better" if self.worse < -ALLOWED else "      "
        return f"{mark} {self.test} {self.name}: {self.stored:.3g} -> {new}"


@dataclass(frozen=True)
class Run:
    """What one run of benchmarks, or several of some, have found: the best of each ratio, and the benchmarks that
    failed every time."""

    ratios: Ratios
    failed: frozenset[str]

    @classmethod
    def of(cls, path: Path) -> Run:
        """From a file of pytest-benchmark. Raises BadInput for another file."""
        found: Ratios = {}
        body = _read(path)
        for bench in body.get("benchmarks", []):
            numbers = {name: float(value) for name, value in bench["extra_info"].items() if name.endswith((MORE, LESS))}
            if bad := [name for name, value in numbers.items() if not 0 < value < float("inf")]:
                raise BadInput(path, f"{bench['fullname']}: {bad[0]}", "a number above 0", numbers[bad[0]])
            if numbers:
                found[bench["fullname"]] = numbers
        return cls(found, frozenset(body.get("failed", [])))

    def alarms(self, stored: Ratios) -> tuple[str, ...]:
        """Benchmarks with something that fails."""
        worse = {change.test for change in compared(stored, self.ratios) if change.fails}
        return tuple(sorted(worse | self.failed))

    def and_again(self, other: Run) -> Run:
        """With what another run of some of these benchmarks has found."""
        ratios = {test: dict(numbers) for test, numbers in self.ratios.items()}
        for test, numbers in other.ratios.items():
            for name, value in numbers.items():
                before = ratios.setdefault(test, {}).get(name, value)
                ratios[test][name] = max(before, value) if name.endswith(MORE) else min(before, value)
        seen_well = other.ratios.keys() - other.failed
        return Run(ratios, self.failed - seen_well)


def compared(stored: Ratios, new: Ratios) -> list[Change]:
    """Every stored ratio with the new one, in the stored order."""
    return [
        Change(test, name, value, new.get(test, {}).get(name))
        for test, numbers in stored.items()
        for name, value in numbers.items()
    ]


def main(arguments: list[str]) -> int:
    """Compare or store; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("new", type=Path)
    parser.add_argument("stored", type=Path, nargs="?", default=STORED)
    parser.add_argument("--looks", type=int, default=1, help="how often what fails is measured in all")
    parser.add_argument("--store", action="store_true")
    given = parser.parse_args(arguments)
    try:
        return (_store if given.store else _compare)(given.new, given.stored, given.looks)
    except BadInput as refusal:
        print(refusal, file=sys.stderr)
        return 2


def _compare(new: Path, stored: Path, looks: int) -> int:
    known, found = _read(stored), _given(new)
    if known.get("machine") != (machine := _machine(new)):
        print(f"another machine than the stored one: {machine}, not {known.get('machine')}")
    found = _looked_at(found, known["ratios"], looks)
    changes = compared(known["ratios"], found.ratios)
    print("\n".join(map(str, changes)))
    for test in sorted(found.ratios.keys() - known["ratios"].keys()):
        print(f"new, not compared: {test}")
    print("".join(f"FAILS  {test}: {OWN}\n" for test in sorted(found.failed)), end="")
    worse = sum(change.fails for change in changes)
    print(f"{len(changes)} ratios, {worse} worse by more than {ALLOWED:.0%}; {len(found.failed)} benchmarks failed")
    return int(worse > 0 or bool(found.failed))


def _given(path: Path) -> Run:
    """The run that is asked about. Raises BadInput for one without ratios: there is nothing to compare."""
    found = Run.of(path)
    if not found.ratios:
        raise BadInput(path, "benchmarks", f"some with numbers named *{MORE} or *{LESS}", "none")
    return found


def _looked_at(found: Run, stored: Ratios, looks: int) -> Run:
    """With what else is found where something fails."""
    for look in range(2, looks + 1):
        if not (alarms := found.alarms(stored)):
            break
        print(f"look {look} of {looks}, at what failed:", *_told(stored, found, alarms), sep="\n  ", flush=True)
        found = found.and_again(_measured(alarms))
    return found


def _told(stored: Ratios, found: Run, alarms: Iterable[str]) -> list[str]:
    worse = [str(change) for change in compared(stored, found.ratios) if change.test in alarms and change.fails]
    return [*worse, *(f"FAILS  {test}: {OWN}" for test in sorted(found.failed))]


def _measured(tests: tuple[str, ...]) -> Run:
    """Those benchmarks, run again."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "again.json"
        command = [sys.executable, "-m", "pytest", "-q", *tests, "--benchmark-enable", f"--benchmark-json={path}"]
        subprocess.run(command, cwd=ROOT, check=False)
        # pytest-benchmark writes no file where nothing was timed: then all of them broke down.
        return Run.of(path) if path.exists() else Run({}, frozenset(tests))


def _store(new: Path, stored: Path, looks: int) -> int:
    found = _looked_at(_given(new), {}, looks)
    if found.failed:
        print("not stored, these failed:", *sorted(found.failed), sep="\n  ", file=sys.stderr)
        return 1
    body = {"machine": _machine(new), "commit": _read(new).get("commit_info", {}).get("id"), "ratios": found.ratios}
    write_atomically(stored, (json.dumps(body, indent=1, sort_keys=True) + "\n").encode("utf-8"))
    print(f"{stored}: {sum(map(len, found.ratios.values()))} ratios")
    return 0


def _machine(path: Path) -> str:
    """The processor and how many there are."""
    info = _read(path).get("machine_info", {}).get("cpu", {})
    return f"{info.get('brand_raw', 'unknown')}, {info.get('count', '?')} cores"


def _read(path: Path) -> dict[str, Any]:
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadInput(path, "file", "a JSON document of benchmarks", "no such file") from error
    except ValueError as error:
        raise BadInput(path, "content", "a whole JSON document", str(error)) from error
    if not isinstance(body, dict):
        raise BadInput(path, "content", "an object", type(body).__name__)
    return body


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
