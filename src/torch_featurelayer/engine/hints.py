"""Why a layer that exists was not called: the likely cause, for the error."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ..address import Request, has_forward


def why_not_run(model: nn.Module, missing: Sequence[Request]) -> str:
    """Returns a sentence on the first request whose cause is known, else on all."""
    for request in missing:
        path = request.address.path
        module = model.get_submodule(path)
        if not has_forward(module):
            return _holder(path, module)
        parent = model.get_submodule(path.rpartition(".")[0]) if path else None
        if isinstance(parent, nn.MultiheadAttention):
            return "nn.MultiheadAttention uses this layer's weights without calling it: capture the attention itself."
    mode = "train" if model.training else "eval"
    return (
        f"It may be used only in {'eval' if model.training else 'train'} mode (this model is in {mode} mode), "
        "behind a condition, through `.forward()` or through its weights alone: no hook sees those."
    )


def _holder(path: str, module: nn.Module) -> str:
    children = [name for name, _ in module.named_children()]
    first = f", such as {path + '.' + children[0]!r}" if children else ""
    return (
        f"{path!r} is a {type(module).__name__}: it holds layers and is never called itself. Name one of them{first}."
    )
