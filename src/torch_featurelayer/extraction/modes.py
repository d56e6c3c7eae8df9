"""How the model runs: as it is, with channels last, or compiled."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from .._feature_layer import FeatureLayers
from .batches import over, rows


@dataclass(frozen=True)
class Mode:
    """How the model runs.

    Attributes:
        name: `"eager"`, `"channels_last"` or `"compiled"` (with channels last).
        part: How many items it sees at once; 0: whole batches.
    """

    name: str
    part: int = 0

    def __str__(self) -> str:
        return f"{self.name}, {self.part} at a time" if self.part else self.name

    @classmethod
    def parse(cls, text: str) -> Mode:
        """Returns the mode that `str` wrote."""
        name, _, part = text.partition(", ")
        return cls(name, int(part.partition(" ")[0] or 0))


EAGER: Final = Mode("eager")


def compiled(model: nn.Module, capture: Callable[[nn.Module], FeatureLayers], mode: Mode) -> FeatureLayers:
    """Returns a capture in a copy of a model, made faster; the model is left as it is."""
    layers = capture(copy.deepcopy(model).to(memory_format=torch.channels_last))
    if mode.name == "compiled":
        layers.compile(dynamic=False)
    return layers


def images_last(value: Tensor) -> Tensor:
    """Returns images `[N, C, H, W]` with channels last in memory, and anything else as it is."""
    return value.contiguous(memory_format=torch.channels_last) if value.ndim == 4 else value


def parts(inputs: Any, size: int) -> Iterator[tuple[Any, int]]:
    """Yields an input in parts of some items, and how many are meant: the last is padded with its last item."""
    for start in range(0, rows(inputs), size):
        part = over(inputs, lambda value, start=start: value[start : start + size])  # type: ignore[misc]
        yield over(part, lambda value: _padded(value, size)), rows(part)


def _padded(value: Tensor, size: int) -> Tensor:
    missing = size - len(value)
    return torch.cat([value, value[-1:].expand(missing, *value.shape[1:])]) if missing else value
