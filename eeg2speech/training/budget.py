"""How much training a run may use, and what a training was."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from eeg2speech.errors import BadInput, unknown_name

BudgetName = Literal["demo", "hour", "full"]
BUDGETS: tuple[BudgetName, ...] = ("demo", "hour", "full")


@dataclass(frozen=True)
class Budget:
    """A named amount of training: ``demo`` (a minute or two on one core), ``hour`` (some 40 minutes on one core) or
    ``full`` (a GPU).

    What a name means in steps is each system's own; ``steps`` overrides it, for every network a system trains.
    Budgets count steps, never seconds, so that a run can be repeated to the byte on another day.
    """

    name: BudgetName = "demo"
    steps: int | None = None

    def __post_init__(self) -> None:
        if self.name not in BUDGETS:
            raise unknown_name("budget", "name", self.name, BUDGETS)
        if self.steps is not None and self.steps < 1:
            raise BadInput("budget", "steps", "at least 1", self.steps)


@dataclass(frozen=True)
class RunOptions:
    """Where and how a training runs.

    ``folder`` keeps its checkpoints and logs; ``precision`` is Lightning's word or ``auto`` (bf16-mixed where
    the hardware multiplies it, else 32-true). Networks that hear no EEG, and those that several systems are built
    on, are kept under ``shared``, by what they learned from: systems and studies that need the same train it once.
    """

    folder: Path
    shared: Path | None = None
    seed: int = 0
    device: str = "auto"
    devices: int = 1
    precision: str = "auto"
    workers: int = 0
    progress: bool = True


@dataclass(frozen=True)
class Training:
    """What a training was: optimiser steps taken, seconds, device, best validation loss and the curve behind it."""

    budget: str
    steps: int
    seconds: float
    device: str
    valid_loss: float | None = None
    curve: list[dict[str, float]] = field(default_factory=list)

    @classmethod
    def none(cls) -> Training:
        """For systems that have nothing to learn."""
        return cls("none", 0, 0.0, "none")

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)
