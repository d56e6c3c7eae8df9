"""`StoredSamples`: the rows of several layers of a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import index
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils.data import Dataset

from .ids import Ids
from .rows import StoredLayer
from .tables import column_names

Sample: TypeAlias = "dict[str, Any]"


class StoredSamples(Dataset[Sample]):
    """Rows of a store as a `torch.utils.data.Dataset`, for a `DataLoader` with any number of workers.

    Args:
        ids: The ids of the items.
        layers: The layers by name.
        columns: The names of the columns of the dataset. Default: none.
    """

    def __init__(self, ids: Ids, layers: Mapping[str, StoredLayer], columns: Sequence[str] = ()) -> None:
        self._ids, self._columns = ids, columns
        self._layers = dict(zip(column_names(layers, columns), layers.values(), strict=True))

    def __len__(self) -> int:
        return len(next(iter(self._layers.values()), self._ids))

    def __getitem__(self, row: int) -> Sample:
        """Returns the id of the item of a row, its columns, and the features by layer.

        A layer with the name of a column, such as `id`, is under `"layer:id"`.
        """
        return self.__getitems__([range(len(self))[index(row)]])[0]

    def __getitems__(self, rows: Sequence[int]) -> list[Sample]:
        """Reads a batch of rows at once, for `DataLoader`."""
        numbers = torch.as_tensor(rows, dtype=torch.int64)
        items = self._ids.of_rows(numbers)
        parts: dict[str, Sequence[Any]] = {name: self._ids.take(name, items) for name in ("id", *self._columns)}
        features: dict[str, Sequence[Tensor]] = {name: layer.__getitems__(rows) for name, layer in self._layers.items()}
        return [
            dict(zip([*parts, *features], values, strict=True))
            for values in zip(*parts.values(), *features.values(), strict=True)
        ]
