"""References that share no code with the package: plain hooks that clone, and autograd on an out-of-place twin."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
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


def frozen(value: Any, seen: tuple[int, ...] = ()) -> Any:
    """Copies everything a value holds into plain lists and dicts: what it is now, whatever happens to it later.

    Objects become their type's name and their attributes, so that two of one content agree.
    """
    if isinstance(value, Tensor):
        return value.detach().clone()
    if id(value) in seen or len(seen) > 12:
        return "..."
    inner = (*seen, id(value))
    if isinstance(value, (list, tuple)):
        return [frozen(part, inner) for part in value]
    if isinstance(value, Mapping):
        return {str(key): frozen(part, inner) for key, part in value.items()}
    if isinstance(value, nn.Module) or callable(value) or not hasattr(value, "__dict__"):
        return value if isinstance(value, (int, float, str, bool, type(None))) else type(value).__name__
    return {"": type(value).__name__, **{key: frozen(part, inner) for key, part in vars(value).items()}}


def agree(left: Any, right: Any) -> bool:
    """Whether two frozen values are the same, bit for bit (NaN equals NaN)."""
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(agree, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(agree(left[key], right[key]) for key in left)
    if isinstance(left, Tensor) and left.is_sparse:
        return agree(left.to_dense(), right.to_dense())
    return _same_leaf(left, right)
