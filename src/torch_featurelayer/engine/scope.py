"""Scopes: which calls a capture or edit sees, by thread, by context and by `torch.func` transform."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import get_ident
from typing import Any, Final

from .._pytree import tensors
from ._torch_private import in_function_transform, transform_level

# The scopes that were entered in the running context. Each asyncio task has its own context.
_ENTERED: Final[ContextVar[frozenset[int]]] = ContextVar("torch_featurelayer_scopes", default=frozenset())


def is_transformed(value: Any, level: int) -> bool:
    """Whether a value has tensors of a `torch.func` transform inside that of a level, with which they end."""
    return any(transform_level(tensor) > level for tensor in tensors(value))


class Scope:
    """The calls that a capture or an edit sees.

    Hooks alone do not limit them: `nn.Module` copies its hooks at each call, so another thread may still run ours after
    they were removed, and the asyncio tasks of one thread run in turns.

    Args:
        any_thread: Whether to see all calls, as a forward pass that `torch.compile` traces must. Default: False.

    Attributes:
        any_thread: Whether the scope sees all calls.
        level: The level of the `torch.func` transform in which the scope was opened; 0 for none.
    """

    def __init__(self, *, any_thread: bool = False) -> None:
        self.any_thread = any_thread
        self._thread = None if any_thread else get_ident()
        self._by_context = False
        self._paused = 0
        self.level = transform_level() if not any_thread and in_function_transform() else 0

    def is_current(self) -> bool:
        """Whether the running code belongs to this scope."""
        if self._thread is None:
            return True
        # The thread first: reading a context variable costs more.
        if self._paused or self._thread != get_ident():
            return False
        return not self._by_context or id(self) in _ENTERED.get()

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Limits the scope to the running context."""
        self._by_context = True
        _ENTERED.set(_ENTERED.get() | {id(self)})
        try:
            yield
        finally:
            # No token is used to reset it: a generator may be closed in another context than it was opened in.
            _ENTERED.set(_ENTERED.get() - {id(self)})

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Sees no calls."""
        self._paused += 1
        try:
            yield
        finally:
            self._paused -= 1
