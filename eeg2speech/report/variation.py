"""What varies in a suite, and which system stands for which value of it."""

from __future__ import annotations

from collections.abc import Collection

from pydantic import BaseModel, ConfigDict, Field

from eeg2speech.errors import BadInput, unknown_name
from eeg2speech.report.tables import with_unit


class Variation(BaseModel):
    """One question, answered by systems that differ in one value."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = Field(min_length=1, description="what varies, as table and figure call it")
    unit: str = Field(default="", description="its unit, where it has one")
    asks: str = Field(default="", description="the question")
    values: dict[str, float | str] = Field(min_length=2, description="value of each system of the suite, by name")
    reference: str | None = Field(default=None, description="system with which the others are compared; else the first")
    logarithmic: bool = Field(default=False, description="whether the figure's axis is")

    @property
    def base(self) -> str:
        """Name of the system with which the others are compared."""
        return self.reference or next(iter(self.values))

    @property
    def header(self) -> str:
        """Name with unit."""
        return with_unit(self.name, self.unit)

    @property
    def numbers(self) -> dict[str, float] | None:
        """The values, if all of them are numbers: then the figure has a scale."""
        found = {name: value for name, value in self.values.items() if not isinstance(value, str)}
        return found if len(found) == len(self.values) else None

    def text(self, system: str) -> str:
        """A system's value, to be read."""
        value = self.values[system]
        return value if isinstance(value, str) else f"{value:g}"

    def check(self, systems: Collection[str], where: object) -> None:
        """Refuse values unless they are those of the suite's systems, each once, that the figure can show.

        Raises:
            BadInput: a value for no system (with the nearest), a system without, or a reference that is none of them;
                a value that is there twice, or a logarithmic axis for values that have no logarithm.
        """
        for name in self.values:
            if name not in systems:
                raise unknown_name(where, "varies.values", name, systems)
        for name in systems:
            if name not in self.values:
                raise BadInput(where, "varies.values", f"a value for {name!r} too", ", ".join(self.values))
        if self.base not in self.values:
            raise unknown_name(where, "varies.reference", self.base, self.values)
        texts = [self.text(name) for name in self.values]
        if twice := [text for text in texts if texts.count(text) > 1]:
            raise BadInput(where, "varies.values", "each once", f"{twice[0]} twice")
        if self.logarithmic and (self.numbers is None or min(self.numbers.values()) <= 0):
            raise BadInput(where, "varies.logarithmic", "positive numbers as values", ", ".join(texts))
