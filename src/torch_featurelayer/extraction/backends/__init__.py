"""Execution backends: this process, the processes that torchrun started, or Ray's actors."""

from __future__ import annotations

from torch import nn

from ..._sharded import has_sharded_weights
from .local import Backend, BackendName, LocalBackend

__all__ = ["Backend", "BackendName", "LocalBackend", "make_backend"]


def make_backend(name: str | None, num_actors: int | None, model: nn.Module) -> Backend:
    """Returns a backend by name.

    Args:
        name: None for this process, `"torchrun"` or `"ray"`.
        num_actors: The number of Ray's actors; None for as many as there is room for.
        model: The model, whose weights may be sharded over the processes that torchrun started.

    Raises:
        ValueError: If there is no backend of this name, torchrun did not start this process, or Ray's actors cannot
            have the model.
        MissingExtraError: If Ray is not installed.
    """
    if name is None:
        return LocalBackend()
    if name == "ray":
        if has_sharded_weights(model):
            raise ValueError("the weights of the model are sharded over processes of torchrun: backend='torchrun'")
        from .ray import RayBackend

        return RayBackend(num_actors)
    if name == "torchrun":
        if has_sharded_weights(model):
            from .sharded_model import ShardedModelBackend

            return ShardedModelBackend()
        from .torchrun import TorchrunBackend

        return TorchrunBackend()
    raise ValueError(f"no backend {name!r}: the backends are None (this process), 'torchrun' and 'ray'")
