"""The arguments of a call: as the value of the `input` port, and with parts replaced."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from .._pytree import describe, replace_part

Arguments: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]


def as_value(called: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Returns a single argument itself, several positional ones as a tuple, and others as a dict by parameter name."""
    if len(args) + len(kwargs) == 1:
        return args[0] if args else next(iter(kwargs.values()))
    if not kwargs:
        return args
    return {**_name_arguments(called, args), **kwargs}


def replace_arguments(
    called: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    index: Sequence[int | str],
    fn: Callable[[Any], Any],
) -> Arguments:
    """Returns the arguments of a call with one argument, a part of one, or all of them replaced.

    Args:
        called: The module, or the function of an operation.
        args: The positional arguments.
        kwargs: The keyword arguments.
        index: Steps to the part: first a position or the name of a parameter. Empty for the whole value.
        fn: A function from the part to its replacement.

    Raises:
        LookupError: If there is no such part, or the new value lacks an argument.
        TypeError: If there are several arguments and the new value is not a tuple or dict.
    """
    if index:
        return _with_part(called, args, kwargs, index, fn)
    value = as_value(called, args, kwargs)
    new = fn(value)
    # The same object: nothing was replaced, and the call keeps its own arguments.
    if new is value:
        return args, kwargs
    if len(args) + len(kwargs) == 1:
        return ((new,), {}) if args else ((), dict.fromkeys(kwargs, new))
    if isinstance(value, tuple):
        if not isinstance(new, (tuple, list)) or len(new) != len(value):
            raise TypeError(f"the new value must be a tuple of {len(value)} arguments, not {describe(new)}")
        return tuple(new), kwargs
    if not isinstance(new, Mapping) or new.keys() != value.keys():
        raise TypeError(
            f"the new value must be a dict with the keys {', '.join(map(repr, value))}, not {describe(new)}"
        )
    return tuple(new[name] for name in list(value)[: len(args)]), {name: new[name] for name in kwargs}


def _with_part(
    called: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    index: Sequence[int | str],
    fn: Callable[[Any], Any],
) -> Arguments:
    first, rest = index[0], index[1:]
    if first in kwargs:
        return args, {**kwargs, str(first): replace_part(kwargs[str(first)], rest, fn)}
    place = first if isinstance(first, int) else _position(called, first)
    if place is None or not -len(args) <= place < len(args):
        names = [*range(len(args)), *_name_arguments(called, args), *kwargs]
        raise LookupError(f"no argument {first!r}: the arguments are {', '.join(map(repr, names))}")
    place %= len(args)
    return (*args[:place], replace_part(args[place], rest, fn), *args[place + 1 :]), kwargs


def positional_names(called: Any) -> list[str]:
    """Returns the names of the parameters that accept positional arguments; none for a function of C."""
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        parameters = list(inspect.signature(getattr(called, "forward", called)).parameters.values())
    except (ValueError, TypeError):  # a function of C has no signature
        parameters = []
    return [parameter.name for parameter in parameters if parameter.kind in positional]


def _position(called: Any, name: str) -> int | None:
    names = positional_names(called)
    return names.index(name) if name in names else None


def _name_arguments(called: Any, args: tuple[Any, ...]) -> dict[str, Any]:
    names = positional_names(called)
    names += [f"arg{position}" for position in range(len(names), len(args))]
    return dict(zip(names, args, strict=False))
