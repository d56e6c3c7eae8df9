"""The options that every capture takes, validated once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from .._layout import Layout, layout_for
from .._pytree import snapshot
from .copy_on_write import ClonePolicy, copier

if TYPE_CHECKING:
    from .layouts import LayoutFinder


class Reducing(Protocol):
    """A reduction: a function of a tensor and, if it depends on it, the layout of the tensor."""

    @property
    def needs_layout(self) -> bool:
        """Whether the reduction depends on the layout."""

    @property
    def needs_channel(self) -> bool:
        """Whether the reduction depends on the dimension of the channels."""

    def __call__(self, feature: Tensor, layout: Layout | None) -> Tensor:
        """Reduces one tensor."""


@dataclass(frozen=True, slots=True)
class Options:
    """How captured tensors are kept.

    Attributes:
        clone: `"lazy"` copies on write, True copies at once, False keeps the model's own tensor, which later in-place
            operations overwrite.
        detach: Whether to detach features from the graph.
        reduce: The reduction of each tensor.
        dtype: The dtype that floating-point features are converted to.
        device: The device that features are moved to.
        layout: The layout of the features, or one for each request's name; None determines it.
        changes_features: Whether captured tensors are reduced, converted or moved.
        needs_layout: Whether the reduction depends on the layout of the features.
        needs_channel: Whether the reduction depends on the dimension of the channels.
    """

    clone: ClonePolicy = "lazy"
    detach: bool = False
    reduce: Reducing | None = None
    dtype: torch.dtype | None = None
    device: torch.device | str | None = None
    layout: str | Mapping[str, str] | None = None
    changes_features: bool = field(init=False)
    needs_layout: bool = field(init=False)
    needs_channel: bool = field(init=False)

    def __post_init__(self) -> None:
        copier(self.clone)
        if self.dtype is not None and not self.dtype.is_floating_point:
            raise ValueError(f"dtype must be a floating-point type, not {self.dtype}")
        for text in self.layout.values() if isinstance(self.layout, Mapping) else [self.layout]:
            if text is not None:
                Layout.parse(text)
        changes = self.reduce is not None or self.dtype is not None or self.device is not None
        object.__setattr__(self, "changes_features", changes)
        object.__setattr__(self, "needs_layout", self.reduce is not None and self.reduce.needs_layout)
        object.__setattr__(self, "needs_channel", self.reduce is not None and self.reduce.needs_channel)

    def find_layout(self, name: str) -> Layout | None:
        """Returns the layout that the user gave for a request."""
        text = layout_for(self.layout, name)
        return None if text is None else Layout.parse(text)

    def finish(self, value: Any, layouts: LayoutFinder | None = None) -> Any:
        """Reduces, converts and moves the tensors of a kept value, in that order."""
        if not self.changes_features:
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
