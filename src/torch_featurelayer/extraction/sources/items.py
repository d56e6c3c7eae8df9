"""Items that can be read in any order, and those that come one after the other."""

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


class Items(Dataset[Batch]):
    """Items that can be read in any order, in worker processes too.

    Args:
        ids: Of the items; each once.
        read: Returns the sample at a place.
        prepare: Makes a model's input `[1, ...]` from a sample.
        version: What else tells these items from others of the same ids.

    Attributes:
        ids: Of the items.
    """

    def __init__(self, ids: Sequence[str], read: Callable[[int], Any], prepare: Prepare, version: str = "") -> None:
        if not ids:
            raise EmptyDatasetError
        name, times = Counter(ids).most_common(1)[0]
        if times > 1:
            raise ValueError(f"{times} items have the id {name!r}: each needs its own")
        self.ids, self._read, self._prepare, self._version = list(ids), read, prepare, version

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, places: Iterable[int]) -> Batch:
        """Reads some items; one that cannot be read is an error in their batch."""
        batch = Batch()
        for place in places:
            batch.add(self.ids[place], self._read, place, self._prepare)
        return batch.stacked()

    def sample(self, name: str) -> Any:
        """Reads the sample of an id, as it is before it is prepared."""
        return self._read(self.ids.index(name))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the ids in their order."""
        return hashlib.sha256("\n".join([self._version, *self.ids]).encode()).hexdigest()


class Stream:
    """Items that come one after the other, and are not kept.

    Args:
        pairs: The id and the sample of each.
        prepare: Makes a model's input `[1, ...]` from a sample.
    """

    fingerprint = "a stream"

    def __init__(self, pairs: Iterator[tuple[Any, Any]], prepare: Prepare) -> None:
        self._pairs, self._prepare = pairs, prepare

    def take(self, count: int) -> Batch:
        """Reads the next items; fewer, or none, at the end."""
        batch = Batch()
        for _, (name, sample) in zip(range(count), self._pairs, strict=False):
            batch.add(str(name), _itself, sample, self._prepare)
        return batch.stacked()

    def pass_over(self, count: int) -> list[str]:
        """Returns the ids of the next items, unread."""
        return [str(name) for _, (name, _) in zip(range(count), self._pairs, strict=False)]


def ready_or(prepare: Prepare) -> Prepare:
    """Returns what takes a tensor as it is, with a batch in front, and prepares anything else."""
    return _Ready(prepare)


class _Ready:
    """A class, so that it goes to other processes."""

    def __init__(self, prepare: Prepare) -> None:
        self._prepare = prepare

    def __call__(self, sample: Any) -> Any:
        first = sample[0] if isinstance(sample, (tuple, list)) and sample else sample
        return first.unsqueeze(0) if isinstance(first, Tensor) else self._prepare(first)


def _itself(sample: Any) -> Any:
    return sample
