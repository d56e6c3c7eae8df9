"""Stores as tables for databases and data frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from os import PathLike, fspath
from typing import Any

import torch

from .._optional import need
from .folder import Folder
from .shards import Shard, layer_slice, open_shard


def write_parquet(folder: Folder, shards: Sequence[Shard], layers: Sequence[str], path: str | PathLike[str]) -> None:
    """Writes a Parquet file with a row group for each shard."""
    parquet = need("pyarrow.parquet", "store")
    schema, batches = _batches(folder, shards, layers)
    with parquet.ParquetWriter(fspath(path), schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


def write_lance(folder: Folder, shards: Sequence[Shard], layers: Sequence[str], path: str | PathLike[str]) -> None:
    """Writes a Lance dataset; one shard at a time is in memory."""
    schema, batches = _batches(folder, shards, layers)
    reader = need("pyarrow", "store").RecordBatchReader.from_batches(schema, batches)
    need("lance", "lance").write_dataset(reader, fspath(path))


def column_name(layer: str) -> str:
    """Returns the name of the column of a layer: `"layer:id"` for a layer named `id`, which is the column of ids."""
    return f"layer:{layer}" if layer == "id" else layer


def _batches(folder: Folder, shards: Sequence[Shard], layers: Sequence[str]) -> tuple[Any, Iterator[Any]]:
    arrow = need("pyarrow", "store")
    with open_shard(folder, shards[0].name) as file:
        firsts = {layer: layer_slice(file, layer)[:1] for layer in layers}
    columns = [
        arrow.field(
            column_name(layer),
            arrow.list_(_arrow_type(arrow, layer, first.dtype), prod(first.shape[1:])),
            metadata={"shape": str(list(first.shape[1:]))},
        )
        for layer, first in firsts.items()
    ]
    schema = arrow.schema([arrow.field("id", arrow.string()), *columns])
    return schema, (_batch(arrow, schema, folder, shard, layers) for shard in shards)


def _arrow_type(arrow: Any, layer: str, dtype: torch.dtype) -> Any:
    """Returns an Arrow type that can hold every value of a layer.

    Raises:
        TypeError: If there is no such type.
    """
    if dtype.is_floating_point:
        return arrow.float64() if dtype == torch.float64 else arrow.float32()
    if dtype.is_complex:
        raise TypeError(f"{layer!r} holds complex numbers, which tables do not support: store real and imaginary parts")
    return arrow.bool_() if dtype == torch.bool else arrow.type_for_alias(str(dtype).removeprefix("torch."))


def _batch(arrow: Any, schema: Any, folder: Folder, shard: Shard, layers: Sequence[str]) -> Any:
    with open_shard(folder, shard.name) as file:
        columns = [_vectors(arrow, layer_slice(file, layer)[:]) for layer in layers]
    return arrow.record_batch([arrow.array(list(shard.ids), arrow.string()), *columns], schema=schema)


def _vectors(arrow: Any, rows: torch.Tensor) -> Any:
    flat = rows.reshape(len(rows), -1)
    # Half precision is not a type that all readers of Parquet support.
    wide = flat.float() if flat.is_floating_point() and flat.dtype != torch.float64 else flat
    return arrow.FixedSizeListArray.from_arrays(arrow.array(wide.reshape(-1).numpy()), wide.shape[1])
