"""The options every capture takes, checked once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .._pytree import snapshot
from .copying import ClonePolicy, Copy, copier


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
    """

    clone: ClonePolicy = "lazy"
    detach: bool = False
    reduce: Callable[[Tensor], Tensor] | None = None
    dtype: torch.dtype | None = None
    device: torch.device | str | None = None

    def __post_init__(self) -> None:
        copier(self.clone)
        if self.dtype is not None and not self.dtype.is_floating_point:
            raise ValueError(f"dtype must be a floating-point type, not {self.dtype}")

    def copier(self) -> Copy:
        """Returns the function that keeps a tensor."""
        return copier(self.clone)

    def finish(self, value: Any) -> Any:
        """Reduces, converts and moves the tensors of a kept value, in that order."""
        if self.reduce is None and self.dtype is None and self.device is None:
            return value
        return snapshot(value, self._finish)

    def _finish(self, tensor: Tensor) -> Tensor:
        if self.reduce is not None:
            tensor = self.reduce(tensor)
        dtype = self.dtype if tensor.is_floating_point() else None
        return tensor.to(device=self.device, dtype=dtype)
