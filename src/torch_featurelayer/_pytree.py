"""Rebuilds the values that modules take and return, with their structure.

PyTorch's own pytree treats unregistered dataclasses, packed sequences and plain objects as leaves. A leaf would be kept
by reference, so a later in-place change would reach the feature. Here a value is rebuilt through the protocol that
`copy.deepcopy` uses, and a value that cannot be rebuilt is an error if a tensor can be reached from it.
"""

from __future__ import annotations

import copy
import dataclasses
import gc
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, MutableMapping, Sequence
from enum import Enum
from types import BuiltinFunctionType, FunctionType, MappingProxyType, MethodType, ModuleType
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor, nn

TensorMap: TypeAlias = Callable[[Tensor], Any]

_IMMUTABLE: Final = (
    *(type(None), bool, int, float, complex, str, bytes, range, slice, Enum, type, ModuleType),
    *(torch.dtype, torch.device, torch.layout, torch.memory_format, torch.Size, torch.Generator),
)
_MEMORY: Final = (Tensor, torch.UntypedStorage, torch.futures.Future)  # the last keeps its value out of sight
_FUNCTIONS: Final = (FunctionType, BuiltinFunctionType, MethodType)
_LARGEST_SEARCH: Final = 10_000  # objects


class UncopyableError(TypeError):
    """A value holds tensors and cannot be rebuilt.

    Attributes:
        kind: The name of its type.
        problem: Why it cannot be rebuilt.
    """

    def __init__(self, kind: str, problem: str) -> None:
        self.kind, self.problem = kind, problem
        super().__init__(f"a {kind} {problem}")


def snapshot(value: Any, fn: TensorMap) -> Any:
    """Rebuilds a value with a function applied to its tensors; every container is new.

    Args:
        value: Tensors in containers and objects of any kind. Modules, classes and functions without tensors are kept.
        fn: The function of a tensor.

    Raises:
        UncopyableError: If a part that holds tensors cannot be rebuilt, such as a generator.
    """
    return fn(value) if isinstance(value, Tensor) else _Snapshot(fn).rebuild(value)


def substitute(value: Any, fn: Callable[[Tensor], Tensor]) -> Any:
    """Applies a function to the tensors in known containers; parts that do not change stay the same objects.

    Known containers are tuples, lists, dicts, other mutable mappings, dataclasses and deques. Objects of other types
    are not entered, because the model may hold references to them.
    """
    return fn(value) if isinstance(value, Tensor) else _substitute(value, fn)


def tensors(value: Any) -> Iterator[Tensor]:
    """Yields the tensors in a value, in the order of its structure; none if the value cannot be rebuilt."""
    if isinstance(value, Tensor):
        yield value
        return
    found: list[Tensor] = []
    try:
        snapshot(value, found.append)
    except UncopyableError:
        return
    yield from found


def select(value: Any, step: int | str) -> Any:
    """Returns a part of a structure: at a position, of a key, or an attribute.

    Raises:
        LookupError: If there is no such part. The message describes the value.
    """
    if isinstance(value, Tensor):
        raise LookupError(  # noqa: TRY004 (an index that does not fit, whatever the value is)
            f"{describe(value)} has no parts: index the feature instead"
        )
    try:
        if isinstance(step, int) or (isinstance(value, Mapping) and step in value):
            return value[step]
        return getattr(value, step)
    except (LookupError, TypeError, AttributeError):
        raise LookupError(f"{describe(value)} has no part {step!r}") from None


def replace_part(value: Any, steps: Sequence[int | str], fn: Callable[[Any], Any]) -> Any:
    """Returns a value with one part replaced; containers on the way to it are new, and other parts are shared.

    If the function returns the part itself, the value itself is returned.

    Raises:
        LookupError: If there is no such part.
        UncopyableError: If a container on the way cannot be rebuilt.
    """
    if not steps:
        return fn(value)
    old = select(value, steps[0])
    new = replace_part(old, steps[1:], fn)
    return value if new is old else _with_part(value, steps[0], new)


def describe(value: Any) -> str:
    """Describes a value in a few words.

    Examples:
        >>> describe((torch.ones(2, 3), None))
        'a tuple of 2'
    """
    if isinstance(value, Tensor):
        return f"a tensor of shape {list(value.shape)}"
    if isinstance(value, Mapping):
        return f"a {type(value).__name__} with the keys {', '.join(map(repr, value))}"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"


def outline(value: Any) -> str:
    """Returns the structure of a value as text, with the shapes of its tensors.

    Examples:
        >>> outline((torch.ones(2, 3), {"mask": None}))
        "([2, 3], {'mask': None})"
    """
    if isinstance(value, Tensor):
        return str(list(value.shape))
    if isinstance(value, (tuple, list)):
        left, right = "()" if isinstance(value, tuple) else "[]"
        return left + ", ".join(map(outline, value)) + right
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {outline(part)}" for key, part in value.items()) + "}"
    if _is_dataclass(value):
        parts = (f"{field.name}={outline(getattr(value, field.name))}" for field in dataclasses.fields(value))
        return f"{type(value).__name__}({', '.join(parts)})"
    return "None" if value is None else type(value).__name__


class _Snapshot:
    """One rebuilding of a value.

    It is a class rather than nested functions, because a function that refers to itself is a reference cycle and would
    hold the rebuilt tensors until the garbage collector runs.
    """

    def __init__(self, fn: TensorMap) -> None:
        self._fn = fn
        self._rebuilt: dict[int, Any] = {}

    def rebuild(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self._fn(value)
        if isinstance(value, _IMMUTABLE):
            return value
        # Shared objects stay shared in the copy.
        if id(value) not in self._rebuilt:
            self._rebuilt[id(value)] = value  # a value that holds itself
            self._rebuilt[id(value)] = self._rebuild(value)
        return self._rebuilt[id(value)]

    def _rebuild(self, value: Any) -> Any:
        kind = type(value)
        if kind is tuple or (isinstance(value, tuple) and hasattr(value, "_make")):
            parts = [self.rebuild(part) for part in value]
            return tuple(parts) if kind is tuple else value._make(parts)
        if kind is list:
            return [self.rebuild(part) for part in value]
        if kind is dict:
            return {key: self.rebuild(part) for key, part in value.items()}
        if kind is MappingProxyType:
            return MappingProxyType({key: self.rebuild(part) for key, part in value.items()})
        if isinstance(value, nn.Module) and not isinstance(value, (nn.ParameterList, nn.ParameterDict)):
            return value
        if isinstance(value, _FUNCTIONS):
            return self._pass_unchanged(value, "refers to tensors")
        if isinstance(value, Generator):
            raise UncopyableError(kind.__name__, "can be read only once")
        if kind.__module__ == "numpy":
            return copy.deepcopy(value)
        return self._from_reduction(value)

    def _from_reduction(self, value: Any) -> Any:
        """Rebuilds an object through the protocol of `copy.deepcopy` and pickle."""
        try:
            # Protocol 4 is the one that `copy.deepcopy` uses.
            reduced: Any = value.__reduce_ex__(4)
        except Exception as error:  # noqa: BLE001 (the object's own code)
            return self._pass_unchanged(value, f"cannot be rebuilt ({error})")
        if isinstance(reduced, str):  # the name of a global, such as Ellipsis
            return value
        make, args, *rest = tuple(reduced)
        state, items, pairs = [*rest, None, None, None][:3]
        args = [self.rebuild(part) for part in args]
        try:
            new = make(*args)
        except Exception as error:  # noqa: BLE001 (the object's own code)
            return self._pass_unchanged(value, f"cannot be rebuilt ({error})")
        self._rebuilt[id(value)] = new
        for part in items or ():
            new.append(self.rebuild(part))
        for key, part in pairs or ():
            new[key] = self.rebuild(part)
        if state is not None:
            _set_state(new, self.rebuild(state))
        return new

    @staticmethod
    def _pass_unchanged(value: Any, problem: str) -> Any:
        """Returns a value unchanged, if no memory that the model may write to can be reached from it."""
        if _reaches_memory(value):
            raise UncopyableError(type(value).__name__, problem)
        return value


def _set_state(new: Any, state: Any) -> None:
    """Sets the state of a rebuilt object, as `copy.deepcopy` does."""
    if hasattr(new, "__setstate__"):
        new.__setstate__(state)
        return
    attributes, slots = state if isinstance(state, tuple) and len(state) == 2 else (state, None)
    if attributes:
        new.__dict__.update(attributes)
    for name, part in (slots or {}).items():
        object.__setattr__(new, name, part)


def _reaches_memory(value: Any) -> bool:
    """Whether a tensor or an array can be reached; classes, modules and the globals of functions are not entered."""
    queue, seen = deque([value]), {id(value)}
    # Bounded: an object may refer to a whole application.
    while queue and len(seen) < _LARGEST_SEARCH:
        part = queue.popleft()
        # A capsule hides its contents; it may be the memory of a tensor.
        if isinstance(part, _MEMORY) or type(part).__name__ == "PyCapsule" or _is_writable_buffer(part):
            return True
        for inner in _referents(part):
            if id(inner) not in seen and not isinstance(inner, (type, ModuleType, nn.Module, str, int)):
                seen.add(id(inner))
                queue.append(inner)
    return False


def _is_writable_buffer(value: Any) -> bool:
    """Whether a value exposes writable memory, as NumPy arrays and `memoryview` do."""
    try:
        with memoryview(value) as buffer:
            return not buffer.readonly
    except (TypeError, ValueError, BufferError):
        return False


def _referents(value: Any) -> list[Any]:
    if isinstance(value, FunctionType):
        return [value.__closure__, value.__defaults__, value.__kwdefaults__, *vars(value).values()]
    if isinstance(value, weakref.ref):
        return [value()]
    return gc.get_referents(value)


def _substitute(value: Any, fn: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return fn(value)
    if isinstance(value, tuple):
        parts = [_substitute(part, fn) for part in value]
        return value if _are_same(parts, value) else _tuple(value, parts)
    # A container without a changed tensor stays the same object, because the model may compare by identity.
    changed = {key: new for key, part in _parts(value) if (new := _substitute(part, fn)) is not part}
    return _with_parts(value, changed) if changed else value


def _parts(value: Any) -> list[tuple[Any, Any]]:
    """Returns the keys and parts of a known container other than a tuple; none for other values."""
    if isinstance(value, (list, deque)):
        return list(enumerate(value))
    if isinstance(value, MutableMapping):
        return list(value.items())
    if _is_dataclass(value):
        names = (field.name for field in dataclasses.fields(value))
        return [(name, getattr(value, name)) for name in names if hasattr(value, name)]
    return []


def _with_part(value: Any, step: int | str, part: Any) -> Any:
    if isinstance(value, tuple):
        place = value._fields.index(step) if isinstance(step, str) else step % len(value)  # type: ignore[attr-defined]
        return _tuple(value, [*value[:place], part, *value[place + 1 :]])
    if isinstance(value, MappingProxyType):
        return MappingProxyType({**value, step: part})
    if isinstance(step, int) and isinstance(value, MutableMapping) and step not in value:
        step = list(value)[step]  # a ModelOutput also answers by position
    return _with_parts(value, {step: part})


def _with_parts(value: Any, parts: Mapping[Any, Any]) -> Any:
    """Returns a shallow copy of a value with some of its parts replaced."""
    try:
        new = copy.copy(value)
        for key, part in parts.items():
            if (isinstance(new, MutableMapping) and (key in new or not hasattr(new, str(key)))) or isinstance(key, int):
                new[key] = part
            else:
                object.__setattr__(new, key, part)
    except (TypeError, AttributeError, LookupError) as error:
        raise UncopyableError(type(value).__name__, f"cannot be rebuilt with another part ({error})") from error
    return new


def _tuple(value: tuple[Any, ...], parts: list[Any]) -> tuple[Any, ...]:
    if hasattr(value, "_make"):
        return value._make(parts)  # type: ignore[no-any-return]
    return type(value)(parts)


def _are_same(parts: Sequence[Any], others: Sequence[Any]) -> bool:
    return all(part is other for part, other in zip(parts, others, strict=True))


def _is_dataclass(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)
