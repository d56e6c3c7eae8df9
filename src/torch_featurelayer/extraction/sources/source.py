"""Map-style and iterable sources."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from os import PathLike
from os.path import isfile
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..._exceptions import EmptyDatasetError, TemporaryReadError
from ...store import Item
from ..batches import Batch, Group
from ..collating import Collator
from ..identity import digest, row_digests, sample_digest
from .columns import Entry, to_value
from .reading import describe, file_state, read_patiently, to_unicode


class Numbers(Sequence[str]):
    """The ids of items without names: their indices, which take no memory.

    Args:
        count: The number of items.
    """

    def __init__(self, count: int) -> None:
        self._range = range(count)

    def __len__(self) -> int:
        return len(self._range)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        return list(map(str, self._range[place])) if isinstance(place, slice) else str(self._range[place])

    def __repr__(self) -> str:
        return f"Numbers({len(self)})"


class _Identified:
    """Items that are identified by digests, and collated.

    Attributes:
        verify: `"contents"` to identify items by their contents; `"ids"` by their ids alone; `"auto"` by the size and
            time of files, and by the contents of all other samples.
        collator: Makes model inputs from samples.
    """

    verify = "auto"
    collator: Collator

    def _identify(self, entry: Entry, stat: str = "") -> str:
        """Returns the digest of an item from its contents, or from the state of its file; empty if ids identify it."""
        if self.verify == "ids":
            return ""
        found = stat or " ".join([sample_digest(entry.sample), *self._identify_files(entry.sample)])
        return f"{found} {sample_digest(repr(dict(entry.columns)))}" if entry.columns else found

    def _identify_files(self, sample: Any) -> list[str]:
        """Returns the digests of the files whose paths are a sample, or its parts, and which preprocessing opens."""
        if isinstance(sample, Tensor) or self.collator.takes_texts:
            return []
        parts = sample.values() if isinstance(sample, Mapping) else sample
        parts = parts if isinstance(sample, (Mapping, tuple, list)) else [sample]
        paths = [part for part in parts if isinstance(part, (str, PathLike)) and isfile(part)]
        if self.verify == "contents":
            return [sample_digest(Path(path).read_bytes()) for path in paths]
        return [file_state(path) for path in paths]

    def _batch(self, named: Iterable[tuple[str, Callable[[], tuple[Entry, str]]]]) -> Batch:
        """Reads and collates items; an exception becomes the error of its item."""
        batch, places, prepared = Batch(), [], []
        for place, (name, read) in enumerate(named):
            entry, identity = Entry(None), ""
            try:
                entry, identity = read_patiently(read, name)
                # After the digest, because preprocessing may change the sample.
                ready = self.collator.prepare(entry.sample)
            except TemporaryReadError as error:
                batch.failure = error
                return batch
            # The code of datasets and transforms may raise anything, and one item must not end the run.
            except Exception as error:  # noqa: BLE001
                batch.items.append(Item(name, identity, describe(error), 0, 0, entry.columns))
                continue
            batch.items.append(Item(name, identity, columns=entry.columns))
            places.append(place)
            prepared.append(ready)
        batch.groups, failures = self.collator.collate(places, prepared)
        for place, failure in failures.items():
            batch.items[place] = batch.items[place]._replace(error=describe(failure), rows=0)
        return batch


class MapSource(_Identified, Dataset[Batch]):
    """Items with random access, also in worker processes.

    Args:
        ids: The ids of the items, without duplicates.
        read: Returns the sample at an index.
        collator: Makes model inputs from samples.
        stat: Returns the digest of the item at an index without reading it, from the size and the time of a file.
            Default: None, the digest of the contents of the sample.
        split: Returns the sample and the columns of what `read` returns. Default: None, the sample alone.
        rows: Returns the inputs `[N, ...]` of samples that are rows of a tensor, at a range of indices. Default: None,
            samples are read one by one.

    Attributes:
        ids: The ids of the items.
        columns: Further columns: for each name, a value for each item.
    """

    def __init__(
        self,
        ids: Sequence[str],
        read: Callable[[int], Any],
        collator: Collator,
        stat: Callable[[int], str] | None = None,
        split: Callable[[Any], Entry] | None = None,
        rows: Callable[[slice], Tensor] | None = None,
    ) -> None:
        if not ids:
            raise EmptyDatasetError
        if not isinstance(ids, Numbers):
            ids = list(map(to_unicode, ids))
            name, times = Counter(ids).most_common(1)[0]
            if times > 1:
                raise ValueError(f"{times} items have the id {name!r}: ids must be unique")
        self.ids, self._read, self.collator, self._stat = ids, read, collator, stat
        self._split, self._rows = split or Entry, rows
        self.columns: Mapping[str, Sequence[Any]] = {}

    @property
    def is_read_from_files(self) -> bool:
        """Whether items are read from files, so that worker processes are worth it."""
        return self._stat is not None

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, indices: Iterable[int]) -> Batch:
        """Reads some items; an item that cannot be read has an error."""
        if self._rows is not None and not self.columns and isinstance(indices, range) and indices.step == 1:
            return self._row_batch(self._rows, indices)
        return self._batch((self.ids[index], partial(self._entry, index)) for index in indices)

    def digest(self, index: int) -> str:
        """Returns the digest of an item; empty if it cannot be read.

        Raises:
            TemporaryReadError: If a temporary failure prevents it.
        """
        try:
            if self._stat and self.verify == "auto" and self._is_whole_entry:
                return self._identify(Entry(None, self._columns_of(index)), self._stat(index))
            return read_patiently(partial(self._entry, index), self.ids[index])[1]  # type: ignore[no-any-return]
        except TemporaryReadError:
            raise
        except Exception:  # noqa: BLE001 (the code of datasets may raise anything)
            return ""

    def select(self, indices: Sequence[int]) -> MapSource:
        """Returns the source of some of the items."""
        chosen = list(indices)
        stat = self._stat and partial(_at, self._stat, chosen)
        ids = [self.ids[index] for index in chosen]
        return MapSource(ids, partial(_at, self._read, chosen), self.collator, stat, self._split)

    def sample(self, name: str) -> Any:
        """Reads the sample of an id, without preprocessing."""
        return self.sample_at(self.ids.index(name))

    def sample_at(self, index: int) -> Any:
        """Reads the sample at an index, without preprocessing."""
        return self._split(self._read(index)).sample

    def _row_batch(self, rows: Callable[[slice], Tensor], indices: range) -> Batch:
        """Reads rows of a tensor at once: one by one, reading takes longer than a small model."""
        inputs, ids = _copied(rows(slice(indices.start, indices.stop))), self.ids[indices.start : indices.stop]
        digests = [""] * len(ids) if self.verify == "ids" else row_digests(inputs)
        items = [Item(name, digest) for name, digest in zip(ids, digests, strict=True)]
        return Batch(items, [Group(range(len(items)), inputs)])

    @property
    def fingerprint(self) -> str:
        """The digest of the ids in their order."""
        return digest(repr(self.ids))  # quoted, so that no two lists of ids give the same text

    @property
    def _is_whole_entry(self) -> bool:
        """Whether columns are known without reading an item."""
        return self._split is Entry

    def _entry(self, index: int) -> tuple[Entry, str]:
        """Reads an item; returns it with its digest."""
        # Before the item: one that is replaced while it is read has the digest of the old one, and is read again.
        stat = self._stat(index) if self._stat and self.verify == "auto" else ""
        found = self._split(self._read(index))
        entry = Entry(found.sample, {**found.columns, **self._columns_of(index)})
        return entry, self._identify(entry, stat)

    def _columns_of(self, index: int) -> Mapping[str, Any]:
        return {name: to_value(values[index]) for name, values in self.columns.items()}


class IterableSource(_Identified):
    """Items that can be read once, in order.

    Args:
        pairs: Pairs of id and sample.
        collator: Makes model inputs from samples.
        split: Returns the sample and the columns of a sample. Default: None, the sample alone.
    """

    fingerprint = "a stream"

    def __init__(
        self, pairs: Iterator[tuple[Any, Any]], collator: Collator, split: Callable[[Any], Entry] | None = None
    ) -> None:
        self._pairs, self.collator, self._split = _unique(pairs), collator, split or Entry

    def take(self, count: int) -> Batch:
        """Reads the next items; fewer, or none, at the end."""
        pairs = zip(range(count), self._pairs, strict=False)
        return self._batch((name, partial(self._entry, sample)) for _, (name, sample) in pairs)

    def skip(self, count: int) -> dict[str, str]:
        """Returns the digests of the next items by id, without preprocessing their samples."""
        pairs = zip(range(count), self._pairs, strict=False)
        return {name: self._entry(sample)[1] for _, (name, sample) in pairs}

    def _entry(self, sample: Any) -> tuple[Entry, str]:
        entry = self._split(sample)
        return entry, self._identify(entry)


def _unique(pairs: Iterator[tuple[Any, Any]]) -> Iterator[tuple[str, Any]]:
    """Yields pairs of id and sample, with ids that are text.

    Raises:
        ValueError: If an id occurs twice.
    """
    seen: set[str] = set()
    for key, sample in pairs:
        name = to_unicode(str(key))
        if name in seen:
            raise ValueError(f"two items have the id {name!r}: ids must be unique")
        seen.add(name)
        yield name, sample


def _at(function: Callable[[int], Any], indices: Sequence[int], place: int) -> Any:
    return function(indices[place])


def _copied(rows: Tensor) -> Tensor:
    """Returns a copy, as a `DataLoader` makes: a model may work in place.

    NumPy copies in one thread: a second one that sleeps may take longer to wake than the copy takes.
    """
    try:
        return torch.from_numpy(rows.detach().numpy().copy("K"))
    except (TypeError, RuntimeError):  # a dtype that NumPy does not have, or another device
        return rows.clone()
