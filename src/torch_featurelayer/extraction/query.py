"""One more sample, in the way of a store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .._exceptions import StoreMismatchError
from ..models import LoadedModel
from ..store import Store
from .runner import Recipe, Runner
from .settings import described, weights_hash


def features_like(store: Store, loaded: LoadedModel, sample: Any) -> Mapping[str, Tensor]:
    """Returns the features of a sample, made as those of a store were.

    Args:
        store: The store, whose reduction has a name.
        loaded: The model it is from.
        sample: An image or a text.

    Returns:
        `[...]` by layer, as the store's rows are.

    Raises:
        StoreMismatchError: The model has other weights, or prepares its input otherwise.
    """
    meta = store.meta
    here = {"weights": weights_hash(loaded.model), "preprocess": described(loaded.preprocess)}
    if differ := {name: (meta[name], value) for name, value in here.items() if meta[name] != value}:
        raise StoreMismatchError(store.path, differ)
    recipe = Recipe(
        loaded.model,
        tuple(meta["layers"]),
        meta["reduce"],
        dtype=_dtype(meta["dtype"]),
        autocast=_dtype(meta["autocast"]),
    )
    (made,) = Runner(recipe)(loaded.preprocess(sample))
    return {name: feat[0] for name, feat in made.items()}


def _dtype(name: str | None) -> torch.dtype | None:
    found = None if name is None else getattr(torch, name.removeprefix("torch."))
    return found if isinstance(found, torch.dtype) else None
