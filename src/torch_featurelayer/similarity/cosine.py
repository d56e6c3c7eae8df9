"""Cosine similarity."""

from __future__ import annotations

from torch import Tensor

from ..analysis._scaling import unit_vectors


def cosine(one: Tensor, other: Tensor) -> Tensor:
    """Computes the cosine similarity of every row of one tensor with every row of another.

    Args:
        one: Features `[N, ...]`, which are flattened to vectors.
        other: Features `[M, ...]` with the same number of values in a row.

    Returns:
        A float64 tensor `[N, M]` from -1 to 1, with the gradient of both; 0 for a row of zeros.

    Raises:
        ValueError: If the numbers of values in a row differ.

    Examples:
        >>> import torch
        >>> cosine(torch.tensor([[1.0, 0.0], [1.0, 1.0]]), torch.tensor([[0.0, 2.0]]))
        tensor([[0.0000],
                [0.7071]], dtype=torch.float64)
    """
    x, y = (features.reshape(len(features), -1).double() for features in (one, other))
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"rows must have the same number of values, not {x.shape[1]} and {y.shape[1]}")
    return unit_vectors(x, 1) @ unit_vectors(y, 1).T
