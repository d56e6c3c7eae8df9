"""Map-style and iterable sources."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

from torch import Tensor
from torch.utils.data import Dataset

from ..._exceptions import EmptyDatasetError
from ..batches import Batch

Prepare: TypeAlias = Callable[[Any], Any]


class MapSource(Dataset[Batch]):
    """Items with random access, also in worker processes.

    Args:
        ids: The ids of the items, without duplicates.
        read: Returns the sample at an index.
        prepare: Returns the model input `[1, ...]` of a sample.
        version: Distinguishes these items from others with the same ids. Default: empty.

    Attributes:
        ids: The ids of the items.
    """

    def __init__(self, ids: Sequence[str], read: Callable[[int], Any], prepare: Prepare, version: str = "") -> None:
        if not ids:
            raise EmptyDatasetError
        name, times = Counter(ids).most_common(1)[0]
        if times > 1:
            raise ValueError(f"{times} items have the id {name!r}: ids must be unique")
        self.ids, self._read, self._prepare, self._version = list(ids), read, prepare, version

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, indices: Iterable[int]) -> Batch:
        """Reads some items; an item that cannot be read becomes an error of the batch."""
        batch = Batch()
        for index in indices:
            batch.add(self.ids[index], self._read, index, self._prepare)
        return batch.stack()

    def sample(self, name: str) -> Any:
        """Reads the sample of an id, without preprocessing."""
        return self._read(self.ids.index(name))

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the ids in their order."""
        return hashlib.sha256("\n".join([self._version, *self.ids]).encode()).hexdigest()


class IterableSource:
    """Items that can be read once, in order.

    Args:
        pairs: Pairs of id and sample.
        prepare: Returns the model input `[1, ...]` of a sample.
    """

    fingerprint = "a stream"

    def __init__(self, pairs: Iterator[tuple[Any, Any]], prepare: Prepare) -> None:
        self._pairs, self._prepare = pairs, prepare

    def take(self, count: int) -> Batch:
        """Reads the next items; fewer, or none, at the end."""
        batch = Batch()
        for _, (name, sample) in zip(range(count), self._pairs, strict=False):
            batch.add(str(name), _identity, sample, self._prepare)
        return batch.stack()

    def skip(self, count: int) -> list[str]:
        """Returns the ids of the next items without preprocessing their samples."""
        return [str(name) for _, (name, _) in zip(range(count), self._pairs, strict=False)]


def pass_tensors(prepare: Prepare) -> Prepare:
    """Returns a function that adds a batch dimension to tensors, and preprocesses all other samples."""
    return _PassTensors(prepare)


class _PassTensors:
    """A class rather than a closure, so that it can be pickled for worker processes."""

    def __init__(self, prepare: Prepare) -> None:
        self._prepare = prepare

    def __call__(self, sample: Any) -> Any:
        first = sample[0] if isinstance(sample, (tuple, list)) and sample else sample
        return first.unsqueeze(0) if isinstance(first, Tensor) else self._prepare(first)


def _identity(sample: Any) -> Any:
    return sample
