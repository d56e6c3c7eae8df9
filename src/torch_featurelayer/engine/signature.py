"""`input_signature`: the state that the number of calls of a layer may depend on."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Mapping
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, Final

import torch
from torch import Tensor, nn

_SCALARS: Final = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.Size, type)
_PLAIN: Final = frozenset([type(None), bool, int, float, str])
_OWN: Final = frozenset(vars(nn.Module()))  # what every module has: parameters, hooks, the training flag
_DEEPEST: Final = 6
_MOST_OBJECTS: Final = 5_000
_LARGEST_ARRAY: Final = 1 << 20  # bytes


def input_signature(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Hashable:
    """Returns a key that differs whenever a layer may be called a different number of times.

    The key covers the shapes of tensors, the values of all other arguments, the training flags, the modules, their
    attributes (for buffers, whether they were written to) and the modes of PyTorch. It does not cover the values of
    tensors in the arguments, nor what a model reads from elsewhere, such as a global variable.

    Args:
        model: The model.
        args: The positional arguments of the call.
        kwargs: The keyword arguments of the call.

    Returns:
        A hashable key. An argument whose value cannot be read, such as a generator, makes it differ from all others.
    """
    modes = (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled())
    # A fresh object equals nothing else: an argument that cannot be read makes a signature of its own.
    arguments = _Reader(lambda _: object()).read((args, kwargs), 0)
    return modes, arguments, tuple(map(_Reader(id).module, unique_modules(model)))


def unique_modules(model: nn.Module) -> list[nn.Module]:
    """Returns a model and the modules inside, without duplicates: like `model.modules()`, in half the time."""
    found: dict[int, nn.Module] = {}
    stack = [model]
    while stack:
        module = stack.pop()
        if id(module) not in found:
            found[id(module)] = module
            stack.extend(child for child in module._modules.values() if child is not None)
    return list(found.values())


class _Reader:
    """Converts values to hashable keys; an object that occurs again is a reference to its first occurrence.

    Args:
        unreadable: A function that returns the key of an object without attributes, such as a generator.
    """

    def __init__(self, unreadable: Callable[[Any], Hashable]) -> None:
        self._unreadable = unreadable
        self._seen: dict[int, tuple[int, Any]] = {}  # the objects themselves, since the id of a lost one is used again

    def module(self, module: nn.Module) -> Hashable:
        """Returns the key of a module: its identity, its mode and, for classes outside PyTorch, its attributes."""
        key: list[Hashable] = [id(module), module.training]
        if not type(module).__module__.startswith("torch.nn."):  # PyTorch's own attributes change no number of calls
            for name, value in vars(module).items():  # benchmarks.overhead: this loop is most of the signature's time
                if name not in _OWN:
                    key.append(value if type(value) in _PLAIN else self.read(value, 1))
            key += map(_version, module._buffers.values())
        return tuple(key)

    def read(self, value: Any, depth: int) -> Hashable:
        """Returns the key of any value."""
        kind = type(value)
        if isinstance(value, _SCALARS):
            return (kind, value)
        if isinstance(value, Tensor) and depth and self._unreadable is id:  # of the model's own state
            return _version(value)
        if isinstance(value, Tensor):
            return (kind, tuple(value.shape), value.dtype, value.device, value.requires_grad)
        # Shared and recursive objects: their structure is part of the key, their contents are read once.
        if id(value) in self._seen:
            return ("seen", self._seen[id(value)][0])
        self._seen[id(value)] = len(self._seen), value
        if depth > _DEEPEST or len(self._seen) > _MOST_OBJECTS or isinstance(value, (nn.Module, ModuleType)):
            return (kind, id(value))
        return kind, self._parts(value, depth + 1)

    def _parts(self, value: Any, depth: int) -> Hashable:
        if isinstance(value, (list, tuple)):
            return tuple(self.read(part, depth) for part in value)
        if isinstance(value, Mapping) and self._unreadable is id and not isinstance(value, dict):
            return id(value)  # of the model's own state: one that loads weights when it is read, as in accelerate
        if isinstance(value, Mapping):
            return tuple((self.read(key, depth), self.read(part, depth)) for key, part in value.items())
        if isinstance(value, (set, frozenset)):
            return frozenset(self.read(part, depth) for part in value)
        if isinstance(value, FunctionType):
            cells = [cell.cell_contents for cell in value.__closure__ or () if not _is_empty(cell)]
            return id(value.__code__), self.read((cells, value.__defaults__, value.__kwdefaults__), depth)
        if isinstance(value, functools.partial):
            return self.read((value.func, value.args, value.keywords), depth)
        if isinstance(value, MethodType):
            return self.read((value.__func__, value.__self__), depth)
        if isinstance(value, BuiltinFunctionType):
            return id(value)
        if hasattr(value, "tobytes") and hasattr(value, "nbytes"):  # an array
            return (value.shape, value.tobytes()) if value.nbytes <= _LARGEST_ARRAY else self._unreadable(value)
        return self._attributes(value, depth)

    def _attributes(self, value: Any, depth: int) -> Hashable:
        names = [name for kind in type(value).__mro__ for name in _slots(kind)]
        state = {name: getattr(value, name) for name in names if hasattr(value, name)}
        if hasattr(value, "__dict__"):
            state.update(vars(value))
        elif not names:
            return self._unreadable(value)
        return tuple((name, self.read(part, depth)) for name, part in state.items())


def _version(tensor: Tensor | None) -> Hashable:
    """Returns a key that changes when a tensor is replaced or written to."""
    return tensor is not None and (id(tensor), 0 if tensor.is_inference() else tensor._version)


def _slots(kind: type) -> tuple[str, ...]:
    slots = kind.__dict__.get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _is_empty(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018 (reading it is the test)
    except ValueError:
        return True
    return False
