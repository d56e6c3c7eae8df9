"""One shard: the features of some items, their ids, and why others have none."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import torch
from torch import Tensor

from .._exceptions import StoreCorruptError, StoreNotFoundError
from .._optional import need
from .folder import Folder

SHARDS: Final = "shards"
_KEY: Final = "torch_featurelayer"
_LENGTH: Final = 8  # bytes that say how long the header of a safetensors file is


@dataclass(frozen=True, slots=True)
class RowError:
    """An item that has no features.

    Attributes:
        id: Of the item.
        reason: Why not.
    """

    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Shard:
    """What is said of a shard in its header.

    Attributes:
        name: Of the file in the store.
        ids: Of the rows, in order.
        errors: Of the items without a row.
        checksums: CRC-32 of the bytes of each layer.
    """

    name: str
    ids: tuple[str, ...]
    errors: tuple[RowError, ...]
    checksums: Mapping[str, int]


def shard_name(number: int) -> str:
    """Returns the name of a shard's file."""
    return f"{SHARDS}/{number:08d}.safetensors"


def write_shard(
    folder: Folder, number: int, features: Mapping[str, Tensor], ids: Sequence[str], errors: Sequence[RowError]
) -> None:
    """Writes a shard: the same bytes for the same content.

    Args:
        folder: Of the store.
        number: Of the shard.
        features: `[rows, ...]` by layer, contiguous, on the host.
        ids: Of the rows.
        errors: Of the items that have none.
    """
    said = {
        "ids": list(ids),
        "errors": [asdict(error) for error in errors],
        "crc32": {name: checksum(features[name]) for name in sorted(features)},
    }
    library = need("safetensors.torch", "store")
    with folder.replacing(shard_name(number)) as path:
        # One key, since safetensors writes several in no fixed order.
        library.save_file({_key(name): features[name] for name in sorted(features)}, path, {_KEY: json.dumps(said)})


def layer_slice(file: Any, layer: str) -> Any:
    """Returns a layer's part of an open shard, unread."""
    return file.get_slice(_key(layer))


def _key(layer: str) -> str:
    """Returns the name of a layer's tensor in a file: safetensors keeps one name for itself."""
    return "@__metadata__" if layer == "__metadata__" else layer


def read_shard(folder: Folder, name: str) -> Shard:
    """Reads the header of a shard.

    Raises:
        StoreCorruptError: It is no shard, or cut short.
    """
    try:
        size = folder.size(name)
        length = int.from_bytes(folder.read(name, 0, _LENGTH), "little")
        header = json.loads(folder.read(name, _LENGTH, _LENGTH + min(length, size)))
        said = json.loads(header.pop("__metadata__")[_KEY])
        errors = tuple(RowError(**error) for error in said["errors"])
        end = max((part["data_offsets"][1] for part in header.values()), default=0)
    except (KeyError, TypeError, ValueError) as error:
        raise StoreCorruptError(folder.at(name), f"its header cannot be read ({error})") from error
    if size != (right := _LENGTH + length + end):
        raise StoreCorruptError(folder.at(name), f"it has {size} bytes, not {right}")
    return Shard(name, tuple(said["ids"]), errors, said["crc32"])


def opened(folder: Folder, name: str) -> Any:
    """Opens a shard for reading parts of it; the file is mapped, not read.

    Raises:
        StoreCorruptError: It is no safetensors file, or cut short.
    """
    library = need("safetensors", "store")
    try:
        return library.safe_open(folder.mapped(name), framework="pt")
    except FileNotFoundError as error:
        raise StoreNotFoundError(folder.path, moved=True) from error
    except library.SafetensorError as error:
        raise StoreCorruptError(folder.at(name), str(error)) from error


def checksum(tensor: Tensor) -> int:
    """Returns the CRC-32 of a tensor's bytes: enough against chance, and faster than the disk."""
    flat = tensor.contiguous().reshape(-1).view(torch.uint8)
    return zlib.crc32(flat.numpy().data)
