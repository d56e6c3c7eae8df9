"""Hooks that stay with the module they were registered on: its copies and pickles do not get them."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from functools import partial
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

# What a copied hook becomes: it takes anything and returns None, and its pickle loads without this package.
_NOTHING = nullcontext().__exit__


class TemporaryHook(partial):  # type: ignore[type-arg]
    """A hook that a copy of its module holds as a function that does nothing, until the hook is removed.

    A `functools.partial`: calling it costs no Python frame.
    """

    handle: RemovableHandle
    copies: tuple[weakref.ref[Any], ...] = ()

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        copied = memo.get(id(self.handle.hooks_dict_ref()))
        if copied is not None:
            self.copies += (weakref.ref(copied),)
        return _NOTHING

    def __reduce__(self) -> Any:
        return getattr, (nullcontext(), "__exit__")

    def remove(self) -> None:
        """Removes the hook, and what stands for it in deep copies of the module."""
        self.handle.remove()
        for reference in self.copies:
            hooks = reference()
            if hooks is not None:
                hooks.pop(self.handle.id, None)


def register_pre_hook(
    module: nn.Module,
    hook: Callable[..., Any],
    stack: ExitStack,
    *,
    prepend: bool = False,
    with_kwargs: bool = False,
) -> None:
    """Registers a forward pre-hook; the stack removes it."""
    temporary = TemporaryHook(hook)
    temporary.handle = module.register_forward_pre_hook(temporary, prepend=prepend, with_kwargs=with_kwargs)
    stack.callback(temporary.remove)


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
    temporary = TemporaryHook(hook)
    temporary.handle = module.register_forward_hook(
        temporary, prepend=prepend, with_kwargs=with_kwargs, always_call=always_call
    )
    stack.callback(temporary.remove)
