"""The rows of a shard, collected while batches are computed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ..store import RowError, StoreWriter


class RowBuffer:
    """Collects rows by layer, each layer in one tensor that is allocated at the first row.

    Args:
        capacity: The largest number of rows.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._held: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, part: Mapping[str, Tensor]) -> None:
        """Adds the rows `[N, ...]` of some items.

        Raises:
            ValueError: If their shape differs from that of earlier rows.
        """
        for name, rows in part.items():
            if name not in self._held:
                self._held[name] = torch.empty(self._capacity, *rows.shape[1:], dtype=rows.dtype)
            held = self._held[name]
            if held.shape[1:] != rows.shape[1:]:
                raise ValueError(_describe_shapes(name, held, rows))
            start = self._counts.get(name, 0)
            # Copied into one allocation: many small tensors that live until the shard is written fragment the heap.
            held[start : start + len(rows)] = rows
            self._counts[name] = start + len(rows)

    def tensors(self) -> dict[str, Tensor]:
        """Returns all rows `[N, ...]` by layer: views."""
        return {name: held[: self._counts[name]] for name, held in self._held.items()}


class ShardContent(NamedTuple):
    """The content of a shard.

    Attributes:
        features: The features `[rows, ...]` by layer.
        ids: The ids of the rows.
        errors: The items without a row.
        digests: The digests of the items of the rows.
    """

    features: Mapping[str, Tensor]
    ids: list[str]
    errors: list[RowError]
    digests: list[str]


def stored_content(writer: StoreWriter, number: int) -> ShardContent:
    """Reads the content of an existing shard."""
    shard = writer.shard(number)
    return ShardContent(writer.rows(number), list(shard.ids), list(shard.errors), list(shard.digests))


def merge_rows(old: ShardContent, new: ShardContent, order: Mapping[str, int]) -> ShardContent:
    """Returns the content of a shard in which some items were extracted again.

    Args:
        old: The content before.
        new: The content of the items that were extracted again.
        order: The places of items by id.
    """
    again = {*new.ids, *(error.id for error in new.errors)}
    kept = [row for row, name in enumerate(old.ids) if name not in again]
    ids, digests = [*(old.ids[row] for row in kept), *new.ids], [*(old.digests[row] for row in kept), *new.digests]
    sequence = sorted(range(len(ids)), key=lambda row: order[ids[row]])
    # A part without rows has no layers.
    parts = [part for part in ({name: rows[kept] for name, rows in old.features.items()}, new.features) if part]
    features = {name: torch.cat([part[name] for part in parts])[sequence] for name in parts[-1]} if parts else {}
    errors = [*(error for error in old.errors if error.id not in again), *new.errors]
    errors.sort(key=lambda error: order[error.id])
    return ShardContent(features, [ids[row] for row in sequence], errors, [digests[row] for row in sequence])


def _describe_shapes(name: str, held: Tensor, rows: Tensor) -> str:
    return (
        f"{name!r} has rows of shapes {list(held.shape[1:])} and {list(rows.shape[1:])}, because items differ in size: "
        "reduce them (reduce='mean'), or resize items to the same size"
    )
