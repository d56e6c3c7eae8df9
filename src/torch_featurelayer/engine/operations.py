"""Functional operations: those that the forward of a module runs itself, between the modules it calls.

A `TorchFunctionMode` receives every operation of its thread. It is active only while a watched module runs, and paused
while the layers inside that module run, so other modules run at full speed. An operation belongs to the innermost
`nn.Module` whose forward is on the call stack.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from types import CodeType, FrameType
from typing import Any, Final, Protocol, TypeAlias

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .._exceptions import UnsupportedTorchError
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
from .attention import EAGER, FUSED, attention_weights, eager_weights
from .operation_names import ATTRIBUTES, operation_name

# By id: hashing a code object hashes everything it holds, each time.
_INSIDE_CALL: Final = [part for part in getattr(CALL_IMPL, "co_consts", ()) if isinstance(part, CodeType)]
_CALLING: Final = {id(CALL_IMPL), *map(id, _INSIDE_CALL)}
_FEW: Final = 4

ModuleHooks: TypeAlias = tuple[nn.Module, Callable[..., None], Callable[..., None], bool]


class OperationPoint(Protocol):
    """What a watched operation is shown to: a `HookPoint` or an `Intervention`."""

    def is_ours(self) -> bool:
        """Whether the running code belongs to the capture or edit."""

    def before(
        self, called: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None, number: int | None = None
    ) -> Arguments | None:
        """Receives the arguments; returns new ones, or None to keep them."""

    def after(self, _: Any, __: Any, output: Any, number: int | None = None) -> Any:
        """Receives the output; returns a new one, or None to keep it."""

    def write_back(self, _: Any, args: tuple[Any, ...], kwargs: Any, output: Any = None) -> Any:
        """Undoes the substitution of arguments; returns a new output, or None to keep it."""


def holds_tensor(output: Any) -> bool:
    """Whether a function returned a tensor, which tells an operation from a query such as `x.size()`."""
    return isinstance(output, Tensor) or any(True for _ in tensors(output))


def running_module(expected: CodeType | None = None) -> nn.Module | None:
    """Returns the module whose own forward runs the operation that is being handled.

    Args:
        expected: The code of the forward that the caller looks for: other modules are then ruled out sooner.
            Default: None.

    Returns:
        The innermost module; None outside any forward, and for operations that hooks run.
    """
    # The forward is the frame just below the module call; frames of `_call_impl` itself are skipped.
    below = frame = sys._getframe(1)
    while frame.f_code is not CALL_IMPL:
        if id(frame.f_code) in _CALLS_HOOKS or frame.f_back is None:
            return None
        if id(frame.f_code) not in _CALLING:
            below = frame
        frame = frame.f_back
    # Comparing code is cheaper than reading `f_locals`, which copies the variables of the frame.
    if expected is not None and below.f_code is not expected:
        return None
    module: nn.Module = frame.f_locals["self"]
    return module if below.f_code is forward_code(module, below.f_code) else None


def forward_code(module: nn.Module, default: CodeType | None = None) -> CodeType | None:
    """Returns the code of a module's forward; the default if the forward is a callable object without code."""
    return getattr(module.forward, "__code__", default)


def _requesting_frame(frame: FrameType) -> FrameType:
    """Returns the frame that called an operation: for one in `torch.nn.functional`, the caller of that function."""
    if frame.f_code is HANDLE_TORCH_FUNCTION and frame.f_back is not None and frame.f_back.f_back is not None:
        frame = frame.f_back.f_back
        if frame.f_code is BOOLEAN_DISPATCH and frame.f_back is not None:
            frame = frame.f_back
    return frame


@dataclass(slots=True)
class _Running:
    """A module that is running.

    Attributes:
        module: The `id` of the module.
        watcher: The watcher of the module; None for a module inside a watched one, whose operations are ignored.
        counts: The number of times that each operation ran in this call, by name.
    """

    module: int
    watcher: Watcher | None
    counts: dict[str, int] = field(default_factory=dict)


class OperationMode(TorchFunctionMode):
    """Passes the operations of watched modules to their hook points.

    Attributes:
        watchers: The watchers, by the `id` of their module.
        foreign: For the code of each forward, the code that runs operations of other modules inside it, by `id`.

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
        self._is_active = False

    def watch(self, module: nn.Module, operation: str, number: int | None, point: OperationPoint) -> None:
        """Passes an operation of a module to a hook point, once the hooks are registered."""
        watcher = self.watchers.setdefault(id(module), Watcher(module, self))
        watcher.points.setdefault(operation, {}).setdefault(number or 0, []).append(point)
        if operation == ATTENTION_WEIGHTS:
            watcher.followed = EAGER

    def hooks(self) -> Iterator[ModuleHooks]:
        """Yields the hooks to register: a module, a pre-hook, a hook, and whether the module is a watched one."""
        for watcher in self.watchers.values():
            yield watcher.module, watcher.begin, watcher.end, True
            for child in watcher.module.children():
                if id(child) not in self.watchers and _is_large(child):
                    yield child, watcher.pause, watcher.resume, False

    def restart(self) -> None:
        """Resets the counts of calls and operations."""
        for watcher in self.watchers.values():
            watcher.calls, watcher.counts = 0, {}

    def begin(self, module: nn.Module, watcher: Watcher | None) -> None:
        """Pushes a module that begins to run."""
        self._running.append(_Running(id(module), watcher))
        self._follow()

    def end(self, module: nn.Module) -> _Running | None:
        """Pops a module that has run; returns None if its beginning was not pushed."""
        # A hook of ours may have been registered while the module was already running.
        if not self._running or self._running[-1].module != id(module):
            return None
        ended = self._running.pop()
        self._follow()
        return ended

    def is_inside(self, watcher: Watcher) -> bool:
        """Whether the module of a watcher is the innermost watched module that is running."""
        running = next((running for running in reversed(self._running) if running.watcher is not None), None)
        return running is not None and running.watcher is watcher

    def close(self) -> None:
        """Deactivates the mode, after an exception that skipped hooks."""
        self._running.clear()
        self._follow()

    def _follow(self) -> None:
        """Keeps the mode active exactly while the innermost running module is watched."""
        # Pushing and popping a mode costs less than a mode that stays active and ignores operations
        # (benchmarks.overhead).
        wanted = bool(self._running) and self._running[-1].watcher is not None
        if wanted and not self._is_active:
            push_function_mode(self)
        elif self._is_active and not wanted:
            remove_function_mode(self)
        self._is_active = wanted

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if torch.compiler.is_dynamo_compiling():  # as inside flex attention, which compiles itself
            return func(*args, **kwargs)
        if not self._running or (watcher := self._running[-1].watcher) is None:
            return func(*args, **kwargs)
        counts, name = self._running[-1].counts, operation_name(func)
        if name not in watcher.points and name not in FUSED and name not in watcher.followed:
            output = func(*args, **kwargs)
            watcher.note(counts, func, name, output, sys._getframe(1))
            return output
        if running_module(watcher.code) is not watcher.module:
            return func(*args, **kwargs)
        return watcher.run(counts, name, func, args, kwargs)


@contextmanager
def unwound() -> Iterator[None]:
    """Deactivates the modes that were activated inside, if an exception such as an early stop skipped their hooks."""
    depth = len(function_modes())
    try:
        yield
    finally:
        # Only modes that began inside: those below belong to captures that are still open.
        for mode in function_modes()[depth:]:
            if isinstance(mode, OperationMode):
                mode.close()


class Watcher:
    """The requested operations of one module.

    Attributes:
        module: The module.
        code: The code of its forward.
        points: The hook points of each operation, by name and number.
        counts: The largest number of times that each operation ran in one call of the module, by name.
        calls: The number of calls of the module.
        followed: The operations of eager attention, if its weights are requested.
    """

    def __init__(self, module: nn.Module, mode: OperationMode) -> None:
        self.module, self.code = module, forward_code(module)
        self.points: dict[str, dict[int, list[OperationPoint]]] = {}
        self.counts: dict[str, int] = {}
        self.calls = 0
        self.followed: frozenset[str] = frozenset()
        self._probabilities: Tensor | None = None  # the output of a softmax, which may be the weights of attention
        self._mode = mode
        self._foreign = mode.foreign.setdefault(id(self.code), set())

    def begin(self, *_: Any) -> None:
        """Begins a call of the module: its pre-hook."""
        if self._is_ours():
            self.calls += 1
            self._probabilities = None
            self._mode.begin(self.module, self)

    def end(self, *_: Any) -> None:
        """Ends a call of the module: its hook."""
        # Of several calls, the largest count is kept: an address numbers operations within one call.
        ended = self._mode.end(self.module) if self._is_ours() else None
        for name, count in ended.counts.items() if ended else ():
            self.counts[name] = max(count, self.counts.get(name, 0))

    def pause(self, child: nn.Module, *_: Any) -> None:
        """Pauses while a module inside runs: its pre-hook."""
        if self._is_ours() and self._mode.is_inside(self):
            self._mode.begin(child, None)

    def resume(self, child: nn.Module, *_: Any) -> None:
        """Continues after a module inside has run: its hook."""
        if self._is_ours():
            self._mode.end(child)

    @cached_property
    def _is_ours(self) -> Callable[[], bool]:
        (first, *_), *_ = next(iter(self.points.values())).values()
        return first.is_ours

    def note(self, counts: dict[str, int], func: Callable[..., Any], name: str, output: Any, frame: FrameType) -> None:
        """Counts an operation that is not requested, so that an error can list the operations that ran.

        Args:
            counts: The number of times that each operation ran in this call, by name.
            func: The operation.
            name: The name of the operation.
            output: The output of the operation.
            frame: The frame that called it. Code that once ran for a layer inside is not examined again.
        """
        # Most operations that are not requested are ruled out here, by one look into a set.
        place = id(_requesting_frame(frame).f_code)
        if place in self._foreign or func.__name__ in ATTRIBUTES:
            return
        if running_module(self.code) is not self.module:
            self._foreign.add(place)
        elif holds_tensor(output):
            counts[name] = counts.get(name, 0) + 1

    def run(
        self, counts: dict[str, int], name: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Runs an operation, and passes its arguments and its output to the hook points."""
        # The count before the operation is its zero-based number.
        points = self.points.get(name, {}).get(counts.get(name, 0), [])
        number = self.calls - 1
        if points:
            args, kwargs = _call_before(points, func, args, kwargs, number)
        output = func(*args, **kwargs)
        if isinstance(output, Tensor) or holds_tensor(output):
            counts[name] = counts.get(name, 0) + 1
        if points:
            output = _call_after(points, func, args, kwargs, output, number)
        if name in FUSED:
            sinks = getattr(self.module, "sinks", None) if name == "flex_attention" else None
            self._pass_weights(counts, lambda: attention_weights(name, args, kwargs, sinks), number)
        elif name in self.followed:
            self._follow_eager(counts, name, args, output, number)
        return output

    def _follow_eager(self, counts: dict[str, int], name: str, args: tuple[Any, ...], output: Any, number: int) -> None:
        """Takes the weights from a softmax, once a product has multiplied values with them."""
        if name == "softmax":
            self._probabilities = output
        elif self._probabilities is not None:
            weights = eager_weights(self._probabilities, args)
            if weights is not None:
                self._probabilities = None
                self._pass_weights(counts, lambda: weights, number)

    def _pass_weights(self, counts: dict[str, int], compute: Callable[[], Tensor], number: int) -> None:
        """Passes the weights of attention to their hook points."""
        points = self.points.get(ATTENTION_WEIGHTS, {}).get(counts.get(ATTENTION_WEIGHTS, 0), [])
        # Counted for every attention, so that the number in an address is that of the call.
        counts[ATTENTION_WEIGHTS] = counts.get(ATTENTION_WEIGHTS, 0) + 1
        if points:
            _show_weights(points, self.module, compute, number)


def _is_large(module: nn.Module) -> bool:
    """Whether to pause while a module runs: for one of few layers, a pause costs more than ignoring its operations."""
    if isinstance(module, torch.jit.ScriptModule):  # these take no Python hooks
        return False
    inside = [child for child in module._modules.values() if child is not None]
    return len(inside) + sum(len(child._modules) for child in inside) > _FEW


def _call_before(
    points: list[OperationPoint], func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], number: int
) -> Arguments:
    for point in points:
        args, kwargs = point.before(func, args, kwargs, number) or (args, kwargs)
    return args, kwargs


def _call_after(
    points: list[OperationPoint], func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any, number: int
) -> Any:
    for point in points:
        written = point.write_back(func, args, kwargs, output)
        output = output if written is None else written
        new = point.after(func, args, output, number)
        output = output if new is None else new
    return output


def _show_weights(points: list[OperationPoint], module: nn.Module, compute: Callable[[], Tensor], number: int) -> None:
    for point in points:
        point.after(module, (), compute(), number)


_CALLS_HOOKS: Final = {id(function.__code__) for function in (_call_before, _call_after, _show_weights)}
