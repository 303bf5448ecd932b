"""MATLAB files (v5 to v7), read with refusals in place of whatever a damaged file makes the reader raise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eeg2speech.data.preparation import matfile
from eeg2speech.errors import BadInput

LARGEST = 1 << 30
"""Numbers that a variable may have: what claims more is damaged, and would fill the memory before that is seen."""


def matlab(path: Path, wanted: Sequence[str]) -> dict[str, Any]:
    """The ``wanted`` variables of a file: matrices, cells as object arrays, structs as ``matfile.Struct``.

    Raises:
        BadInput: no such file, one that MATLAB's reader refuses, a variable that is missing or has more than 2^30
            numbers.
    """
    shapes = variables(path)
    for name in wanted:
        if name not in shapes:
            raise BadInput(path, "variables", ", ".join(wanted), ", ".join(shapes) or "none")
        if prod(shapes[name]) > LARGEST:
            raise BadInput(path, name, f"at most {LARGEST} numbers", list(shapes[name]))
    content: dict[str, Any] = _refusing(path, lambda: matfile.load(path, wanted))
    return {name: content[name] for name in wanted}


def variables(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a file's variables, from their headers alone. Raises BadInput as ``matlab``."""
    if not path.is_file():
        raise BadInput(path, "file", "a MATLAB file", "no such file")
    found: dict[str, tuple[int, ...]] = _refusing(path, lambda: matfile.shapes(path))
    return found


def _refusing(path: Path, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except MemoryError as error:
        raise BadInput(path, "content", "a MATLAB file", "sizes that no memory holds") from error
    except Exception as error:  # a damaged file comes out of the reader as nearly any error
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise BadInput(path, "content", "a MATLAB file (v5 to v7)", reason) from error


def field(path: Path, struct: Any, name: str, label: str = "") -> Any:
    """A field of a struct; ``a.b`` of one in it, where a 1x1 matrix of structs is the struct. Raises BadInput."""
    found = struct
    for part in name.split("."):
        found = only(path, found, label or name)
        if not hasattr(found, part) or part.startswith("_"):
            known = ", ".join(getattr(found, "_fieldnames", [])) or type(found).__name__
            raise BadInput(path, f"{label}.{name}".strip("."), f"a field {part!r}", known)
        found = getattr(found, part)
    return found


def only(path: Path, value: Any, label: str) -> Any:
    """The one element of a 1x1 matrix or cell, however often wrapped; anything else as it is."""
    while isinstance(value, np.ndarray) and value.dtype.kind == "O" and value.size == 1:
        value = value.reshape(-1)[0]
    if isinstance(value, np.ndarray) and value.dtype.kind == "O":
        raise BadInput(path, label, "one element", f"{list(value.shape)}")
    return value


def number(path: Path, value: Any, label: str) -> float:
    """A finite number. Raises BadInput for anything else."""
    value = np.asarray(only(path, value, label))
    if value.size != 1 or value.dtype.kind not in "iufb":
        raise BadInput(path, label, "a number", f"{value.dtype} {list(value.shape)}")
    found = float(value.reshape(-1)[0])
    if not np.isfinite(found):
        raise BadInput(path, label, "a finite number", found)
    return found


def whole(path: Path, value: Any, label: str) -> int:
    """A whole number. Raises BadInput for anything else."""
    found = number(path, value, label)
    if found != int(found):
        raise BadInput(path, label, "a whole number", found)
    return int(found)


def text(path: Path, value: Any, label: str) -> str:
    """A string. Raises BadInput for anything else; an empty one is empty."""
    value = only(path, value, label)
    array = np.asarray(value)
    if array.dtype.kind != "U" or array.size > 1:
        raise BadInput(path, label, "text", f"{array.dtype} {list(array.shape)}")
    return str(array.reshape(-1)[0]).strip() if array.size else ""


def elements(path: Path, value: Any, label: str) -> list[Any]:
    """Elements of a cell or of an array of structs, in MATLAB's order. Raises BadInput for anything else."""
    array = np.asarray(value)
    if isinstance(value, np.ndarray) and array.dtype.kind == "O":
        return list(array.reshape(-1, order="F"))
    if hasattr(value, "_fieldnames"):
        return [value]
    raise BadInput(path, label, "a cell", f"{array.dtype} {list(array.shape)}")


def rows(path: Path, value: Any, label: str, count: int) -> NDArray[np.floating]:
    """A matrix [count, T] of finite numbers, turned where the file has it the other way round; a square one is taken
    as time first. Raises BadInput."""
    array = np.asarray(only(path, value, label))
    if array.ndim != 2 or count not in array.shape or array.dtype.kind not in "iuf" or 0 in array.shape:
        raise BadInput(path, label, f"[samples, {count}], or [{count}, samples]", f"{array.dtype} {list(array.shape)}")
    turned = array.T if array.shape[1] == count else array
    floats: NDArray[np.floating] = turned if turned.dtype.kind == "f" else turned.astype(np.float64)
    if not np.isfinite(floats).all():
        raise BadInput(path, label, "finite samples", "NaN or infinite ones")
    return floats
