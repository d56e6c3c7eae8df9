"""`StoredSamples`: the rows of several layers of a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import index
from typing import TypeAlias

from torch import Tensor
from torch.utils.data import Dataset

from .rows import StoredLayer
from .tables import column_name

Sample: TypeAlias = "dict[str, Tensor | str]"


class StoredSamples(Dataset[Sample]):
    """Rows of a store as a `torch.utils.data.Dataset`, for a `DataLoader` with any number of workers.

    Args:
        ids: The ids of the rows.
        layers: The layers by name.
    """

    def __init__(self, ids: Sequence[str], layers: Mapping[str, StoredLayer]) -> None:
        self._ids, self._layers = ids, layers

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, row: int) -> Sample:
        """Returns the id of a row under `"id"`, and its features by layer; a layer named `id` is under `"layer:id"`."""
        row = index(row)
        return {"id": self._ids[row], **{column_name(name): layer[row] for name, layer in self._layers.items()}}
