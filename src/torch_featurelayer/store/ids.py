"""`Ids`: the ids of the items with features, read from Arrow when they are indexed."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import accumulate
from typing import Any, overload

import torch
from torch import Tensor

from .._optional import need
from .manifest import ShardEntry


class Ids(Sequence[str]):
    """The ids of the items with features, in order: a sequence that compares like a tuple.

    Args:
        table: All items, an Arrow table.
        entries: The shards of the items, in order.
    """

    def __init__(self, table: Any, entries: Sequence[ShardEntry]) -> None:
        self._table, self._entries = table, entries

    def __len__(self) -> int:
        return sum(entry.features for entry in self._entries)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[str, ...]: ...
    def __getitem__(self, place: int | slice) -> str | tuple[str, ...]:
        """Returns the id at a place, or the ids of a slice.

        Raises:
            IndexError: If there is no such place.
        """
        if isinstance(place, slice):
            numbers = torch.tensor(range(len(self))[place], dtype=torch.int64)
            return tuple(self._table["id"].take(self._to_items(numbers).numpy()).to_pylist())
        place = place.__index__()
        if not -len(self) <= place < len(self):
            raise IndexError(f"there are {len(self)} ids, so there is none at {place}")
        found: str = self._table["id"][int(self._to_items(torch.tensor([place % len(self)])))].as_py()
        return found

    def __iter__(self) -> Iterator[str]:
        for batch in self._table.select(["id", "error"]).to_batches():
            pairs = zip(batch["id"].to_pylist(), batch["error"].to_pylist(), strict=True)
            yield from (name for name, error in pairs if error is None)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._find(name) is not None

    def index(self, name: str, start: int = 0, stop: int | None = None) -> int:
        """Returns the place of an id.

        Args:
            name: The id.
            start: The first place to search. Default: 0.
            stop: The place after the last one to search. Default: None, the end.

        Raises:
            ValueError: If no item with features has this id.
        """
        place = self._find(name)
        if place is None or not start <= place < (len(self) if stop is None else stop):
            raise ValueError(f"no item with features has the id {name!r}")
        return place

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Ids) and self._is_whole and other._is_whole:
            return bool(self._table["id"].equals(other._table["id"]))
        return isinstance(other, (Ids, tuple, list)) and len(self) == len(other) and tuple(self) == tuple(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = [repr(name) for name in self[:10]]
        return f"({', '.join(shown)}{', ...' if len(self) > 10 else ',' if len(shown) == 1 else ''})"

    def rows(self, place: int) -> range:
        """Returns the rows of an item: one row, or those of its tokens.

        Args:
            place: The place of the item.
        """
        shard = bisect_right(self._feature_ends, place)
        first = self._feature_ends[shard] - self._entries[shard].features
        start = self._item_starts[shard]
        table = self._table["rows"].slice(start, self._entries[shard].items)
        # Items without features have no rows, and leave no gap.
        ends = list(accumulate(count for count in table.to_pylist() if count))
        row = self._row_starts[shard]
        within = place - first
        return range(row + (ends[within - 1] if within else 0), row + ends[within])

    def of_rows(self, rows: Tensor) -> Tensor:
        """Returns the places of the items that rows belong to.

        Args:
            rows: The numbers of the rows, int64.
        """
        ends = torch.tensor([start + entry.rows for start, entry in zip(self._row_starts, self._entries, strict=True)])
        places = torch.empty_like(rows)
        shards = torch.searchsorted(ends, rows, right=True)
        for shard in set(shards.tolist()):
            chosen = shards == shard
            entry = self._entries[shard]
            if entry.rows == entry.features:
                within = rows[chosen] - self._row_starts[shard]
            else:
                counts = self._table["rows"].slice(self._item_starts[shard], entry.items).to_numpy()
                item_ends = torch.from_numpy(counts[counts > 0].cumsum())
                within = torch.searchsorted(item_ends, rows[chosen] - self._row_starts[shard], right=True)
            places[chosen] = self._feature_ends[shard] - entry.features + within
        return places

    def column(self, name: str) -> Any:
        """Returns the values of a column for these items, an Arrow array.

        Args:
            name: The name of the column.
        """
        values = self._table[name]
        return values if self._is_whole else values.filter(self._table["error"].is_null())

    def take(self, name: str, places: Tensor) -> list[Any]:
        """Returns the values of a column for some of these items.

        Args:
            name: The name of the column.
            places: The places of the items, int64.
        """
        values: list[Any] = self._table[name].take(self._to_items(places).numpy()).to_pylist()
        return values

    def _find(self, name: str) -> int | None:
        item = need("pyarrow.compute", "store").index(self._table["id"], name).as_py()
        if item < 0:
            return None
        before = int(torch.searchsorted(self._failed, torch.tensor(item)))
        is_failed = before < len(self._failed) and int(self._failed[before]) == item
        return None if is_failed else item - before

    def _to_items(self, places: Tensor) -> Tensor:
        """Returns the places among all items, of places among those with features."""
        if self._is_whole:
            return places
        # How many failed items are before each: only these are kept, since they are few.
        gaps = self._failed - torch.arange(len(self._failed))
        return places + torch.searchsorted(gaps, places, right=True)

    @cached_property
    def _is_whole(self) -> bool:
        """Whether all items have features."""
        return len(self) == len(self._table)

    @cached_property
    def _failed(self) -> Tensor:
        """The places of the items without features among all items."""
        if self._is_whole:
            return torch.empty(0, dtype=torch.int64)
        compute = need("pyarrow.compute", "store")
        return torch.from_numpy(compute.indices_nonzero(self._table["error"].is_valid()).to_numpy().astype("int64"))

    @cached_property
    def _feature_ends(self) -> list[int]:
        return list(accumulate(entry.features for entry in self._entries))

    @cached_property
    def _item_starts(self) -> list[int]:
        return [0, *accumulate(entry.items for entry in self._entries)][:-1]

    @cached_property
    def _row_starts(self) -> list[int]:
        return [0, *accumulate(entry.rows for entry in self._entries)][:-1]
