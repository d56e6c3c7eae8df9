"""NaN and infinite values of tensors, and the range of the others."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from ..engine import in_function_transform

HALF: Final = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class BadValues:
    """The numbers of values of a tensor that are not finite.

    Attributes:
        nan: The number of NaN.
        positive: The number of positive infinite values.
        negative: The number of negative infinite values.
    """

    nan: int
    positive: int
    negative: int

    @property
    def count(self) -> int:
        """The number of values that are not finite."""
        return self.nan + self.positive + self.negative

    def __str__(self) -> str:
        kinds = {"NaN": self.nan, "inf": self.positive, "-inf": self.negative}
        return ", ".join(f"{number:,} {kind}" for kind, number in kinds.items() if number)


def is_finite(tensor: Tensor) -> bool:
    """Whether all values of a tensor are finite; waits for the device. True for tensors that cannot be read."""
    values = _values(tensor)
    if values is None:
        return True
    # A sum needs no memory, and NaN and infinite values remain in it; a finite sum may overflow, hence the second look.
    total = values.sum(dtype=torch.float32 if values.dtype in HALF else None)
    return math.isfinite(total.item()) or bool(values.isfinite().all())


def count_bad(tensor: Tensor) -> BadValues:
    """Counts the values of a tensor that are not finite."""
    values = _values(tensor)
    if values is None:
        return BadValues(0, 0, 0)
    nan, positive, negative = (int(each.sum()) for each in (values.isnan(), values.isposinf(), values.isneginf()))
    return BadValues(nan, positive, negative)


def find_range(tensors: Iterable[Tensor]) -> tuple[float, float] | None:
    """Returns the smallest and the largest finite value of tensors; None if there is none."""
    found = [values[values.isfinite()] for tensor in tensors if (values := _values(tensor)) is not None]
    found = [values.float() for values in found if values.numel()]
    if not found:
        return None
    return min(float(values.min()) for values in found), max(float(values.max()) for values in found)


def _values(tensor: Tensor) -> Tensor | None:
    """Returns the real values of a tensor; None for integers and for tensors whose values cannot be read here."""
    if not (tensor.is_floating_point() or tensor.is_complex()) or in_function_transform() or _is_capturing(tensor):
        return None
    value: Any = tensor.detach()
    if hasattr(value, "to_local"):  # a DTensor
        value = value.to_local()
    if value.layout is torch.sparse_coo:
        value = value._values()
    elif value.layout is not torch.strided:
        value = value.values()
    if value.device.type == "meta" or type(value).__name__ == "FakeTensor" or not value.numel():
        return None
    if value.is_complex():
        value = torch.view_as_real(value.resolve_conj())
    return value.float() if value.dtype.itemsize == 1 else value  # type: ignore[no-any-return]


def _is_capturing(tensor: Tensor) -> bool:
    """Whether a CUDA graph is captured, in which no value can be read."""
    return tensor.is_cuda and torch.cuda.is_current_stream_capturing()
