"""Captures that meet `torch.compile` without being compiled themselves.

Compiled code that has run once ignores hooks that are registered later (pytorch#117758). A capture of layers inside
such code therefore runs the model eagerly, with a warning. A wrapper that is called by compiled code runs as plain
Python.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar

import torch

from .._exceptions import CompileError
from ._torch_private import dynamo_watches

Result = TypeVar("Result")


def run_outside_dynamo(function: Callable[[], Result]) -> Result:
    """Calls a function as plain Python, in a thread whose frames Dynamo compiles.

    Raises:
        CompileError: If the caller is being traced. Dynamo then continues without tracing it, or with
            `fullgraph=True` passes the error to the user.
    """
    if torch.compiler.is_dynamo_compiling():
        raise CompileError("call .compile() on the wrapper, in place of torch.compile(wrapper)")
    if not dynamo_watches():
        return function()
    # Only where it is needed: it makes every Python call of the model slower (benchmarks.overhead).
    eager: Callable[[], Result] = torch.compiler.disable(function)  # type: ignore[no-untyped-call]
    return eager()


def force_eager(purpose: str | None = "captured") -> AbstractContextManager[object]:
    """Returns a context in which compiled code runs as plain Python, and warns about it.

    Args:
        purpose: What is done with a layer, for the warning. Default: `"captured"`, which can be compiled too. None for
            no warning.

    Raises:
        CompileError: If this PyTorch cannot run compiled code eagerly.
    """
    if not hasattr(torch.compiler, "set_stance"):
        raise CompileError(
            "this PyTorch cannot run a compiled model eagerly, and compiled code ignores hooks. Capture from the model "
            "before torch.compile, or use PyTorch 2.6 or newer"
        )
    advice = (
        " To capture at compiled speed, wrap the model before compiling it and call FeatureLayer(model, ...).compile()."
        if purpose == "captured"
        else ""
    )
    if purpose is None:
        return _eager_stance()
    warnings.warn(
        f"a layer inside a compiled model is {purpose}, and compiled code ignores hooks: this call runs the model "
        f"eagerly.{advice}",
        UserWarning,
        stacklevel=2,
    )
    return _eager_stance()


def _eager_stance() -> AbstractContextManager[object]:
    stance: AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
    return stance
