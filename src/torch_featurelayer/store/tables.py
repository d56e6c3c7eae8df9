"""A store as a table that databases and data frames read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from os import PathLike, fspath
from typing import Any

import torch

from .._optional import need
from .folder import Folder
from .shards import Shard, opened


def write_parquet(folder: Folder, shards: Sequence[Shard], layers: Sequence[str], path: str | PathLike[str]) -> None:
    """Writes a parquet file, a row group for each shard."""
    parquet = need("pyarrow.parquet", "store")
    schema, batches = _batches(folder, shards, layers)
    with parquet.ParquetWriter(fspath(path), schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


def write_lance(folder: Folder, shards: Sequence[Shard], layers: Sequence[str], path: str | PathLike[str]) -> None:
    """Writes a Lance dataset, a shard in memory at a time."""
    schema, batches = _batches(folder, shards, layers)
    reader = need("pyarrow", "store").RecordBatchReader.from_batches(schema, batches)
    need("lance", "lance").write_dataset(reader, fspath(path))


def _batches(folder: Folder, shards: Sequence[Shard], layers: Sequence[str]) -> tuple[Any, Iterator[Any]]:
    arrow = need("pyarrow", "store")
    with opened(folder, shards[0].name) as file:
        shapes = {layer: file.get_slice(layer).get_shape()[1:] for layer in layers}
    columns = [
        arrow.field(layer, arrow.list_(arrow.float32(), prod(shape)), metadata={"shape": str(list(shape))})
        for layer, shape in shapes.items()
    ]
    schema = arrow.schema([arrow.field("id", arrow.string()), *columns])
    return schema, (_batch(arrow, schema, folder, shard, layers) for shard in shards)


def _batch(arrow: Any, schema: Any, folder: Folder, shard: Shard, layers: Sequence[str]) -> Any:
    with opened(folder, shard.name) as file:
        columns = [_vectors(arrow, file.get_tensor(layer)) for layer in layers]
    return arrow.record_batch([arrow.array(list(shard.ids), arrow.string()), *columns], schema=schema)


def _vectors(arrow: Any, rows: torch.Tensor) -> Any:
    flat = rows.reshape(len(rows), -1).float()
    return arrow.FixedSizeListArray.from_arrays(arrow.array(flat.reshape(-1).numpy()), flat.shape[1])
