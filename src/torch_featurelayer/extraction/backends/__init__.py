"""Execution backends: this process, the processes that torchrun started, or Ray's actors."""

from __future__ import annotations

from .local import Backend, BackendName, LocalBackend

__all__ = ["Backend", "BackendName", "LocalBackend", "make_backend"]


def make_backend(name: str | None, num_actors: int | None) -> Backend:
    """Returns a backend by name.

    Args:
        name: None for this process, `"torchrun"` or `"ray"`.
        num_actors: The number of Ray's actors; None for as many as there is room for.

    Raises:
        ValueError: If there is no backend of this name, or torchrun did not start this process.
        MissingExtraError: If Ray is not installed.
    """
    if name is None:
        return LocalBackend()
    if name == "ray":
        from .ray import RayBackend

        return RayBackend(num_actors)
    if name == "torchrun":
        from .torchrun import TorchrunBackend

        return TorchrunBackend()
    raise ValueError(f"no backend {name!r}: the backends are None (this process), 'torchrun' and 'ray'")
