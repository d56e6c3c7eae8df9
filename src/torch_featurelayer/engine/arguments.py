"""What the `input` port shows of the arguments a module, or an operation, was called with."""

from __future__ import annotations

import inspect
from typing import Any


def as_value(called: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Returns the one argument itself, several positional ones as a tuple, otherwise a dict by parameter name."""
    if len(args) + len(kwargs) == 1:
        return args[0] if args else next(iter(kwargs.values()))
    if not kwargs:
        return args
    return {**_named(called, args), **kwargs}


def as_parts(called: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[int | str, Any]:
    """Returns the arguments by position and by parameter name, for `[index]`."""
    parts: dict[int | str, Any] = dict(enumerate(args))
    parts.update(_named(called, args))
    parts.update(kwargs)
    return parts


def positional_names(called: Any) -> list[str]:
    """Returns the names of the parameters that take positional arguments; none for a function of C."""
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        parameters = list(inspect.signature(getattr(called, "forward", called)).parameters.values())
    except ValueError:  # a function of C has no signature
        parameters = []
    return [parameter.name for parameter in parameters if parameter.kind in positional]


def _named(called: Any, args: tuple[Any, ...]) -> dict[str, Any]:
    names = positional_names(called)
    names += [f"arg{position}" for position in range(len(names), len(args))]
    return dict(zip(names, args, strict=False))
