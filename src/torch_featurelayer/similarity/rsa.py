"""Whether two layers find the same inputs alike."""

from __future__ import annotations

import torch
from torch import Tensor

from .vectors import flat


def rsa(one: Tensor, other: Tensor) -> float:
    """Compares layers by representational similarity analysis.

    For each layer the dissimilarity of every pair of inputs is one minus the correlation of their features; the result
    is the rank correlation (Spearman's) of the two lists. Source: Kriegeskorte, Mur and Bandettini,
    "Representational similarity analysis", 2008.

    Args:
        one: `[N, ...]`: the features of `N` inputs, flattened to vectors.
        other: `[N, ...]`: another layer's, or model's, of the same inputs; of any width.

    Returns:
        From -1 to 1; not a number where all dissimilarities of one are equal.

    Raises:
        ValueError: They are not of as many inputs, or of fewer than three.
    """
    if len(one) != len(other) or len(one) < 3:
        raise ValueError(f"rsa compares features of the same three or more inputs, not of {len(one)} and {len(other)}")
    first, second = (_ranks(_dissimilarities(part)) for part in (one, other))
    return float(torch.corrcoef(torch.stack([first, second]))[0, 1])


def _dissimilarities(features: Tensor) -> Tensor:
    """Returns one minus the correlation of every pair of rows, each pair once."""
    above = torch.triu_indices(len(features), len(features), 1)
    return 1 - torch.corrcoef(flat(features))[above[0], above[1]]


def _ranks(values: Tensor) -> Tensor:
    """Returns the rank of each value; equal ones share the mean of theirs."""
    _, inverse, counts = torch.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    shared: Tensor = last - (counts.double() - 1) / 2
    return shared[inverse]
