"""How a tensor is kept: copy-on-write where PyTorch can, a clone where it cannot.

`torch._lazy_clone` gives a tensor that shares memory until either side is
written to; only then is it copied. It is given only the tensors for which it is
known to be right.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, TypeAlias

import torch
from torch import Tensor, nn

from ._torch_private import HAS_COPY_ON_WRITE, in_function_transform, is_traced, lazy_clone

Copy: TypeAlias = Callable[[Tensor], Tensor]
ClonePolicy: TypeAlias = Literal["lazy"] | bool

_DEVICES: Final = frozenset({"cpu", "cuda"})


def copier(policy: ClonePolicy) -> Copy:
    """Returns the function that keeps a tensor under a policy: `"lazy"`, True (clone) or False (the tensor itself).

    Raises:
        ValueError: If the policy is none of these.
    """
    if policy is True:
        return torch.clone
    if policy is False:
        return _same
    if policy == "lazy":
        return lazy_copy if HAS_COPY_ON_WRITE and not _is_recorded() else torch.clone
    raise ValueError(f"clone must be 'lazy', True or False, not {policy!r}")


def lazy_copy(tensor: Tensor) -> Tensor:
    """Copies a tensor on write where that is known to be right, at once where it is not."""
    if not _can_share(tensor):
        return tensor.clone()
    try:
        return lazy_clone(tensor)
    except RuntimeError:  # memory of numpy, of other processes, mapped files
        return tensor.clone()


def _same(tensor: Tensor) -> Tensor:
    return tensor


def _is_recorded() -> bool:
    """Whether operations go into a graph, or through `torch.func`: there `clone` is the known operation."""
    return torch.compiler.is_compiling() or is_traced() or in_function_transform()


def _can_share(tensor: Tensor) -> bool:
    # Tried: quantized tensors crash the interpreter, conjugate views lose their conjugation.
    return (
        type(tensor) in (Tensor, nn.Parameter)
        and tensor.layout is torch.strided
        and tensor.device.type in _DEVICES
        and not (tensor.is_quantized or tensor.is_nested or tensor.is_conj() or tensor.is_neg())
    )
