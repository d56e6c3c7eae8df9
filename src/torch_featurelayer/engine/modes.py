"""Function modes that hooks begin and end, and that an exception may leave behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn, overrides
from torch.overrides import TorchFunctionMode


class ListeningMode(TorchFunctionMode):
    """A function mode that listens while some modules run, and pauses while others run inside them."""

    def __init__(self) -> None:
        super().__init__()
        self._inside: list[tuple[int, bool]] = []
        self._listens = False

    def begin(self, module: nn.Module, listening: bool) -> None:
        """Says that a module began to run."""
        self._inside.append((id(module), listening))
        self._follow()

    def end(self, module: nn.Module) -> None:
        """Says that a module ended; nothing happens where its beginning was not said."""
        if self._inside and self._inside[-1][0] == id(module):
            self._inside.pop()
            self._follow()

    def close(self) -> None:
        """Ends listening, whatever is said to run: after an exception that skipped hooks."""
        self._inside.clear()
        self._follow()

    def _follow(self) -> None:
        wanted = bool(self._inside) and self._inside[-1][1]
        if wanted and not self._listens:
            overrides._push_mode(self)  # type: ignore[no-untyped-call]
        elif self._listens and not wanted:
            self._remove()
        self._listens = wanted

    def _remove(self) -> None:
        """Takes this mode from the stack, wherever it stands."""
        above = []
        while (mode := overrides._pop_mode()) is not self:  # type: ignore[no-untyped-call]
            above.append(mode)
        for mode in reversed(above):
            overrides._push_mode(mode)  # type: ignore[no-untyped-call]


def _stack() -> list[TorchFunctionMode]:
    return overrides._get_current_function_mode_stack()  # type: ignore[no-untyped-call, no-any-return]


@contextmanager
def unwound() -> Iterator[None]:
    """Ends the listening that began inside, where an exception, such as an early stop, skipped its end."""
    depth = torch._C._len_torch_function_stack()
    try:
        yield
    finally:
        for mode in _stack()[depth:]:
            if isinstance(mode, ListeningMode):
                mode.close()
