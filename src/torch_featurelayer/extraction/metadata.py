"""The metadata of a store, which identify its features."""

from __future__ import annotations

import hashlib
from os import PathLike, fspath
from typing import Any

import torch
from torch import nn

from .. import __version__
from .batches import strip_addresses


def describe_extraction(
    name: str, spec: Any, source: Any, data: Any, preprocess: Any, batch_size: int, shard_size: int, num_threads: int
) -> dict[str, Any]:
    """Returns the metadata of an extraction."""
    layout = {} if spec.layout is None else {"layout": describe(spec.layout)}
    return {
        **layout,
        "model": name,
        "weights": hash_weights(spec.model),
        "layers": list(spec.layers),
        "reduce": describe(spec.reduce),
        "dtype": describe(spec.dtype),
        "autocast": describe(spec.autocast),
        "mode": str(spec.mode),
        "preprocess": describe(preprocess),
        "batch_size": batch_size,
        "shard_size": shard_size,
        "num_threads": num_threads,
        "items": source.fingerprint,
        "data": fspath(data) if isinstance(data, (str, PathLike)) else type(data).__name__,
        "torch": torch.__version__,
        "torch_featurelayer": __version__,
    }


def hash_weights(model: nn.Module) -> str:
    """Returns the SHA-256 of the parameters and buffers of a model, with their names."""
    digest = hashlib.sha256()
    # Sorted: the order of registration is not part of the identity.
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        if isinstance(value, torch.Tensor):
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def describe(value: Any) -> str | None:
    """Returns the `repr` of an object without memory addresses, or a string unchanged."""
    return None if value is None else strip_addresses(value if isinstance(value, str) else repr(value))
