"""Rows of a store as vectors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
from torch import Tensor

from .._checks import check_choice
from ..analysis._scaling import unit_vectors

if TYPE_CHECKING:
    from ..store import StoredLayer

Metric: TypeAlias = Literal["cosine", "dot"]

CHUNK = 8192  # rows


def vectors(rows: Tensor, metric: Metric) -> Tensor:
    """Returns rows as vectors whose inner product is their similarity.

    Args:
        rows: Rows `[N, ...]` of any dtype, which are flattened.
        metric: `"cosine"`, or `"dot"` for the inner product of the unchanged values.

    Returns:
        A float32 tensor `[N, D]`; a row with a value that is not finite is NaN.

    Raises:
        ValueError: If there is no such metric.
    """
    check_choice(Metric, metric=metric)
    flat = rows.reshape(len(rows), -1)
    if metric == "cosine":
        return unit_vectors(flat if flat.dtype is torch.float64 else flat.float(), 1).float()
    flat = flat.float()
    # An infinite value would give the largest inner product.
    return torch.where(flat.isfinite().all(1, keepdim=True), flat, torch.nan)


def flat(features: Tensor) -> Tensor:
    """Returns features `[N, ...]` as float64 vectors `[N, D]`, without gradient.

    Raises:
        TypeError: If they are no tensor.
    """
    if not isinstance(features, Tensor):
        raise TypeError(f"features are a tensor [N, ...], not a {type(features).__name__}: torch.as_tensor(features)")
    return features.detach().reshape(len(features), -1).double()


def center(features: Tensor) -> Tensor:
    """Returns features as float64 vectors with their mean subtracted."""
    vectors = flat(features)
    # Without the rounding of the mean, of which a ratio would make a similarity.
    return (vectors - vectors.mean(0)).masked_fill_((vectors == vectors[:1]).all(0), 0)


def chunks(layer: StoredLayer, metric: Metric, first: int = 0) -> Iterator[tuple[int, Tensor]]:
    """Yields the rows of a layer as vectors, several thousand at a time, with the number of the first row."""
    for start in range(first, len(layer), CHUNK):
        yield start, vectors(layer[start : start + CHUNK], metric)


def check_query(query: Tensor, width: int) -> Tensor:
    """Returns queries as vectors `[Q, D]`.

    Raises:
        ValueError: If a query has not as many values as a row, or values that are not finite.
    """
    if not query.isfinite().all():
        raise ValueError("the query has values that are not finite")
    if query.numel() == width:
        return query.reshape(1, width)
    if query.ndim > 1 and query[0].numel() == width:
        return query.reshape(len(query), width)
    raise ValueError(f"a query {list(query.shape)} cannot be compared with rows of {width} values")
