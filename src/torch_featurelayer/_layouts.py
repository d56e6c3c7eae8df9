"""`find_layouts`: the layouts of a model's features."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ._layout import Layout
from .address import Selector, check_model, resolve
from .engine import ForwardPass, Options, layout_finders, run_with_capture

__all__ = ["find_layouts"]


def find_layouts(
    model: nn.Module, layers: Selector | Iterable[Selector], *args: Any, **kwargs: Any
) -> dict[str, str | None]:
    """Runs a model once and determines the layouts of the features of its layers.

    Args:
        model: The model, any `nn.Module`. It runs in its present mode.
        layers: The layers, as in `FeatureLayers`.
        *args: The positional arguments of the model.
        **kwargs: The keyword arguments of the model.

    Returns:
        A dict from the name of each layer that ran to its layout, such as `"NCHW"` or `"NTC"`: N for items, C for
        channels, other letters for positions. None if the operations of the model do not determine it, or the feature
        has fewer than three dimensions. For a feature of several tensors, it is the layout of the first tensor.

    Raises:
        LayerNotFoundError: If the model has no such layer, or no layer matches a pattern.
        LayerNotRunError: If a named layer was not called.
        NotAModuleError: If the model is not an `nn.Module`.

    Examples:
        >>> import torch
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(2), nn.Linear(64, 5))
        >>> find_layouts(model, "*", torch.zeros(2, 3, 10, 10))
        {'0': 'NCHW', '1': 'NCT', '2': None}
    """
    forward, found = _track(model, layers, args, kwargs, needs_channel=True)
    return {
        value.request.name: None if layout is None else str(layout)
        for value, layout in zip(forward.values, found, strict=True)
        if value.calls
    }


def item_dimensions(
    model: nn.Module, layers: Selector | Iterable[Selector], *args: Any, **kwargs: Any
) -> dict[str, int | None]:
    """Runs a model once and determines the dimension of the items in the feature of each layer; None without items.

    Raises:
        LayoutError: If two dimensions may hold the items.
    """
    forward, found = _track(model, layers, args, kwargs, needs_channel=False)
    forward.results()
    return {
        value.request.name: 0 if layout is None else layout.batch
        for value, layout in zip(forward.values, found, strict=True)
    }


def _track(
    model: nn.Module,
    layers: Selector | Iterable[Selector],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    needs_channel: bool,
) -> tuple[ForwardPass, list[Layout | None]]:
    """Runs a model once; returns the forward pass, and the layout of each request's first tensor (None if unknown)."""
    requests = resolve(check_model(model), layers)
    options = Options(detach=True, reduce=_LayoutOnly(needs_channel))
    finders = layout_finders(requests, options)
    forward, _ = run_with_capture(model, requests, options, args, kwargs, finders=finders, track_layouts=True)
    return forward, [None if finder is None else finder.first for finder in finders]


@dataclass(frozen=True)
class _LayoutOnly:
    """A reduction that depends on the layout and keeps no values."""

    needs_channel: bool
    needs_layout = True

    def __call__(self, feature: Tensor, layout: Layout | None, mask: Tensor | None = None) -> Tensor:  # noqa: ARG002
        return feature.new_empty(0)
