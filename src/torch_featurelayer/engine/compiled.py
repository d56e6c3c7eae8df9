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
from typing import Final, TypeVar

import torch
from torch import nn

from .._errors import CompileError

Result = TypeVar("Result")


def _probe() -> Callable[[], object]:
    """Returns what tells whether Dynamo looks at the frames of this thread; a private function may go."""
    try:
        return torch._C._dynamo.eval_frame.get_eval_frame_callback
    except AttributeError:
        return lambda: True


_callback: Final = _probe()


def outside_compiler(function: Callable[[], Result]) -> Result:
    """Calls a function as plain Python, where the caller is being compiled.

    Raises:
        CompileError: The caller is being traced; Dynamo then goes on without
            tracing, or with `fullgraph=True` passes the error to the user.
    """
    if torch.compiler.is_compiling():
        raise CompileError("call .compile() on the wrapper, in place of torch.compile(wrapper)")
    if "torch._dynamo" not in sys.modules or _callback() is None:
        return function()
    # Only where needed: it makes every Python call of the model slower.
    eager: Callable[[], Result] = torch.compiler.disable(function)  # type: ignore[no-untyped-call]
    return eager()


def force_eager(modules: Iterable[nn.Module]) -> AbstractContextManager[object]:
    """Returns a context in which compiled code of these modules runs as plain Python."""
    if "torch._dynamo" not in sys.modules or not any(map(_is_compiled, modules)):
        return nullcontext()
    warnings.warn(
        "a layer inside a compiled model is captured: this run does not use the compiled code, since that "
        "ignores hooks. To capture at compiled speed, wrap the model before compiling and call "
        "FeatureLayer(model, ...).compile().",
        UserWarning,
        stacklevel=2,
    )
    stance: AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
    return stance


def _is_compiled(module: nn.Module) -> bool:
    return (
        "_orig_mod" in module._modules  # torch.compile(module)
        or getattr(module, "_compiled_call_impl", None) is not None  # module.compile()
        or hasattr(module.forward, "_torchdynamo_orig_callable")  # a compiled forward
    )
