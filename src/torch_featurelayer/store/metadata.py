"""The metadata of a store: the identity of its features."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

from .._exceptions import StoreCorruptError, StoreMismatchError
from .folder import Folder
from .shards import shard_numbers

Metadata: TypeAlias = Mapping[str, Any]

FORMAT: Final = 3
_READABLE: Final = (1, 2, FORMAT)  # version 0.2 wrote 1
_NAME: Final = "metadata.json"
_OLD_NAME: Final = "settings.json"  # of version 0.2
_OLD_KEYS: Final = {"shard_rows": "shard_size", "threads": "num_threads"}
# The location of the items may change, the items may not; their number follows from the digest of their ids, and the
# error of a precision was measured once.
_NOT_COMPARED: Final = {"data", "num_items", "precision_error"}


def write_metadata(folder: Folder, metadata: Metadata) -> str:
    """Writes the metadata of a new store, or compares them with those of an existing one.

    Returns:
        The digest of the metadata.

    Raises:
        StoreMismatchError: If they differ. It names the differences.
        StoreCorruptError: If there are shards without metadata, which could be those of other features.
    """
    # Through JSON, so that tuples compare equal to the lists that are read back.
    wanted = json.loads(json.dumps({"format": FORMAT, **metadata}))
    if is_store(folder):
        _compare(folder, read_metadata(folder), wanted)
    elif shard_numbers(folder):
        raise StoreCorruptError(
            folder.at(_NAME), "it is missing, so the features of the shards are unknown", retry=False
        )
    else:
        folder.write(_NAME, (json.dumps(wanted, indent=2, sort_keys=True) + "\n").encode())
    return metadata_identity(wanted)


def metadata_identity(metadata: Metadata) -> str:
    """Returns the digest of metadata, which every shard carries."""
    compared = {name: value for name, value in metadata.items() if name not in _NOT_COMPARED}
    return hashlib.blake2b(json.dumps(compared, sort_keys=True).encode(), digest_size=16).hexdigest()


def read_metadata(folder: Folder) -> dict[str, Any]:
    """Reads the metadata of a store.

    Raises:
        StoreCorruptError: If they cannot be read.
    """
    name = _NAME if folder.exists(_NAME) else _OLD_NAME
    try:
        metadata = json.loads(folder.read(name))
    except ValueError as error:
        raise StoreCorruptError(folder.at(name), str(error), retry=False) from error
    if metadata.get("format") not in _READABLE:
        problem = f"its format is {metadata.get('format')!r}, not {' or '.join(map(str, _READABLE))}"
        raise StoreCorruptError(folder.at(name), problem, retry=False)
    return {_OLD_KEYS.get(key, key): value for key, value in metadata.items()}


def is_store(folder: Folder) -> bool:
    """Whether a folder is a store."""
    return folder.exists(_NAME) or folder.exists(_OLD_NAME)


def differences(one: Metadata, other: Metadata) -> dict[str, tuple[Any, Any]]:
    """Returns the settings that differ, or that cannot be compared, by name.

    Args:
        one: The metadata of one store.
        other: Those of the other.
    """
    before, after = dict(_settings(one)), dict(_settings(other))
    return {
        name: (before.get(name), after.get(name))
        for name in sorted({*before, *after} - _NOT_COMPARED)
        if before.get(name) != after.get(name) or _is_unidentified(after.get(name))
    }


def _compare(folder: Folder, stored: Metadata, wanted: Metadata) -> None:
    if stored["format"] != wanted["format"]:
        raise StoreMismatchError(folder.path, {"format": (stored["format"], wanted["format"])})
    if found := differences(stored, wanted):
        raise StoreMismatchError(folder.path, found)


def _settings(metadata: Metadata) -> Iterator[tuple[str, Any]]:
    """Yields the settings with their names; those of nested dicts, such as versions, one by one."""
    for name, value in metadata.items():
        if isinstance(value, dict) and "digest" not in value and "named" not in value:
            yield from ((f"{name}.{key}", part) for key, part in value.items())
        else:
            yield name, value


def _is_unidentified(value: Any) -> bool:
    """Whether a value is a function that has no digest, so that it cannot be compared."""
    return isinstance(value, dict) and "digest" in value and value["digest"] is None
