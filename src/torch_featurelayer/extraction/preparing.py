"""What every pass over a dataset begins with: a model, a source of items, and the layers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import nn

from .._checks import check_counts, check_device, check_dtype
from .._device import input_device
from .._feature_layer import FeatureLayers
from .._sharded import original_type
from ..address import Selector, check_model
from ..models import LoadedModel, Preprocess
from .collating import Collate, Prepare, make_collator
from .reading import choose_workers
from .sources import Columns, IterableSource, MapSource, make_source
from .spec import enclosing_autocast


class Prepared(NamedTuple):
    """A model and a dataset, ready for a pass.

    Attributes:
        model: The model, on its device.
        title: The name of the model.
        layers: The addresses of the layers.
        source: The items.
        batch_size: The number of items in a batch.
        num_workers: The number of worker processes that read items.
        preprocess: The function that the items depend on: the preprocessing, or the one that collates samples.
        autocast: The dtype that layers compute in; None for no autocast.
    """

    model: nn.Module
    title: str
    layers: tuple[str, ...]
    source: MapSource | IterableSource
    batch_size: int
    num_workers: int
    preprocess: Any
    autocast: torch.dtype | None


def prepare(
    model: nn.Module | LoadedModel,
    layers: Selector | Iterable[Selector],
    data: Any,
    *,
    preprocess: Prepare | None,
    collate_fn: Collate | None,
    column: str | None,
    columns: Columns,
    max_length: int | None,
    device: torch.device | str | None,
    batch_size: int | None,
    num_workers: int | None,
    autocast: torch.dtype | None,
) -> Prepared:
    """Prepares a pass over a dataset; the arguments are those of `extract`.

    Without `autocast`, that of an enclosing `torch.autocast` is used, so that it is part of the specification.

    Raises:
        DatasetError: If `data` is not a dataset.
        NotAModuleError: If the model is not an `nn.Module`.
        EmptyDatasetError: If the dataset has no items.
        LayerNotFoundError: If the model has no such layer.
        TypeError: If an option is of another type.
        ValueError: If a number is too small, or a device or dtype not possible.
    """
    check_counts(batch_size=batch_size, max_length=max_length)
    check_counts(0, num_workers=num_workers)
    check_device(device)
    check_dtype(autocast, "autocast")
    loaded = model if isinstance(model, LoadedModel) else None
    network = check_model(loaded.model if loaded else model)
    function = (loaded.preprocess if loaded else Preprocess()) if preprocess is None else preprocess
    collator = make_collator(network, function, collate_fn, is_default=preprocess is None, max_length=max_length)
    source = make_source(data, collator, column, columns)
    # Resolved before anything is read: a misspelled layer is an error at once.
    names = FeatureLayers(network, layers).names
    network = network.to(device) if device else network
    size = int(batch_size or getattr(data, "batch_size", None) or 16)
    target = input_device(network)
    workers = choose_workers(source, size, target) if num_workers is None else int(num_workers)
    title = loaded.name if loaded else original_type(network).__name__
    return Prepared(
        network,
        title,
        names,
        source,
        size,
        workers,
        getattr(source.collator, "functions", function),
        autocast or enclosing_autocast(target),
    )
