"""The rows of a store that are most like a query: exact."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .vectors import Metric, checked_query, chunks, vectors

if TYPE_CHECKING:
    from ..store import Store


@dataclass(frozen=True, slots=True)
class Match:
    """A row that was found.

    Attributes:
        id: Of the item.
        score: How alike it is: for `"cosine"` from -1 to 1.
        row: Its number in the store.
    """

    id: str
    score: float
    row: int


def search(
    store: Store, query: Tensor | str, layer: str | None = None, k: int = 10, *, metric: Metric = "cosine"
) -> list[Match]:
    """Finds the rows most like a query, by reading all of them once: exact, in bounded memory.

    For many queries build an `Index` once.

    Args:
        store: The store.
        query: A feature `[...]` or `[1, ...]` as the store's rows are, or the id of an item in it, which is then
            not among the results.
        layer: Which; None where the store holds one.
        k: How many.
        metric: `"cosine"`, or `"dot"`.

    Returns:
        The matches, best first; of equal ones the earlier row first. Rows with NaN or infinite values never match.

    Raises:
        ValueError: The query has another size or values that are not finite, or the store holds several layers and
            none is named.
        LookupError: No item has that id.

    Examples:
        >>> import tempfile
        >>> from torch_featurelayer.store import StoreWriter
        >>> folder = tempfile.mkdtemp()
        >>> with StoreWriter.open(folder, {}) as writer:
        ...     writer.write(0, {"fc": torch.eye(3)}, ["a", "b", "c"])
        >>> search(tl.open_store(folder), torch.tensor([0.0, 1.0, 0.1]), k=2)
        [Match(id='b', score=0.995..., row=1), Match(id='c', score=0.0995..., row=2)]
    """
    name = only_layer(store, layer)
    wanted, own = query_of(store, name, query, metric)
    best = torch.empty(0), torch.empty(0, dtype=torch.int64)
    for start, part in chunks(store[name], metric):
        scores = (wanted @ part.T)[0]
        best = merged(best, (scores, torch.arange(start, start + len(part))), k + (own is not None))
    return matches(store, *best, own)[:k]


def only_layer(store: Store, layer: str | None) -> str:
    """Returns the layer that is meant.

    Raises:
        ValueError: None is named, and the store holds several.
    """
    if layer is None and len(store.layers) != 1:
        raise ValueError(f"name a layer: the store holds {', '.join(map(repr, store.layers)) or 'none'}")
    return layer or store.layers[0]


def query_of(store: Store, layer: str, query: Tensor | str, metric: Metric) -> tuple[Tensor, int | None]:
    """Returns a query as vectors `[Q, D]`, and its own row where it is one."""
    own = None
    if isinstance(query, str):
        own = row_of(store, query)
        query = store[layer][own]
    return vectors(checked_query(query, prod(store[layer].shape[1:])), metric), own


def row_of(store: Store, name: str) -> int:
    """Returns the row of an id.

    Raises:
        LookupError: No item has that id.
    """
    try:
        return store.ids.index(name)
    except ValueError:
        raise LookupError(f"no item has the id {name!r} in {store.path!r}: see store.ids") from None


def merged(best: tuple[Tensor, Tensor], more: tuple[Tensor, Tensor], k: int) -> tuple[Tensor, Tensor]:
    """Returns the `k` best of two lists of scores and rows, in order."""
    scores, rows = torch.cat([best[0], more[0]]), torch.cat([best[1], more[1]])
    order = torch.argsort(scores.nan_to_num(nan=-torch.inf), descending=True, stable=True)[:k]
    return scores[order], rows[order]


def matches(store: Store, scores: Tensor, rows: Tensor, own: int | None) -> list[Match]:
    """Returns scores and rows with their ids, the query's own left out."""
    pairs = zip(scores.tolist(), rows.tolist(), strict=True)
    return [Match(store.ids[row], score, row) for score, row in pairs if row != own and row >= 0 and score == score]
