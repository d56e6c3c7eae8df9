"""Shards: the features of some items, their ids, and the errors of items without features."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any, Final

import torch
from torch import Tensor

from .._exceptions import StoreCorruptError, StoreNotFoundError
from .._optional import need
from .folder import Folder

SHARDS: Final = "shards"
_KEY: Final = "torch_featurelayer"
_LENGTH: Final = 8  # bytes that hold the length of the header of a safetensors file


@dataclass(frozen=True, slots=True)
class RowError:
    """An item without features.

    Attributes:
        id: The id of the item.
        reason: Why it has no features.
        digest: The digest of the item; empty if it could not be read.
    """

    id: str
    reason: str
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Shard:
    """The header of a shard.

    Attributes:
        name: The name of the file in the store.
        ids: The ids of the rows, in order.
        errors: The items without a row.
        checksums: The CRC-32 of the bytes of each layer.
        digests: The digests of the items of the rows; empty in stores of version 0.2.
        identity: The digest of the metadata that the shard was written under; empty in stores of version 0.2.
    """

    name: str
    ids: tuple[str, ...]
    errors: tuple[RowError, ...]
    checksums: Mapping[str, int]
    digests: tuple[str, ...] = ()
    identity: str = ""

    @property
    def number(self) -> int:
        """The number of the shard."""
        return int(PurePosixPath(self.name).stem)

    def items(self) -> dict[str, str]:
        """Returns the digests of all items by id, with and without rows."""
        digests = self.digests or ("",) * len(self.ids)
        return {**dict(zip(self.ids, digests, strict=True)), **{error.id: error.digest for error in self.errors}}


def shard_name(number: int) -> str:
    """Returns the name of the file of a shard."""
    return f"{SHARDS}/{number:08d}.safetensors"


def write_shard(
    folder: Folder,
    number: int,
    features: Mapping[str, Tensor],
    ids: Sequence[str],
    errors: Sequence[RowError],
    digests: Sequence[str],
    identity: str,
) -> None:
    """Writes a shard; the same content gives the same bytes.

    Args:
        folder: The folder of the store.
        number: The number of the shard.
        features: The features `[rows, ...]` by layer, contiguous and on the CPU.
        ids: The ids of the rows.
        errors: The items without a row.
        digests: The digests of the items of the rows.
        identity: The digest of the metadata of the store.
    """
    header: dict[str, Any] = {
        "number": number,  # so that a shard under another name is noticed
        "identity": identity,
        "ids": list(ids),
        "digests": list(digests),
        "errors": [asdict(error) for error in errors],
        "crc32": {name: checksum(features[name]) for name in sorted(features)},
    }
    header["header_crc32"] = _header_checksum(header)
    library = need("safetensors.torch", "store")
    with folder.replacing(shard_name(number)) as path:
        # One key, because safetensors writes several keys in an arbitrary order.
        library.save_file({_key(name): features[name] for name in sorted(features)}, path, {_KEY: json.dumps(header)})


def layer_slice(file: Any, layer: str) -> Any:
    """Returns the part of a layer in an open shard, unread."""
    return file.get_slice(_key(layer))


def _key(layer: str) -> str:
    """Returns the name of the tensor of a layer; safetensors reserves one name."""
    return "@__metadata__" if layer == "__metadata__" else layer


def read_shard(folder: Folder, name: str) -> Shard:
    """Reads the header of a shard.

    Raises:
        StoreCorruptError: If the file is not a shard, or truncated.
    """
    try:
        size = folder.size(name)
        length = int.from_bytes(folder.read(name, 0, _LENGTH), "little")
        # The length may be damaged too: never read more than the file has.
        header = json.loads(folder.read(name, _LENGTH, _LENGTH + min(length, size)))
        about = json.loads(header.pop("__metadata__")[_KEY])
        errors = tuple(RowError(**error) for error in about["errors"])
        end = max((part["data_offsets"][1] for part in header.values()), default=0)
        digests = tuple(about.get("digests", ()))
        shard = Shard(name, tuple(about["ids"]), errors, about["crc32"], digests, about.get("identity", ""))
    except (KeyError, TypeError, ValueError) as error:
        raise StoreCorruptError(folder.at(name), f"its header cannot be read ({error})") from error
    if size != (right := _LENGTH + length + end):
        raise StoreCorruptError(folder.at(name), f"it has {size} bytes, not {right}")
    if "identity" in about:  # stores of version 0.2 have no checksum of the header
        if about.get("header_crc32") != _header_checksum(about):
            raise StoreCorruptError(folder.at(name), "the bytes of its ids differ from those that were written")
        if about["number"] != shard.number:
            raise StoreCorruptError(folder.at(name), f"it holds the rows of shard {about['number']}")
    return shard


def _header_checksum(header: Mapping[str, Any]) -> int:
    """Returns the CRC-32 of a header without its own checksum."""
    rest = {name: value for name, value in header.items() if name != "header_crc32"}
    return zlib.crc32(json.dumps(rest, sort_keys=True).encode())


def open_shard(folder: Folder, name: str) -> Any:
    """Opens a shard for reading parts of it; the file is memory-mapped.

    Raises:
        StoreNotFoundError: If the store was moved after it was opened.
        StoreCorruptError: If the file is not a safetensors file, or truncated.
    """
    library = need("safetensors", "store")
    try:
        return library.safe_open(folder.local_path(name), framework="pt")
    except FileNotFoundError as error:
        raise StoreNotFoundError(folder.path, moved=True) from error
    except library.SafetensorError as error:
        raise StoreCorruptError(folder.at(name), str(error)) from error


def checksum(tensor: Tensor) -> int:
    """Returns the CRC-32 of the bytes of a tensor, which detects accidental damage and is faster than the disk."""
    flat = tensor.contiguous().reshape(-1).view(torch.uint8)
    return zlib.crc32(flat.numpy().data)
