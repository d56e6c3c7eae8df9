"""Features and labels of the items of a store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy

from .._exceptions import FeatureNotFoundError
from ..store import Store


def read_labels(store: Store, label: str | Sequence[Any], folds: int) -> numpy.ndarray[Any, Any]:
    """Returns the label of each item, as text.

    Args:
        store: The store.
        label: The name of a column, or a label for each item.
        folds: The smallest number of items of a class.

    Raises:
        FeatureNotFoundError: If the store has no such column.
        ValueError: If the number of labels is not that of the items, an item has none, or a class has too few items.
    """
    if isinstance(label, str):
        if label not in store.columns:
            raise FeatureNotFoundError(label, store.columns, "column")
        label = store.column(label).tolist()
    if len(label) != len(store.ids):
        raise ValueError(f"there are {len(store.ids)} items and {len(label)} labels")
    values = [each.item() if hasattr(each, "item") else each for each in label]
    # They would be one more class.
    without = [store.ids[place] for place, value in enumerate(values) if value is None or value != value]  # NaN
    if without:
        raise ValueError(f"{len(without)} items have no label, such as {without[0]!r}: pass a class for each item")
    found = numpy.array([str(value) for value in values])
    counts = Counter(found.tolist())
    few = [name for name, count in counts.items() if count < folds]
    if len(counts) < 2 or few:
        problem = f"class {few[0]!r} has {counts[few[0]]}" if few else f"there is only {next(iter(counts), 'none')!r}"
        raise ValueError(f"a probe needs two or more classes of {folds} or more items, and {problem}")
    return found


def read_features(store: Store, layer: str) -> numpy.ndarray[Any, Any]:
    """Returns the features of a layer as vectors: float32 `[items, D]`.

    Raises:
        ValueError: If items have several rows, or values are NaN or infinite.
    """
    rows = store[layer][:]
    if len(rows) != len(store.ids):
        raise ValueError(f"{layer!r} has {len(rows)} rows for {len(store.ids)} items: extract it with reduce=")
    values = rows.float().flatten(1).numpy()
    bad = int((~numpy.isfinite(values)).any(1).sum())
    if bad:
        raise ValueError(f"{layer!r} has NaN or infinite values in {bad} items: see store.nonfinite")
    return values
