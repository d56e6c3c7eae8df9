"""Imports of optional dependencies, with the `pip install` command in the error if one is missing."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module, metadata
from types import ModuleType
from typing import Final

from ._exceptions import MissingExtraError

_DISTRIBUTION: Final = "torch-featurelayer"


def need(package: str, extra: str) -> ModuleType:
    """Imports an optional package.

    Args:
        package: The name to import.
        extra: The extra that installs it.

    Raises:
        MissingExtraError: If the package is not installed. Errors inside an installed package are not changed.
    """
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        # Another package is missing inside an installed one: its own error says more.
        if error.name is None or error.name.split(".")[0] != package.split(".")[0]:
            raise
        raise MissingExtraError(package, extra, list(extra_requirements(extra))) from error


def extra_requirements(extra: str) -> Iterator[str]:
    """Yields the requirements of an extra, including those of extras in it; nothing without installed metadata."""
    try:
        required = metadata.requires(_DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return
    for requirement in required:
        name, _, marker = requirement.partition(";")
        if f"extra == '{extra}'" in marker.replace('"', "'"):
            yield name.strip()
