"""Explanations for error messages: the likely reason why a layer did not run."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ..address import Request, ancestors, has_forward


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
        if fused := _fused(model, path):
            return fused
    mode = "train" if model.training else "eval"
    return (
        f"Perhaps it runs only in {'eval' if model.training else 'train'} mode (this model is in {mode} mode) or under "
        "a condition. Hooks do not run for a layer that is called through `.forward()`, through its weights alone, or "
        "by a function that torch.compile compiled."
    )


def _fused(model: nn.Module, path: str) -> str | None:
    """Returns the switch that makes the modules around a layer call it, where one fused function runs them."""
    for outer in ancestors(path):
        module = model.get_submodule(outer)
        experts = getattr(getattr(module, "config", None), "_experts_implementation", None)
        if "Experts" in type(module).__name__ and experts not in (None, "eager"):
            return (
                f"{outer!r} runs all experts as one function ({experts!r}), which calls no module inside: call "
                'model.set_experts_implementation("eager") first.'
            )
        kernel = getattr(module, "kernel_layer_name", None)
        # An instance has a forward of its own where a kernel replaced that of its class.
        if kernel is not None and "forward" in vars(module):
            return f"{outer!r} runs as the kernel {kernel!r}, without modules inside: load with use_kernels=False."
    return None


def _holder(path: str, module: nn.Module) -> str:
    children = [name for name, _ in module.named_children()]
    first = f", such as {path + '.' + children[0]!r}" if children else ""
    return f"{path!r} is a {type(module).__name__}, a container that is never called itself. Name a layer in it{first}."
