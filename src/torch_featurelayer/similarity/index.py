"""Indexes: vectors held in memory for many queries."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .._checks import check_counts
from .._optional import need
from .search import Match, only_layer, query_vectors, to_matches
from .vectors import Metric, chunks

if TYPE_CHECKING:
    from ..store import Store


class Index:
    """An exact index of the vectors of a layer, held in memory as float32.

    Args:
        store: The store.
        layer: The layer. Default: None, the only layer of the store.
        metric: `"cosine"` (default) or `"dot"`, the inner product.
        device: The device of the vectors. Default: None, the CPU.

    Raises:
        ValueError: If `layer` is None and the store has several layers, or there is no such metric.
        FeatureNotFoundError: If the store has no such layer.
    """

    def __init__(
        self,
        store: Store,
        layer: str | None = None,
        *,
        metric: Metric = "cosine",
        device: torch.device | str | None = None,
    ) -> None:
        self._store, self._layer, self._metric = store, only_layer(store, layer), metric
        rows = store[self._layer]
        # Filled in place: the parts and their concatenation would be in memory at once.
        self._vectors = torch.empty(len(rows), prod(rows.shape[1:]), device=device)
        for start, part in chunks(rows, metric):
            self._vectors[start : start + len(part)] = part

    def __len__(self) -> int:
        return len(self._vectors)

    def search(self, query: Tensor | str, k: int = 10) -> list[Match]:
        """Finds the rows that are most similar to a query.

        Args:
            query: A feature `[...]` or `[1, ...]` in the shape of a row, or the id of an item of the store, which is
                then not among the results.
            k: The number of results. Default: 10.

        Returns:
            The matches in descending order of similarity. Rows with NaN or infinite values never match.

        Raises:
            ValueError: If the query has another size, or values that are not finite; or if `k` is less than 1.
            LookupError: If no item has this id.
        """
        check_counts(k=k)
        wanted, own = query_vectors(self._store, self._layer, query, self._metric)
        scores, rows = self._best(wanted, k + (own is not None))
        return to_matches(self._store, scores[0], rows[0], own)[:k]

    def search_many(self, queries: Tensor, k: int = 10) -> list[list[Match]]:
        """Finds the rows that are most similar to each of several queries, with one matrix product.

        Args:
            queries: Features `[Q, ...]`.
            k: The number of results for each query. Default: 10.

        Returns:
            A list of matches for each query, as `search` returns them.

        Raises:
            ValueError: If the queries have another size, or values that are not finite; or if `k` is less than 1.
        """
        check_counts(k=k)
        wanted, _ = query_vectors(self._store, self._layer, queries, self._metric)
        found = zip(*self._best(wanted, k), strict=True)
        return [to_matches(self._store, scores, rows, None) for scores, rows in found]

    def _best(self, wanted: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Returns scores and rows `[Q, k]` in descending order."""
        scores = wanted.to(self._vectors.device) @ self._vectors.T
        best = scores.nan_to_num(nan=-torch.inf).topk(min(k, len(self)), dim=1)
        rows = best.indices.masked_fill(best.values == -torch.inf, -1)
        return best.values.cpu(), rows.cpu()


class FaissIndex(Index):
    """An approximate index in faiss, which searches only some cells, for millions of rows.

    Args:
        store: The store.
        layer: The layer. Default: None, the only layer of the store.
        metric: `"cosine"` (default) or `"dot"`, the inner product.
        cells: The number of cells. Default: None, four times the square root of the number of rows.
        probes: The number of cells that a query searches: more cells give better recall and take longer. Default: 32.

    Raises:
        ValueError: If `layer` is None and the store has several layers, or there is no such metric.
        FeatureNotFoundError: If the store has no such layer.
        MissingExtraError: If faiss is not installed (extra `faiss`).
    """

    def __init__(
        self,
        store: Store,
        layer: str | None = None,
        *,
        metric: Metric = "cosine",
        cells: int | None = None,
        probes: int = 32,
    ) -> None:
        faiss: Any = need("faiss", "faiss")
        super().__init__(store, layer, metric=metric)
        count, width = self._vectors.shape
        cells = cells or max(min(int(4 * count**0.5), count // 39), 1)  # faiss recommends at least 39 points for each
        self._faiss = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, cells, faiss.METRIC_INNER_PRODUCT)
        finite = self._vectors.isfinite().all(1)
        self._rows = finite.nonzero().flatten()
        self._faiss.train(self._vectors[finite].numpy())
        self._faiss.add(self._vectors[finite].numpy())
        # faiss searches one cell by default, whose recall is too low.
        self._faiss.nprobe = probes
        self._vectors = self._vectors[:0]  # faiss holds its own copy

    def __len__(self) -> int:
        return int(self._faiss.ntotal)

    def _best(self, wanted: Tensor, k: int) -> tuple[Tensor, Tensor]:
        scores, rows = self._faiss.search(wanted.numpy(), min(k, len(self)))
        found = torch.from_numpy(rows)  # -1 where the cells hold fewer rows
        return torch.from_numpy(scores), torch.where(found < 0, found, self._rows[found])
