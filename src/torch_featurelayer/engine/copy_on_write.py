"""How tensors are kept: copy-on-write where PyTorch supports it, a clone elsewhere.

`torch._lazy_clone` returns a tensor that shares memory with its source until one of the two is written to, and only
then copies. It is used only for kinds of tensors for which it is known to be correct.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, TypeAlias

import torch
from torch import Tensor, nn

from ._torch_private import HAS_COPY_ON_WRITE, in_function_transform, lazy_clone, tracing_state

Copy: TypeAlias = Callable[[Tensor], Tensor]
ClonePolicy: TypeAlias = Literal["lazy"] | bool

_DEVICES: Final = frozenset({"cpu", "cuda"})


def copier(policy: ClonePolicy) -> Copy:
    """Returns the function that copies tensors under a policy: `"lazy"`, True (clone) or False (no copy).

    Raises:
        ValueError: If the policy is none of these.
    """
    if policy is True:
        return torch.clone
    if policy is False:
        return _same
    if policy != "lazy":
        raise ValueError(f"clone must be 'lazy', True or False, not {policy!r}")
    # A graph that is recorded, by torch.compile, torch.jit.trace or torch.func, must contain the public operation.
    is_recorded = torch.compiler.is_compiling() or tracing_state() is not None or in_function_transform()
    return lazy_copy if HAS_COPY_ON_WRITE and not is_recorded else torch.clone


def lazy_copy(tensor: Tensor) -> Tensor:
    """Copies a tensor on write where that is known to be correct, and at once elsewhere."""
    # Found by trying: quantized tensors crash the interpreter, and conjugate views lose their conjugation.
    can_share = (
        type(tensor) in (Tensor, nn.Parameter)
        and tensor.layout is torch.strided
        and tensor.device.type in _DEVICES
        and not (tensor.is_quantized or tensor.is_nested or tensor.is_conj() or tensor.is_neg())
    )
    if not can_share:
        return tensor.clone()
    try:
        return lazy_clone(tensor)
    except RuntimeError:  # memory of NumPy arrays, of other processes and of mapped files
        return tensor.clone()


def _same(tensor: Tensor) -> Tensor:
    return tensor
