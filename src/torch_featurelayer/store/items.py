"""Items of a dataset, with and without features, as Arrow tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from .._optional import need

_KINDS: Final = {"id": "string", "digest": "string", "error": "string", "rows": "int32", "nonfinite": "int64"}
OWN_COLUMNS: Final = list(_KINDS)
RESERVED: Final = frozenset([*_KINDS, "row", "shard", "token_id", "start", "end"])


class Item(NamedTuple):
    """An item of a dataset.

    Attributes:
        id: The id of the item.
        digest: The digest of the item; empty if it could not be read, or is identified by its id alone.
        error: Why the item has no features; None if it has.
        rows: The number of rows of the item: the number of its tokens in a store of tokens, otherwise 1.
        nonfinite: The number of NaN and infinite values in its features.
        columns: The values of the columns by name, such as a label.
    """

    id: str
    digest: str = ""
    error: str | None = None
    rows: int = 1
    nonfinite: int = 0
    columns: Mapping[str, Any] = {}  # not a proxy, which worker processes could not pickle


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


def to_table(items: Sequence[Item]) -> Any:
    """Returns items as an Arrow table: `id`, `digest`, `error`, `rows`, `nonfinite`, and a column for each of theirs.

    Raises:
        TypeError: If Arrow has no type for the values of a column.
    """
    arrow = need("pyarrow", "store")
    columns = {
        "id": [item.id for item in items],
        "digest": [item.digest for item in items],
        "error": [item.error for item in items],
        "rows": [0 if item.error is not None else item.rows for item in items],
        "nonfinite": [item.nonfinite for item in items],
    }
    arrays = {name: arrow.array(values, arrow.type_for_alias(_KINDS[name])) for name, values in columns.items()}
    names = dict.fromkeys(name for item in items for name in item.columns)
    arrays.update({name: _column(arrow, name, [item.columns.get(name) for item in items]) for name in names})
    return arrow.table(arrays)


def to_items(table: Any) -> list[Item]:
    """Returns the items of a table."""
    own = [name for name in table.column_names if name not in _KINDS]
    return [
        Item(row["id"], row["digest"], row["error"], row["rows"], row["nonfinite"], {name: row[name] for name in own})
        for row in table.to_pylist()
    ]


def to_errors(table: Any) -> tuple[RowError, ...]:
    """Returns the items of a table that have no features."""
    failed = table.select(["id", "error", "digest"]).filter(need("pyarrow.compute", "store").field("error").is_valid())
    return tuple(RowError(row["id"], row["error"], row["digest"]) for row in failed.to_pylist())


def encode_table(table: Any) -> bytes:
    """Returns a table as bytes: the same table gives the same bytes."""
    arrow = need("pyarrow", "store")
    sink = arrow.BufferOutputStream()
    with arrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return bytes(sink.getvalue())


def decode_table(content: Any) -> Any:
    """Returns the table of `encode_table`.

    Raises:
        ValueError: If the bytes are not such a table.
    """
    arrow = need("pyarrow", "store")
    try:
        check_uncompressed(content)
        with arrow.ipc.open_stream(content) as reader:
            check_schema(reader.schema)
            table = reader.read_all()
        table.validate()
    except (arrow.ArrowException, OSError) as error:
        raise ValueError(f"its items cannot be read ({error})") from error
    return table


def check_uncompressed(content: Any) -> None:
    """Checks that the messages of an Arrow stream or file have no compressed buffers.

    Ours have none, and a few bytes could claim to be many gigabytes when they are decompressed.

    Raises:
        ValueError: If a message has.
    """
    arrow = need("pyarrow", "store")
    is_file = bytes(memoryview(content)[:6]) == b"ARROW1"
    stream = memoryview(content)[8:] if is_file else content
    for message in arrow.ipc.MessageReader.open_stream(arrow.py_buffer(stream)):
        if message.type == "record batch" and _has_compression(bytes(message.metadata)):
            raise ValueError("its items are compressed, which no store of this package has")


def _has_compression(metadata: bytes) -> bool:
    """Whether the flatbuffer of a record batch has the field `compression`, the fourth of its table."""
    message = int.from_bytes(metadata[:4], "little")
    header = _field(metadata, message, 2)  # of the table `Message`
    batch = header + int.from_bytes(metadata[header : header + 4], "little")
    return _field(metadata, batch, 3) != 0


def _field(content: bytes, table: int, number: int) -> int:
    """Returns the place of a field of a flatbuffer table; 0 if it is absent."""
    vtable = table - int.from_bytes(content[table : table + 4], "little", signed=True)
    size = int.from_bytes(content[vtable : vtable + 2], "little")
    entry = vtable + 4 + 2 * number
    offset = int.from_bytes(content[entry : entry + 2], "little") if entry + 2 <= vtable + size else 0
    return table + offset if offset else 0


def check_schema(schema: Any) -> None:
    """Checks that a table has the columns of items.

    Raises:
        ValueError: If a column is missing, or of another type.
    """
    found = {name: str(schema.field(name).type) for name in schema.names if name in _KINDS}
    if found != _KINDS:
        raise ValueError(f"the columns of its items are {found}, not {_KINDS}")


def empty_table() -> Any:
    """Returns a table of no items."""
    return to_table([])


def join_tables(tables: Iterable[Any]) -> Any:
    """Returns tables below each other, without copying values of the same type.

    Raises:
        TypeError: If a column has values of types that have no type in common.
    """
    arrow = need("pyarrow", "store")
    try:
        return arrow.concat_tables(list(tables), promote_options="permissive")
    except arrow.ArrowException as error:
        raise TypeError(f"a column has values of different types: {error}") from error


def _column(arrow: Any, name: str, values: list[Any]) -> Any:
    try:
        return arrow.array(values)
    except (arrow.ArrowException, TypeError, OverflowError) as error:
        raise TypeError(f"the values of column {name!r} cannot be stored: {error}") from error
