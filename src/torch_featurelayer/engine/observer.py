"""Function modes that observe a model, and change neither its results nor its compiled code.

In eval mode and without gradients, `nn.TransformerEncoder`, its layers and `nn.MultiheadAttention` run fused kernels,
whose results differ in the last bits and at padding. They do not while a function mode is active or modules inside have
hooks; compiled modules are compiled anew. An observer therefore looks away while such a module runs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from functools import update_wrapper
from types import MethodType
from typing import Any, Final

from torch import nn
from torch.overrides import TorchFunctionMode

from ._torch_private import HAS_FUNCTION_MODES, compiled_attribute, function_modes, without_function_modes

_FAST: Final = (
    nn.MultiheadAttention.forward,
    nn.TransformerEncoderLayer.forward,
    nn.TransformerEncoder.forward,
)


class Observer(TorchFunctionMode):
    """A function mode that receives operations and changes nothing."""

    def note_attention(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Takes note of a call of a module with a fast path, whose operations are not received."""

    @contextmanager
    def observe(self, model: nn.Module, inside: Collection[nn.Module]) -> Iterator[None]:
        """Receives the operations of a model, except those inside compiled modules and modules with a fast path.

        Args:
            model: The model.
            inside: The modules inside which operations are received nevertheless.
        """
        with ExitStack() as stack:
            for module in _outermost(model, set(map(id, inside)), set()) if HAS_FUNCTION_MODES else ():
                _Unobserved.install(module, self, stack)
            with self:
                yield


def _outermost(module: nn.Module, inside: set[int], seen: set[int]) -> Iterator[nn.Module]:
    """Yields the modules that must run without a function mode, once each, and none inside those."""
    # Function modes belong to a thread, and `nn.DataParallel` runs copies of its module in others.
    if id(module) in seen or isinstance(module, nn.DataParallel):
        return
    seen.add(id(module))
    if id(module) not in inside and (_is_fast(module) or compiled_attribute(module)):
        yield module
    else:
        for child in module.children():
            yield from _outermost(child, inside, seen)


def _is_fast(module: nn.Module) -> bool:
    return isinstance(module.forward, _Unobserved) or getattr(module.forward, "__func__", None) in _FAST


class _Unobserved:
    """Stands for the function that runs a module, and calls it without observers.

    An attribute of the module rather than a hook, because hooks switch the fast path off.

    Args:
        module: The module.
        name: The attribute: `"forward"`, or that of compiled code.
    """

    def __init__(self, module: nn.Module, name: str) -> None:
        self._module, self._name = module, name
        own = module.__dict__.get(name)  # a copy that was made under an observer has the method of its class
        self._own: Callable[..., Any] | None = None if getattr(own, "__func__", None) in _FAST else own
        self._observers: list[Observer] = []
        update_wrapper(self, self._own or type(module).forward)

    @classmethod
    def install(cls, module: nn.Module, observer: Observer, stack: ExitStack) -> None:
        """Stands in until the stack is closed and no other observer needs it."""
        name = compiled_attribute(module) or "forward"
        stand_in = module.__dict__.get(name)
        if not isinstance(stand_in, cls):
            stand_in = module.__dict__[name] = cls(module, name)
        stand_in._observers.append(observer)
        stack.callback(stand_in._leave, observer)

    def _leave(self, observer: Observer) -> None:
        self._observers.remove(observer)
        if self._observers or self._module.__dict__.get(self._name) is not self:
            return
        if self._own is None:
            del self._module.__dict__[self._name]
        else:
            self._module.__dict__[self._name] = self._own

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        active = set(map(id, function_modes()))  # of this thread
        observers = [observer for observer in self._observers if id(observer) in active]
        run = self._own or MethodType(type(self._module).forward, self._module)
        with without_function_modes(observers):
            output = run(*args, **kwargs)
        for observer in observers if self._own is None else ():
            observer.note_attention(self._module, args, kwargs, output)
        return output

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if self._own is not None:
            return copy.deepcopy(self._own, memo)
        return MethodType(type(self._module).forward, memo.get(id(self._module), self._module))

    def __reduce__(self) -> Any:
        return getattr, (self._module, "forward")
