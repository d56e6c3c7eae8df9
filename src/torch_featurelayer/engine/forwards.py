"""Where the forwards of a model begin and end, for what lasts longer than one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from threading import get_ident
from types import FrameType
from typing import Any, Final

from torch import nn

CALL: Final = nn.Module._call_impl.__code__


class Forwards:
    """Tells of the outermost calls of a model in this thread.

    A forward that ends by an exception which runs no hooks (an early stop, an
    interrupt) is seen to have ended when the next begins, or with the context.

    Args:
        begin: Called before a forward.
        end: Called after it, whatever it raised.
    """

    def __init__(self, begin: Callable[[], None], end: Callable[[], None]) -> None:
        self._on_begin, self._on_end = begin, end
        self._thread = get_ident()
        self._frame: FrameType | None = None

    def install_begin(self, model: nn.Module, stack: ExitStack) -> None:
        """Registers the hook that comes before every other; the stack removes it."""
        stack.callback(model.register_forward_pre_hook(self._begin, prepend=True).remove)

    def install_end(self, model: nn.Module, stack: ExitStack) -> None:
        """Registers the hook that comes after those registered so far; the stack removes it."""
        stack.callback(self._finish)
        stack.callback(model.register_forward_hook(self._end, always_call=True).remove)

    def _begin(self, *_: Any) -> None:
        if get_ident() != self._thread:
            return
        frame = _calling(sys._getframe(1))
        if self._frame is not None and not _is_on_stack(self._frame, frame):
            self._finish()
        if self._frame is None:
            self._frame = frame
            self._on_begin()

    def _end(self, *_: Any) -> None:
        if self._frame is not None and _calling(sys._getframe(1)) is self._frame:
            self._finish()

    def _finish(self) -> None:
        if self._frame is not None:
            self._frame = None
            self._on_end()


def _calling(frame: FrameType | None) -> FrameType | None:
    """Returns the frame of the module call that runs a hook."""
    while frame is not None and frame.f_code is not CALL:
        frame = frame.f_back
    return frame


def _is_on_stack(wanted: FrameType, frame: FrameType | None) -> bool:
    while frame is not None and frame is not wanted:
        frame = frame.f_back
    return frame is wanted
