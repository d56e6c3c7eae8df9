"""What the features of a store are, and whether they may be continued."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from .._exceptions import StoreCorruptError, StoreMismatchError
from .folder import Folder

Settings: TypeAlias = Mapping[str, Any]

FORMAT: Final = 1
_NAME: Final = "settings.json"
_FREE: Final = {"data"}  # where the items lie may change; what they are may not


def write_settings(folder: Folder, settings: Settings) -> None:
    """Writes the settings of a new store; those of one that exists must be the same.

    Raises:
        StoreMismatchError: They differ; it says in what.
    """
    wanted = json.loads(json.dumps({"format": FORMAT, **settings}))
    if is_store(folder):
        _compare(folder, read_settings(folder), wanted)
    else:
        folder.write(_NAME, (json.dumps(wanted, indent=2, sort_keys=True) + "\n").encode())


def read_settings(folder: Folder) -> dict[str, Any]:
    """Reads the settings of a store.

    Raises:
        StoreCorruptError: They cannot be read.
    """
    try:
        settings = json.loads(folder.read(_NAME))
    except ValueError as error:
        raise StoreCorruptError(folder.at(_NAME), str(error)) from error
    if settings.get("format") != FORMAT:
        raise StoreCorruptError(folder.at(_NAME), f"its format is {settings.get('format')!r}, not {FORMAT}")
    return dict(settings)


def is_store(folder: Folder) -> bool:
    """Whether there is a store."""
    return folder.exists(_NAME)


def _compare(folder: Folder, there: Settings, wanted: Settings) -> None:
    missing = object()
    names = sorted({*there, *wanted} - _FREE)
    differ = {
        name: (there.get(name), wanted.get(name))
        for name in names
        if there.get(name, missing) != wanted.get(name, missing)
    }
    if differ:
        raise StoreMismatchError(folder.path, differ)
