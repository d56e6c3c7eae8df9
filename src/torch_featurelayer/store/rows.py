"""`StoredLayer`: the rows of one layer of a store, which are read when they are indexed."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils.data import Dataset

from .folder import Folder
from .shards import Shard, layer_slice, open_shard

Rows: TypeAlias = "int | slice | Sequence[int] | Sequence[bool] | Tensor | Any"


class StoredLayer(Dataset[Tensor]):
    """One layer of a store: a `torch.utils.data.Dataset` of its rows.

    Args:
        name: The name of the layer.
        folder: The folder of the store.
        shards: The shards that have rows.

    Attributes:
        name: The name of the layer.
    """

    def __init__(self, name: str, folder: Folder, shards: Sequence[Shard]) -> None:
        self.name = name
        self._folder = folder
        self._shards = shards
        self._ends = list(accumulate(len(shard.ids) for shard in shards))
        self._files: dict[int, Any] = {}

    def __len__(self) -> int:
        return self._ends[-1]

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of rows, followed by the shape of a row."""
        return (len(self), *self._slice(0).get_shape()[1:])

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the features."""
        return self[0].dtype

    def __getitem__(self, rows: Rows) -> Tensor:
        """Reads rows.

        Args:
            rows: An index (negative ones count from the end), a slice, a list of indices, or a boolean mask of all
                rows.

        Returns:
            A new tensor on the CPU: `[...]` for an index, otherwise `[rows, ...]`.

        Raises:
            IndexError: If there is no such row.
        """
        if not isinstance(rows, (slice, Tensor)) and hasattr(rows, "__index__"):  # an integer of Python or NumPy
            return self._row(rows.__index__())
        if isinstance(rows, Tensor) and rows.ndim == 0 and rows.dtype != torch.bool:
            return self._row(int(rows))
        numbers = range(len(self))[rows] if isinstance(rows, slice) else _numbers(rows, len(self))
        if isinstance(numbers, range) and numbers.step == 1:
            return self._span(numbers.start, numbers.stop)
        return torch.stack([self._row(number) for number in numbers]) if len(numbers) else self._span(0, 0)

    def __iter__(self) -> Iterator[Tensor]:
        """Yields the rows in order; one shard at a time is in memory."""
        for number, _ in enumerate(self._shards):
            yield from self._slice(number)[:]

    def numpy(self) -> Any:
        """Reads all rows into a new array; bfloat16, which NumPy does not support, becomes float32."""
        rows = self[:]
        return (rows.float() if rows.dtype == torch.bfloat16 else rows).numpy()

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        array = self.numpy()
        return array if dtype is None else array.astype(dtype)

    def _row(self, row: int) -> Tensor:
        count = len(self)
        if not -count <= row < count:
            raise IndexError(f"row {row} does not exist: the store has {count} rows")
        shard = bisect_right(self._ends, row % count)
        offset = row % count - (self._ends[shard - 1] if shard else 0)
        part: Tensor = self._slice(shard)[offset : offset + 1]
        return part[0]

    def _span(self, start: int, stop: int) -> Tensor:
        """Reads consecutive rows."""
        parts = []
        for number, end in enumerate(self._ends):
            begin = self._ends[number - 1] if number else 0
            if start < end and stop > begin:
                parts.append(self._slice(number)[max(start - begin, 0) : stop - begin])
        return torch.cat(parts) if parts else self._slice(0)[0:0]

    def _slice(self, number: int) -> Any:
        """Returns the part of this layer in a shard, unread; files stay open as long as this object exists."""
        if number not in self._files:
            # Memory-mapped, so an open file costs no memory for rows that are not read.
            self._files[number] = open_shard(self._folder, self._shards[number].name)
        return layer_slice(self._files[number], self.name)

    def __getstate__(self) -> dict[str, Any]:
        # Open files cannot be pickled for worker processes, which open their own.
        return {**self.__dict__, "_files": {}}

    def __repr__(self) -> str:
        return f"StoredLayer({self.name!r}, {list(self.shape)}, {self.dtype})"


def _numbers(rows: Any, count: int) -> list[int]:
    given = torch.as_tensor(rows)
    if given.dtype == torch.bool:
        if given.shape != (count,):
            raise IndexError(f"the mask has shape {list(given.shape)}, but the store has {count} rows")
        return given.nonzero().flatten().tolist()
    return given.to(torch.int64).tolist()
