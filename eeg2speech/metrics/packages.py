"""Packages that a few metrics need and that are slow to load: imported at the first use, once."""

from __future__ import annotations

import warnings
from functools import cache
from importlib import import_module
from typing import Any

from eeg2speech.errors import BadInput


@cache
def package(module: str, distribution: str) -> Any:
    """The imported module, silent about what it imports itself.

    Args:
        module: name to import. distribution: name to install.

    Raises:
        BadInput: it cannot be imported; the message says why and what to install.
    """
    try:
        with warnings.catch_warnings():
            # pyworld and resemblyzer use parts of setuptools and scipy that are on their way out.
            warnings.simplefilter("ignore")
            return import_module(module)
    except ImportError as error:
        found = f"none that can be imported ({error})"
        raise BadInput("metrics", "package", f"{distribution}: pip install {distribution}", found) from error
