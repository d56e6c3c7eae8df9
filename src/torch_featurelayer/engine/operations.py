"""Functional operations: what a module's forward runs itself, between the modules it calls.

A `TorchFunctionMode` sees each operation of its thread. It listens while a
watched module runs, and pauses while the layers inside that one run, so nothing
else pays. Whose operation it is, the call stack says: the innermost `nn.Module`
whose forward is running.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import cached_property, lru_cache
from types import CodeType, FrameType
from typing import Any, Final, TypeAlias

from torch import Tensor, nn, overrides
from torch.nn import functional

from .._pytree import tensors
from ..address import ATTENTION_WEIGHTS
from .attention import FUSED, attention_weights
from .forwards import CALL
from .modes import ListeningMode
from .sites import Arguments, Site

Hook: TypeAlias = Callable[..., None]

# By id: to hash a code object is to hash all it holds, each time.
_CALLING: Final = {id(CALL), *(id(part) for part in CALL.co_consts if isinstance(part, CodeType))}
_HANDLE: Final = overrides.handle_torch_function.__code__
_DISPATCH: Final = functional.max_pool2d.__code__  # shared by all functions that a flag sends to one of two
_FEW: Final = 4
ATTRIBUTES: Final = {"__get__", "__set__", "__delete__"}
_SPELLINGS: Final = {"truediv": "div", "floordiv": "floor_divide", "pos": "positive", "invert": "bitwise_not"}
_REVERSIBLE: Final = {"add", "sub", "mul", "div", "truediv", "floordiv", "pow", "matmul", "mod", "and", "or", "xor"}


@lru_cache(maxsize=4096)
def operation_name(function: Callable[..., Any]) -> str:
    """Returns the name an operation goes by: `add` for `+`, `+=`, `torch.add` and `Tensor.add_`.

    Examples:
        >>> operation_name(torch.Tensor.__iadd__), operation_name(torch.nn.functional.relu)
        ('add', 'relu')
    """
    written = getattr(function, "__name__", "").partition(".")[0]  # an exported graph runs `add.Tensor`
    name = written.strip("_")
    if written.startswith("__") and name[:1] in ("i", "r") and name[1:] in _REVERSIBLE:
        name = name[1:]
    return _SPELLINGS.get(name, name)


def holds_tensor(output: Any) -> bool:
    """Tells an operation from a question such as `x.size()`: only what gives a tensor counts."""
    return isinstance(output, Tensor) or any(True for _ in tensors(output))


def running_module(expected: CodeType | None = None) -> nn.Module | None:
    """Returns the module whose own forward runs the operation that is being handled.

    Args:
        expected: Answer only where the forward has this code: others are then told apart more cheaply.

    Returns:
        The innermost module; None outside any forward, and for what hooks run, ours included.
    """
    below = frame = sys._getframe(1)
    while frame.f_code is not CALL:
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
    if frame.f_code is _HANDLE and frame.f_back is not None and frame.f_back.f_back is not None:
        frame = frame.f_back.f_back
        if frame.f_code is _DISPATCH and frame.f_back is not None:
            frame = frame.f_back
    return frame


class Operations(ListeningMode):
    """Shows the operations of watched modules to their watchers."""

    def __init__(self) -> None:
        super().__init__()
        self.watchers: dict[int, Watcher] = {}
        self.running: list[Watcher] = []
        self.elsewhere: dict[int, set[int]] = {}

    def watch(self, module: nn.Module, operation: str, number: int | None, site: Site) -> None:
        """Shows an operation of a module to a site, once installed."""
        watcher = self.watchers.setdefault(id(module), Watcher(module, self))
        watcher.sites.setdefault(operation, {}).setdefault(number or 0, []).append(site)

    def install(self, stack: ExitStack, first: bool = False) -> None:
        """Registers the hooks that begin, pause and end listening; the stack removes them.

        Args:
            stack: What removes them.
            first: Listen before captures of these modules do: for edits.
        """
        for watcher in self.watchers.values():
            watcher.install(stack, first)
            stack.callback(self.close)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not self.running:
            return func(*args, **kwargs)
        watcher, name = self.running[-1], operation_name(func)
        if name not in watcher.sites and name not in FUSED:
            output = func(*args, **kwargs)
            watcher.note(func, name, output, sys._getframe(1))
            return output
        if running_module(watcher.code) is not watcher.module:
            return func(*args, **kwargs)
        return watcher.run(name, func, args, kwargs)

    def close(self) -> None:
        """Ends listening, as after an exception that skipped hooks."""
        self.running.clear()
        super().close()


class Watcher:
    """The operations of one module that are asked for.

    Attributes:
        sites: Where each asked for is shown, by name and number.
        counts: How often each operation ran in one call of the module, at most; empty before it ran.
        calls: How often the module was called.
    """

    def __init__(self, module: nn.Module, mode: Operations) -> None:
        self.module, self.mode, self.code = module, mode, forward_code(module)
        self.sites: dict[str, dict[int, list[Site]]] = {}
        self.counts: dict[str, int] = {}
        self.calls = 0
        self._seen: list[dict[str, int]] = []
        self._elsewhere = mode.elsewhere.setdefault(id(self.code), set())

    def install(self, stack: ExitStack, first: bool) -> None:
        """Registers the hooks of this module, and of those inside it that have no watcher of their own."""
        self._hook(stack, self.module, self._begin, self._end, inner=not first)
        for child in self.module.children():
            if id(child) not in self.mode.watchers and _is_large(child):
                self._hook(stack, child, self._pause, self._resume, inner=first)

    @staticmethod
    def _hook(stack: ExitStack, module: nn.Module, before: Hook, after: Hook, inner: bool) -> None:
        """Registers a hook before and one after; inner ones are the last before a forward, the first after it."""
        stack.callback(module.register_forward_pre_hook(before, prepend=not inner).remove)
        stack.callback(module.register_forward_hook(after, prepend=inner, always_call=True).remove)

    def _begin(self, *_: Any) -> None:
        if self._is_ours():
            self.calls += 1
            self._seen.append({})
            self.mode.running.append(self)
            self.mode.begin(self.module, listening=True)

    def _end(self, *_: Any) -> None:
        if self._seen and self._is_ours():
            for name, count in self._seen.pop().items():
                self.counts[name] = max(count, self.counts.get(name, 0))
            self.mode.running.pop()
            self.mode.end(self.module)

    def _pause(self, child: nn.Module, *_: Any) -> None:
        if self._seen and self._is_ours():
            self.mode.begin(child, listening=False)

    def _resume(self, child: nn.Module, *_: Any) -> None:
        if self._seen and self._is_ours():
            self.mode.end(child)

    @cached_property
    def _is_ours(self) -> Callable[[], bool]:
        (first, *_), *_ = next(iter(self.sites.values())).values()
        return first.is_ours

    def note(self, func: Callable[..., Any], name: str, output: Any, frame: FrameType) -> None:
        """Counts an operation that is not asked for, to say in an error what ran.

        Args:
            func: The operation.
            name: Of the operation.
            output: What it returned.
            frame: That called it. Code that was once found to run for a layer inside is not looked at again.
        """
        frame = _asking(frame)
        place = id(frame.f_code)
        if place in self._elsewhere or func.__name__ in ATTRIBUTES:
            return
        if running_module(self.code) is not self.module:
            self._elsewhere.add(place)
        elif holds_tensor(output):
            self._count(name)

    def run(self, name: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Runs an operation, and shows its arguments and its output where they are asked for."""
        wanted = self._wanted(name)
        if wanted:
            args, kwargs = _show_before(wanted, func, args, kwargs)
        output = func(*args, **kwargs)
        if holds_tensor(output):
            self._count(name)
        if wanted:
            output = _show_after(wanted, func, args, kwargs, output)
        if name in FUSED:
            weighed = self._wanted(ATTENTION_WEIGHTS)
            self._count(ATTENTION_WEIGHTS)
            _show_weights(weighed, self.module, name, args, kwargs)
        return output

    def _wanted(self, name: str) -> list[Site]:
        """Returns the sites of the next operation of a name."""
        return self.sites.get(name, {}).get(self._seen[-1].get(name, 0), [])

    def _count(self, name: str) -> None:
        seen = self._seen[-1]
        seen[name] = seen.get(name, 0) + 1


def _is_large(module: nn.Module) -> bool:
    """Whether to pause while a module runs: one of few layers runs so few operations that a pause costs more."""
    inside = [child for child in module._modules.values() if child is not None]
    return len(inside) + sum(len(child._modules) for child in inside) > _FEW


def _show_before(sites: list[Site], func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    for site in sites:
        args, kwargs = site.before(func, args, kwargs) or (args, kwargs)
    return args, kwargs


def _show_after(sites: list[Site], func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
    for site in sites:
        output = _or(site.take_back(func, args, kwargs, output), output)
        output = _or(site.after(func, args, output), output)
    return output


def _show_weights(sites: list[Site], module: nn.Module, name: str, args: Any, kwargs: dict[str, Any]) -> None:
    for site in sites:
        site.after(module, args, attention_weights(name, args, kwargs))


def _or(new: Any, old: Any) -> Any:
    return old if new is None else new


_SHOWING: Final = {id(function.__code__) for function in (_show_before, _show_after, _show_weights)}
