"""Hooks that stay with the module they were registered on: its copies and pickles do not get them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from functools import partial
from typing import Any

from torch import nn

# What a copied hook becomes: it takes anything and returns None, and its pickle loads without this package.
_NOTHING = nullcontext().__exit__


class TemporaryHook(partial):  # type: ignore[type-arg]
    """A hook that a copy of its module holds as a function that does nothing.

    A `functools.partial`: calling it costs no Python frame.
    """

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return _NOTHING

    def __reduce__(self) -> Any:
        return getattr, (nullcontext(), "__exit__")


def register_pre_hook(
    module: nn.Module,
    hook: Callable[..., Any],
    stack: ExitStack,
    *,
    prepend: bool = False,
    with_kwargs: bool = False,
) -> None:
    """Registers a forward pre-hook; the stack removes it."""
    handle = module.register_forward_pre_hook(TemporaryHook(hook), prepend=prepend, with_kwargs=with_kwargs)
    stack.callback(handle.remove)


def register_hook(
    module: nn.Module,
    hook: Callable[..., Any],
    stack: ExitStack,
    *,
    prepend: bool = False,
    with_kwargs: bool = False,
    always_call: bool = False,
) -> None:
    """Registers a forward hook; the stack removes it."""
    handle = module.register_forward_hook(
        TemporaryHook(hook), prepend=prepend, with_kwargs=with_kwargs, always_call=always_call
    )
    stack.callback(handle.remove)
