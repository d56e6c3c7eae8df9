"""The names of operations, independent of how they are written."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

ATTRIBUTES: Final = {"__get__", "__set__", "__delete__"}
_SPELLINGS: Final = {"truediv": "div", "floordiv": "floor_divide", "pos": "positive", "invert": "bitwise_not"}
_REVERSIBLE: Final = {"add", "sub", "mul", "div", "truediv", "floordiv", "pow", "matmul", "mod", "and", "or", "xor"}


@lru_cache(maxsize=4096)
def operation_name(function: Callable[..., Any]) -> str:
    """Returns the name of an operation: `add` for `+`, `+=`, `torch.add` and `Tensor.add_`.

    Examples:
        >>> operation_name(torch.Tensor.__iadd__), operation_name(torch.nn.functional.relu)
        ('add', 'relu')
    """
    written = getattr(function, "__name__", "").partition(".")[0]  # an exported graph runs `add.Tensor`
    name = written.strip("_")
    if written.startswith("__") and name[:1] in ("i", "r") and name[1:] in _REVERSIBLE:
        name = name[1:]
    return _SPELLINGS.get(name, name)
