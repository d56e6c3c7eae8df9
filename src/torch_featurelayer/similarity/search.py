"""Exact search for the rows of a store that are most similar to a query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .._checks import check_counts
from .vectors import Metric, check_query, chunks, vectors

if TYPE_CHECKING:
    from ..store import Store


@dataclass(frozen=True, slots=True)
class Match:
    """A row that was found.

    Attributes:
        id: The id of the item.
        score: Its similarity to the query; for `"cosine"` from -1 to 1.
        row: The number of the row in the store.
    """

    id: str
    score: float
    row: int


def search(
    store: Store, query: Tensor | str, layer: str | None = None, k: int = 10, *, metric: Metric = "cosine"
) -> list[Match]:
    """Finds the rows that are most similar to a query: exact, in bounded memory, by reading all rows once.

    For many queries, build an `Index` once.

    Args:
        store: The store.
        query: A feature `[...]` or `[1, ...]` in the shape of a row, or the id of an item of the store, which is then
            not among the results. For an image, use `extraction.extract_like`.
        layer: The layer. Default: None, the only layer of the store.
        k: The number of results. Default: 10.
        metric: `"cosine"` (default) or `"dot"`, the inner product.

    Returns:
        The matches in descending order of similarity; among equal ones, the smaller row number comes first. Rows with
        NaN or infinite values never match.

    Raises:
        ValueError: If the query has another size, or values that are not finite; if `layer` is None and the store has
            several layers; or if `k` is less than 1.
        LookupError: If no item has this id.
        FeatureNotFoundError: If the store has no such layer.

    Examples:
        >>> import tempfile
        >>> from torch_featurelayer.store import StoreWriter
        >>> folder = tempfile.mkdtemp()
        >>> with StoreWriter.open(folder, {}) as writer:
        ...     writer.write(0, {"fc": torch.eye(3)}, ["a", "b", "c"])
        >>> search(tl.open_store(folder), torch.tensor([0.0, 1.0, 0.1]), k=2)
        [Match(id='b', score=0.995..., row=1), Match(id='c', score=0.0995..., row=2)]
    """
    check_counts(k=k)
    name = only_layer(store, layer)
    wanted, own = query_vectors(store, name, query, metric)
    # Only the best rows so far are kept, so memory does not depend on the size of the store.
    best = torch.empty(0), torch.empty(0, dtype=torch.int64)
    for start, part in chunks(store[name], metric):
        scores = (wanted @ part.T)[0]
        best = merge(best, (scores, torch.arange(start, start + len(part))), k + (own is not None))
    return to_matches(store, *best, own)[:k]


def only_layer(store: Store, layer: str | None) -> str:
    """Returns the named layer, or the only layer of a store.

    Raises:
        ValueError: If no layer is named and the store has several.
    """
    if layer is None and len(store.layers) != 1:
        raise ValueError(f"name a layer: the layers of the store are {', '.join(map(repr, store.layers)) or 'none'}")
    return layer or store.layers[0]


def query_vectors(store: Store, layer: str, query: Tensor | str, metric: Metric) -> tuple[Tensor, int | None]:
    """Returns a query as vectors `[Q, D]`, and its row number if it is an item of the store."""
    own = None
    if isinstance(query, str):
        own = row_of_id(store, query)
        query = store[layer][own]
    return vectors(check_query(query, prod(store[layer].shape[1:])), metric), own


def row_of_id(store: Store, name: str) -> int:
    """Returns the row number of an id.

    Raises:
        LookupError: If no item has this id.
        ValueError: If the item has several rows, those of its tokens or objects.
    """
    try:
        rows = store.ids.rows(store.ids.index(name))
    except ValueError:
        raise LookupError(f"no item has the id {name!r} in {store.path!r}: see store.ids") from None
    if len(rows) != 1:
        one = f"store[layer].item({name!r})[0]"
        raise ValueError(f"{name!r} has {len(rows)} rows: search for one of them, such as {one}")
    return rows[0]


def merge(best: tuple[Tensor, Tensor], more: tuple[Tensor, Tensor], k: int) -> tuple[Tensor, Tensor]:
    """Returns the `k` best of two lists of scores and rows, in descending order."""
    scores, rows = torch.cat([best[0], more[0]]), torch.cat([best[1], more[1]])
    order = torch.argsort(scores.nan_to_num(nan=-torch.inf), descending=True, stable=True)[:k]
    return scores[order], rows[order]


def to_matches(store: Store, scores: Tensor, rows: Tensor, own: int | None) -> list[Match]:
    """Returns scores and rows as matches, without the row of the query."""
    pairs = zip(scores.tolist(), rows.tolist(), strict=True)
    found = [(score, row) for score, row in pairs if row != own and row >= 0 and score == score]
    names = names_of_rows(store, [row for _, row in found])
    return [Match(name, score, row) for name, (score, row) in zip(names, found, strict=True)]


def names_of_rows(store: Store, rows: Sequence[int]) -> list[str]:
    """Returns the id of the item that each row belongs to: an item has several rows in a store of tokens or objects."""
    places = store.ids.of_rows(torch.tensor(rows, dtype=torch.int64))
    return [store.ids[place] for place in places.tolist()]
