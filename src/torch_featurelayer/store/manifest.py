"""What became of every item, as a table for other tools."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any, Final

from .._optional import need
from .folder import Folder
from .shards import Shard

MANIFEST: Final = "manifest.parquet"


def write_manifest(folder: Folder, shards: Sequence[Shard]) -> None:
    """Writes one row for each item: `row` (null where it has none), `id`, `shard`, `offset` in it, `error`."""
    arrow, parquet = need("pyarrow", "store"), need("pyarrow.parquet", "store")
    kinds = {"row": "int64", "id": "string", "shard": "string", "offset": "int64", "error": "string"}
    schema = arrow.schema([(name, arrow.type_for_alias(kind)) for name, kind in kinds.items()])
    table = arrow.Table.from_pylist(list(_entries(shards)), schema=schema)
    content = io.BytesIO()
    parquet.write_table(table, content)
    folder.write(MANIFEST, content.getvalue())


def _entries(shards: Sequence[Shard]) -> Iterator[dict[str, Any]]:
    row = 0
    for shard in shards:
        for offset, name in enumerate(shard.ids):
            yield {"row": row, "id": name, "shard": shard.name, "offset": offset}
            row += 1
        for error in shard.errors:
            yield {"id": error.id, "shard": shard.name, "error": error.reason}
