"""Where `torch.compile` meets a capture that was not compiled with the model.

Compiled code that has run once ignores hooks added later (pytorch#117758), so
a capture inside it runs that model without its compiled code, and says so. And
a wrapper called inside somebody's compiled code runs as plain Python.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch
from torch import nn

from .._errors import CompileError
from ._torch_private import dynamo_watches, is_compiled

Result = TypeVar("Result")


def run_outside_dynamo(function: Callable[[], Result]) -> Result:
    """Calls a function as plain Python, where the caller is being compiled.

    Raises:
        CompileError: The caller is being traced; Dynamo then goes on without
            tracing, or with `fullgraph=True` passes the error to the user.
    """
    if torch.compiler.is_dynamo_compiling():
        raise CompileError("call .compile() on the wrapper, in place of torch.compile(wrapper)")
    if "torch._dynamo" not in sys.modules or not dynamo_watches():
        return function()
    # Only where needed: it makes every Python call of the model slower.
    eager: Callable[[], Result] = torch.compiler.disable(function)  # type: ignore[no-untyped-call]
    return eager()


def force_eager(modules: Iterable[nn.Module]) -> AbstractContextManager[object]:
    """Returns a context in which compiled code of these modules runs as plain Python."""
    if "torch._dynamo" not in sys.modules or not any(map(is_compiled, modules)):
        return nullcontext()
    if not hasattr(torch.compiler, "set_stance"):
        raise CompileError(
            "this PyTorch cannot run a compiled model eagerly, and compiled code ignores hooks: capture from the model "
            "before torch.compile, or use PyTorch 2.6 or newer"
        )
    warnings.warn(
        "a layer inside a compiled model is captured: this run does not use the compiled code, since that "
        "ignores hooks. To capture at compiled speed, wrap the model before compiling and call "
        "FeatureLayer(model, ...).compile().",
        UserWarning,
        stacklevel=2,
    )
    stance: AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
    return stance
