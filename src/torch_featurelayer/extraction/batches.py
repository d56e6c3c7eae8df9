"""Items put together for the model, always in the same way."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..store import RowError


@dataclass
class Batch:
    """Some items that were read.

    Attributes:
        ids: Of those that could be.
        inputs: Of them, in order: first `[1, ...]` each, once stacked neighbours of one shape together.
        errors: The others.
    """

    ids: list[str] = field(default_factory=list)
    inputs: list[Any] = field(default_factory=list)
    errors: list[RowError] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids) + len(self.errors)

    def add(self, name: str, read: Callable[[Any], Any], place: Any, prepare: Callable[[Any], Any]) -> None:
        """Adds an item; whatever is wrong with it, the others go on."""
        try:
            made = _checked(prepare(read(place)))
        except Exception as error:  # noqa: BLE001
            self.errors.append(RowError(name, without_addresses(f"{type(error).__name__}: {error}")))
        else:
            self.ids.append(name)
            self.inputs.append(made)

    def stacked(self) -> Batch:
        """Returns this batch with neighbours of one shape stacked."""
        return Batch(self.ids, list(_stacks(self.inputs)), self.errors)


def without_addresses(text: str) -> str:
    """Returns a text without places in memory, which are others in every process."""
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def rows(inputs: Any) -> int:
    """Returns how many items an input `[N, ...]` holds."""
    return len(inputs if isinstance(inputs, Tensor) else next(iter(inputs.values())))


def shapes(inputs: Any) -> object:
    """Returns what inputs `[N, ...]` that can be stacked have in common: shape but for `N`, and dtype."""
    named = {"": inputs} if isinstance(inputs, Tensor) else inputs
    return {name: (value.shape[1:], value.dtype) for name, value in named.items()}


def over(inputs: Any, fn: Callable[[Tensor], Tensor]) -> Any:
    """Applies a function to a tensor, or to each of the keyword arguments."""
    return fn(inputs) if isinstance(inputs, Tensor) else {name: fn(value) for name, value in inputs.items()}


def _stacks(inputs: list[Any]) -> Iterator[Any]:
    start = 0
    while start < len(inputs):
        stop = start + 1
        while stop < len(inputs) and shapes(inputs[stop]) == shapes(inputs[start]):
            stop += 1
        yield _together(inputs[start:stop])
        start = stop


def _together(inputs: list[Any]) -> Any:
    if isinstance(inputs[0], Tensor):
        return torch.cat(inputs)
    return {name: torch.cat([part[name] for part in inputs]) for name in inputs[0]}


def _is_image(made: Any) -> bool:
    return isinstance(made, Tensor) and made.ndim == 3 and len(made) in (1, 3, 4)


def _checked(made: Any) -> Any:
    if isinstance(made, Mapping) and made and all(isinstance(value, Tensor) for value in made.values()):
        made = dict(made)
    elif not isinstance(made, Tensor):
        raise TypeError(f"a model's input is a tensor, or keyword arguments that are, not a {type(made).__name__}")
    if (count := rows(made)) != 1:
        hint = " (a transform of one image leaves that dimension out: add `.unsqueeze(0)`)" if _is_image(made) else ""
        raise ValueError(f"preprocess gave {count} rows for this item: it must give one, [1, ...]{hint}")
    return made
