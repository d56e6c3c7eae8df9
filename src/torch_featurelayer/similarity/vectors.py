"""Rows of a store as vectors that are compared."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import normalize

if TYPE_CHECKING:
    from ..store import StoredLayer

Metric: TypeAlias = Literal["cosine", "dot"]

CHUNK = 8192  # rows


def vectors(rows: Tensor, metric: Metric) -> Tensor:
    """Returns rows as vectors whose product is the score.

    Args:
        rows: `[N, ...]`, of any dtype; maps are flattened.
        metric: `"cosine"`, or `"dot"` for the product of the values as they are.

    Returns:
        float32 `[N, D]`; a row with a value that is not finite is NaN.

    Raises:
        ValueError: There is no such metric.
    """
    flat = rows.reshape(len(rows), -1).to(torch.float32)
    # An infinite value would make a cosine of NaN, or a product that beats all others: such a row compares as NaN.
    flat = torch.where(flat.isfinite().all(1, keepdim=True), flat, torch.nan)
    if metric == "cosine":
        return normalize(flat, dim=1)
    if metric == "dot":
        return flat
    raise ValueError(f"metric is 'cosine' or 'dot', not {metric!r}")


def flat(features: Tensor) -> Tensor:
    """Returns features `[N, ...]` as vectors, float64 `[N, D]`, without gradient."""
    return features.detach().reshape(len(features), -1).double()


def centred(features: Tensor) -> Tensor:
    """Returns features as `flat` does, their mean subtracted."""
    vectors = flat(features)
    return vectors - vectors.mean(0)


def chunks(layer: StoredLayer, metric: Metric, first: int = 0) -> Iterator[tuple[int, Tensor]]:
    """Yields the rows of a layer from one on as vectors, some thousand at a time, and the number of the first."""
    for start in range(first, len(layer), CHUNK):
        yield start, vectors(layer[start : start + CHUNK], metric)


def checked_query(query: Tensor, width: int) -> Tensor:
    """Returns queries `[Q, ...]` from one or several.

    Raises:
        ValueError: Their values are not as many as those of a row.
    """
    if not query.isfinite().all():
        raise ValueError("the query has values that are not finite")
    if query.numel() == width:
        return query.reshape(1, width)
    if query.ndim > 1 and query[0].numel() == width:
        return query.reshape(len(query), width)
    raise ValueError(f"a query {list(query.shape)} cannot be compared with rows of {width} values")
