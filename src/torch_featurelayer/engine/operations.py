"""Functional operations: what a module's forward runs itself, between the modules it calls.

A `TorchFunctionMode` sees each operation of its thread. It is entered while a
watched module runs, and left with it, so nothing else pays. Whose operation it
is, the call stack says: the innermost `nn.Module` whose forward is running.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from types import CodeType
from typing import Any, Final

from torch import nn

from .._pytree import tensors
from ..address import ATTENTION_WEIGHTS
from .attention import FUSED, attention_weights
from .modes import ListeningMode
from .sites import Site

_CALL: Final = nn.Module._call_impl.__code__
_CALLING: Final = {_CALL, *(part for part in _CALL.co_consts if isinstance(part, CodeType))}
_OURS: Final = {function.__code__ for function in (Site.before, Site.take_back, Site.after, attention_weights)}

_SPELLINGS: Final = {"truediv": "div", "floordiv": "floor_divide", "pos": "positive", "invert": "bitwise_not"}
_REVERSIBLE: Final = {"add", "sub", "mul", "div", "truediv", "floordiv", "pow", "matmul", "mod", "and", "or", "xor"}


def operation_name(function: Callable[..., Any]) -> str:
    """Returns the name an operation goes by: `add` for `+`, `+=`, `torch.add` and `Tensor.add_`.

    >>> operation_name(torch.Tensor.__iadd__), operation_name(torch.nn.functional.relu)
    ('add', 'relu')
    """
    written = getattr(function, "__name__", "")
    name = written.strip("_")
    if written.startswith("__") and name[:1] in ("i", "r") and name[1:] in _REVERSIBLE:
        name = name[1:]
    return _SPELLINGS.get(name, name)


def running_module() -> nn.Module | None:
    """Returns the module whose forward runs the operation that is being handled.

    None outside any forward, and for what hooks run, ours included.
    """
    below = frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code is not _CALL:
        if frame.f_code in _OURS:
            return None
        if frame.f_code not in _CALLING:
            below = frame
        frame = frame.f_back
    if frame.f_code is not _CALL:
        return None
    module: nn.Module = frame.f_locals["self"]
    forward = getattr(module.forward, "__code__", below.f_code)  # a callable object has no code to compare
    return module if below.f_code is forward else None


class Operations(ListeningMode):
    """Shows the operations of watched modules to their watchers."""

    def __init__(self) -> None:
        super().__init__()
        self.watchers: dict[int, Watcher] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        watcher = self.watchers.get(id(running_module()))
        if watcher is None or func.__name__ in ("__get__", "__set__", "__delete__"):
            return func(*args, **(kwargs or {}))
        return watcher.run(func, args, kwargs or {})


class Watcher:
    """The operations of one module that are asked for.

    Attributes:
        sites: Where each asked for is shown, by name and number.
        counts: How often each operation ran in one call of the module, at most; empty before it ran.
        calls: How often the module was called.
    """

    def __init__(self, module: nn.Module, mode: Operations) -> None:
        self.module, self.mode = module, mode
        self.sites: dict[str, list[tuple[int, Site]]] = {}
        self.counts: dict[str, int] = {}
        self.calls = 0
        self._seen: list[Counter[str]] = []

    def install(self, stack: ExitStack, first: bool = False) -> None:
        """Registers the hooks that begin and end listening; the stack removes them.

        Args:
            stack: What removes them.
            first: Listen before captures of this module begin to, and after they end: for edits.
        """
        self.mode.watchers[id(self.module)] = self
        begin = self.module.register_forward_pre_hook(self._begin, prepend=first)
        stack.callback(begin.remove)
        end = self.module.register_forward_hook(self._end, prepend=not first, always_call=True)
        stack.callback(end.remove)
        stack.callback(self.mode.close)

    def _begin(self, *_: Any) -> None:
        if self._is_ours():
            self.calls += 1
            self._seen.append(Counter())
            self.mode.enter()

    def _end(self, *_: Any) -> None:
        if self._seen and self._is_ours():
            for name, count in self._seen.pop().items():
                self.counts[name] = max(count, self.counts.get(name, 0))
            self.mode.leave()

    def _is_ours(self) -> bool:
        return any(site.is_ours() for sites in self.sites.values() for _, site in sites)

    def run(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Runs an operation, and shows its arguments and its output where they are asked for."""
        name, seen = operation_name(func), self._seen[-1]
        wanted = [site for number, site in self.sites.get(name, ()) if number == seen[name]]
        for site in wanted:
            args, kwargs = site.before(func, args, kwargs) or (args, kwargs)
        output = func(*args, **kwargs)
        if any(True for _ in tensors(output)):
            seen[name] += 1
        for site in wanted:
            output = _or(site.take_back(func, args, kwargs, output), output)
            output = _or(site.after(func, args, output), output)
        if name in FUSED:
            self._show_weights(name, args, kwargs)
        return output

    def _show_weights(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen = self._seen[-1]
        wanted = [site for number, site in self.sites.get(ATTENTION_WEIGHTS, ()) if number == seen[ATTENTION_WEIGHTS]]
        seen[ATTENTION_WEIGHTS] += 1
        for site in wanted:
            site.after(self.module, args, attention_weights(name, args, kwargs))


def _or(new: Any, old: Any) -> Any:
    return old if new is None else new
