"""How a tensor is kept: copy-on-write where PyTorch can, a clone where it cannot.

`torch._lazy_clone` gives a tensor that shares memory until either side is
written to; only then is it copied. It is a private function, so it is probed
once, given only the tensors it is right for, and `clone()` stands behind it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, TypeAlias

import torch
from torch import Tensor, nn

Copy: TypeAlias = Callable[[Tensor], Tensor]
ClonePolicy: TypeAlias = Literal["lazy"] | bool

_DEVICES: Final = frozenset({"cpu", "cuda"})


def _probe() -> bool:
    """Tells whether copy-on-write is there and holds in both directions."""
    try:
        source = torch.zeros(2, device="cpu")
        first, second = torch._lazy_clone(source), torch._lazy_clone(source)
        source.add_(1)
        second.add_(2)
        return (source.tolist(), first.tolist(), second.tolist()) == ([1, 1], [0, 0], [2, 2])
    except Exception:  # noqa: BLE001 # a private function may go or change in any way: then clone()
        return False


HAS_COPY_ON_WRITE: Final = _probe()


def copier(policy: ClonePolicy) -> Copy:
    """Returns how tensors are kept under a policy: `"lazy"`, True (clone) or False (the tensor itself).

    Raises:
        ValueError: The policy is none of these.
    """
    if policy is True:
        return torch.clone
    if policy is False:
        return _same
    if policy == "lazy":
        return lazy_copy if HAS_COPY_ON_WRITE and not _in_transform() else torch.clone
    raise ValueError(f"clone must be 'lazy', True or False, not {policy!r}")


def lazy_copy(tensor: Tensor) -> Tensor:
    """Copies a tensor on write where that is known to be right, at once where it is not."""
    if not _can_share(tensor):
        return tensor.clone()
    try:
        return torch._lazy_clone(tensor)
    except RuntimeError:  # memory of numpy, of other processes, mapped files
        return tensor.clone()


def _same(tensor: Tensor) -> Tensor:
    return tensor


def _in_transform() -> bool:
    """Whether `torch.func` is at work, or a graph is being traced: there `clone` is the known operation."""
    return torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()


def _can_share(tensor: Tensor) -> bool:
    # Tried: quantized tensors crash the interpreter, conjugate views lose their conjugation.
    return (
        type(tensor) in (Tensor, nn.Parameter)
        and tensor.layout is torch.strided
        and tensor.device.type in _DEVICES
        and not (tensor.is_quantized or tensor.is_nested or tensor.is_conj() or tensor.is_neg())
    )
