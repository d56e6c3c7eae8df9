"""Stores as tables for databases and data frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from os import PathLike, fspath
from typing import Any

import torch

from .._optional import need
from .ids import Ids
from .manifest import ShardEntry
from .rows import ShardFiles
from .shards import SPANS, TOKEN_IDS, has_tensor

_TOKEN_COLUMNS = ("token_id", "start", "end")


@dataclass(frozen=True)
class Content:
    """What is written to a table.

    Attributes:
        files: The shards of the store.
        entries: The shards that have rows.
        ids: The ids of the items.
        layers: The names of the layers.
        columns: The names of the columns of the dataset.
    """

    files: ShardFiles
    entries: Sequence[ShardEntry]
    ids: Ids
    layers: Sequence[str]
    columns: Sequence[str]


def write_parquet(content: Content, path: str | PathLike[str]) -> None:
    """Writes a Parquet file with a row group for each shard."""
    parquet = need("pyarrow.parquet", "store")
    schema, batches = _batches(content)
    with parquet.ParquetWriter(fspath(path), schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


def write_lance(content: Content, path: str | PathLike[str]) -> None:
    """Writes a Lance dataset; one shard at a time is in memory."""
    schema, batches = _batches(content)
    reader = need("pyarrow", "store").RecordBatchReader.from_batches(schema, batches)
    need("lance", "lance").write_dataset(reader, fspath(path))


def column_names(layers: Iterable[str], columns: Sequence[str] = ()) -> list[str]:
    """Returns the names of the columns of layers: `"layer:id"` for a layer with the name of another column."""
    taken = {"id", *_TOKEN_COLUMNS, *columns}
    return [f"layer:{layer}" if layer in taken else layer for layer in layers]


def _batches(content: Content) -> tuple[Any, Iterator[Any]]:
    files, entries, ids = content.files, content.entries, content.ids
    layers, columns = content.layers, content.columns
    arrow = need("pyarrow", "store")
    firsts = {layer: files.tensor(entries[0].number, layer) for layer in layers}
    has_tokens = has_tensor(files.file(entries[0].number), TOKEN_IDS)
    fields = [arrow.field("id", arrow.string())]
    fields += [arrow.field(name, ids.column(name).type) for name in columns]
    fields += [arrow.field(name, arrow.int32()) for name in _TOKEN_COLUMNS if has_tokens]
    fields += [
        arrow.field(
            name,
            arrow.list_(_arrow_type(arrow, layer, first.dtype), prod(first.shape[1:])),
            metadata={"shape": str(list(first.shape[1:]))},
        )
        for name, (layer, first) in zip(column_names(layers, columns), firsts.items(), strict=True)
    ]
    schema = arrow.schema(fields)

    def batches() -> Iterator[Any]:
        start = 0
        for entry in entries:
            places = ids.of_rows(torch.arange(start, start + entry.rows))
            start += entry.rows
            values = [ids.take(name, places) for name in ("id", *columns)]
            arrays = [arrow.array(part, field.type) for part, field in zip(values, fields, strict=False)]
            if has_tokens:
                spans = files.tensor(entry.number, SPANS)
                tokens = files.tensor(entry.number, TOKEN_IDS), spans[:, 0].contiguous(), spans[:, 1].contiguous()
                arrays += [arrow.array(part.numpy()) for part in tokens]
            arrays += [_vectors(arrow, files.tensor(entry.number, layer)) for layer in layers]
            yield arrow.record_batch(arrays, schema=schema)

    return schema, batches()


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


def _vectors(arrow: Any, rows: torch.Tensor) -> Any:
    flat = rows.reshape(len(rows), -1)
    # Half precision is not a type that all readers of Parquet support.
    wide = flat.float() if flat.is_floating_point() and flat.dtype != torch.float64 else flat
    return arrow.FixedSizeListArray.from_arrays(arrow.array(wide.reshape(-1).numpy()), wide.shape[1])
