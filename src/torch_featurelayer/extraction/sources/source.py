"""Map-style and iterable sources."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, TypeAlias

from torch import Tensor
from torch.utils.data import Dataset

from ..._exceptions import EmptyDatasetError
from ..batches import Batch
from ..identity import digest, sample_digest

Prepare: TypeAlias = Callable[[Any], Any]


class _Identified:
    """Items that are identified by digests.

    Attributes:
        verify: `"contents"` to identify items by their contents; `"ids"` by their ids alone; `"auto"` by the size and
            time of files, and by the contents of all other samples.
    """

    verify = "auto"

    def _identify(self, sample: Any) -> str:
        """Returns the digest of a sample; empty if ids identify items."""
        return "" if self.verify == "ids" else sample_digest(sample)


class MapSource(_Identified, Dataset[Batch]):
    """Items with random access, also in worker processes.

    Args:
        ids: The ids of the items, without duplicates.
        read: Returns the sample at an index.
        prepare: Returns the model input `[1, ...]` of a sample.
        stat: Returns the digest of the item at an index without reading it, from the size and the time of a file.
            Default: None, the digest of the contents of the sample.

    Attributes:
        ids: The ids of the items.
    """

    def __init__(
        self, ids: Sequence[str], read: Callable[[int], Any], prepare: Prepare, stat: Callable[[int], str] | None = None
    ) -> None:
        if not ids:
            raise EmptyDatasetError
        name, times = Counter(ids).most_common(1)[0]
        if times > 1:
            raise ValueError(f"{times} items have the id {name!r}: ids must be unique")
        self.ids, self._read, self._prepare, self._stat = list(ids), read, prepare, stat

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, indices: Iterable[int]) -> Batch:
        """Reads some items; an item that cannot be read becomes an error of the batch."""
        batch = Batch()
        for index in indices:
            stat = partial(self._stat, index) if self._stat and self.verify == "auto" else None
            batch.add(self.ids[index], partial(self._read, index), self._prepare, self._identify, stat)
        return batch.stack()

    def digest(self, index: int) -> str:
        """Returns the digest of an item; empty if it cannot be read."""
        try:
            if self._stat and self.verify == "auto":
                return self._stat(index)
            return self._identify(self._read(index))
        except Exception:  # noqa: BLE001 (the code of datasets may raise anything)
            return ""

    def select(self, indices: Sequence[int]) -> MapSource:
        """Returns the source of some of the items."""
        chosen = list(indices)
        stat = self._stat and partial(_at, self._stat, chosen)
        return MapSource([self.ids[index] for index in chosen], partial(_at, self._read, chosen), self._prepare, stat)

    def sample(self, name: str) -> Any:
        """Reads the sample of an id, without preprocessing."""
        return self._read(self.ids.index(name))

    @property
    def fingerprint(self) -> str:
        """The digest of the ids in their order."""
        return digest(self.ids)


class IterableSource(_Identified):
    """Items that can be read once, in order.

    Args:
        pairs: Pairs of id and sample.
        prepare: Returns the model input `[1, ...]` of a sample.
    """

    fingerprint = "a stream"

    def __init__(self, pairs: Iterator[tuple[Any, Any]], prepare: Prepare) -> None:
        self._pairs, self._prepare = _unique(pairs), prepare

    def take(self, count: int) -> Batch:
        """Reads the next items; fewer, or none, at the end."""
        batch = Batch()
        for _, (name, sample) in zip(range(count), self._pairs, strict=False):
            batch.add(str(name), partial(_identity, sample), self._prepare, self._identify)
        return batch.stack()

    def skip(self, count: int) -> dict[str, str]:
        """Returns the digests of the next items by id, without preprocessing their samples."""
        pairs = zip(range(count), self._pairs, strict=False)
        return {str(name): self._identify(sample) for _, (name, sample) in pairs}


def _unique(pairs: Iterator[tuple[Any, Any]]) -> Iterator[tuple[Any, Any]]:
    """Yields pairs of id and sample.

    Raises:
        ValueError: If an id occurs twice.
    """
    seen: set[str] = set()
    for name, sample in pairs:
        if str(name) in seen:
            raise ValueError(f"two items have the id {str(name)!r}: ids must be unique")
        seen.add(str(name))
        yield name, sample


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


def _at(function: Callable[[int], Any], indices: Sequence[int], place: int) -> Any:
    return function(indices[place])
