"""Vectors held in memory, for many queries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .._optional import need
from .search import Match, matches, only_layer, query_of
from .vectors import Metric, chunks

if TYPE_CHECKING:
    from ..store import Store


class Index:
    """The vectors of a layer, in memory as float32: exact.

    Args:
        store: The store.
        layer: Which; None where the store holds one.
        metric: `"cosine"`, or `"dot"`.
        device: Where the vectors are.

    Raises:
        ValueError: The store holds several layers and none is named.
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
        self._vectors = torch.cat([part for _, part in chunks(store[self._layer], metric)]).to(device)

    def __len__(self) -> int:
        return len(self._vectors)

    def search(self, query: Tensor | str, k: int = 10) -> list[Match]:
        """Finds the rows most like a query, as `similarity.search` does."""
        wanted, own = query_of(self._store, self._layer, query, self._metric)
        scores, rows = self._best(wanted, k + (own is not None))
        return matches(self._store, scores[0], rows[0], own)[:k]

    def search_many(self, queries: Tensor, k: int = 10) -> list[list[Match]]:
        """Finds the rows most like each of several queries `[Q, ...]`, in one product."""
        wanted, _ = query_of(self._store, self._layer, queries, self._metric)
        found = zip(*self._best(wanted, k), strict=True)
        return [matches(self._store, scores, rows, None) for scores, rows in found]

    def _best(self, wanted: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Returns scores and rows `[Q, k]`, best first."""
        scores = wanted.to(self._vectors.device) @ self._vectors.T
        best = scores.nan_to_num(nan=-torch.inf).topk(min(k, len(self)), dim=1)
        rows = best.indices.masked_fill(best.values == -torch.inf, -1)
        return best.values.cpu(), rows.cpu()


class FaissIndex(Index):
    """The vectors of a layer in a faiss index that looks at some cells only: not exact, for millions of rows.

    Args:
        store: The store.
        layer: Which; None where the store holds one.
        metric: `"cosine"`, or `"dot"`.
        cells: How many cells there are; None: four times the root of the number of rows.
        probes: How many of them a query looks at: more find more, and take longer.

    Raises:
        ValueError: The store holds several layers and none is named.
        MissingExtraError: faiss is not installed (extra `faiss`).
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
        cells = cells or max(min(int(4 * count**0.5), count // 39), 1)  # faiss wants 39 points for each
        self._faiss = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, cells, faiss.METRIC_INNER_PRODUCT)
        finite = self._vectors.isfinite().all(1)
        self._rows = finite.nonzero().flatten()
        self._faiss.train(self._vectors[finite].numpy())
        self._faiss.add(self._vectors[finite].numpy())
        self._faiss.nprobe = probes
        self._vectors = self._vectors[:0]  # faiss has its own

    def __len__(self) -> int:
        return int(self._faiss.ntotal)

    def _best(self, wanted: Tensor, k: int) -> tuple[Tensor, Tensor]:
        scores, rows = self._faiss.search(wanted.numpy(), min(k, len(self)))
        found = torch.from_numpy(rows)  # -1 where the cells held fewer
        return torch.from_numpy(scores), torch.where(found < 0, found, self._rows[found])
