"""Systems that are ready to be timed: with weights where there are any, and able to answer in any case.

Of what value the weights are changes no time, so that a network may have those it begins with. What has to see data
before it can answer (a linear decoder, a bank of speech) is fitted to the embedded study.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from eeg2speech.data.studies.registry import prepare
from eeg2speech.data.types import Sensors
from eeg2speech.errors import BadInput
from eeg2speech.evaluation.conditions import context_of, examples_of
from eeg2speech.evaluation.protocol import protocol, protocol_for
from eeg2speech.evaluation.trained import SHIPPED
from eeg2speech.splits import make_split
from eeg2speech.systems.conditions import Conditions
from eeg2speech.systems.interface import Context, System, Task, require_task
from eeg2speech.systems.network import NetworkSystem
from eeg2speech.systems.registry import Declaration, build, declare, system_class
from eeg2speech.training.budget import Budget, RunOptions
from eeg2speech.training.checkpoint import load_weights

STUDY, SPLIT = "simulated-clear", "stimulus"
"""What is fitted is fitted to this study and split; what is shipped was trained on them."""
SHORTEST = Budget("demo", steps=1)
"""For systems that hold a network beside what has to be fitted: its weights do not matter."""

EVERYTHING = Conditions()


@dataclass(frozen=True)
class Ready:
    """A system that can answer, and whether its weights are ``shipped``, ``initial``, ``fitted`` or there are none."""

    system: System
    weights: str


def ready(declaration: Declaration, seconds: float = 4.0, channels: int | None = None) -> Ready:
    """Build a declared system for the embedded study, or for so many electrodes, and make it able to answer.

    Raises:
        BadInput: a system or settings that are not known, more electrodes than the study has for what must be fitted.
    """
    cls = system_class(declaration.system)
    if issubclass(cls, NetworkSystem):
        return _network(declaration, seconds, channels)
    if cls.fit is System.fit:
        return Ready(build(declaration, _context(seconds, channels)), "none")
    return _fitted(declaration, channels)


def fitted(declaration: Declaration, conditions: Conditions = EVERYTHING, steps: int = 1) -> System:
    """A system fitted to the training part of the embedded study, or to what the conditions leave of it.

    Networks take ``steps`` steps, everything that is computed before the first included.
    """
    task = task_of(system_class(declaration.system))
    chosen, store = protocol(protocol_for({task})), prepare(STUDY)
    split = make_split(store.index, SPLIT, 0)
    system = build(declaration, context_of(conditions, store, chosen))
    learn, check = examples_of(conditions, store, split, chosen)
    with tempfile.TemporaryDirectory() as folder:
        options = RunOptions(Path(folder), device="cpu", precision="32-true", progress=False)
        system.fit(learn, check, replace(SHORTEST, steps=steps), options)
    return system


def task_of(cls: type[System], wanted: str = "") -> Task:
    """The task in which a system is timed: the first that it answers, extraction before retrieval before generation.

    Raises BadInput where another one is ``wanted``.
    """
    if wanted:
        require_task(cls.facts, wanted, cls.__name__)
    order: tuple[Task, ...] = ("extraction", "retrieval", "generation")
    return next(task for task in order if task in cls.facts.tasks and wanted in ("", task))


def _network(declaration: Declaration, seconds: float, channels: int | None) -> Ready:
    """With shipped weights where they are of these settings and sensors."""
    system = build(declaration, _context(seconds, channels))
    assert isinstance(system, NetworkSystem)
    state = None if channels else _shipped(declaration, system)
    if state is not None:
        system.load_state(state)
    for module in system.network.modules():
        _know_all(module, len(system.context.subjects))
    system.network.eval()
    return Ready(system, "initial" if state is None else "shipped")


def _fitted(declaration: Declaration, channels: int | None) -> Ready:
    system = build(declaration, _context(4.0, None))
    state = None if channels else _shipped(declaration, system)
    if state is None:
        return Ready(fitted(declaration, Conditions(channels=channels)), "fitted")
    system.load_state(state)
    return Ready(system, "shipped")


def _shipped(declaration: Declaration, system: System) -> dict[str, Any] | None:
    """Weights that come with the package, if they were trained with these settings."""
    path = SHIPPED / STUDY / SPLIT / f"{declaration.system}.safetensors"
    if not path.exists():
        return None
    state, about = load_weights(path)
    theirs = build(declare({"system": declaration.system, "settings": about["settings"]}), system.context).settings
    return state if theirs == system.settings else None


def _context(seconds: float, channels: int | None) -> Context:
    """The embedded study's, with its sensors or with so many on a circle."""
    context = Context.of(prepare(STUDY), seconds)
    return context if channels is None else replace(context, sensors=on_a_helmet(context.sensors, channels))


def on_a_helmet(sensors: Sensors, channels: int) -> Sensors:
    """So many sensors: the given ones again and again, each time 1 mm further up, so that no two are in one place."""
    if channels < 1:
        raise BadInput("electrodes", "number", "at least 1", channels)
    count = len(sensors)
    places = (sensors.positions[k % count] for k in range(channels))
    lifted = tuple((x, y, z + 1e-3 * (k // count)) for k, (x, y, z) in enumerate(places))
    return Sensors(tuple(f"E{k + 1}" for k in range(channels)), lifted)


def _know_all(module: nn.Module, subjects: int) -> None:
    """Tell a layer of subjects that it knows them: without training it would refuse them all."""
    mark = getattr(module, "mark_known", None)
    if mark is not None:
        mark(range(subjects))
