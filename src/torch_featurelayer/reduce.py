"""Reductions from a feature to something smaller, tensor to tensor, batch kept in front."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

from torch import Tensor

from ._errors.base import nearest

__all__ = ["Reduction", "cls", "flatten", "mean", "reduction"]

Reduction: TypeAlias = Literal["mean", "max", "cls", "flatten"] | Callable[[Tensor], Tensor]


def mean(feature: Tensor) -> Tensor:
    """Averages over positions.

    Args:
        feature: `[N, C, *positions]`, or tokens `[N, T, C]`; `[N, C]` is returned as it is.

    Returns:
        `[N, C]`, in the feature's dtype.
    """
    return feature if feature.ndim < 3 else feature.mean(_positions(feature))


def maximum(feature: Tensor) -> Tensor:
    """Takes the largest value over positions: shapes as in `mean`."""
    return feature if feature.ndim < 3 else feature.amax(_positions(feature))


def cls(feature: Tensor) -> Tensor:
    """Takes the first token.

    Args:
        feature: Tokens `[N, T, C]`.

    Returns:
        `[N, C]`, with memory of its own.

    Raises:
        ValueError: The feature is not a sequence of tokens.
    """
    if feature.ndim != 3:
        raise ValueError(f"'cls' takes tokens [N, T, C], not {list(feature.shape)}")
    return feature[:, 0].clone()


def flatten(feature: Tensor) -> Tensor:
    """Makes each sample one vector: `[N, *]` to `[N, D]`."""
    return feature.reshape(feature.shape[0], -1) if feature.ndim else feature


def _positions(feature: Tensor) -> tuple[int, ...]:
    return (1,) if feature.ndim == 3 else tuple(range(2, feature.ndim))


_NAMED: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": mean,
    "max": maximum,
    "cls": cls,
    "flatten": flatten,
}


def reduction(reduce: Reduction | None) -> Callable[[Tensor], Tensor]:
    """Returns the function a reduction stands for; None changes nothing.

    Raises:
        ValueError: No reduction has that name.
    """
    if reduce is None:
        return lambda feature: feature
    if callable(reduce):
        return reduce
    if reduce in _NAMED:
        return _NAMED[reduce]
    near = nearest(str(reduce), _NAMED, limit=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"no reduction {reduce!r}; there are {', '.join(_NAMED)}, or give a function.{hint}")
