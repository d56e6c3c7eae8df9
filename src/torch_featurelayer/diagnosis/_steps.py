"""Operations and modules whose outputs are read, and what can be said about a bad output."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn

from ._values import HALF, count_bad, is_finite

_LIBRARIES: Final = ("torch", "torch_featurelayer", "contextlib")
# They write what they are given: bad values in their output that they were not given were there before.
_WRITES: Final = frozenset(
    [
        "setitem", "copy", "fill", "zero", "masked_fill", "masked_scatter", "scatter", "index_copy", "index_put",
        "index_fill",
    ]
)  # fmt: skip
_UNINITIALIZED: Final = ("empty", "new_empty", "resize")


@dataclass
class Running:
    """A module that is running.

    Attributes:
        module: The module; None for code outside the model.
        name: Its address.
        call: The number of its call in the forward pass.
        operations: The number of times that each operation ran in this call.
    """

    module: nn.Module | None = None
    name: str = ""
    call: int = 0
    operations: Counter[str] = field(default_factory=Counter)

    @property
    def is_one_layer(self) -> bool:
        """Whether it is a layer of PyTorch, whose operations have no names of their own for a user."""
        module = self.module
        return module is not None and not module._modules and type(module).__module__.startswith("torch.nn.")

    def address(self, operation: str) -> str:
        """Returns the address of an operation that runs in it: its own, for a layer of PyTorch."""
        call = f"@{self.call}" if self.call else ""
        if self.is_one_layer or not operation:
            return f"{self.name}{call}"
        number = self.operations[operation] - 1
        return f"{self.name}{call}:{operation}{f'.{number}' if number > 0 else ''}"


class Step(NamedTuple):
    """An operation or a module whose output is read.

    Attributes:
        name: The name of the operation; empty for a module.
        running: The module, or the module that the operation runs in.
        inputs: The tensors that it received, and the parameters of a module.
        call: Computes the output again from other arguments; None if it cannot be.
        arguments: The arguments of the operation.
    """

    name: str
    running: Running
    inputs: list[Tensor]
    call: Callable[..., Any] | None = None
    arguments: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})

    def may_be_intended(self, output: Tensor) -> bool:
        """Whether bad values in an output are no fault: written, uninitialized, or made from an infinite number."""
        args, kwargs = self.arguments
        is_written = self.name in _WRITES and all(is_finite(each) for each in self.inputs if each is not output)
        is_made_of_nothing = not self.inputs or self.name.startswith(_UNINITIALIZED)
        return is_written or is_made_of_nothing or any(map(_is_infinite_number, [*args, *kwargs.values()]))


def _is_infinite_number(value: Any) -> bool:
    """Whether an argument is a number that is not finite: what an operation makes of it is intended."""
    return isinstance(value, float) and not math.isfinite(value)


def describe_overflow(step: Step, output: Tensor) -> str:
    """Returns how large the values of an operation in 16 bits are, computed again in float32."""
    name, limit = str(output.dtype).removeprefix("torch."), torch.finfo(output.dtype).max
    largest = ""
    # Not in place, which would change the arguments again; an operation that refuses float32 is not described.
    with suppress(Exception):
        if step.call is not None and not getattr(step.call, "__name__", "_").endswith("_"):
            args, kwargs = step.arguments
            wide = step.call(*map(_widen, args), **{key: _widen(value) for key, value in kwargs.items()})
            size = float(wide.abs().max())
            largest = f": in float32 the values reach {size:,.6g}" if limit < size < math.inf else ""
    if count_bad(output).nan and not largest:
        return ""
    return f"overflow of {name}, whose largest value is {limit:,.6g}{largest}"


def _widen(value: Any) -> Any:
    if isinstance(value, torch.dtype):
        return torch.float32 if value in HALF else value
    return value.float() if isinstance(value, Tensor) and value.dtype in HALF else value


def find_place() -> tuple[CodeType, int] | None:
    """Returns the code and the line that called the running operation, outside PyTorch and this package."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__", "").partition(".")[0] not in _LIBRARIES:
            return frame.f_code, frame.f_lineno
        frame = frame.f_back
    return None


def locate(place: tuple[CodeType, int] | None) -> str:
    return f"{place[0].co_filename}:{place[1]}" if place else ""


def is_on_device(tensor: Tensor) -> bool:
    """Whether reading a tensor waits for a device."""
    return tensor.device.type != "cpu"
