"""How well one layer's features can be turned into another's."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from .vectors import centred


def procrustes(one: Tensor, other: Tensor) -> float:
    """Measures what is left of the difference after the best shift, scale and rotation.

    Source: Schönemann, "A generalized solution of the orthogonal Procrustes problem", 1966.

    Args:
        one: `[N, ...]`: the features of `N` inputs, flattened to vectors.
        other: `[N, ...]`: another layer's, or model's, of the same inputs; the narrower one is filled up with zeros.

    Returns:
        From 0 (the same up to rotation, scale and shift) to 1.

    Raises:
        ValueError: They are not of as many inputs, or one does not vary.
    """
    if len(one) != len(other):
        raise ValueError(f"procrustes compares features of the same inputs, not of {len(one)} and {len(other)}")
    x, y = _standard(one), _standard(other)
    width = max(x.shape[1], y.shape[1])
    x, y = (pad(part, (0, width - part.shape[1])) for part in (x, y))
    return float((1 - torch.linalg.svdvals(x.T @ y).sum().square()).clamp_min(0))


def _standard(features: Tensor) -> Tensor:
    """Returns vectors around zero, of norm one all together."""
    around_zero = centred(features)
    if not around_zero.any():
        raise ValueError("features that do not vary can be turned into nothing")
    standard: Tensor = around_zero / torch.linalg.vector_norm(around_zero)
    return standard
