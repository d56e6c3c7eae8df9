"""Activation checkpointing: hooks must run again where `torch.utils.checkpoint` computes a region again.

The recomputation happens in `backward()`, often after our hooks were removed. So
while a region runs, the function that will compute it again is wrapped: hooks
come back for the length of the recomputation, and record nothing new.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

import torch

from ._torch_private import checkpointed_functions, may_be_checkpointed

Replay: TypeAlias = Callable[[], AbstractContextManager[object]]


class Recomputed:
    """A function of a checkpointed region that runs with hooks.

    Args:
        function: The function, as PyTorch keeps it.
        owner: Identifies the capture or edit, which wraps a function once.
        replay: Makes the context in which the function runs.
    """

    def __init__(self, function: Callable[..., Any], owner: object, replay: Replay) -> None:
        self._function, self._owner, self._replay = function, owner, replay

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Computes the region again."""
        with self._replay():
            return self._function(*args, **kwargs)

    @classmethod
    def wraps(cls, function: Any, owner: object) -> bool:
        """Whether a function was already wrapped for an owner."""
        while isinstance(function, cls):
            if function._owner is owner:
                return True
            function = function._function
        return False


def may_be_recomputed() -> bool:
    """Whether a forward pass that begins now may be computed again: with gradients, or in a reentrant region."""
    return torch.is_grad_enabled() or any(True for _ in checkpointed_functions(sys._getframe(1)))


def wrap_checkpoints(owner: object, replay: Callable[[], Replay]) -> bool:
    """Wraps the functions of the checkpointed regions that are running.

    Args:
        owner: Identifies the capture or edit.
        replay: Returns the context maker for a region, from the state at its beginning.

    Returns:
        Whether any region is running.
    """
    if not may_be_checkpointed():
        return False
    found = False
    for region, name in checkpointed_functions(sys._getframe(1)):
        found = True
        function = getattr(region, name)
        if not Recomputed.wraps(function, owner):
            setattr(region, name, Recomputed(function, owner, replay()))
    return found
