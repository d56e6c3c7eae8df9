"""Shards: safetensors files that hold the features of some items, and these items."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor

from .._exceptions import StoreCorruptError, StoreNotFoundError
from .._optional import need
from .folder import Folder
from .items import Item, RowError, decode_table, encode_table, to_errors, to_items, to_table

SHARDS: Final = "shards"
OWN: Final = "@"  # begins the names of tensors that are not features; no address of a layer begins with it
TOKEN_IDS: Final = "@token_ids"  # noqa: S105 (no password)
SPANS: Final = "@spans"
BOXES: Final = "@boxes"
SCORES: Final = "@scores"
CLASSES: Final = "@classes"
ITEMS: Final = "@items"
_KEY: Final = "torch_featurelayer"
_LENGTH: Final = 8  # bytes that hold the length of the header of a safetensors file
_FIRST: Final = 1 << 16  # bytes that are read at once from the start of a shard
_LONGEST_HEADER: Final = 100_000_000  # bytes; the limit of safetensors
_NAME: Final = re.compile(r"(\d{8,})\.safetensors")


@dataclass(frozen=True, slots=True)
class Shard:
    """The header of a shard.

    Attributes:
        number: The number of the shard.
        table: Its items, an Arrow table.
        checksums: The CRC-32 of the bytes of each tensor.
        layouts: The dtype and the shape of a row of each layer, as text.
        identity: The digest of the metadata that the shard was written under; empty in stores of version 0.2.
    """

    number: int
    table: Any = field(repr=False)
    checksums: Mapping[str, int]
    layouts: Mapping[str, str]
    identity: str = ""

    @property
    def name(self) -> str:
        """The name of the file in the store."""
        return shard_name(self.number)

    @property
    def items(self) -> list[Item]:
        """The items, in order."""
        return to_items(self.table)

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the items with features, in order."""
        table = self.table
        return tuple(table.filter(need("pyarrow.compute", "store").field("error").is_null())["id"].to_pylist())

    @property
    def errors(self) -> tuple[RowError, ...]:
        """The items without features."""
        return to_errors(self.table)

    @property
    def rows(self) -> int:
        """The number of rows."""
        return int(need("pyarrow.compute", "store").sum(self.table["rows"]).as_py() or 0)


def shard_name(number: int) -> str:
    """Returns the name of the file of a shard."""
    return f"{SHARDS}/{number:08d}.safetensors"


def shard_numbers(folder: Folder) -> list[int]:
    """Returns the numbers of the shards in a folder, in order; other files, such as `.DS_Store`, are not looked at."""
    found = (_NAME.fullmatch(name.rpartition("/")[2]) for name in folder.names(SHARDS))
    return sorted(int(match[1]) for match in found if match)


def write_shard(
    folder: Folder, number: int, features: Mapping[str, Tensor], items: Sequence[Item], identity: str
) -> None:
    """Writes a shard; the same content gives the same bytes.

    Args:
        folder: The folder of the store.
        number: The number of the shard.
        features: The features `[rows, ...]` by layer, contiguous and on the CPU.
        items: The items.
        identity: The digest of the metadata of the store.
    """
    library = need("safetensors.torch", "store")
    content = torch.frombuffer(bytearray(encode_table(to_table(items))), dtype=torch.uint8)
    tensors = {**{name: features[name] for name in sorted(features)}, ITEMS: content}
    header: dict[str, Any] = {
        "number": number,  # so that a shard under another name is noticed
        "identity": identity,
        "crc32": {name: checksum(tensor) for name, tensor in tensors.items()},
    }
    header["header_crc32"] = _header_checksum(header)
    with folder.replacing(shard_name(number)) as path:
        # One key, because safetensors writes several keys in an arbitrary order.
        library.save_file({_key(name): tensor for name, tensor in tensors.items()}, path, {_KEY: json.dumps(header)})


def describe_layouts(features: Mapping[str, Tensor]) -> dict[str, str]:
    """Returns the dtype and the shape of a row of each layer, as text."""
    names = [name for name in sorted(features) if name[:1] != OWN]
    return {name: _layout(str(features[name].dtype), features[name].shape[1:]) for name in names}


def read_shard(folder: Folder, number: int) -> Shard:
    """Reads the header and the items of a shard.

    Raises:
        StoreCorruptError: If the file is not a shard, or truncated.
    """
    name = shard_name(number)
    try:
        return _read_shard(folder, number)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, StoreCorruptError):
            raise
        raise StoreCorruptError(folder.at(name), f"its header cannot be read ({error})") from error


def _read_shard(folder: Folder, number: int) -> Shard:
    name = shard_name(number)
    size = folder.size(name)
    start = folder.read(name, 0, _FIRST)  # in most shards with the whole header: one request to a server
    length = int.from_bytes(start[:_LENGTH], "little")
    if length > min(size, _LONGEST_HEADER):
        raise ValueError(f"it claims to have {length} bytes")
    header = json.loads(_read(folder, name, start, _LENGTH, _LENGTH + length))
    about = json.loads(header.pop("__metadata__")[_KEY])
    end = max((part["data_offsets"][1] for part in header.values()), default=0)
    if size != (right := _LENGTH + length + end):
        raise StoreCorruptError(folder.at(name), f"it has {size} bytes, not {right}")
    check_header(folder, number, about)
    layouts = {_layer(key): _layout(part["dtype"], part["shape"][1:]) for key, part in header.items()}
    features = {layer: layouts[layer] for layer in sorted(layouts) if layer[:1] != OWN}
    if ITEMS not in header:
        table = to_table(_old_items(about))
        return Shard(number, table, about["crc32"], features, about.get("identity", ""))
    begin, stop = (_LENGTH + length + offset for offset in header[ITEMS]["data_offsets"])
    content = _read(folder, name, start, begin, stop)
    if zlib.crc32(content) != about["crc32"][ITEMS]:
        raise StoreCorruptError(folder.at(name), "the bytes of its items differ from those that were written")
    return Shard(number, decode_table(content), about["crc32"], features, about["identity"])


def _read(folder: Folder, name: str, start: bytes, begin: int, stop: int) -> bytes:
    """Returns a range of the bytes of a file whose first bytes were read."""
    return start[begin:stop] if stop <= len(start) else folder.read(name, begin, stop)


def check_header(folder: Folder, number: int, about: Mapping[str, Any]) -> None:
    """Checks that the header of a shard has its checksum, and is that of this shard.

    Raises:
        StoreCorruptError: If it is not.
    """
    if "identity" not in about:  # stores of version 0.2 have no checksum of the header
        return
    if about.get("header_crc32") != _header_checksum(about):
        raise StoreCorruptError(folder.at(shard_name(number)), "its header differs from the one that was written")
    if about["number"] != number:
        raise StoreCorruptError(folder.at(shard_name(number)), f"it holds the rows of shard {about['number']}")


def open_shard(folder: Folder, number: int, identity: str | None = None) -> Any:
    """Opens a shard for reading its tensors; the file is memory-mapped.

    Args:
        folder: The folder of the store.
        number: The number of the shard.
        identity: The digest of the metadata of the store; None skips the comparison. Default: None.

    Raises:
        StoreNotFoundError: If the store was moved after it was opened.
        StoreCorruptError: If the file is not a shard of this number and store, or truncated.
    """
    library, name = need("safetensors", "store"), shard_name(number)
    try:
        file = library.safe_open(folder.local_path(name), framework="pt")
        about = json.loads(file.metadata()[_KEY])
    except FileNotFoundError as error:
        raise StoreNotFoundError(folder.path, moved=True) from error
    except (library.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise StoreCorruptError(folder.at(name), str(error)) from error
    check_header(folder, number, about)
    if identity is not None and about.get("identity", identity) != identity:
        raise StoreCorruptError(folder.at(name), "it holds features of another extraction")
    return file


def layer_tensor(file: Any, layer: str) -> Tensor:
    """Returns the tensor of a layer in an open shard: a view of the memory-mapped file, which must not be written."""
    tensor: Tensor = file.get_tensor(_key(layer))
    return tensor


def has_tensor(file: Any, layer: str) -> bool:
    """Whether an open shard has a tensor of this name."""
    return _key(layer) in file.keys()  # noqa: SIM118 (not a dict)


def checksum(tensor: Tensor) -> int:
    """Returns the CRC-32 of the bytes of a tensor, which detects accidental damage and is faster than the disk."""
    flat = tensor.contiguous().reshape(-1).view(torch.uint8)
    return zlib.crc32(flat.numpy().data)


def _key(layer: str) -> str:
    """Returns the name of the tensor of a layer; safetensors reserves one name."""
    return "@__metadata__" if layer == "__metadata__" else layer


def _layer(key: str) -> str:
    return "__metadata__" if key == "@__metadata__" else key


def _layout(dtype: str, shape: Sequence[int]) -> str:
    """Returns dtype and shape as text: both safetensors and PyTorch name a dtype by its letter and its bits."""
    return f"{_SHORT.get(dtype, dtype)} {list(shape)}"


_SHORT: Final = {
    "torch.float64": "F64", "torch.float32": "F32", "torch.float16": "F16", "torch.bfloat16": "BF16",
    "torch.int64": "I64", "torch.int32": "I32", "torch.int16": "I16", "torch.int8": "I8", "torch.uint8": "U8",
    "torch.bool": "BOOL", "torch.complex64": "C64", "torch.uint16": "U16", "torch.uint32": "U32",
    "torch.uint64": "U64", "torch.float8_e4m3fn": "F8_E4M3", "torch.float8_e5m2": "F8_E5M2",
}  # fmt: skip


def _header_checksum(header: Mapping[str, Any]) -> int:
    """Returns the CRC-32 of a header without its own checksum."""
    rest = {name: value for name, value in header.items() if name != "header_crc32"}
    return zlib.crc32(json.dumps(rest, sort_keys=True).encode())


def _old_items(about: Mapping[str, Any]) -> list[Item]:
    """Returns the items of a shard that version 0.2 wrote, whose header lists them."""
    digests = about.get("digests") or [""] * len(about["ids"])
    rows = [Item(name, digest) for name, digest in zip(about["ids"], digests, strict=True)]
    return rows + [Item(error["id"], error.get("digest", ""), error["reason"]) for error in about["errors"]]
