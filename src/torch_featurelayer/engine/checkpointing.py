"""Activation checkpointing: hooks that run again when `torch.utils.checkpoint` recomputes a region.

The recomputation happens in `backward()`, often after our hooks were removed. While a region runs, the function that
will recompute it is therefore wrapped: it installs the hooks again, which then record nothing new.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

import torch

from ._torch_private import checkpointed_functions

Replay: TypeAlias = Callable[[], AbstractContextManager[object]]


class Recomputed:
    """The function of a checkpointed region, run with hooks.

    Args:
        function: The function, as PyTorch keeps it.
        owner: Identifies the capture or edit, which wraps a function once.
        replay: Returns the context in which the function runs.
    """

    def __init__(self, function: Callable[..., Any], owner: object, replay: Replay) -> None:
        self._function, self._owner, self._replay = function, owner, replay

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Recomputes the region."""
        with self._replay():
            return self._function(*args, **kwargs)

    @classmethod
    def wraps(cls, function: Any, owner: object) -> bool:
        """Whether a function is already wrapped for an owner."""
        while isinstance(function, cls):
            if function._owner is owner:
                return True
            function = function._function
        return False


def may_be_recomputed() -> bool:
    """Whether a forward pass that begins now may be recomputed: with gradients, or inside a reentrant region."""
    return torch.is_grad_enabled() or next(checkpointed_functions(sys._getframe(1)), None) is not None


def wrap_checkpoints(owner: object, replay: Callable[[], Replay]) -> bool:
    """Wraps the functions of the checkpointed regions that are running.

    Args:
        owner: Identifies the capture or edit, which wraps a function once.
        replay: Returns the function that makes the context of a region, from the state at its beginning.

    Returns:
        Whether any region is running.
    """
    found = False
    for region, name in checkpointed_functions(sys._getframe(1)):
        found = True
        function = getattr(region, name)
        # Every hook inside a region comes here; the function is wrapped by the first one.
        if not Recomputed.wraps(function, owner):
            setattr(region, name, Recomputed(function, owner, replay()))
    return found
