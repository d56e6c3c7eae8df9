"""Function modes that are entered and left by hooks, and so may be left behind by an exception."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.overrides import TorchFunctionMode


class ListeningMode(TorchFunctionMode):
    """A function mode that counts how often it was entered."""

    def __init__(self) -> None:
        super().__init__()
        self._depth = 0

    def enter(self) -> None:
        """Begins to listen, if it does not yet."""
        if self._depth == 0:
            self.__enter__()  # type: ignore[no-untyped-call]
        self._depth += 1

    def leave(self) -> None:
        """Ends what one `enter` began."""
        self._depth -= 1
        if self._depth == 0:
            self.__exit__(None, None, None)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Ends listening, however often it was begun: after an exception that skipped hooks."""
        if self._depth:
            self._depth = 1
            self.leave()


@contextmanager
def unwound() -> Iterator[None]:
    """Ends the listening that began inside, where an exception, such as an early stop, skipped its end."""
    depth = torch._C._len_torch_function_stack()
    try:
        yield
    finally:
        stack = torch.overrides._get_current_function_mode_stack()  # type: ignore[no-untyped-call]
        for mode in reversed(stack[depth:]):
            if isinstance(mode, ListeningMode):
                mode.close()
