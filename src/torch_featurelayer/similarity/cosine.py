"""How alike items are, every one with every other."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import normalize


def cosine(one: Tensor, other: Tensor) -> Tensor:
    """Computes the cosine of every row of one with every row of the other.

    Args:
        one: `[N, ...]`: features of `N` items, flattened to vectors.
        other: `[M, ...]`: features of the same layer, so of the same width.

    Returns:
        float64 `[N, M]`, from -1 to 1; 0 for a row of zeros. Carries the gradient of both.

    Raises:
        ValueError: Their vectors are of different widths.

    Examples:
        >>> import torch
        >>> cosine(torch.tensor([[1.0, 0.0], [1.0, 1.0]]), torch.tensor([[0.0, 2.0]]))
        tensor([[0.0000],
                [0.7071]], dtype=torch.float64)
    """
    x, y = (features.reshape(len(features), -1).double() for features in (one, other))
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"cosine compares vectors of one width, not of {x.shape[1]} and {y.shape[1]}")
    return normalize(x, dim=1) @ normalize(y, dim=1).T
