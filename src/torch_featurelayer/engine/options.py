"""The options every capture takes, checked once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from .._layout import Layout, layout_for
from .._pytree import snapshot
from .copy_on_write import ClonePolicy, Copy, copier

if TYPE_CHECKING:
    from .layouts import LayoutFinder


class Reducing(Protocol):
    """A reduction: a function of a tensor and, if it needs it, its layout."""

    @property
    def needs_layout(self) -> bool:
        """Whether it must know what the dimensions are."""

    @property
    def needs_channel(self) -> bool:
        """Whether it must know which dimension holds the channels."""

    def __call__(self, feature: Tensor, layout: Layout | None) -> Tensor:
        """Reduces one tensor."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a captured tensor is kept.

    Attributes:
        clone: `"lazy"` copies on write, True copies at once, False keeps the
            model's own tensor, which later in-place operations change.
        detach: Cut the feature from the graph.
        reduce: Applied to each tensor as captured.
        dtype: Convert floating-point features as captured.
        device: Move features as captured.
        layout: The layout of the features, as letters, or one for each request's name; None finds it.
    """

    clone: ClonePolicy = "lazy"
    detach: bool = False
    reduce: Reducing | None = None
    dtype: torch.dtype | None = None
    device: torch.device | str | None = None
    layout: str | Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        copier(self.clone)
        if self.dtype is not None and not self.dtype.is_floating_point:
            raise ValueError(f"dtype must be a floating-point type, not {self.dtype}")
        for text in self.layout.values() if isinstance(self.layout, Mapping) else [self.layout]:
            if text is not None:
                Layout.parse(text)

    @property
    def needs_layout(self) -> bool:
        """Whether features are reduced in a way that depends on their layout."""
        return self.reduce is not None and self.reduce.needs_layout

    @property
    def needs_channel(self) -> bool:
        """Whether it must be known where the channels are, not only the items."""
        return self.reduce is not None and self.reduce.needs_channel

    def layout_of(self, name: str) -> Layout | None:
        """Returns the layout that the user gave for a request."""
        text = layout_for(self.layout, name)
        return None if text is None else Layout.parse(text)

    def copier(self) -> Copy:
        """Returns the function that keeps a tensor."""
        return copier(self.clone)

    def finish(self, value: Any, layouts: LayoutFinder | None = None) -> Any:
        """Reduces, converts and moves the tensors of a kept value, in that order."""
        if self.reduce is None and self.dtype is None and self.device is None:
            return value
        find: Callable[[Tensor], Layout | None] = layouts.find if layouts is not None else _unknown
        return snapshot(value, lambda tensor: self.finish_tensor(tensor, find(tensor)))

    def finish_tensor(self, tensor: Tensor, layout: Layout | None) -> Tensor:
        """Reduces, converts and moves one tensor.

        Raises:
            ReductionError: If it cannot be reduced.
            LayoutError: If the reduction needs another layout.
        """
        if self.reduce is not None:
            tensor = self.reduce(tensor, layout)
        dtype = self.dtype if tensor.is_floating_point() else None
        return tensor.to(device=self.device, dtype=dtype)


def _unknown(_: Tensor) -> None:
    return None
