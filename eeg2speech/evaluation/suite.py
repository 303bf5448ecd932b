"""A suite: which systems, on which studies and splits, under which controls. One YAML file; one call that does what is
missing of it.

Trainings run side by side in processes, evaluation follows system by system, and each record is written when it is
done. A suite that was interrupted and is started again goes on where it stopped and ends with the same records.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator

from eeg2speech.controls import CONTROLS, TRUE_EEG, control
from eeg2speech.data.store import Store
from eeg2speech.data.studies.registry import prepare, study
from eeg2speech.errors import BadInput, unknown_name
from eeg2speech.evaluation.protocol import Protocol, measure, protocol
from eeg2speech.processes import cores, end_with_parent, threads_of_children
from eeg2speech.report.variation import Variation
from eeg2speech.splits import make_split
from eeg2speech.splits.manifest import Split
from eeg2speech.splits.splitters import KINDS
from eeg2speech.systems.registry import NAME, Declaration, checked, declare, system_class
from eeg2speech.training.budget import Budget, BudgetName, RunOptions

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true")
"""Lightning's words."""


class Suite(BaseModel):
    """What ``eeg2speech run`` does. ``systems`` holds names or declarations; ``controls`` names or ``all``.

    ``metrics`` are computed besides the protocol's own. ``varies`` is there where the systems differ in one value, and
    says which: then ``eeg2speech ablation`` makes a table and a figure of it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    protocol: str = "demo-1"
    studies: list[str] = Field(min_length=1)
    splits: list[str] = Field(min_length=1)
    seeds: list[Annotated[int, Field(ge=0)]] = Field(default=[0], min_length=1)
    controls: list[str] | str = "all"
    metrics: list[str] = []
    budget: BudgetName = "demo"
    systems: list[Any] = Field(min_length=1)
    examples: int = Field(default=0, ge=0, description="test segments whose sound is kept for the page")
    varies: Variation | None = None

    @field_validator("controls", mode="before")
    @classmethod
    def _all_or_some(cls, value: object) -> object:
        if value != "all" and not (isinstance(value, list) and value):
            raise ValueError("'all', or a list of names that is not empty")
        return value

    @property
    def control_names(self) -> list[str]:
        """Names of the controls, the true EEG first: without it there is nothing to compare the others with."""
        return list(CONTROLS) if self.controls == "all" else list(dict.fromkeys([TRUE_EEG, *self.controls]))

    @property
    def declarations(self) -> list[Declaration]:
        """The systems, in their order."""
        return [declare(entry, f"suite {self.name!r}") for entry in self.systems]


@dataclass(frozen=True)
class Machine:
    """How a suite may use the machine: processes side by side, and Lightning's device, devices and precision."""

    jobs: int = 1
    device: str = "auto"
    devices: int = 1
    precision: str = "auto"
    progress: bool = True

    def __post_init__(self) -> None:
        for field, known in (("device", DEVICES), ("precision", PRECISIONS)):
            if getattr(self, field) not in known:
                raise unknown_name("machine", field, getattr(self, field), known)
        for field in ("jobs", "devices"):
            if getattr(self, field) < 1:
                raise BadInput("machine", field, "at least 1", getattr(self, field))


@dataclass(frozen=True)
class Work:
    """One system to be trained and evaluated: all controls of one study, split and seed."""

    declaration: Declaration
    study: str
    split: str
    seed: int
    budget: BudgetName
    protocol: str

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise BadInput(f"training of {self.declaration.label}", "seed", "at least 0", self.seed)

    @cached_property
    def study_name(self) -> str:
        """Name of the study, also where ``study`` is the folder of a store."""
        return prepare(self.study).facts.name if "/" in self.study else self.study

    @property
    def title(self) -> str:
        """One line for a log."""
        return f"{self.declaration.label} on {self.study_name}, split {self.split}, seed {self.seed}"


def read_suite(path: Path) -> Suite:
    """Read a suite and check every name in it before anything runs.

    Raises:
        BadInput: no such file, not YAML, an unknown key, system, study, split, control, protocol or condition (with the
            nearest), a condition that the task does not know, or values of something else than the suite's systems.
    """
    if not path.is_file():
        raise BadInput(path, "suite", "a YAML file", "no such file")
    try:
        body = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise BadInput(path, "content", "YAML", error) from error
    if not isinstance(body, dict):
        raise BadInput(path, "content", "a mapping", type(body).__name__)
    if isinstance(varies := body.get("varies"), dict):
        # Checked by itself, so that an unknown key is refused with the nearest.
        body = body | {"varies": checked(Variation, varies, f"{path}: varies")}
    suite = checked(Suite, body, path)
    _check_names(suite, path)
    return suite


def works(suite: Suite) -> list[Work]:
    """All work of a suite, system by system: neighbours in this order do not wait for a network that both need."""
    return [
        Work(declaration, name, split, seed, suite.budget, suite.protocol)
        for seed in suite.seeds
        for declaration in suite.declarations
        for name in suite.studies
        for split in suite.splits
    ]


def split_of(work: Work, store: Store) -> Split:
    """The split a piece of work is about."""
    return make_split(store.index, work.split, protocol(work.protocol).split_seed)


def train_all(pending: Iterable[Work], out: Path, machine: Machine) -> Iterator[tuple[Work, float]]:
    """Train all systems, ``machine.jobs`` at a time; yields each with its seconds when it is ready.

    With several jobs even one system is trained in a process of its own: how many threads it has, and hence its last
    bits, must not depend on how much was left to do. An accelerator is not shared: there, it is one at a time.
    """
    queue = list(pending)
    for name in {work.study for work in queue}:
        prepare(name)
    if machine.jobs == 1 or _on_accelerator(machine):
        for work in queue:
            yield work, train_one(work, out, machine)
        return
    with ProcessPoolExecutor(
        machine.jobs, get_context("spawn"), initializer=end_with_parent, initargs=(os.getpid(),)
    ) as pool:
        # Each process gets its share of the cores: threads of two trainings on the same cores wait for each other.
        with threads_of_children(max(1, cores() // machine.jobs)):
            futures = {pool.submit(train_one, work, out, machine): work for work in queue}
        yield from _as_they_end(futures)


def _as_they_end(futures: dict[Future[float], Work]) -> Iterator[tuple[Work, float]]:
    try:
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        # After a failure, what has not begun is not begun: the failure is told as soon as those that run have ended.
        for future in futures:
            future.cancel()


def _on_accelerator(machine: Machine) -> bool:
    from eeg2speech.evaluation.scoring import device_named

    return device_named(machine.device).type != "cpu"


def train_one(work: Work, out: Path, machine: Machine) -> float:
    """Train one system, or find that it is trained. Returns the seconds of its training."""
    from eeg2speech.evaluation.scoring import device_named
    from eeg2speech.evaluation.trained import train

    device_named(machine.device)
    store = prepare(work.study)
    trained = train(
        work.declaration,
        store,
        split_of(work, store),
        protocol(work.protocol),
        Budget(work.budget),
        options(work, out, machine),
    )
    return trained.training.seconds


def options(work: Work, out: Path, machine: Machine) -> RunOptions:
    """Where and how a piece of work trains."""
    chosen: Protocol = protocol(work.protocol)
    place = f"{work.study_name}/{work.split}-s{chosen.split_seed}/{work.declaration.label}-s{work.seed}"
    root = out / "training"
    progress = machine.progress and machine.jobs == 1
    return RunOptions(
        root / place, root / "shared", work.seed, machine.device, machine.devices, machine.precision, 0, progress
    )


def _check_names(suite: Suite, path: Path) -> None:
    from eeg2speech.systems.interface import require_task

    protocol(suite.protocol)
    for name in suite.studies:
        if "/" not in name:
            study(name)
    for kind in suite.splits:
        if kind not in KINDS:
            raise unknown_name(path, "splits", kind, KINDS)
    for name in suite.control_names:
        control(name)
    for name in suite.metrics:
        measure(name)
    labels = [declaration.label for declaration in suite.declarations]
    for label in labels:
        if not re.match(NAME, label):
            raise BadInput(path, "systems", f"a name of the form {NAME}", repr(label))
    lists: dict[str, list[Any]] = {"studies": suite.studies, "splits": suite.splits, "seeds": suite.seeds}
    for field, values in (lists | {"systems": labels}).items():
        twice = [value for value in values if values.count(value) > 1]
        if twice:
            raise BadInput(path, field, "each once", f"{twice[0]!r} twice (a system may be given a name of its own)")
    for declaration in suite.declarations:
        where, found = f"{path}: system {declaration.system!r}", system_class(declaration.system)
        checked(found.Settings, declaration.settings, where)
        require_task(found.facts, protocol(suite.protocol).task, where)
        declaration.conditions.require_task(protocol(suite.protocol).task, where)
        if declaration.conditions.told() and not declaration.name:
            raise BadInput(where, "name", "a name of its own, since it has conditions", "none")
        if declaration.conditions.delay and "within_trial" in suite.splits:
            # There, what comes later in a trial belongs to another part.
            raise BadInput(where, "conditions.delay", "splits by trial", "within_trial")
        if suite.examples and declaration.conditions.window is not None:
            # Clips are of whole segments, which is not what such a system is scored on.
            raise BadInput(path, "examples", "0 in a suite with systems that hear in windows", suite.examples)
    if suite.varies is not None:
        if not re.match(NAME, suite.name):
            # Folder and files of an ablation bear it.
            raise BadInput(path, "name", f"a name of the form {NAME}", repr(suite.name))
        suite.varies.check(labels, path)
