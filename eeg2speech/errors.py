"""The one way in which this package refuses bad input."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class BadInput(ValueError):
    """Input that cannot be used: the message names where, which field, what was expected and what was found."""

    def __init__(self, where: object, field: str, expected: object, found: object) -> None:
        self.where, self.field, self.expected, self.found = str(where), field, str(expected), str(found)
        super().__init__(f"{self.where}: {field}: expected {self.expected}, found {self.found}")

    def __reduce__(self) -> tuple[type[BadInput], tuple[str, str, str, str]]:
        """Pickle by parts, so that a refusal in a worker process arrives whole in its parent."""
        return type(self), (self.where, self.field, self.expected, self.found)


def unknown_name(where: object, field: str, name: str, known: Iterable[str]) -> BadInput:
    """Refusal of a name that is not among the ``known`` ones, with the nearest known name as a hint."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return BadInput(where, field, f"one of {', '.join(names)}", f"{name!r}{hint}")
