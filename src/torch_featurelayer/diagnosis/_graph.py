"""Hooks on the nodes of the autograd graph that one operation or module has made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch import Tensor

GradientHook = Callable[[tuple[Tensor | None, ...], tuple[Tensor | None, ...]], None]


def mark_nodes(tensors: Iterable[Tensor], key: object) -> None:
    """Marks the nodes of tensors as made by earlier code."""
    for tensor in tensors:
        node: Any = tensor.grad_fn
        if node is not None:
            node.metadata.setdefault(key, True)


def hook_new_nodes(outputs: Iterable[Tensor], key: object, hook: GradientHook) -> None:
    """Registers a hook on each node between outputs and the nodes that are marked, and marks it."""
    for node in _new_nodes([output.grad_fn for output in outputs], key):
        node.register_hook(hook)


def _new_nodes(waiting: list[Any], key: object) -> Iterator[Any]:
    while waiting:
        node = waiting.pop()
        # A node without next nodes accumulates the gradient of a leaf.
        if node is None or key in node.metadata or not node.next_functions:
            continue
        node.metadata[key] = True
        yield node
        waiting += [following for following, _ in node.next_functions]
