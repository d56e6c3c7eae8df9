"""Statistics of the rows of a store."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .._checks import check_counts
from ..store import StoredLayer
from ._accumulate import ChannelAccumulator, channels_last
from ._layer_statistics import LayerStatistics

_CHUNK = 1 << 22  # values that are read at once


def row_statistics(rows: StoredLayer, layout: str | None = None, *, top: int = 9) -> LayerStatistics:
    """Computes statistics of the channels of a stored layer over its rows, in constant memory.

    Of pooled features, each row is one position, so the values are those after pooling.

    Args:
        rows: The features, such as `store["layer4"]`.
        layout: The layout of the model's feature, such as `"NCHW"`, for rows of several dimensions. Default: None.
        top: The number of items to keep for each channel. Default: 9.

    Returns:
        The statistics.

    Raises:
        LayoutError: If rows have several dimensions and `layout` does not fit them.

    Examples:
        >>> import tempfile
        >>> from torch_featurelayer.store import StoreWriter
        >>> folder = tempfile.mkdtemp()
        >>> with StoreWriter.open(folder, {}) as writer:
        ...     writer.write(0, {"fc": torch.tensor([[1.0, 4.0], [3.0, 2.0]])}, ["a", "b"])
        >>> row_statistics(tl.open_store(folder)["fc"]).top(0)
        [('b', 3.0), ('a', 1.0)]
    """
    check_counts(0, top=top)
    size = max(1, _CHUNK // max(1, rows[0].numel()))
    items, counts = torch.unique_consecutive(rows.ids.of_rows(torch.arange(len(rows))), return_counts=True)
    ends = counts.cumsum(0)
    found: ChannelAccumulator | None = None
    row = item = 0
    while row < len(rows):
        # Whole items: the largest value of one is known only from all its rows.
        last = max(int(torch.searchsorted(ends, row + size, right=True)), item + 1)
        part = rows[row : int(ends[last - 1])]
        values, positions = channels_last(rows.name, part, layout)
        found = found or ChannelAccumulator(values.shape[1], top)
        found.add(values, (counts[item:last] * positions).tolist(), items[item:last].tolist())
        row, item = int(ends[last - 1]), last
    state: Mapping[str, Tensor] = {} if found is None else found.state
    kept = sorted({number for number in state["top_items"].flatten().tolist() if number >= 0})
    return LayerStatistics(rows.name, state, {number: rows.ids[number] for number in kept})
