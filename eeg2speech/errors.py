"""The one way in which this package refuses bad input."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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


@contextmanager
def refusing(where: object, field: str, expected: object) -> Iterator[None]:
    """Turn what a package's reader raises into a refusal, and its warnings into nothing: readers of damaged files raise
    nearly anything. Refusals of our own go through."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except BadInput:
        raise
    except Exception as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise BadInput(where, field, expected, reason) from error
