"""What is installed is what is in the repository, and the rooms import downwards only."""

import ast
import subprocess
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

LEVELS = (
    {"errors", "processes"},
    {"team"},
    {"assets"},
    {"data"},
    {"splits", "metrics", "models"},
    {"controls", "training"},
    {"systems", "records"},
    {"evaluation", "report", "profiling"},
    {"listing", "doctor"},
    {"cli", "cli_evidence", "cli_speed", "cli_studies"},
)
WITHOUT_TORCH = {"errors", "team", "assets", "data", "splits", "metrics", "controls", "records", "report"}


def room(path: Path) -> str:
    return path.relative_to(ROOT / "eeg2speech").parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


SOURCES = sorted((ROOT / "eeg2speech").rglob("*.py"))


def test_the_list_of_packages_is_complete() -> None:
    found = {".".join(p.parent.relative_to(ROOT).parts) for p in SOURCES if p.name == "__init__.py"}
    assert {*PROJECT["tool"]["setuptools"]["packages"]} == found | {"eeg2speech_baselines"}


def test_rooms_import_downwards() -> None:
    level = {name: k for k, names in enumerate(LEVELS) for name in names}
    for path in SOURCES:
        if path.name == "__init__.py" and path.parent.name == "eeg2speech":
            continue
        for name in imported(path):
            if name.startswith("eeg2speech."):
                other = name.split(".")[1]
                assert level[other] <= level[room(path)], f"{path} imports {name}"


def test_rooms_that_must_do_without_torch_do() -> None:
    for path in SOURCES:
        if room(path) in WITHOUT_TORCH:
            assert not {n for n in imported(path) if n.split(".")[0] in {"torch", "lightning"}}, path


def test_baselines_import_nothing_private() -> None:
    for path in (ROOT / "baselines").glob("*.py"):
        assert not [n for n in imported(path) if n.startswith("eeg2speech") and "._" in n]


def test_every_entry_point_loads() -> None:
    for group, points in PROJECT["project"]["entry-points"].items():
        installed = {p.name: p for p in entry_points(group=group)}
        assert {*points} <= {*installed}
        for name in points:
            assert installed[name].load() is not None


def test_every_asset_is_installed() -> None:
    package = ROOT / "eeg2speech"
    installed = {
        path
        for pattern in PROJECT["tool"]["setuptools"]["package-data"]["eeg2speech"]
        for path in package.glob(pattern)
    }
    there = {path for path in (package / "assets").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {path for path in there if path.suffix != ".py"} <= installed


def test_the_repository_stays_small() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    tracked = [ROOT / name for name in listed.split("\0") if name]
    assert sum(path.stat().st_size for path in tracked if path.exists()) < 50e6
