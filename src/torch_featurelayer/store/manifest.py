"""The manifest: the status of every item, as a table for other tools."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Final

from .._optional import need
from .folder import Folder
from .shards import Shard

MANIFEST: Final = "manifest.parquet"


def write_manifest(folder: Folder, shards: Sequence[Shard]) -> None:
    """Writes a row for each item: `row` (null without features), `id`, `shard`, `offset` in the shard, `error`."""
    arrow, parquet = need("pyarrow", "store"), need("pyarrow.parquet", "store")
    kinds = {"row": "int64", "id": "string", "shard": "string", "offset": "int64", "error": "string"}
    schema = arrow.schema([(name, arrow.type_for_alias(kind)) for name, kind in kinds.items()])
    content, start = io.BytesIO(), 0
    # A row group for each shard, so that readers can skip shards.
    with parquet.ParquetWriter(content, schema) as writer:
        for shard in shards:
            writer.write_batch(arrow.record_batch(_columns(shard, start), schema=schema))
            start += len(shard.ids)
    folder.write(MANIFEST, content.getvalue())


def _columns(shard: Shard, start: int) -> list[list[Any]]:
    """Returns the columns of one shard, which becomes a row group."""
    rows, errors = len(shard.ids), len(shard.errors)
    nothing = [None] * errors
    return [
        [*range(start, start + rows), *nothing],
        [*shard.ids, *(error.id for error in shard.errors)],
        [shard.name] * (rows + errors),
        [*range(rows), *nothing],
        [*[None] * rows, *(error.reason for error in shard.errors)],
    ]
