"""Reads of module outputs on a GPU, together at the end of a forward pass: each alone would wait for the device."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

Place = TypeVar("Place")


@dataclass(frozen=True)
class Found(Generic[Place]):
    """An output with NaN or infinite values.

    Attributes:
        place: The place that was given with it.
        count: The number of such values.
        total: The number of all values.
    """

    place: Place
    count: int
    total: int


class DeferredReads(Generic[Place]):
    """Counts NaN and positive infinite values on the device; `-inf` is left to masks."""

    def __init__(self) -> None:
        self._counts: list[Tensor] = []
        self._outputs: list[tuple[Place, int, int, list[int]]] = []  # place, its count, its size, those of its inputs
        self._known: dict[int, tuple[Tensor, int]] = {}  # by id, with the tensor, so that no id is used again

    def add(self, place: Place, inputs: Iterable[Tensor], outputs: Iterable[Tensor]) -> None:
        """Counts the outputs of a module, and its inputs unless they are outputs of another."""
        given = [self._count(each) for each in inputs if each.is_floating_point()]
        self._outputs += [
            (place, self._count(each, again=True), each.numel(), given) for each in outputs if each.is_floating_point()
        ]

    def read(self) -> list[Found[Place]]:
        """Reads all counts; returns the outputs that are bad although their inputs are not."""
        if not self._counts:
            return []
        counts = torch.stack([count.to(self._counts[0].device) for count in self._counts]).tolist()
        found = [
            Found(place, counts[own], total)
            for place, own, total, given in self._outputs
            if counts[own] and not any(counts[number] for number in given)
        ]
        self._counts, self._outputs, self._known = [], [], {}
        return found

    def _count(self, tensor: Tensor, *, again: bool = False) -> int:
        """Returns the number of the count of a tensor; a tensor may have been written to since it was counted."""
        if again or id(tensor) not in self._known:
            value = tensor.detach()
            self._counts.append((value.isnan() | value.isposinf()).sum())
            self._known[id(tensor)] = tensor, len(self._counts) - 1
        return self._known[id(tensor)][1]
