"""What the `input` port shows of the arguments a module was called with."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn


def as_value(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Returns the one argument itself, several positional ones as a tuple, otherwise a dict by parameter name."""
    if len(args) + len(kwargs) == 1:
        return args[0] if args else next(iter(kwargs.values()))
    if not kwargs:
        return args
    return {**_named(module, args), **kwargs}


def as_parts(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[int | str, Any]:
    """Returns the arguments by position and by parameter name, for `[index]`."""
    parts: dict[int | str, Any] = dict(enumerate(args))
    parts.update(_named(module, args))
    parts.update(kwargs)
    return parts


def _named(module: nn.Module, args: tuple[Any, ...]) -> dict[str, Any]:
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(module.forward).parameters.values()
    names = [parameter.name for parameter in parameters if parameter.kind in positional]
    names += [f"arg{position}" for position in range(len(names), len(args))]
    return dict(zip(names, args, strict=False))
