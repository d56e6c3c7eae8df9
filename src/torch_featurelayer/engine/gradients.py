"""Gradients by tensor hooks on the copy that goes on into the model.

`nn.Module.register_full_backward_hook` raises on every module whose output is
later changed in place ("Output 0 of BackwardHookFunction is a view and is being
modified inplace"). A tensor hook on a copy has no such limit: it receives the
gradient with respect to the value before any change.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._errors import GradientError
from .._pytree import snapshot
from .copying import copier
from .options import Options


class Gradients:
    """The gradients of one captured value, filled by `backward()`.

    Args:
        value: What is watched.
        through: Filled with the copy that must take each watched tensor's place in the model, by `id`.
        options: How a gradient is kept.

    Attributes:
        possible: Whether any tensor of the value carries gradient.
    """

    def __init__(self, value: Any, through: dict[int, Tensor], options: Options) -> None:
        self._options = options
        self._copy = copier(options.clone or "lazy")
        self._numbers: dict[int, int] = {}
        self._received: dict[int, Any] = {}
        self._structure = snapshot(value, lambda tensor: self._watch(tensor, through))
        self.possible = bool(through)

    def _watch(self, tensor: Tensor, through: dict[int, Tensor]) -> Tensor:
        """Hooks a tensor once, and returns its number in place of it."""
        number = self._numbers.setdefault(id(tensor), len(self._numbers))
        if tensor.requires_grad and id(tensor) not in through:
            copy = self._copy(tensor)
            if copy.requires_grad:
                copy.register_hook(lambda gradient: self._receive(number, gradient))  # type: ignore[no-untyped-call]
                through[id(tensor)] = copy
        return torch.tensor(number)

    def _receive(self, number: int, gradient: Tensor) -> None:
        self._received[number] = self._options.finish(self._copy(gradient.detach()))

    def get(self, name: str) -> Any:
        """Returns the gradients in the structure of the value, None where no gradient came.

        Raises:
            GradientError: Backward has not reached the value.
        """
        if not self._received:
            raise GradientError(
                name,
                "no gradient has arrived: call backward() on something the model computes "
                "from this layer, then read it.",
            )
        return snapshot(self._structure, lambda number: self._received.get(int(number)))
