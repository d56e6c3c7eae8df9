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
    included. The address of a layer that returns a tuple is that of the first tensor in it.

    Args:
        model: The model. It runs without gradients, in its present mode.
        *args: The positional arguments of the model.
        **kwargs: The keyword arguments of the model.

    Returns:
        At most six addresses, from shallow to deep; none if no layer returns maps or tokens.
    """
    shapes, addresses = _outputs(model, args, kwargs)
    level = _level(model, shapes)
    ends = [list(group)[-1] for _, group in groupby(level, lambda path: _resolution(shapes[path]))]
    chosen = _blocks(model, level) if len(ends) < 3 else ends
    return tuple(addresses[path] for path in _evenly(chosen, _MOST))


def _outputs(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Shapes, dict[str, str]]:
    """Returns the shape and the address of the first tensor of each layer that returns maps or tokens, by path.

    Maps are `[N, C, H, W]`, tokens `[N, T, C]`.
    """
    with torch.no_grad(), capture(model, "**", reduce=_shape) as record:
        model(*args, **kwargs)
    shapes, addresses = {}, {}
    for name in record.names:
        try:
            value = record[name]
        except UncopyableValueError:  # no map, and no tokens
            continue
        first = next(tensors(value), None)
        if first is not None and len(first) in (3, 4) and min(first.tolist()[1:]) > 1:
            shapes[name] = tuple(first.tolist())
            addresses[name] = f"{name}[0]" if isinstance(value, tuple) and value[0] is first else name
    return shapes, addresses


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


def _blocks(model: nn.Module, level: Sequence[str]) -> Sequence[str]:
    """Returns the layers of the list that holds most of these, such as those without the embeddings beside them."""
    lists = {parent: list(group) for parent, group in groupby(level, lambda path: path.rpartition(".")[0])}
    sizes = {parent: sum(_leaves(model.get_submodule(path)) for path in group) for parent, group in lists.items()}
    largest = max(sizes, key=lambda parent: sizes[parent], default="")
    return lists[largest] if 2 * sizes.get(largest, 0) > sum(sizes.values()) else level


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
