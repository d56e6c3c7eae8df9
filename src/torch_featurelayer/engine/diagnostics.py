"""Why what was asked for did not run: the likely cause, for the error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from .._errors import AmbiguousOperationError, OperationNotFoundError
from ..address import Request, has_forward


def explain_missing_call(model: nn.Module, missing: Sequence[Request], *, ran_elsewhere: bool = False) -> str:
    """Returns the likely cause why layers did not run, as a sentence for an error.

    Args:
        model: The model.
        missing: The requests whose layers did not run.
        ran_elsewhere: Whether hooks of ours ran in another thread or asyncio task.
    """
    if ran_elsewhere:
        return (
            "A layer of this request ran in another thread or asyncio task: only calls of the one that opened the "
            "capture are seen. Open the capture there, or call the layers in this one."
        )
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
        "behind a condition, in a function that torch.compile compiled, through `.forward()` or through its weights "
        "alone: no hook sees those."
    )


def check_operation(request: Request, ran: bool, counts: Mapping[str, int]) -> None:
    """Refuses an operation that did not run in its module, or whose number is not said though several ran.

    Args:
        request: What was asked for.
        ran: Whether it was seen.
        counts: How often each operation ran in one call of the module.

    Raises:
        OperationNotFoundError, AmbiguousOperationError: What they say.
    """
    operation, number = request.address.operation or "", request.address.number
    count = counts.get(operation, 0)
    if not ran and count <= (number or 0):
        raise OperationNotFoundError(request.name, operation, counts)
    if number is None and count > 1:
        raise AmbiguousOperationError(request.name, operation, count)


def _holder(path: str, module: nn.Module) -> str:
    children = [name for name, _ in module.named_children()]
    first = f", such as {path + '.' + children[0]!r}" if children else ""
    return (
        f"{path!r} is a {type(module).__name__}: it holds layers and is never called itself. Name one of them{first}."
    )
