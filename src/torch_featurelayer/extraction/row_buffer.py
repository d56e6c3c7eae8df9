"""The rows of a shard, collected while batches are computed."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


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


def _describe_shapes(name: str, held: Tensor, rows: Tensor) -> str:
    return (
        f"{name!r} has rows of shapes {list(held.shape[1:])} and {list(rows.shape[1:])}, because items differ in size: "
        "reduce them (reduce='mean'), or resize items to the same size"
    )
