"""Models that `torch.compile` has been at before capture.

Compiled code that has run once ignores hooks added later (pytorch#117758), so
a capture inside it runs that model without its compiled code, and says so.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from ..address import Request, ancestors


def force_eager(model: nn.Module, requests: Sequence[Request]) -> AbstractContextManager[object]:
    """Returns a context in which compiled code around the requests runs as plain Python."""
    if not any(map(_is_compiled, _around(model, requests))):
        return nullcontext()
    warnings.warn(
        "a layer inside a compiled model is captured: this run does not use the compiled code, since that "
        "ignores hooks. To capture at compiled speed, wrap the model before compiling and call "
        "FeatureLayer(model, ...).compile().",
        UserWarning,
        stacklevel=2,
    )
    return torch.compiler.set_stance("force_eager")


def _around(model: nn.Module, requests: Sequence[Request]) -> Iterable[nn.Module]:
    """Yields the modules that run around or as what is asked for, the model first."""
    paths = {outer for request in requests for outer in (*ancestors(request.address.path), request.address.path)}
    return (model.get_submodule(path) for path in {"": None, **dict.fromkeys(paths)})


def _is_compiled(module: nn.Module) -> bool:
    return (
        "_orig_mod" in module._modules  # torch.compile(module)
        or getattr(module, "_compiled_call_impl", None) is not None  # module.compile()
        or hasattr(module.forward, "_torchdynamo_orig_callable")  # a compiled forward
    )
