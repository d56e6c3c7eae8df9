"""Reductions of features, from tensor to tensor, with items in the first dimension."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, get_args

from torch import Tensor

from ._exceptions import LayoutError, ReductionError
from ._layout import Layout
from ._suggest import nearest

__all__ = ["Reducer", "Reduction", "make_reducer"]

ReductionName: TypeAlias = Literal["mean", "max", "cls", "flatten"]
Reduction: TypeAlias = ReductionName | Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Reducer:
    """A validated reduction.

    Attributes:
        reduction: The name of the reduction, or the user's function.
    """

    reduction: Reduction

    @property
    def needs_layout(self) -> bool:
        """Whether the reduction depends on the layout of the feature."""
        return not callable(self.reduction)

    @property
    def needs_channel(self) -> bool:
        """Whether the reduction depends on the dimension of the channels, not only on that of the items."""
        return self.needs_layout and self.reduction != "flatten"

    def __call__(self, feature: Tensor, layout: Layout | None) -> Tensor:
        """Reduces one tensor.

        Args:
            feature: The tensor.
            layout: The layout of the tensor; None for a function, and for tensors of fewer than three dimensions.

        Raises:
            ReductionError: If the values have no mean, or a function does not return a tensor.
            LayoutError: If the layout has no tokens for `"cls"`.
        """
        if not callable(self.reduction):
            return _NAMED[self.reduction](feature, layout)
        reduced = self.reduction(feature)
        if not isinstance(reduced, Tensor):
            raise ReductionError(f"the reduction must return a tensor, not a {type(reduced).__name__}")
        return reduced


def make_reducer(reduce: Reduction) -> Reducer:
    """Validates a reduction.

    Raises:
        ValueError: If no reduction has this name.
    """
    if callable(reduce) or reduce in _NAMED:
        return Reducer(reduce)
    near = nearest(str(reduce), _NAMED, limit=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    names = ", ".join(get_args(ReductionName))
    raise ValueError(f"no reduction {reduce!r}: the reductions are {names}, or a function.{hint}")


def _mean(feature: Tensor, layout: Layout | None) -> Tensor:
    """Averages over positions to `[N, C]`, in the feature's dtype; tensors of one or two dimensions are unchanged."""
    if layout is None or not layout.positions:
        return feature
    if not (feature.is_floating_point() or feature.is_complex()):
        dtype = str(feature.dtype).removeprefix("torch.")
        raise ReductionError(f"'mean' is not defined for {dtype} values: pass a function that converts them")
    return layout.channels_first(feature).mean(_trailing(layout))


def _max(feature: Tensor, layout: Layout | None) -> Tensor:
    """Takes the maximum over positions to `[N, C]`; tensors of one or two dimensions are unchanged."""
    return feature if layout is None or not layout.positions else layout.channels_first(feature).amax(_trailing(layout))


def _cls(feature: Tensor, layout: Layout | None) -> Tensor:
    """Takes the first token of `[N, T, C]` to `[N, C]`, a copy."""
    if layout is None or len(layout.positions) != 1 or layout.channel < layout.positions[0]:
        raise LayoutError(
            f"'cls' takes the first token of [N, T, C], but this feature is {list(feature.shape)}"
            + (f" ({layout})" if layout else ""),
            shape=tuple(feature.shape),
        )
    return feature.select(layout.positions[0], 0).clone()


def _flatten(feature: Tensor, layout: Layout | None) -> Tensor:
    """Flattens each item to a vector: `[N, *]` to `[N, D]`."""
    if feature.ndim == 0:
        return feature
    if layout is not None and layout.batch is not None:
        feature = feature.movedim(layout.batch, 0)
    return feature.reshape(feature.shape[0], -1)


def _trailing(layout: Layout) -> tuple[int, ...]:
    """Returns the dimensions of the positions after channels were moved to the front."""
    return tuple(range(-len(layout.positions), 0))


_NAMED: Final[dict[Any, Callable[[Tensor, Layout | None], Tensor]]] = {
    "mean": _mean,
    "max": _max,
    "cls": _cls,
    "flatten": _flatten,
}
