"""References that share no code with the package: plain hooks that clone, and autograd on an out-of-place twin."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map


def cloned(value: Any) -> Any:
    return tree_map(lambda part: part.detach().clone() if isinstance(part, Tensor) else part, value)


def same(ours: Any, reference: Any) -> bool:
    """Whether two values have one structure and bit-equal tensors (NaN equals NaN)."""
    left, left_shape = tree_flatten(ours)
    right, right_shape = tree_flatten(reference)
    return left_shape == right_shape and all(map(_same_leaf, left, right))


def _same_leaf(left: Any, right: Any) -> bool:
    if not isinstance(left, Tensor) or not isinstance(right, Tensor):
        return bool(left == right)
    return (
        left.dtype == right.dtype
        and left.shape == right.shape
        and torch.equal(torch.nan_to_num(left.detach()), torch.nan_to_num(right.detach()))
    )


def hooked(model: nn.Module, call: Callable[[], Any]) -> tuple[dict[str, Any], dict[str, Any], Any]:
    """Runs `call` under plain hooks that clone at once.

    Returns:
        The last output and the last input of each module that ran, by path
        (all its paths, where a module has several), and the model's output.
    """
    outputs: dict[str, Any] = {}
    inputs: dict[str, Any] = {}

    def before(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            inputs[name] = cloned((args, kwargs))

        return hook

    def after(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            outputs[name] = cloned(output)

        return hook

    handles = []
    for name, module in model.named_modules(remove_duplicate=False):
        handles.append(module.register_forward_pre_hook(before(name), with_kwargs=True))
        handles.append(module.register_forward_hook(after(name)))
    try:
        output = cloned(call())
    finally:
        for handle in handles:
            handle.remove()
    return outputs, inputs, output


def same_arguments(ours: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether an `:input` feature is what it promises: the one argument, a tuple, or a dict by name."""
    if len(args) + len(kwargs) == 1:
        return same(ours, (*args, *kwargs.values())[0])
    if not kwargs:
        return same(ours, args)
    return same(list(ours.values()), [*args, *kwargs.values()]) and list(ours)[len(args) :] == list(kwargs)


def out_of_place(model: nn.Module) -> nn.Module:
    """Copies a model with every `inplace=True` switched off: same values, same gradients."""
    twin = copy.deepcopy(model)
    for module in twin.modules():
        if getattr(module, "inplace", False):
            module.inplace = False
    return twin


def holds_hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())
