"""The manifest: the items of finished shards in Arrow files, so that a store opens without reading its shards.

A segment of the manifest is two Arrow files: `manifest/00000000.items.arrow` has a row for each item of some shards,
and `manifest/00000000.shards.arrow`, which is written last, has a row for each of these shards. A later segment
replaces what earlier ones say of a shard, and may say that the shard itself must be read. The manifest only repeats
what shards hold: a segment that cannot be read is left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple
from uuid import uuid4

from .._exceptions import StoreCorruptError
from .._optional import need
from .folder import Folder
from .items import check_schema, check_uncompressed, empty_table, join_tables
from .shards import Shard, read_shard, shard_numbers

MANIFEST: Final = "manifest"
_SEGMENT: Final = re.compile(r"(\d{8,})[-0-9a-f]*\.shards\.arrow")
_COUNTS: Final = ("number", "items", "features", "rows")
_STALE: Final = -1  # the number of items of a shard that was replaced after its segment was written
_KEY: Final = b"torch_featurelayer"
_MOST_MERGED: Final = 1_000_000  # items; larger manifests get further segments instead of being written anew
_PART: Final = 1 << 16  # items that are written together
_READERS: Final = 16  # threads that read the headers of shards from object storage


class ShardEntry(NamedTuple):
    """What the manifest says of a shard.

    Attributes:
        number: The number of the shard.
        items: The number of its items.
        features: The number of its items with features.
        rows: The number of its rows.
    """

    number: int
    items: int
    features: int
    rows: int


@dataclass(frozen=True)
class Manifest:
    """The shards of a store, and their items.

    Attributes:
        entries: The shards that exist, in order.
        table: Their items, one Arrow table in the order of the shards.
        missing: The numbers of the shards that were written once, or are not finished, and do not exist.
        is_complete: Whether the extraction was finished, and no shard is missing.
        layouts: The dtype and the shape of a row of each layer, as text.
    """

    entries: Sequence[ShardEntry]
    table: Any = field(repr=False)
    missing: tuple[int, ...]
    is_complete: bool
    layouts: Mapping[str, str]


def read_manifest(folder: Folder, identity: str, expected: int = 0) -> Manifest:
    """Reads the manifest, and the headers of the shards that it does not describe.

    Args:
        folder: The folder of the store.
        identity: The digest of the metadata of the store.
        expected: The number of shards of the finished store; 0 if it is not known. Default: 0.

    Raises:
        StoreCorruptError: If a shard cannot be read.
    """
    segments = list(_read_segments(folder))
    places = _places(segments)
    numbers, covered = shard_numbers(folder), places.keys()
    total = max((segment.total for segment in segments), default=0)
    layouts = next((segment.layouts for segment in segments if segment.layouts), {})
    for shard in read_shards(folder, [number for number in numbers if number not in covered]):
        check_identity(folder, shard, identity)
        places[shard.number] = entry_of(shard), shard.table, 0
        layouts = layouts or shard.layouts
    existing = set(numbers)
    missing = (covered | set(range(max(total, expected)))) - existing
    return Manifest(
        [places[number][0] for number in numbers],
        _join([places[number] for number in numbers]),
        tuple(sorted(missing)),
        total > 0 and not missing,
        layouts,
    )


def finish_manifest(folder: Folder) -> None:
    """Describes all shards of a finished store; one shard at a time is in memory.

    Raises:
        ValueError: If the rows of shards have different dtypes or shapes.
        TypeError: If a column has values of types that have no type in common.
    """
    segments, numbers = list(_read_segments(folder)), shard_numbers(folder)
    places = _places(segments)
    new = [number for number in numbers if number not in places]
    if segments and not new and segments[-1].total == len(numbers):
        return
    is_small = sum(entry.items for entry, _, _ in places.values()) <= _MOST_MERGED
    if is_small or not segments:
        # The names of a manifest that was written at once: continued stores have the same files as others.
        _write_segment(folder, f"{MANIFEST}/{0:08d}.shards.arrow", numbers, len(numbers))
        for segment in segments:
            if segment.name != f"{MANIFEST}/{0:08d}.shards.arrow":
                folder.delete(segment.name)
                folder.delete(_items_name(segment.name), missing_ok=True)
    else:
        _write_segment(folder, _next_name(folder), new, len(numbers))


def covered_shards(folder: Folder) -> set[int]:
    """Returns the numbers of the shards that the manifest describes."""
    return set(_places(list(_read_segments(folder))))


def mark_stale(folder: Folder, number: int) -> None:
    """Writes a segment that says that a shard must be read itself, because it is going to be replaced."""
    # A name of its own, because several processes may replace shards.
    name = _next_name(folder).replace(".", f"-{uuid4().hex[:8]}.", 1)
    _write_entries(folder, name, [ShardEntry(number, _STALE, 0, 0)], 0, {})


def read_shards(folder: Folder, numbers: Sequence[int]) -> Iterator[Shard]:
    """Yields the headers and items of shards; those on object storage are requested ahead."""
    if folder.local:
        yield from (read_shard(folder, number) for number in numbers)
        return
    with ThreadPoolExecutor(_READERS) as threads:
        for start in range(0, len(numbers), _READERS):
            yield from threads.map(lambda number: read_shard(folder, number), numbers[start : start + _READERS])


def check_identity(folder: Folder, shard: Shard, identity: str) -> None:
    """Checks that a shard was written under the metadata of its store.

    Raises:
        StoreCorruptError: If it was not.
    """
    if shard.identity and shard.identity != identity:
        raise StoreCorruptError(folder.at(shard.name), "it holds features of another extraction")


def entry_of(shard: Shard) -> ShardEntry:
    """Returns the entry of a shard."""
    return ShardEntry(shard.number, len(shard.table), shard.table["error"].null_count, shard.rows)


class _Segment(NamedTuple):
    name: str
    entries: Sequence[ShardEntry]
    items: Any
    total: int
    layouts: Mapping[str, str]


_Place = tuple[ShardEntry, Any, int]


def _read_segments(folder: Folder) -> Iterator[_Segment]:
    """Yields the segments that can be read, in order."""
    arrow = need("pyarrow", "store")
    for name in _segment_names(folder):
        # One that is being written, or is damaged, is left out: the shards say the same.
        with suppress(arrow.ArrowException, OSError, ValueError, KeyError, TypeError):
            yield _read_segment(arrow, folder, name)


def _read_segment(arrow: Any, folder: Folder, name: str) -> _Segment:
    """Reads a segment.

    Raises:
        ValueError: If its two files do not belong together.
    """
    shards = _open(arrow, folder, name)
    about = json.loads(shards.schema.metadata[_KEY])
    columns = (shards[column].to_pylist() for column in _COUNTS)
    entries = [ShardEntry(*counts) for counts in zip(*columns, strict=True)]
    count = sum(max(entry.items, 0) for entry in entries)
    items = _open(arrow, folder, _items_name(name)) if count else empty_table()
    check_schema(items.schema)
    if count != len(items):
        raise ValueError(f"{name} counts {count} items, and there are {len(items)}")
    return _Segment(name, entries, items, about["shards"], about["layouts"])


def _places(segments: Sequence[_Segment]) -> dict[int, _Place]:
    """Returns the entry of each shard, with the table of its items and their place in it."""
    places: dict[int, _Place] = {}
    for segment in segments:
        start = 0
        for entry in segment.entries:
            if entry.items == _STALE:
                places.pop(entry.number, None)
                continue
            places[entry.number] = entry, segment.items, start
            start += entry.items
    return places


def _items_name(name: str) -> str:
    return name.replace(".shards.", ".items.")


def _segment_names(folder: Folder) -> list[str]:
    return [name for name in folder.names(MANIFEST) if _SEGMENT.fullmatch(name.rpartition("/")[2])]


def _next_name(folder: Folder) -> str:
    numbers = [int(name.rpartition("/")[2][:8]) for name in _segment_names(folder)]
    return f"{MANIFEST}/{max(numbers, default=-1) + 1:08d}.shards.arrow"


def _open(arrow: Any, folder: Folder, name: str) -> Any:
    """Returns the table of an Arrow file, memory-mapped."""
    # Not a downloaded copy, which would stay when the manifest is written again.
    content = None if folder.local else folder.read(name)
    # Checking touches a part of all pages. They belong to a mapping of its own, and are freed with it.
    _table(arrow, folder.at(name), content).validate()
    return _table(arrow, folder.at(name), content)


def _table(arrow: Any, path: str, content: bytes | None) -> Any:
    source = arrow.memory_map(path) if content is None else arrow.BufferReader(content)
    check_uncompressed(source.read_buffer())
    return arrow.ipc.open_file(source).read_all()


def _write_segment(folder: Folder, name: str, numbers: Sequence[int], total: int) -> None:
    """Writes the two files of a segment."""
    schema = read_shard(folder, numbers[0]).table.schema if numbers else empty_table().schema
    try:
        entries, layouts = _write_items(folder, name, numbers, schema)
    except _OtherSchemaError:  # once more, with the columns of all shards
        schema = join_tables(shard.table.schema.empty_table() for shard in read_shards(folder, numbers)).schema
        entries, layouts = _write_items(folder, name, numbers, schema)
    _write_entries(folder, name, entries, total, layouts)


class _OtherSchemaError(Exception):
    """A shard has further columns, or columns of other types."""


def _write_items(
    folder: Folder, name: str, numbers: Sequence[int], schema: Any
) -> tuple[list[ShardEntry], Mapping[str, str]]:
    """Writes the items of shards, and returns their entries and layouts."""
    arrow, entries, layouts = need("pyarrow", "store"), [], _Layouts()
    held: list[Any] = []  # tables of small shards, written together: each part of a file costs time when it is opened
    with (
        folder.replacing(_items_name(name)) as path,
        arrow.OSFile(str(path), "wb") as sink,
        arrow.ipc.new_file(sink, schema) as writer,
    ):
        for shard in read_shards(folder, numbers):
            layouts.add(shard)
            entries.append(entry_of(shard))
            held.append(join_tables([schema.empty_table(), shard.table]))
            if held[-1].schema != schema:
                raise _OtherSchemaError
            if sum(map(len, held)) >= _PART or len(held) >= _PART // 64:
                writer.write_table(arrow.concat_tables(held).combine_chunks())
                held.clear()
        if held:
            writer.write_table(arrow.concat_tables(held).combine_chunks())
    return entries, layouts.found


class _Layouts:
    """The dtypes and shapes of rows, which must be the same in all shards."""

    def __init__(self) -> None:
        self.found: Mapping[str, str] = {}
        self._name = ""

    def add(self, shard: Shard) -> None:
        """Checks a shard against those before it.

        Raises:
            ValueError: If its rows have other dtypes or shapes.
        """
        check_layouts(self.found, self._name, shard.layouts, shard.name)
        if shard.layouts and not self.found:
            self.found, self._name = shard.layouts, shard.name


def check_layouts(layouts: Mapping[str, str], name: str, others: Mapping[str, str], other: str) -> None:
    """Checks that the rows of two shards have the same dtypes and shapes.

    Raises:
        ValueError: If they differ.
    """
    if not layouts or not others or dict(layouts) == dict(others):
        return
    layer = next(key for key in {**layouts, **others} if layouts.get(key) != others.get(key))
    raise ValueError(
        f"{layer!r} has rows of {layouts.get(layer)} in {name} and of {others.get(layer)} in {other}: reduce them "
        "(reduce='mean'), or resize items to the same size"
    )


def _write_entries(
    folder: Folder, name: str, entries: Sequence[ShardEntry], total: int, layouts: Mapping[str, str]
) -> None:
    arrow = need("pyarrow", "store")
    about = json.dumps({"shards": total, "layouts": dict(layouts)}, sort_keys=True)
    schema = arrow.schema([(column, arrow.int64()) for column in _COUNTS], metadata={_KEY: about})
    columns = zip(*entries, strict=True) if entries else [()] * len(_COUNTS)
    table = arrow.table([arrow.array(column, arrow.int64()) for column in columns], schema=schema)
    with (
        folder.replacing(name) as path,
        arrow.OSFile(str(path), "wb") as sink,
        arrow.ipc.new_file(sink, schema) as writer,
    ):
        writer.write_table(table)


def _join(places: Sequence[_Place]) -> Any:
    """Returns the items of shards as one table, with few slices where neighbours are in one segment."""
    return join_tables(table.slice(start, count) for table, start, count in _runs(places)) if places else empty_table()


def _runs(places: Sequence[_Place]) -> Iterator[tuple[Any, int, int]]:
    """Yields tables with the first and the number of the rows that neighbouring shards have in them."""
    _, table, start = places[0]
    count = 0
    for entry, next_table, next_start in places:
        if next_table is not table or next_start != start + count:
            yield table, start, count
            table, start, count = next_table, next_start, 0
        count += entry.items
    yield table, start, count
