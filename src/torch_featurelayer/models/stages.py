"""Stages of a model: the layers to look at first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor, nn

from .._capture import capture
from .._exceptions import UncopyableValueError
from .._pytree import tensors

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]

_MOST: Final = 6


def stages(model: nn.Module, *args: Any, **kwargs: Any) -> tuple[str, ...]:
    """Determines the layers that end the stages of a model, from one forward pass.

    The stages are the children of the module that holds most layers. The result is the last of them before each change
    of resolution. If the resolution does not change, as in a transformer, it is evenly spaced blocks, the last
    included.

    Args:
        model: The model. It runs without gradients, in its present mode.
        *args: The positional arguments of the model.
        **kwargs: The keyword arguments of the model.

    Returns:
        At most six addresses, from shallow to deep; none if no layer returns maps or tokens.
    """
    shapes = _shapes(model, args, kwargs)
    level = _level(model, shapes)
    ends = [list(group)[-1] for _, group in groupby(level, lambda path: _resolution(shapes[path]))]
    chosen = level if len(ends) < 3 else ends
    return tuple(_evenly(chosen, _MOST))


def _shapes(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Shapes:
    """Returns the shape of the first tensor of each layer that returns maps `[N, C, H, W]` or tokens `[N, T, C]`."""
    with torch.no_grad(), capture(model, "**", reduce=_shape) as record:
        model(*args, **kwargs)
    found = {}
    for name in record.names:
        try:
            first = next(tensors(record[name]), None)
        except UncopyableValueError:  # no map, and no tokens
            continue
        if first is not None and len(first) in (3, 4) and min(first.tolist()[1:]) > 1:
            found[name] = tuple(first.tolist())
    return found


def _shape(tensor: Tensor) -> Tensor:
    return torch.tensor(tensor.shape)


def _level(model: nn.Module, shapes: Shapes) -> list[str]:
    """Returns the siblings among which the stages are, in the order of definition."""
    path = ""
    while True:
        inside = [child for child in _children(model, path, shapes) if child in shapes]
        sizes = [_leaves(model.get_submodule(child)) for child in inside]
        if not inside or len({_resolution(shapes[child]) for child in inside}) > 2:
            return inside
        largest = sizes.index(max(sizes))
        # No child holds most of the layers, so these children are the stages.
        if 2 * sizes[largest] <= _leaves(model.get_submodule(path)) or sizes[largest] == 1:
            return inside
        path = inside[largest]


def _children(model: nn.Module, path: str, shapes: Shapes) -> Iterator[str]:
    """Yields the paths directly inside a layer; containers that return nothing are replaced by their children."""
    for name, child in model.get_submodule(path).named_children():
        inner = f"{path}.{name}".removeprefix(".")
        if inner in shapes or not child._modules:
            yield inner
        else:
            yield from _children(model, inner, shapes)


def _leaves(module: nn.Module) -> int:
    return sum(not part._modules for part in module.modules())


def _resolution(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[2:] if len(shape) == 4 else shape[1:2]


def _evenly(paths: Sequence[str], count: int) -> list[str]:
    if len(paths) <= count:
        return list(paths)
    return [paths[round((number + 1) * len(paths) / count) - 1] for number in range(count)]
