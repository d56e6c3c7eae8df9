"""The features of a shard, as they come."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class Rows:
    """Rows by layer, each layer in one tensor from the beginning: many small ones would leave holes in memory.

    Args:
        most: How many rows there may be.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, part: Mapping[str, Tensor]) -> None:
        """Adds the rows `[N, ...]` of some items.

        Raises:
            ValueError: They have another shape than those before.
        """
        for name, rows in part.items():
            if name not in self._held:
                self._held[name] = torch.empty(self._most, *rows.shape[1:], dtype=rows.dtype)
            held = self._held[name]
            if held.shape[1:] != rows.shape[1:]:
                raise ValueError(_differ(name, held, rows))
            start = self._counts.get(name, 0)
            held[start : start + len(rows)] = rows
            self._counts[name] = start + len(rows)

    def tensors(self) -> dict[str, Tensor]:
        """Returns all rows `[N, ...]` by layer: views."""
        return {name: held[: self._counts[name]] for name, held in self._held.items()}


def _differ(name: str, held: Tensor, rows: Tensor) -> str:
    return (
        f"{name!r} gives rows of {list(held.shape[1:])} and of {list(rows.shape[1:])}, as items differ in size: "
        "reduce them (reduce='mean'), or bring items to one size"
    )
