"""Values of tensors that the Python code of a model reads, on which the number of calls may depend.

`while not halted.all()` and `if x.max() > 0` depend on values by an operation that returns a Python value, others by a
tensor whose shape is not known in advance. A forward pass that reads the values of an earlier one takes the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn

from .._pytree import tensors
from .call_selector import CallSelector
from .observer import Observer
from .operations import running_module

_PROTOCOLS: Final = ("array", "bool", "complex", "contains", "dlpack", "float", "format", "index", "int", "repr")
_READS: Final = frozenset(
    ["item", "tolist", "numpy", "is_nonzero", "equal", "allclose", *(f"__{name}__" for name in _PROTOCOLS)]
)
_SHAPES: Final = frozenset(
    ["nonzero", "argwhere", "unique", "unique_consecutive", "masked_select", "bincount", "_pack_padded_sequence"]
)
_LARGEST_ARRAY: Final = 1 << 20  # bytes


class Counted(NamedTuple):
    """The calls that a forward pass made, and the values on which they depended.

    Attributes:
        selectors: The selector of each request, with the number of calls.
        reads: The values that were read before the last call that is needed.
        is_open: Whether values were read after it that could have led to another call.
    """

    selectors: list[CallSelector]
    reads: tuple[Hashable, ...]
    is_open: bool


class ValueReads(Observer):
    """Notes the values that the modules of a model read from tensors.

    Args:
        model: The model.
        inside: The modules whose own code calls requested layers.
        expected: The values that an earlier forward pass read. Default: empty.
        on_change: A function that is called when another value is read. Default: None.
    """

    def __init__(
        self,
        model: nn.Module,
        inside: Iterable[nn.Module],
        expected: Sequence[Hashable] = (),
        on_change: Callable[[], None] | None = None,
    ) -> None:
        super().__init__()
        self._others = _without(model, set(map(id, inside)))
        self._expected, self._on_change = tuple(expected), on_change
        self._read: list[Hashable] = []
        self._before, self._is_open = 0, False

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        if torch.compiler.is_dynamo_compiling():  # compiled code has no control flow that depends on values
            return output
        name = getattr(func, "__name__", "")
        if name in _READS or _shape_depends(name, args):
            self._note(output)
        return output

    def _note(self, output: Any) -> None:
        """Takes note of a value that a module reads; hooks, such as ours, may read others."""
        module = running_module()
        if module is None:
            return
        self._is_open = self._is_open or id(module) not in self._others
        self._read.append(_key(output))
        number = len(self._read)
        if self._on_change is not None and (self._read[-1],) != self._expected[number - 1 : number]:
            self._on_change()
            self._on_change = None

    def mark(self) -> None:
        """Takes note that a call of a requested layer has been recorded: later reads may lead to another call."""
        self._before, self._is_open = len(self._read), False

    def close(self) -> None:
        """Calls nothing any more, and refers to no forward pass and its features."""
        self._on_change = None

    def counted(self, selectors: list[CallSelector]) -> Counted:
        """Returns the calls of a forward pass that ran to its end."""
        return Counted(selectors, tuple(self._read[: self._before]), self._is_open)


def _without(model: nn.Module, inside: set[int]) -> set[int]:
    """Returns the modules of a model, by `id`, that hold none of the given ones and are none of them."""
    found: dict[int, bool] = {}

    def holds(module: nn.Module) -> bool:
        if id(module) not in found:
            found[id(module)] = False  # a module may hold itself
            children = [holds(child) for child in module.children()]
            found[id(module)] = id(module) in inside or any(children)
        return found[id(module)]

    holds(model)
    return {key for key, does in found.items() if not does}


def _shape_depends(name: str, args: Sequence[Any]) -> bool:
    """Whether the shape of an operation's output depends on values, such as those of a mask."""
    if name == "where":
        return len(args) == 1
    if name == "repeat_interleave":
        return len(args) == 1 or isinstance(args[1], Tensor)
    if name != "__getitem__":
        return name in _SHAPES
    steps = args[1] if isinstance(args[1], tuple) else args[1:]
    return any(isinstance(step, Tensor) and step.dtype in (torch.bool, torch.uint8) and step.ndim for step in steps)


def _key(output: Any) -> Hashable:
    """Returns a key of a value that was read: of tensors, their shapes."""
    found = [tuple(tensor.shape) for tensor in tensors(output)]
    if found:
        return tuple(found)
    if hasattr(output, "tobytes"):  # an array
        return (output.shape, output.tobytes()) if output.nbytes <= _LARGEST_ARRAY else object()
    return hash(repr(output))  # of lists, too
