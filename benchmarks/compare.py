"""Has an edit made something slower? Ratios of a new run of benchmarks against the stored ones.

    make bench-compare        # runs the benchmarks that state ratios, compares with benchmarks/ratios.json
    make bench-store          # stores the ratios of a new run in their place

    python benchmarks/compare.py NEW.json [STORED.json] [--store]

NEW is what ``pytest --benchmark-json`` wrote. Compared are ratios alone, never seconds: numbers in ``extra_info`` whose
names end in ``_ratio`` (times as fast as something else in the same run: more is better) or ``_cost`` (the time over
that of something else: less is better). A ratio that is worse by more than 20 % fails, and so does one that is stored
and was not measured. A machine that is not the stored one is told, since some ratios depend on it.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eeg2speech.errors import BadInput
from eeg2speech.records.files import write_atomically

STORED = Path(__file__).parent / "ratios.json"
MORE, LESS = "_ratio", "_cost"
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


def ratios_of(path: Path) -> Ratios:
    """Ratios by test, from a file of pytest-benchmark. Raises BadInput for another file, or one without ratios."""
    found: Ratios = {}
    for bench in _read(path).get("benchmarks", []):
        numbers = {name: float(value) for name, value in bench["extra_info"].items() if name.endswith((MORE, LESS))}
        if bad := [name for name, value in numbers.items() if not 0 < value < float("inf")]:
            raise BadInput(path, f"{bench['fullname']}: {bad[0]}", "a number above 0", numbers[bad[0]])
        if numbers:
            found[bench["fullname"]] = numbers
    if not found:
        raise BadInput(path, "benchmarks", f"some with numbers named *{MORE} or *{LESS}", "none")
    return found


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
    parser.add_argument("--store", action="store_true")
    given = parser.parse_args(arguments)
    try:
        return _store(given.new, given.stored) if given.store else _compare(given.new, given.stored)
    except BadInput as refusal:
        print(refusal, file=sys.stderr)
        return 2


def _compare(new: Path, stored: Path) -> int:
    known, found = _read(stored), ratios_of(new)
    if known.get("machine") != (machine := _machine(new)):
        print(f"another machine than the stored one: {machine}, not {known.get('machine')}")
    changes = compared(known["ratios"], found)
    print("\n".join(map(str, changes)))
    for test in sorted(found.keys() - known["ratios"].keys()):
        print(f"new, not compared: {test}")
    failed = sum(change.fails for change in changes)
    print(f"{len(changes)} ratios, {failed} worse by more than {ALLOWED:.0%}")
    return int(failed > 0)


def _store(new: Path, stored: Path) -> int:
    body = {"machine": _machine(new), "commit": _read(new).get("commit_info", {}).get("id"), "ratios": ratios_of(new)}
    write_atomically(stored, (json.dumps(body, indent=1, sort_keys=True) + "\n").encode("utf-8"))
    print(f"{stored}: {sum(map(len, body['ratios'].values()))} ratios")
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
