"""Procrustes distance between layers."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from .vectors import center


def procrustes(one: Tensor, other: Tensor) -> float:
    """Computes the Procrustes distance: the difference that remains after the best shift, scale and rotation.

    Source: Schönemann, "A generalized solution of the orthogonal Procrustes problem", 1966.

    Args:
        one: Features `[N, ...]` of `N` inputs, which are flattened to vectors.
        other: Features `[N, ...]` of the same inputs from another layer or model; the narrower one is padded with
            zeros.

    Returns:
        A float from 0 (equal up to rotation, scale and shift) to 1; NaN if a value is NaN or infinite.

    Raises:
        ValueError: If the numbers of inputs differ, or one of them is constant.
    """
    if len(one) != len(other):
        raise ValueError(f"features must be of the same inputs, not of {len(one)} and {len(other)}")
    x, y = _standard(one), _standard(other)
    if not (x.isfinite().all() and y.isfinite().all()):
        return math.nan
    width = max(x.shape[1], y.shape[1])
    x, y = (pad(part, (0, width - part.shape[1])) for part in (x, y))
    return float((1 - torch.linalg.svdvals(x.T @ y).sum().square()).clamp_min(0))


def _standard(features: Tensor) -> Tensor:
    """Returns center vectors, scaled to a total norm of one."""
    around_zero = center(features)
    if not around_zero.any():
        raise ValueError("features must not be constant")
    standard: Tensor = around_zero / torch.linalg.vector_norm(around_zero)
    return standard
