"""Representational similarity analysis (RSA)."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from .vectors import flat

_DECIMALS: Final = 12  # of correlations in float64


def rsa(one: Tensor, other: Tensor) -> float:
    """Compares layers by representational similarity analysis.

    For each layer, the dissimilarity of a pair of inputs is one minus the correlation of their features. The result is
    Spearman's rank correlation of the dissimilarities of all pairs. Source: Kriegeskorte, Mur and Bandettini,
    "Representational similarity analysis", 2008.

    Args:
        one: Features `[N, ...]` of `N` inputs, which are flattened to vectors.
        other: Features `[N, ...]` of the same inputs from another layer or model; the number of values may differ.

    Returns:
        A float from -1 to 1; NaN if all dissimilarities in a layer are equal, or one is undefined, because all values
        of an input are equal, or a value is NaN or infinite.

    Raises:
        ValueError: If the numbers of inputs differ or are below 3.
    """
    if len(one) != len(other) or len(one) < 3:
        raise ValueError(f"features must be of the same 3 or more inputs, not of {len(one)} and {len(other)}")
    first, second = (_ranks(_dissimilarities(part)) for part in (one, other))
    return float(torch.corrcoef(torch.stack([first, second]))[0, 1])


def _dissimilarities(features: Tensor) -> Tensor:
    """Returns one minus the correlation of every pair of rows, each pair once; NaN if it is undefined."""
    vectors = flat(features)
    is_constant = (vectors == vectors[:, :1]).all(1, keepdim=True)
    # The rounding of constant rows and equal pairs has no order.
    above = torch.triu_indices(len(vectors), len(vectors), 1)
    found = 1 - torch.corrcoef(vectors.masked_fill(is_constant, torch.nan))[above[0], above[1]]
    return found.round(decimals=_DECIMALS)


def _ranks(values: Tensor) -> Tensor:
    """Returns the rank of each value; equal values share their mean rank. NaN if a value is."""
    if values.isnan().any():
        return torch.full_like(values, torch.nan)
    _, inverse, counts = torch.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    shared: Tensor = last - (counts.double() - 1) / 2
    return shared[inverse]
