"""Features of one more sample, extracted like those of a store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .._exceptions import StoreMismatchError
from ..models import LoadedModel
from ..store import Item, Store
from .batches import Batch
from .collating import make_collator
from .identity import describe_function, hash_weights
from .modes import EAGER, Mode
from .runner import FeatureRunner
from .spec import FeatureSpec


def extract_like(store: Store, loaded: LoadedModel, sample: Any) -> Mapping[str, Tensor]:
    """Extracts the features of a sample in the same way as those of a store.

    Args:
        store: The store. Its reduction must have a name.
        loaded: The model of the store.
        sample: An image or a text.

    Returns:
        The features by layer, each in the shape of a row of the store, on the CPU and without gradient.

    Raises:
        StoreMismatchError: If the model has other weights or another preprocessing.
    """
    metadata = store.metadata
    if differences := model_differences(loaded, metadata):
        raise StoreMismatchError(store.path, differences)
    spec = FeatureSpec(
        loaded.model,
        tuple(metadata["layers"]),
        metadata["reduce"],
        dtype=_dtype(metadata["dtype"]),
        autocast=_dtype(metadata["autocast"]),
        precision=_dtype(metadata.get("precision")),
        mode=EAGER if (mode := Mode.parse(metadata["mode"])).is_copy else mode,
    )
    collator = make_collator(
        loaded.model, loaded.preprocess, None, is_default=True, max_length=metadata.get("max_length")
    )
    groups, _ = collator.collate([0], [collator.prepare(sample)])
    (batch,) = collator.arrange([Batch([Item("")], groups)], 1)
    runner = FeatureRunner(spec)
    rows = runner(batch.groups[0].inputs)
    runner.check_overflow()
    return {name: feat[0].cpu() for name, feat in rows.features.items()}


def model_differences(loaded: LoadedModel, metadata: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Compares the weights and the preprocessing of a model with those of stored features.

    Returns:
        For each difference, the value in the metadata and that of the model; an empty dict if features agree.
    """
    now = {"weights": hash_weights(loaded.model), "preprocess": describe_function(loaded.preprocess, set())}
    return {name: (metadata.get(name), value) for name, value in now.items() if metadata.get(name) != value}


def _dtype(name: str | None) -> torch.dtype | None:
    found = None if name is None else getattr(torch, name.removeprefix("torch."))
    return found if isinstance(found, torch.dtype) else None
