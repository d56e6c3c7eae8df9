"""Walking what modules take and return, keeping its structure.

Known containers are tuples, named tuples (packed sequences among them), lists,
mappings (a Hugging Face `ModelOutput` among them) and dataclasses. PyTorch's own
pytree treats unregistered dataclasses and packed sequences as leaves, and a leaf
would be kept by reference: the silent error this package exists to prevent.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

Map: TypeAlias = Callable[[Any], Any]

_ATOMS = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, type, nn.Module)


def snapshot(value: Any, fn: Callable[[Tensor], Any]) -> Any:
    """Rebuilds a value with `fn` applied to its tensors; every container is new.

    Plain objects that hold tensors (a key/value cache, an image list) are
    rebuilt too, so that nothing in the result changes when the model goes on.
    """
    if isinstance(value, Tensor):
        return fn(value)
    seen: dict[int, Any] = {}

    def visit(part: Any) -> Any:
        if isinstance(part, Tensor):
            return fn(part)
        if isinstance(part, _ATOMS) or callable(part):
            return part
        if id(part) not in seen:
            seen[id(part)] = part  # a part that holds itself stays as it is
            seen[id(part)] = _rebuild(part, visit, objects=True)
        return seen[id(part)]

    return visit(value)


def substitute(value: Any, fn: Callable[[Tensor], Tensor]) -> Any:
    """Applies `fn` to the tensors in known containers; what does not change stays the same object."""

    def visit(part: Any) -> Any:
        return fn(part) if isinstance(part, Tensor) else _rebuild(part, visit, objects=False)

    return visit(value)


def tensors(value: Any) -> Iterator[Tensor]:
    """Yields the tensors in a value, in the order of its structure."""
    found: list[Tensor] = []
    snapshot(value, lambda tensor: found.append(tensor))
    yield from found


def select(value: Any, step: int | str) -> Any:
    """Goes one step into a structure: a position, a key, or an attribute.

    Raises:
        LookupError: There is no such part; the text says what there is.
    """
    if isinstance(value, Tensor):
        raise LookupError(  # noqa: TRY004 (an index that does not fit, whatever the value is)
            f"{describe(value)} has no parts to go into (slice the feature itself instead)"
        )
    try:
        if isinstance(step, int) or (isinstance(value, Mapping) and step in value):
            return value[step]
        return getattr(value, step)
    except (LookupError, TypeError, AttributeError):
        raise LookupError(f"{describe(value)} has no part {step!r}") from None


def replace_part(value: Any, steps: Sequence[int | str], fn: Map) -> Any:
    """Returns a value with one part replaced; containers on the way there are new, the rest is shared.

    Raises:
        LookupError: There is no such part.
    """
    if not steps:
        return fn(value)
    part = replace_part(select(value, steps[0]), steps[1:], fn)
    if isinstance(value, tuple):
        at = value._fields.index(steps[0]) if isinstance(steps[0], str) else steps[0] % len(value)  # type: ignore[attr-defined]
        parts = (*value[:at], part, *value[at + 1 :])
        return value._make(parts) if hasattr(value, "_make") else parts
    new = copy.copy(value)
    if isinstance(new, (list, MutableMapping)) and not (isinstance(new, list) and isinstance(steps[0], str)):
        new[steps[0]] = part  # type: ignore[index]
    else:
        object.__setattr__(new, str(steps[0]), part)
    return new


def describe(value: Any) -> str:
    """Says in a few words what a value is.

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
    """Writes the structure of a value, with the shapes of its tensors.

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
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = (f"{field.name}={outline(getattr(value, field.name))}" for field in dataclasses.fields(value))
        return f"{type(value).__name__}({', '.join(parts)})"
    return "None" if value is None else type(value).__name__


def _rebuild(value: Any, visit: Map, objects: bool) -> Any:
    if isinstance(value, tuple):
        return _rebuild_tuple(value, visit)
    if isinstance(value, list):
        return _filled(value, dict(enumerate(map(visit, value))), list.__setitem__, objects)
    if isinstance(value, MutableMapping):
        return _filled(value, {key: visit(part) for key, part in value.items()}, _set_item, objects)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value) if hasattr(value, field.name)]
        return _filled(value, {name: visit(getattr(value, name)) for name in names}, object.__setattr__, objects)
    if objects and hasattr(value, "__dict__"):
        return _filled(value, {name: visit(part) for name, part in vars(value).items()}, object.__setattr__, True)
    return value


def _rebuild_tuple(value: tuple[Any, ...], visit: Map) -> tuple[Any, ...]:
    parts = [visit(part) for part in value]
    if all(new is old for new, old in zip(parts, value, strict=True)):
        return value
    if hasattr(value, "_make"):
        return value._make(parts)  # type: ignore[no-any-return]
    return type(value)(parts)


def _filled(value: Any, parts: dict[Any, Any], put: Callable[[Any, Any, Any], None], fresh: bool = False) -> Any:
    """Returns a shallow copy with these parts, or the value itself where nothing changed."""
    old = _parts(value, parts)
    changed = {key: part for key, part in parts.items() if part is not old[key]}
    if not changed and not fresh:
        return value
    try:
        new = copy.copy(value)
    except TypeError:  # what cannot be copied, such as an open file, holds no tensors that a model would change
        return value
    for key, part in changed.items():
        put(new, key, part)
    return new


def _parts(value: Any, keys: dict[Any, Any]) -> Any:
    if isinstance(value, (list, MutableMapping)):
        return value
    return {key: getattr(value, key) for key in keys}


def _set_item(mapping: Any, key: Any, part: Any) -> None:
    mapping[key] = part
