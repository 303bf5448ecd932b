"""Systems by name. Names come from the entry-point group ``eeg2speech.systems``, ours and a stranger's alike.

Listing names reads package metadata only; a class, and with it torch, is imported when it is asked for.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from eeg2speech.errors import BadInput, unknown_name

if TYPE_CHECKING:
    from eeg2speech.systems.interface import Context, System

GROUP = "eeg2speech.systems"
Model = TypeVar("Model", bound=BaseModel)


class Declaration(BaseModel):
    """A system in a suite: which class, under which name, with which settings and how much training."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    system: str = Field(description="name in the registry")
    name: str = Field(default="", description="name in tables; the registry's where empty")
    settings: dict[str, Any] = Field(default_factory=dict, description="the system's own settings")
    steps: int | None = Field(default=None, ge=1, description="optimiser steps in place of the budget's")

    @property
    def label(self) -> str:
        """Name in tables."""
        return self.name or self.system

    def as_dict(self) -> dict[str, Any]:
        """Class and settings, for the record."""
        return {"system": self.system, "settings": self.settings} | ({"steps": self.steps} if self.steps else {})


def declare(entry: str | dict[str, Any], where: object = "declaration") -> Declaration:
    """A declaration from a name or from the mapping of a YAML file; an unknown key is refused with the nearest one."""
    body = {"system": entry} if isinstance(entry, str) else entry
    return checked(Declaration, body, where)


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
    return cls(context, checked(cls.Settings, declaration.settings, f"system {declaration.system!r}"))


def checked(model: type[Model], body: dict[str, Any], where: object) -> Model:
    """``model(**body)``, with pydantic's complaint turned into ours: field, expected, found, nearest known key."""
    unknown = sorted(set(body) - set(model.model_fields))
    if unknown:
        raise unknown_name(where, "key", unknown[0], model.model_fields)
    try:
        return model.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "declaration"
        raise BadInput(where, field, first["msg"], repr(first["input"])) from error


def _points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}
