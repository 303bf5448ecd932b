"""Systems by name. Names come from the entry-point group ``eeg2speech.systems``, ours and a stranger's alike.

Listing names reads package metadata only; a class, and with it torch, is imported when it is asked for.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from eeg2speech.errors import BadInput, unknown_name
from eeg2speech.systems.conditions import Conditions

if TYPE_CHECKING:
    from eeg2speech.systems.interface import Context, System

GROUP = "eeg2speech.systems"
NAME = r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$"
"""What can be a part of a path, and so the name of a record, on any system."""
Model = TypeVar("Model", bound=BaseModel)


class Declaration(BaseModel):
    """A system in a suite: which class, under which name, with which settings, how much training, which conditions."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    system: str = Field(description="name in the registry")
    name: str = Field(default="", pattern=NAME, description="name in tables and paths; the registry's where not given")
    settings: dict[str, Any] = Field(default_factory=dict, description="the system's own settings")
    steps: int | None = Field(default=None, ge=1, description="optimiser steps in place of the budget's")
    conditions: Conditions = Field(default=Conditions(), description="what it is given in training and test")

    @property
    def label(self) -> str:
        """Name in tables."""
        return self.name or self.system


def declare(entry: str | dict[str, Any], where: object = "declaration") -> Declaration:
    """A declaration from a name or from the mapping of a YAML file; an unknown key is refused with the nearest one."""
    body = {"system": entry} if isinstance(entry, str) else entry
    if not isinstance(body, dict):
        raise BadInput(where, "system", "a name or a mapping", repr(entry))
    if isinstance(given := body.get("conditions"), dict):
        # Checked by themselves, so that an unknown one is refused with the nearest.
        body = body | {"conditions": checked(Conditions, given, f"{where}: conditions of {body.get('system')!r}")}
    return checked(Declaration, body, where)


def recorded(declaration: Declaration, budget: str) -> dict[str, Any]:
    """What a record says of a system: class, version, all its settings, the training that was planned for it.

    Settings are those that hold, not those that were typed, so that a changed default is not taken for the same system.
    ``steps`` is None where the budget decides them. Systems that have nothing to learn have no budget. ``conditions``
    are told where there are any.
    """
    from eeg2speech.systems.interface import System

    cls = system_class(declaration.system)
    settings = checked(cls.Settings, declaration.settings, f"system {declaration.system!r}").model_dump(mode="json")
    planned = {} if cls.fit is System.fit else {"budget": budget, "steps": declaration.steps}
    told = declaration.conditions.told()
    given = {"conditions": told} if told else {}
    return {"system": declaration.system, "version": cls.version, "settings": settings} | planned | given


def system_names() -> tuple[str, ...]:
    """Names of all installed systems, sorted."""
    return tuple(sorted(_points()))


def system_class(name: str) -> type[System]:
    """The class of a system. Raises BadInput for an unknown name (with the nearest) or something that is no System."""
    from eeg2speech.systems.interface import System

    points = _points()
    if name not in points:
        raise unknown_name("systems", "system", name, points)
    loaded = points[name].load()
    if not (isinstance(loaded, type) and issubclass(loaded, System)):
        raise BadInput(f"entry point {name!r}", "value", "a subclass of System", loaded)
    return loaded


def build(declaration: Declaration, context: Context) -> System:
    """Build a declared system for a context. Raises BadInput for settings it does not know or accept."""
    cls = system_class(declaration.system)
    settings = checked(cls.Settings, declaration.settings, f"system {declaration.system!r}")
    if context.speech not in cls.facts.speech:
        expected = f"a study that has {' or '.join(sorted(cls.facts.speech))} of the speech"
        found = f"one that publishes only its {context.speech}"
        raise BadInput(f"system {declaration.system!r}", "study", expected, found)
    return cls(context, settings)


def checked(model: type[Model], body: dict[str, Any], where: object) -> Model:
    """``model(**body)``, with pydantic's complaint turned into ours: field, expected, found, nearest known key."""
    unknown = sorted({str(key) for key in body} - set(model.model_fields))
    if unknown:
        raise unknown_name(where, "key", unknown[0], model.model_fields)
    try:
        return model.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "declaration"
        # pydantic's own words for what a validator of ours says.
        expected = first["msg"].removeprefix("Value error, ")
        raise BadInput(where, field, expected, repr(first["input"])) from error


def _points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}
