"""The rows of a shard, collected while batches are computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import torch
from torch import Tensor

from ..store import Item, StoreWriter

_NO_ROWS: Final = "no row: no token of it is among those of tokens=, or no object was found in it"


class Rows(NamedTuple):
    """The rows of some items.

    Attributes:
        features: The features `[rows, ...]` by layer.
        counts: The number of rows of each item.
        nonfinite: The number of NaN and infinite values of each item.
    """

    features: Mapping[str, Tensor]
    counts: Sequence[int]
    nonfinite: Tensor


class RowBuffer:
    """Collects rows by layer, in the order in which they are computed.

    Args:
        capacity: The number of rows to allocate memory for at the first row; more are allocated when they come.

    Attributes:
        rejected: The number of items that the model rejected.
    """

    def __init__(self, capacity: int) -> None:
        self.rejected = 0
        self._capacity = capacity
        self._held: dict[str, Tensor] = {}
        self._places: list[int] = []
        self._counts: list[int] = []
        self._nonfinite: list[Tensor] = []
        self._length = 0
        self._stream: torch.cuda.Stream | None = None

    @property
    def is_empty(self) -> bool:
        """Whether no rows were added."""
        return not self._places

    def add(self, places: Sequence[int], rows: Rows, name_of_item: str) -> None:
        """Adds the rows of some items.

        Args:
            places: The places of the items in the shard.
            rows: Their rows.
            name_of_item: The id of the first item, for the exception.

        Raises:
            ValueError: If their shape or dtype differs from that of earlier rows.
        """
        stop = self._length + sum(rows.counts)
        for name, part in rows.features.items():
            self._reserve(name, part, stop)
            held = self._held[name]
            if held.shape[1:] != part.shape[1:] or held.dtype != part.dtype:
                raise ValueError(_describe_rows(name, name_of_item, held, part))
            # Copied into one allocation: many small tensors that live until the shard is written fragment the heap.
            self._copy(held[self._length : stop], part)
        self._length = stop
        self._places += places
        self._counts += rows.counts
        self._nonfinite.append(rows.nonfinite)

    def content(self, items: Sequence[Item]) -> ShardContent:
        """Returns the rows in the order of the items, and the items with their numbers of rows.

        Args:
            items: The items of the shard. Those that no rows were added for have errors.
        """
        if self._stream is not None:
            self._stream.synchronize()
        nonfinite = torch.cat(self._nonfinite).tolist() if self._nonfinite else []
        found = list(items)
        for place, count, bad in zip(self._places, self._counts, nonfinite, strict=True):
            if not count:
                found[place] = items[place]._replace(error=_NO_ROWS)
            elif count != 1 or bad:
                found[place] = items[place]._replace(rows=count, nonfinite=bad)
        held = {name: rows[: self._length] for name, rows in self._held.items()}
        if self._places != sorted(self._places):
            owners = torch.tensor(self._places).repeat_interleave(torch.tensor(self._counts))
            order = owners.argsort(stable=True)
            held = {name: rows[order] for name, rows in held.items()}
        return ShardContent(held, found)

    def _reserve(self, name: str, part: Tensor, length: int) -> None:
        """Allocates memory for rows; pinned for rows on a GPU, so that they are copied while the model runs on."""
        held = self._held.get(name)
        if held is not None and (length <= len(held) or held.shape[1:] != part.shape[1:]):
            return
        size = max(self._capacity, length) if held is None else 2 * length
        grown = torch.empty(size, *part.shape[1:], dtype=part.dtype, pin_memory=part.is_cuda)
        if held is not None:
            if self._stream is not None:
                self._stream.synchronize()
            grown[: self._length] = held[: self._length]
        self._held[name] = grown

    def _copy(self, target: Tensor, part: Tensor) -> None:
        if not part.is_cuda:
            target.copy_(part)
            return
        if self._stream is None:
            self._stream = torch.cuda.Stream(part.device)  # type: ignore[no-untyped-call]
        self._stream.wait_stream(torch.cuda.current_stream(part.device))
        with torch.cuda.stream(self._stream):
            target.copy_(part, non_blocking=True)
        part.record_stream(self._stream)


@dataclass(frozen=True)
class ShardContent:
    """The content of a shard.

    Attributes:
        features: The features `[rows, ...]` by layer, in the order of the items.
        items: The items.
    """

    features: Mapping[str, Tensor]
    items: Sequence[Item]


def stored_content(writer: StoreWriter, number: int) -> ShardContent:
    """Reads the content of an existing shard."""
    return ShardContent(writer.features(number), writer.shard(number).items)


def merge_rows(old: ShardContent, new: ShardContent) -> ShardContent:
    """Returns the content of a shard in which some items were extracted again.

    Args:
        old: The content before.
        new: The content of the items that were extracted again.
    """
    again = {item.id: item for item in new.items}
    items = [again.get(item.id, item) for item in old.items]
    starts = {**_starts(old.items, 0), **_starts(new.items, sum(item.rows for item in old.items))}
    order = [row for item in items for row in range(starts[item.id], starts[item.id] + item.rows)]
    # A part without rows has no layers.
    parts = [part for part in (old.features, new.features) if part]
    if len(parts) == 1 and parts[0] is new.features:
        order = [row - sum(item.rows for item in old.items) for row in order]
    features = {name: torch.cat([part[name] for part in parts])[order] for name in parts[-1]} if parts else {}
    return ShardContent(features, items)


def _starts(items: Sequence[Item], first: int) -> dict[str, int]:
    """Returns the first row of each item by id."""
    found = {}
    for item in items:
        found[item.id] = first
        first += item.rows
    return found


def _describe_rows(name: str, item: str, held: Tensor, rows: Tensor) -> str:
    if held.dtype != rows.dtype:
        return f"{name!r} has rows of {held.dtype} and, for {item!r}, of {rows.dtype}: set dtype="
    return (
        f"{name!r} has rows of shapes {list(held.shape[1:])} and, for {item!r}, {list(rows.shape[1:])}, because items "
        "differ in size: reduce them (reduce='mean'), or resize items to the same size"
    )
