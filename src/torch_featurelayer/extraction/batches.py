"""Batches: items of a dataset, preprocessed and stacked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..store import RowError
from .identity import strip_addresses


@dataclass
class Batch:
    """Items that were read.

    Attributes:
        ids: The ids of the items that could be read.
        inputs: Their inputs, in order: `[1, ...]` each; in a stacked batch, neighbours of the same shape together.
        errors: The items that could not be read.
        digests: The digests of the items that could be read.
    """

    ids: list[str] = field(default_factory=list)
    inputs: list[Any] = field(default_factory=list)
    errors: list[RowError] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids) + len(self.errors)

    def add(
        self,
        name: str,
        read: Callable[[], Any],
        prepare: Callable[[Any], Any],
        identify: Callable[[Any], str],
        stat: Callable[[], str] | None = None,
    ) -> None:
        """Reads and preprocesses an item; any exception becomes an error of the item.

        Args:
            name: The id of the item.
            read: Returns the sample.
            prepare: Returns the model input `[1, ...]` of a sample.
            identify: Returns the digest of a sample; called if there is no `stat`.
            stat: Returns the digest of the item without reading it. Default: None.
        """
        digest = ""
        try:
            digest = stat() if stat else ""
            sample = read()
            digest = digest or identify(sample)  # before `prepare`, which may change the sample
            inputs = _check_input(prepare(sample))
        # The code of datasets and transforms may raise anything, and one item must not end the run.
        except Exception as error:  # noqa: BLE001
            self.errors.append(RowError(name, strip_addresses(f"{type(error).__name__}: {error}"), digest))
        else:
            self.ids.append(name)
            self.inputs.append(inputs)
            self.digests.append(digest)

    def stack(self) -> Batch:
        """Returns this batch with neighbours of the same shape stacked."""
        return Batch(self.ids, list(_stacks(self.inputs)), self.errors, self.digests)


def count_rows(inputs: Any) -> int:
    """Returns the number of items of an input `[N, ...]`."""
    return len(inputs if isinstance(inputs, Tensor) else next(iter(inputs.values())))


def signature(inputs: Any) -> object:
    """Returns a key of the shape without `N` and of the dtype: inputs with equal keys can be stacked."""
    named = {"": inputs} if isinstance(inputs, Tensor) else inputs
    return {name: (value.shape[1:], value.dtype) for name, value in named.items()}


def map_inputs(inputs: Any, fn: Callable[[Tensor], Tensor]) -> Any:
    """Applies a function to a tensor, or to each of the keyword arguments."""
    return fn(inputs) if isinstance(inputs, Tensor) else {name: fn(value) for name, value in inputs.items()}


def _stacks(inputs: list[Any]) -> Iterator[Any]:
    start = 0
    while start < len(inputs):
        stop = start + 1
        # Only neighbours are stacked: batches, and therefore bytes, depend on the order of items alone.
        while stop < len(inputs) and signature(inputs[stop]) == signature(inputs[start]):
            stop += 1
        yield _concatenate(inputs[start:stop])
        start = stop


def _concatenate(inputs: list[Any]) -> Any:
    if isinstance(inputs[0], Tensor):
        return torch.cat(inputs)
    return {name: torch.cat([part[name] for part in inputs]) for name in inputs[0]}


def _is_image(inputs: Any) -> bool:
    return isinstance(inputs, Tensor) and inputs.ndim == 3 and len(inputs) in (1, 3, 4)


def _check_input(inputs: Any) -> Any:
    if isinstance(inputs, Mapping) and inputs and all(isinstance(value, Tensor) for value in inputs.values()):
        inputs = dict(inputs)
    elif not isinstance(inputs, Tensor):
        raise TypeError(f"preprocess must return a tensor or a dict of tensors, not a {type(inputs).__name__}")
    if (count := count_rows(inputs)) != 1:
        hint = (
            " (torchvision transforms return one image without that dimension: add `.unsqueeze(0)`)"
            if _is_image(inputs)
            else ""
        )
        raise ValueError(f"preprocess returned {count} rows for this item: it must return one, [1, ...]{hint}")
    return inputs
