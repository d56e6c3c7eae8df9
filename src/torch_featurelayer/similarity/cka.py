"""How alike two layers arrange the same inputs."""

from __future__ import annotations

from torch import Tensor

from .vectors import centred


def cka(one: Tensor, other: Tensor) -> float:
    """Computes linear centred kernel alignment.

    Source: Kornblith et al., "Similarity of Neural Network Representations Revisited", 2019.

    Args:
        one: `[N, ...]`: the features of `N` inputs, or positions; flattened to vectors.
        other: `[N, ...]`: another layer's, or model's, of the same inputs; of any width.

    Returns:
        From 0 (nothing in common) to 1 (the same up to rotation and scale); 0 where one does not vary, and NaN if
        a value is NaN or infinite.

    Raises:
        ValueError: They are not of as many inputs, or of fewer than two.

    Examples:
        >>> import torch
        >>> features = torch.randn(20, 5)
        >>> round(cka(features, 3 * features.flip(1)), 4)
        1.0
    """
    if len(one) != len(other) or len(one) < 2:
        raise ValueError(f"cka compares features of the same two or more inputs, not of {len(one)} and {len(other)}")
    x, y = centred(one), centred(other)
    if len(x) < max(x.shape[1], y.shape[1]):  # the smaller of the two ways to the same numbers
        k, m = x @ x.T, y @ y.T
        shared, norms = (k * m).sum(), k.norm() * m.norm()
    else:
        shared, norms = (x.T @ y).square().sum(), (x.T @ x).norm() * (y.T @ y).norm()
    return 0.0 if norms == 0 else float(shared / norms)
