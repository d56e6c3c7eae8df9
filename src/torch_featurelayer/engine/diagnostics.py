"""Explanations for error messages: the likely reason why a layer did not run."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ..address import Request, has_forward


def explain_missing_call(model: nn.Module, missing: Sequence[Request], *, ran_elsewhere: bool = False) -> str:
    """Returns the likely reason why layers did not run, as a sentence for an error message.

    Args:
        model: The model.
        missing: The requests whose layers did not run.
        ran_elsewhere: Whether hooks ran for calls in another thread or asyncio task. Default: False.
    """
    if ran_elsewhere:
        return (
            "A layer of this request ran in another thread or asyncio task, and a capture records only calls of the "
            "thread and task that opened it. Open the capture there, or call the layers here."
        )
    for request in missing:
        path = request.address.path
        module = model.get_submodule(path)
        if not has_forward(module):
            return _holder(path, module)
        parent = model.get_submodule(path.rpartition(".")[0]) if path else None
        if isinstance(parent, nn.MultiheadAttention):
            return (
                "nn.MultiheadAttention uses the weights of this layer without calling it: capture the attention itself."
            )
    mode = "train" if model.training else "eval"
    return (
        f"Perhaps it runs only in {'eval' if model.training else 'train'} mode (this model is in {mode} mode) or under "
        "a condition. Hooks do not run for a layer that is called through `.forward()`, through its weights alone, or "
        "by a function that torch.compile compiled."
    )


def _holder(path: str, module: nn.Module) -> str:
    children = [name for name, _ in module.named_children()]
    first = f", such as {path + '.' + children[0]!r}" if children else ""
    return f"{path!r} is a {type(module).__name__}, a container that is never called itself. Name a layer in it{first}."
