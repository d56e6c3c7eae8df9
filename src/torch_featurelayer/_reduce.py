"""Reductions of features, from tensor to tensor, with items in the first dimension."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from ._exceptions import LayoutError, ReductionError
from ._layout import Layout
from ._suggest import nearest

__all__ = ["Reducer", "Reduction", "Reductions", "make_reducer", "make_reducers"]

ReductionName: TypeAlias = Literal["mean", "max", "cls", "last", "flatten"]
Reduction: TypeAlias = ReductionName | Callable[[Tensor], Tensor]
Reductions: TypeAlias = Reduction | Mapping[str, Reduction] | None


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

    def __call__(self, feature: Tensor, layout: Layout | None, mask: Tensor | None = None) -> Tensor:
        """Reduces one tensor.

        Args:
            feature: The tensor.
            layout: The layout of the tensor; None for a function, and for tensors of fewer than three dimensions.
            mask: The tokens to reduce, a bool tensor `[N, T]`. Default: None, all positions.

        Raises:
            ReductionError: If the values have no mean, no token is left, or a function does not return a tensor.
            LayoutError: If the layout has no tokens for `"cls"` or `"last"`.
        """
        if not callable(self.reduction):
            return _NAMED[self.reduction](feature, layout, mask)
        reduced = self.reduction(feature)
        if not isinstance(reduced, Tensor):
            raise ReductionError(f"the reduction must return a tensor, not a {type(reduced).__name__}")
        return reduced


def make_reducer(reduce: Reduction) -> Reducer:
    """Validates a reduction.

    Raises:
        TypeError: If it is neither a name nor a function.
        ValueError: If no reduction has this name.
    """
    if not callable(reduce) and not isinstance(reduce, str):
        raise TypeError(f"a reduction is a name or a function, not {reduce!r}")
    if callable(reduce) or reduce in _NAMED:
        return Reducer(reduce)
    near = nearest(str(reduce), _NAMED, limit=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    names = ", ".join(get_args(ReductionName))
    raise ValueError(f"no reduction {reduce!r}: the reductions are {names}, or a function.{hint}")


def make_reducers(reduce: Reductions) -> Reducer | dict[str, Reducer] | None:
    """Validates a reduction, or that of each layer.

    Raises:
        ValueError: If no reduction has this name.
    """
    if isinstance(reduce, Mapping):
        return {layer: make_reducer(each) for layer, each in reduce.items()}
    return None if reduce is None else make_reducer(reduce)


def _mean(feature: Tensor, layout: Layout | None, mask: Tensor | None) -> Tensor:
    """Averages over positions to `[N, C]`, in the feature's dtype; tensors of one or two dimensions are unchanged."""
    if layout is None or not layout.positions:
        return feature
    if not (feature.is_floating_point() or feature.is_complex()):
        dtype = str(feature.dtype).removeprefix("torch.")
        raise ReductionError(f"'mean' is not defined for {dtype} values: pass a function that converts them")
    if mask is None:
        return layout.channels_first(feature).mean(_trailing(layout))
    _check_any(mask)
    # Not a product with the mask: values of padding may be NaN.
    rows = layout.tokens_first(feature).masked_fill(~mask.unsqueeze(-1), 0)
    # Summed in float32 as `mean` does for half precision, and divided by the numbers of tokens.
    kind = torch.float32 if feature.dtype in (torch.float16, torch.bfloat16) else None
    return _like(layout, (rows.sum(1, dtype=kind) / mask.sum(1, keepdim=True)).to(feature.dtype))


def _max(feature: Tensor, layout: Layout | None, mask: Tensor | None) -> Tensor:
    """Takes the maximum over positions to `[N, C]`; tensors of one or two dimensions are unchanged."""
    if layout is None or not layout.positions:
        return feature
    if mask is None:
        return layout.channels_first(feature).amax(_trailing(layout))
    _check_any(mask)
    lowest = -torch.inf if feature.is_floating_point() else torch.iinfo(feature.dtype).min
    rows = layout.tokens_first(feature).masked_fill(~mask.unsqueeze(-1), lowest)
    return _like(layout, rows.amax(1))


def _cls(feature: Tensor, layout: Layout | None, mask: Tensor | None) -> Tensor:
    """Takes the first token of `[N, T, C]` to `[N, C]`, a copy."""
    _check_has_tokens("cls", "first", feature, layout)
    assert layout is not None  # noqa: S101 (checked)
    if mask is None:
        return feature.select(layout.positions[0], 0).clone()
    return _take(feature, layout, mask, mask.long().argmax(1))


def _last(feature: Tensor, layout: Layout | None, mask: Tensor | None) -> Tensor:
    """Takes the last token of `[N, T, C]` to `[N, C]`, a copy."""
    _check_has_tokens("last", "last", feature, layout)
    assert layout is not None  # noqa: S101 (checked)
    if mask is None:
        return feature.select(layout.positions[0], -1).clone()
    return _take(feature, layout, mask, mask.shape[1] - 1 - mask.long().flip(1).argmax(1))


def _flatten(feature: Tensor, layout: Layout | None, mask: Tensor | None) -> Tensor:  # noqa: ARG001
    """Flattens each item to a vector: `[N, *]` to `[N, D]`."""
    if feature.ndim == 0:
        return feature
    if layout is not None and layout.batch is not None:
        feature = feature.movedim(layout.batch, 0)
    return feature.reshape(feature.shape[0], -1)


def _check_has_tokens(name: str, which: str, feature: Tensor, layout: Layout | None) -> None:
    if layout is None or len(layout.positions) != 1 or layout.channel < layout.positions[0]:
        raise LayoutError(
            f"{name!r} takes the {which} token of [N, T, C], but this feature is {list(feature.shape)}"
            + (f" ({layout})" if layout else ""),
            shape=tuple(feature.shape),
        )


def _check_any(mask: Tensor) -> None:
    """Checks that each item has a token; not inside `torch.compile`, which cannot stop there.

    Raises:
        ReductionError: If an item has none.
    """
    if torch.compiler.is_compiling() or bool(mask.any(1).all()):
        return
    empty = int((~mask.any(1)).nonzero()[0])
    raise ReductionError(f"item {empty} of the batch has no chosen token, so there is nothing to reduce")


def _like(layout: Layout, rows: Tensor) -> Tensor:
    """Returns rows `[N, C]` as `[C]` for a feature without items."""
    return rows if layout.batch is not None else rows[0]


def _take(feature: Tensor, layout: Layout, mask: Tensor, places: Tensor) -> Tensor:
    """Returns the token at a place of each item."""
    _check_any(mask)
    rows = layout.tokens_first(feature)
    return _like(layout, rows[torch.arange(len(rows), device=rows.device), places])


def _trailing(layout: Layout) -> tuple[int, ...]:
    """Returns the dimensions of the positions after channels were moved to the front."""
    return tuple(range(-len(layout.positions), 0))


_NAMED: Final[dict[Any, Callable[[Tensor, Layout | None, Tensor | None], Tensor]]] = {
    "mean": _mean,
    "max": _max,
    "cls": _cls,
    "last": _last,
    "flatten": _flatten,
}
