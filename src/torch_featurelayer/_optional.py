"""Imports of what only an extra brings, with the `pip install` line where it is missing."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from ._errors import MissingExtraError


def need(package: str, extra: str) -> ModuleType:
    """Imports `package`, or says which extra brings it.

    Raises:
        MissingExtraError: The package is not installed. An error inside a
            package that is installed passes through unchanged.
    """
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != package.split(".")[0]:
            raise
        raise MissingExtraError(package, extra) from error
