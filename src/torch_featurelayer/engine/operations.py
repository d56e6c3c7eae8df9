"""Functional operations: what a module's forward runs itself, between the modules it calls.

A `TorchFunctionMode` sees each operation of its thread. It listens while a
watched module runs, and pauses while the layers inside that one run, so nothing
else pays. Which module an operation belongs to, the call stack shows: the
innermost `nn.Module` whose forward is running.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from types import CodeType, FrameType
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .._errors import UnsupportedTorchError
from .._pytree import tensors
from ..address import ATTENTION_WEIGHTS
from ._torch_private import (
    BOOLEAN_DISPATCH,
    CALL_IMPL,
    HANDLE_TORCH_FUNCTION,
    HAS_FUNCTION_MODES,
    function_modes,
    push_function_mode,
    remove_function_mode,
)
from .arguments import Arguments
from .attention import FUSED, attention_weights
from .hooks import HookPoint
from .operation_names import ATTRIBUTES, operation_name
from .temporary import register_hook, register_pre_hook

# By id: hashing a code object hashes everything it holds, each time.
_INSIDE_CALL: Final = [part for part in getattr(CALL_IMPL, "co_consts", ()) if isinstance(part, CodeType)]
_CALLING: Final = {id(CALL_IMPL), *map(id, _INSIDE_CALL)}
_FEW: Final = 4


def holds_tensor(output: Any) -> bool:
    """Tells an operation from a query such as `x.size()`: only what gives a tensor counts."""
    return isinstance(output, Tensor) or any(True for _ in tensors(output))


def running_module(expected: CodeType | None = None) -> nn.Module | None:
    """Returns the module whose own forward runs the operation that is being handled.

    Args:
        expected: Answer only where the forward has this code: others are then told apart more cheaply.

    Returns:
        The innermost module; None outside any forward, and for operations that hooks run, ours included.
    """
    below = frame = sys._getframe(1)
    while frame.f_code is not CALL_IMPL:
        if id(frame.f_code) in _SHOWING or frame.f_back is None:
            return None
        if id(frame.f_code) not in _CALLING:
            below = frame
        frame = frame.f_back
    if expected is not None and below.f_code is not expected:
        return None
    module: nn.Module = frame.f_locals["self"]
    return module if below.f_code is forward_code(module, below.f_code) else None


def forward_code(module: nn.Module, default: CodeType | None = None) -> CodeType | None:
    """Returns the code of a module's forward; a callable object in its place has none."""
    return getattr(module.forward, "__code__", default)


def _asking(frame: FrameType) -> FrameType:
    """Returns the frame that asked for an operation: the caller of a function of `torch.nn.functional`, not it."""
    if frame.f_code is HANDLE_TORCH_FUNCTION and frame.f_back is not None and frame.f_back.f_back is not None:
        frame = frame.f_back.f_back
        if frame.f_code is BOOLEAN_DISPATCH and frame.f_back is not None:
            frame = frame.f_back
    return frame


@dataclass(slots=True)
class _Running:
    """A module that is running.

    Attributes:
        module: The id of the module.
        watcher: Its watcher; None for a module inside a watched one, whose operations are not looked at.
        counts: How often each operation ran in this call.
    """

    module: int
    watcher: Watcher | None
    counts: dict[str, int] = field(default_factory=dict)


class OperationMode(TorchFunctionMode):
    """Shows the operations of watched modules to their hook points.

    Attributes:
        watchers: By the id of their module.
        foreign: By the code of a forward, the code that runs operations for other modules inside it.

    Raises:
        UnsupportedTorchError: If this PyTorch has no function modes that hooks can begin and end.
    """

    def __init__(self) -> None:
        super().__init__()
        if not HAS_FUNCTION_MODES:
            raise UnsupportedTorchError("operations cannot be captured: this PyTorch has no stack of function modes")
        self.watchers: dict[int, Watcher] = {}
        self.foreign: dict[int, set[int]] = {}
        self._running: list[_Running] = []
        self._listens = False

    def watch(self, module: nn.Module, operation: str, number: int | None, point: HookPoint) -> None:
        """Shows an operation of a module to a hook point, once installed."""
        watcher = self.watchers.setdefault(id(module), Watcher(module, self))
        watcher.points.setdefault(operation, {}).setdefault(number or 0, []).append(point)

    def install(self, stack: ExitStack, first: bool = False) -> None:
        """Registers the hooks that begin, pause and end listening; the stack removes them.

        Args:
            stack: The stack.
            first: Listen before captures of these modules do: for edits.
        """
        for watcher in self.watchers.values():
            watcher.install(stack, first)
        stack.callback(self.close)

    def restart(self) -> None:
        """Counts calls and operations from 0 again."""
        for watcher in self.watchers.values():
            watcher.calls, watcher.counts = 0, {}

    def begin(self, module: nn.Module, watcher: Watcher | None) -> None:
        """Notes that a module begins to run."""
        self._running.append(_Running(id(module), watcher))
        self._follow()

    def end(self, module: nn.Module) -> _Running | None:
        """Notes that a module has run, and returns what ran in it; None if its beginning was not noted."""
        if not self._running or self._running[-1].module != id(module):
            return None
        ended = self._running.pop()
        self._follow()
        return ended

    def is_inside(self, watcher: Watcher) -> bool:
        """Whether the module of a watcher is the innermost watched one that runs."""
        running = next((running for running in reversed(self._running) if running.watcher is not None), None)
        return running is not None and running.watcher is watcher

    def close(self) -> None:
        """Ends listening, as after an exception that skipped hooks."""
        self._running.clear()
        self._follow()

    def _follow(self) -> None:
        """Listens exactly while the innermost module is watched."""
        wanted = bool(self._running) and self._running[-1].watcher is not None
        if wanted and not self._listens:
            push_function_mode(self)
        elif self._listens and not wanted:
            remove_function_mode(self)
        self._listens = wanted

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if torch.compiler.is_dynamo_compiling():  # as inside flex attention, which compiles itself
            return func(*args, **kwargs)
        if not self._running or (watcher := self._running[-1].watcher) is None:
            return func(*args, **kwargs)
        counts, name = self._running[-1].counts, operation_name(func)
        if name not in watcher.points and name not in FUSED:
            output = func(*args, **kwargs)
            watcher.note(counts, func, name, output, sys._getframe(1))
            return output
        if running_module(watcher.code) is not watcher.module:
            return func(*args, **kwargs)
        return watcher.run(counts, name, func, args, kwargs)


@contextmanager
def unwound() -> Iterator[None]:
    """Ends the listening that began inside, if an exception such as an early stop skipped its end."""
    depth = len(function_modes())
    try:
        yield
    finally:
        for mode in function_modes()[depth:]:
            if isinstance(mode, OperationMode):
                mode.close()


class Watcher:
    """The operations of one module that are asked for.

    Attributes:
        module: The module.
        code: The code of its forward.
        points: The hook points of each operation, by name and number.
        counts: How often each operation ran in one call of the module, at most; empty before it ran.
        calls: How often the module was called.
    """

    def __init__(self, module: nn.Module, mode: OperationMode) -> None:
        self.module, self.code = module, forward_code(module)
        self.points: dict[str, dict[int, list[HookPoint]]] = {}
        self.counts: dict[str, int] = {}
        self.calls = 0
        self._mode = mode
        self._foreign = mode.foreign.setdefault(id(self.code), set())

    def install(self, stack: ExitStack, first: bool) -> None:
        """Registers the hooks of this module, and of those inside it that have no watcher of their own."""
        _around(stack, self.module, self._begin, self._end, innermost=not first)
        for child in self.module.children():
            if id(child) not in self._mode.watchers and _is_large(child):
                _around(stack, child, self._pause, self._resume, innermost=first)

    def _begin(self, *_: Any) -> None:
        if self._is_ours():
            self.calls += 1
            self._mode.begin(self.module, self)

    def _end(self, *_: Any) -> None:
        ended = self._mode.end(self.module) if self._is_ours() else None
        for name, count in ended.counts.items() if ended else ():
            self.counts[name] = max(count, self.counts.get(name, 0))

    def _pause(self, child: nn.Module, *_: Any) -> None:
        if self._is_ours() and self._mode.is_inside(self):
            self._mode.begin(child, None)

    def _resume(self, child: nn.Module, *_: Any) -> None:
        if self._is_ours():
            self._mode.end(child)

    @cached_property
    def _is_ours(self) -> Callable[[], bool]:
        (first, *_), *_ = next(iter(self.points.values())).values()
        return first.is_ours

    def note(self, counts: dict[str, int], func: Callable[..., Any], name: str, output: Any, frame: FrameType) -> None:
        """Counts an operation that is not asked for, to list in an error what ran.

        Args:
            counts: How often each operation ran in this call.
            func: The operation.
            name: The name of the operation.
            output: The output of the operation.
            frame: The frame that called it. Code that was once found to run for a layer inside is not looked at again.
        """
        place = id(_asking(frame).f_code)
        if place in self._foreign or func.__name__ in ATTRIBUTES:
            return
        if running_module(self.code) is not self.module:
            self._foreign.add(place)
        elif holds_tensor(output):
            counts[name] = counts.get(name, 0) + 1

    def run(
        self, counts: dict[str, int], name: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Runs an operation, and shows its arguments and its output where they are asked for."""
        points = self.points.get(name, {}).get(counts.get(name, 0), [])
        number = self.calls - 1
        if points:
            args, kwargs = _show_before(points, func, args, kwargs, number)
        output = func(*args, **kwargs)
        if holds_tensor(output):
            counts[name] = counts.get(name, 0) + 1
        if points:
            output = _show_after(points, func, args, kwargs, output, number)
        if name in FUSED:
            weighed = self.points.get(ATTENTION_WEIGHTS, {}).get(counts.get(ATTENTION_WEIGHTS, 0), [])
            counts[ATTENTION_WEIGHTS] = counts.get(ATTENTION_WEIGHTS, 0) + 1
            _show_weights(weighed, self.module, name, args, kwargs, number)
        return output


def _around(
    stack: ExitStack, module: nn.Module, before: Callable[..., None], after: Callable[..., None], *, innermost: bool
) -> None:
    """Registers a hook before and one after; innermost ones run last before a forward, and first after it."""
    register_pre_hook(module, before, stack, prepend=not innermost)
    register_hook(module, after, stack, prepend=innermost, always_call=True)


def _is_large(module: nn.Module) -> bool:
    """Whether to pause while a module runs: one of few layers runs so few operations that a pause costs more."""
    if isinstance(module, torch.jit.ScriptModule):  # these take no Python hooks
        return False
    inside = [child for child in module._modules.values() if child is not None]
    return len(inside) + sum(len(child._modules) for child in inside) > _FEW


def _show_before(
    points: list[HookPoint], func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], number: int
) -> Arguments:
    for point in points:
        args, kwargs = point.before(func, args, kwargs, number) or (args, kwargs)
    return args, kwargs


def _show_after(
    points: list[HookPoint], func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any, number: int
) -> Any:
    for point in points:
        output = _or(point.write_back(func, args, kwargs, output), output)
        output = _or(point.after(func, args, output, number), output)
    return output


def _show_weights(
    points: list[HookPoint], module: nn.Module, name: str, args: Any, kwargs: dict[str, Any], number: int
) -> None:
    for point in points:
        point.after(module, args, attention_weights(name, args, kwargs), number)


def _or(new: Any, old: Any) -> Any:
    return old if new is None else new


_SHOWING: Final = {id(function.__code__) for function in (_show_before, _show_after, _show_weights)}
