"""`StoredLayer`: the rows of one layer of a store, which are read when they are indexed."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import accumulate
from numbers import Integral
from typing import Any, Final, TypeAlias, TypeGuard

import numpy
import torch
from torch import Tensor
from torch.utils.data import Dataset

from .._checks import check_counts
from .folder import Folder
from .ids import Ids
from .manifest import ShardEntry
from .shards import layer_tensor, open_shard

Rows: TypeAlias = "int | slice | Sequence[int] | Sequence[bool] | Tensor | Any"

_INTEGERS: Final = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by size in bytes
_MOST_OPEN: Final = 1024  # shards; the address space and the number of maps of a process are limited


class ShardFiles:
    """The open shards of a store: the most recently used ones stay open.

    Args:
        folder: The folder of the store.
        identity: The digest of the metadata of the store.
    """

    def __init__(self, folder: Folder, identity: str | None) -> None:
        self._folder, self._identity = folder, identity
        self._files: OrderedDict[int, Any] = OrderedDict()
        self._rows: OrderedDict[tuple[int, str], tuple[Tensor, Any]] = OrderedDict()

    def tensor(self, number: int, layer: str) -> Tensor:
        """Returns the rows of a layer in a shard: a view of the memory-mapped file, which must not be written."""
        return self._find(number, layer)[0]

    def bits(self, number: int, layer: str) -> Any:
        """Returns the same rows as a NumPy array of integers of their size, which NumPy has for all dtypes."""
        return self._find(number, layer)[1]

    def _find(self, number: int, layer: str) -> tuple[Tensor, Any]:
        key = number, layer
        if (found := self._rows.get(key)) is None:
            rows = layer_tensor(self.file(number), layer)
            found = self._rows[key] = rows, rows.view(_INTEGERS[rows.itemsize]).numpy()
            if len(self._rows) > _MOST_OPEN:
                self._rows.popitem(last=False)
        self._rows.move_to_end(key)
        return found

    def file(self, number: int) -> Any:
        """Returns an open shard."""
        if number not in self._files:
            self._files[number] = open_shard(self._folder, number, self._identity)
            if len(self._files) > _MOST_OPEN:
                self._files.popitem(last=False)
        self._files.move_to_end(number)
        return self._files[number]

    def __getstate__(self) -> dict[str, Any]:
        # Open files cannot be pickled for worker processes, which open their own.
        return {**self.__dict__, "_files": OrderedDict(), "_rows": OrderedDict()}


class StoredLayer(Dataset[Tensor]):
    """One layer of a store: a `torch.utils.data.Dataset` of its rows.

    Args:
        name: The name of the layer.
        files: The shards of the store.
        entries: The shards that have rows.
        ids: The ids of the items.

    Attributes:
        name: The name of the layer.
        ids: The ids of the items.
    """

    def __init__(self, name: str, files: ShardFiles, entries: Sequence[ShardEntry], ids: Ids) -> None:
        self.name, self.ids = name, ids
        self._files, self._numbers = files, [entry.number for entry in entries]
        self._ends = list(accumulate(entry.rows for entry in entries))
        self._np_ends = numpy.array(self._ends)

    def __len__(self) -> int:
        return self._ends[-1]

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of rows, followed by the shape of a row."""
        return (len(self), *self._rows(0).shape[1:])

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the features."""
        return self._rows(0).dtype

    def __getitem__(self, rows: Rows) -> Tensor:
        """Reads rows.

        Args:
            rows: An index (negative ones count from the end), a slice, indices, or a boolean mask of all rows. Further
                dimensions are indexed in what was read: `[:, 0]` is the first value of each row.

        Returns:
            A new tensor on the CPU: `[...]` for an index, otherwise `[rows, ...]`.

        Raises:
            IndexError: If there is no such row, or indices of several dimensions are combined.
            TypeError: If this is no index.
        """
        if rows is None or rows is Ellipsis:
            rows = (rows,)
        if isinstance(rows, tuple):
            return self._part(rows)
        if isinstance(rows, slice):
            numbers = range(len(self))[rows]
            if numbers.step == 1:
                return self._span(numbers.start, numbers.stop)
            return self._gather(torch.tensor(numbers, dtype=torch.int64))
        if _is_integer(rows):
            return self._row(int(rows))
        wanted = _numbers(rows, len(self))
        if wanted.ndim == 0:
            return self._row(int(wanted))
        found = self._gather(wanted.flatten())
        return found.reshape(*wanted.shape, *found.shape[1:])

    def __getitems__(self, rows: Sequence[int]) -> Sequence[Tensor]:
        """Reads a batch of rows at once, for `DataLoader`."""
        return self._gather(_numbers(rows, len(self))).unbind()

    def __iter__(self) -> Iterator[Tensor]:
        """Yields the rows in order; one shard at a time is in memory."""
        for place in range(len(self._numbers)):
            yield from self._rows(place).clone()

    def item(self, item: str | int) -> Tensor:
        """Reads the rows of an item.

        Args:
            item: The id of the item, or its place among `ids`.

        Returns:
            A new tensor on the CPU: `[T, ...]` in a store of tokens, otherwise `[1, ...]`.

        Raises:
            LookupError: If no item with features has this id or place.
        """
        try:
            place = self.ids.index(item) if isinstance(item, str) else range(len(self.ids))[item]
        except (ValueError, IndexError, TypeError):
            raise LookupError(f"no item with features has the id or place {item!r}: see store.ids") from None
        span = self.ids.rows(place)
        return self._span(span.start, span.stop)

    def rows(self, batch_size: int, *, shuffle: bool = False, seed: int = 0) -> Iterator[Tensor]:
        """Yields all rows in batches, for example the tokens of a whole store to train on.

        Args:
            batch_size: The number of rows in a batch; the last batch may have fewer.
            shuffle: Whether the order is a random permutation of all rows. Default: False, the order of the store.
            seed: The seed of the permutation: the same seed gives the same order. Default: 0.

        Yields:
            New tensors `[batch_size, ...]` on the CPU.

        Raises:
            ValueError: If `batch_size` is less than 1.
        """
        check_counts(batch_size=batch_size)
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed)) if shuffle else None
        for start in range(0, len(self), batch_size):
            stop = min(start + batch_size, len(self))
            yield self._span(start, stop) if order is None else self._gather(order[start:stop])

    def numpy(self) -> Any:
        """Reads all rows into a new array; bfloat16, which NumPy does not support, becomes float32."""
        rows = self[:]
        return (rows.float() if rows.dtype == torch.bfloat16 else rows).numpy()

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        array = self.numpy()
        return array if dtype is None else array.astype(dtype)

    def _part(self, index: tuple[Any, ...]) -> Tensor:
        """Returns what several indices select, the first of which is that of the rows."""
        if not index or index[0] is None or index[0] is Ellipsis:
            return self[:][index]
        first, *rest = index
        if not _is_integer(first) and not isinstance(first, slice) and not all(map(_is_basic, rest)):
            # Arrays would pair up with each other, which what was read cannot reproduce.
            raise IndexError(f"index the rows first: layer[rows][:, ...], not {list(index)!r}")
        return self[first][tuple(rest) if _is_integer(first) else (slice(None), *rest)]

    def _rows(self, place: int) -> Tensor:
        """Returns the rows of a shard: a view of the file."""
        return self._files.tensor(self._numbers[place], self.name)

    def _row(self, row: int) -> Tensor:
        count = len(self)
        if not -count <= row < count:
            raise IndexError(f"row {row} does not exist: the store has {count} rows")
        place = bisect_right(self._ends, row % count)
        return self._rows(place)[row % count - (self._ends[place - 1] if place else 0)].clone()

    def _gather(self, rows: Tensor) -> Tensor:
        """Reads rows in any order: those of a shard together."""
        numbers = rows.numpy()
        order = numbers.argsort(kind="stable")
        ordered = numbers[order]
        places = self._np_ends.searchsorted(ordered, side="right")
        first = self._files.bits(self._numbers[0], self.name)
        found = numpy.empty((len(ordered), *first.shape[1:]), first.dtype)
        # The first of each run of rows of one shard, and the end.
        bounds = [0, *((places[1:] != places[:-1]).nonzero()[0] + 1).tolist(), len(ordered)]
        for start, stop in itertools.pairwise(bounds if len(ordered) else []):
            place = int(places[start])
            within = ordered[start:stop] - (self._ends[place - 1] if place else 0)
            # The rows exist: without `mode`, NumPy would copy once more to be able to undo.
            self._files.bits(self._numbers[place], self.name).take(within, axis=0, out=found[start:stop], mode="clip")
        out = numpy.empty_like(found)
        out[order] = found
        return torch.from_numpy(out).view(self.dtype)

    def _span(self, start: int, stop: int) -> Tensor:
        """Reads consecutive rows."""
        out = self._rows(0).new_empty(max(stop - start, 0), *self._rows(0).shape[1:])
        done = start
        while done < stop:
            place = bisect_right(self._ends, done)
            before = self._ends[place - 1] if place else 0
            part = self._rows(place)[done - before : stop - before]
            out[done - start : done - start + len(part)] = part
            done += len(part)
        return out

    def __repr__(self) -> str:
        return f"StoredLayer({self.name!r}, {list(self.shape)}, {self.dtype})"


def _is_integer(index: Any) -> TypeGuard[int]:
    return not isinstance(index, bool) and isinstance(index, Integral)


def _is_basic(index: Any) -> bool:
    """Whether an index is no array, in NumPy's terms."""
    return _is_integer(index) or isinstance(index, (slice, type(...)))


def _numbers(rows: Any, count: int) -> Tensor:
    """Returns row numbers from zero, in the shape in which they were given.

    Raises:
        IndexError: If there is no such row, or a mask has another length.
        TypeError: If they are no row numbers.
    """
    try:
        given = torch.as_tensor(rows)
    except (TypeError, ValueError, RuntimeError):
        raise _not_rows(rows) from None
    is_flag = given.ndim == 0 and given.dtype == torch.bool
    is_fraction = given.is_floating_point() or given.is_complex()
    if is_flag or (is_fraction and given.numel()):  # an empty list is a tensor of floats
        raise _not_rows(rows)
    if given.dtype == torch.bool:
        if given.shape != (count,):
            raise IndexError(f"the mask has shape {list(given.shape)}, but the store has {count} rows")
        return given.nonzero().flatten()
    numbers = given.to("cpu", torch.int64)
    if not numbers.numel():
        return numbers
    lowest, highest = (int(end) for end in numbers.aminmax())
    if lowest < -count or highest >= count:
        wrong = lowest if lowest < -count else highest
        raise IndexError(f"row {wrong} does not exist: the store has {count} rows")
    return numbers if lowest >= 0 else numbers.remainder(count)


def _not_rows(rows: Any) -> TypeError:
    kinds = "an index, a slice, indices or a boolean mask"
    return TypeError(f"rows must be {kinds}, not {rows!r}; item(id) reads the rows of an item")
