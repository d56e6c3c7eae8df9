"""Batches: items of a dataset, and the model inputs of those that could be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..store import Item


class Group(NamedTuple):
    """Items that the model processes at once.

    Attributes:
        places: The places of the items in their batch.
        inputs: Their inputs `[N, ...]`: a tensor, or keyword arguments.
    """

    places: Sequence[int]
    inputs: Any


@dataclass
class Batch:
    """Items in order, and the inputs of those that could be read.

    Attributes:
        items: The items; those that could not be read have an error.
        groups: The inputs of the others.
        failure: The exception that ends the extraction: a failure that is not that of an item.
    """

    items: list[Item] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    failure: Exception | None = None

    def __len__(self) -> int:
        return len(self.items)

    def pin_memory(self) -> Batch:
        """Returns this batch with inputs in pinned memory, for `DataLoader`."""
        groups = [Group(group.places, map_inputs(group.inputs, Tensor.pin_memory)) for group in self.groups]
        return Batch(self.items, groups, self.failure)


def count_rows(inputs: Any) -> int:
    """Returns the number of items of an input `[N, ...]`."""
    return len(inputs if isinstance(inputs, Tensor) else next(iter(inputs.values())))


def signature(inputs: Any) -> object:
    """Returns a key of the shape without `N` and of the dtype: inputs with equal keys can be stacked."""
    named = {"": inputs} if isinstance(inputs, Tensor) else inputs
    return {name: (value.shape[1:], value.dtype) for name, value in named.items()}


def map_inputs(inputs: Any, fn: Callable[[Tensor], Tensor]) -> Any:
    """Applies a function to a tensor, or to each of the keyword arguments."""
    if isinstance(inputs, Tensor):
        return fn(inputs)
    return {name: fn(value) if isinstance(value, Tensor) else value for name, value in inputs.items()}


def take_rows(inputs: Any, rows: slice) -> Any:
    """Returns the input of some of the items; tensors of another length are those of all items."""
    count = count_rows(inputs)
    return map_inputs(inputs, lambda value: value[rows] if value.ndim and len(value) == count else value)


def as_arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Returns the positional and the keyword arguments of the model for an input."""
    return ((inputs,), {}) if isinstance(inputs, Tensor) else ((), inputs)


def stack_neighbours(places: Sequence[int], inputs: Sequence[Any]) -> Iterator[Group]:
    """Yields inputs `[1, ...]` in groups of neighbours of the same shape."""
    start = 0
    while start < len(inputs):
        stop = start + 1
        # Only neighbours are stacked: batches, and therefore bytes, depend on the order of items alone.
        while stop < len(inputs) and signature(inputs[stop]) == signature(inputs[start]):
            stop += 1
        yield Group(places[start:stop], _concatenate(inputs[start:stop]))
        start = stop


def _concatenate(inputs: Sequence[Any]) -> Any:
    if isinstance(inputs[0], Tensor):
        return torch.cat(list(inputs))
    return {name: torch.cat([part[name] for part in inputs]) for name in inputs[0]}
