"""What tells the features of one extraction from those of another."""

from __future__ import annotations

import hashlib
from os import PathLike, fspath
from typing import Any

import torch
from torch import nn

from .. import __version__
from .batches import without_addresses


def settings_of(
    name: str, recipe: Any, source: Any, data: Any, preprocess: Any, batch_size: int, shard_rows: int, threads: int
) -> dict[str, Any]:
    """Returns what a store says of its features."""
    layout = {} if recipe.layout is None else {"layout": described(recipe.layout)}
    return {
        **layout,
        "model": name,
        "weights": weights_hash(recipe.model),
        "layers": list(recipe.layers),
        "reduce": described(recipe.reduce),
        "dtype": described(recipe.dtype),
        "autocast": described(recipe.autocast),
        "mode": str(recipe.mode),
        "preprocess": described(preprocess),
        "batch_size": batch_size,
        "shard_rows": shard_rows,
        "threads": threads,
        "items": source.fingerprint,
        "data": fspath(data) if isinstance(data, (str, PathLike)) else type(data).__name__,
        "torch": torch.__version__,
        "torch_featurelayer": __version__,
    }


def weights_hash(model: nn.Module) -> str:
    """Returns the SHA-256 of a model's parameters and buffers, with their names."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        if isinstance(value, torch.Tensor):
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def described(value: Any) -> str | None:
    """Returns what something says of itself, without its place in memory."""
    return None if value is None else without_addresses(value if isinstance(value, str) else repr(value))
