"""The metadata of a store: the identity of its features."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from .._exceptions import StoreCorruptError, StoreMismatchError
from .folder import Folder

Metadata: TypeAlias = Mapping[str, Any]

FORMAT: Final = 1
_NAME: Final = "metadata.json"
_OLD_NAME: Final = "settings.json"  # of version 0.2
_OLD_KEYS: Final = {"shard_rows": "shard_size", "threads": "num_threads"}
_NOT_COMPARED: Final = {"data"}  # the location of the items may change, the items may not


def write_metadata(folder: Folder, metadata: Metadata) -> None:
    """Writes the metadata of a new store, or compares them with those of an existing one.

    Raises:
        StoreMismatchError: If they differ. It names the differences.
    """
    # Through JSON, so that tuples compare equal to the lists that are read back.
    wanted = json.loads(json.dumps({"format": FORMAT, **metadata}))
    if is_store(folder):
        _compare(folder, read_metadata(folder), wanted)
    else:
        folder.write(_NAME, (json.dumps(wanted, indent=2, sort_keys=True) + "\n").encode())


def read_metadata(folder: Folder) -> dict[str, Any]:
    """Reads the metadata of a store.

    Raises:
        StoreCorruptError: If they cannot be read.
    """
    name = _NAME if folder.exists(_NAME) else _OLD_NAME
    try:
        metadata = json.loads(folder.read(name))
    except ValueError as error:
        raise StoreCorruptError(folder.at(name), str(error)) from error
    if metadata.get("format") != FORMAT:
        raise StoreCorruptError(folder.at(name), f"its format is {metadata.get('format')!r}, not {FORMAT}")
    return {_OLD_KEYS.get(key, key): value for key, value in metadata.items()}


def is_store(folder: Folder) -> bool:
    """Whether a folder is a store."""
    return folder.exists(_NAME) or folder.exists(_OLD_NAME)


def _compare(folder: Folder, stored: Metadata, wanted: Metadata) -> None:
    missing = object()
    names = sorted({*stored, *wanted} - _NOT_COMPARED)
    differences = {
        name: (stored.get(name), wanted.get(name))
        for name in names
        if stored.get(name, missing) != wanted.get(name, missing)
    }
    if differences:
        raise StoreMismatchError(folder.path, differences)
