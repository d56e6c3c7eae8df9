"""Imports of packages that only an extra brings, with the `pip install` line where one is missing."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module, metadata
from types import ModuleType
from typing import Final

from ._exceptions import MissingExtraError

_DISTRIBUTION: Final = "torch-featurelayer"


def need(package: str, extra: str) -> ModuleType:
    """Imports a package, or raises the error that says how to install it.

    Args:
        package: The name to import.
        extra: The extra that brings it.

    Raises:
        MissingExtraError: If the package is not installed. An error inside a
            package that is installed passes through unchanged.
    """
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != package.split(".")[0]:
            raise
        raise MissingExtraError(package, extra, list(requirements_of(extra))) from error


def requirements_of(extra: str) -> Iterator[str]:
    """Yields what an extra requires, those of the extras in it included; nothing without installed metadata."""
    try:
        required = metadata.requires(_DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return
    for requirement in required:
        name, _, marker = requirement.partition(";")
        if f"extra == '{extra}'" in marker.replace('"', "'"):
            yield name.strip()
