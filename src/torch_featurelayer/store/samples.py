"""Several layers of a store, row by row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import index
from typing import TypeAlias

from torch import Tensor
from torch.utils.data import Dataset

from .rows import StoredLayer
from .tables import column_of

Sample: TypeAlias = "dict[str, Tensor | str]"


class StoredSamples(Dataset[Sample]):
    """Rows of a store as a `torch.utils.data.Dataset`, for a `DataLoader` of any number of workers.

    Args:
        ids: Of the rows.
        layers: By name.
    """

    def __init__(self, ids: Sequence[str], layers: Mapping[str, StoredLayer]) -> None:
        self._ids, self._layers = ids, layers

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, row: int) -> Sample:
        """Returns the id of a row under `"id"`, and its features by layer; a layer of that name is `"layer:id"`."""
        row = index(row)
        return {"id": self._ids[row], **{column_of(name): layer[row] for name, layer in self._layers.items()}}
