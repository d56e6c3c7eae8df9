"""Weights and features that are sharded over processes: tensor parallelism and FSDP."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


def has_sharded_weights(model: nn.Module) -> bool:
    """Whether processes hold parts of the weights of a model, so that a forward pass needs all of them."""
    weights: list[Any] = [*model.parameters(), *model.buffers()]
    is_flat = any(type(module).__name__ == "FullyShardedDataParallel" for module in model.modules())  # FSDP1
    return is_flat or any(each.device_mesh.size() > 1 for each in weights if hasattr(each, "device_mesh"))


def whole_tensor(tensor: Tensor) -> Tensor:
    """Returns a tensor without sharding, which all processes gather at once; a tensor without parts as it is."""
    gather = getattr(tensor, "full_tensor", None)  # of a DTensor
    return tensor if gather is None else gather()


def original_type(module: nn.Module) -> type[nn.Module]:
    """Returns the type of a module before FSDP2 derived another one from it."""
    kinds = (kind for kind in type(module).__mro__ if not kind.__module__.startswith("torch.distributed."))
    found: type[nn.Module] = next(kinds)
    return found
