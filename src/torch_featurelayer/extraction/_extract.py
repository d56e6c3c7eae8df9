"""`tl.extract`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from os import PathLike, fspath
from typing import Any

import torch
from torch import nn

from .._exceptions import StoreMismatchError
from .._feature_layer import FeatureLayers
from .._reduce import Reduction
from ..address import Selector
from ..models import LoadedModel, Preprocess
from ..store import Store, StoreWriter, open_store, store_settings
from .batches import over
from .engines import Engine, EngineName, engine_of
from .fastest import first_inputs, with_mode
from .job import Job, using_threads
from .progress import Progress, Tally
from .reading import read_stream
from .runner import Recipe
from .settings import settings_of
from .sources import Items, Prepare, Stream, source_of


def extract(
    model: nn.Module | LoadedModel,
    layers: Selector | Iterable[Selector],
    data: Any,
    out: str | PathLike[str],
    *,
    preprocess: Prepare | None = None,
    column: str | None = None,
    reduce: Reduction | None = None,
    layout: str | Mapping[str, str] | None = None,
    dtype: torch.dtype | None = torch.float16,
    device: torch.device | str | None = None,
    autocast: torch.dtype | None = None,
    fast: bool = False,
    batch_size: int = 16,
    workers: int = 0,
    threads: int | None = None,
    shard_rows: int = 1024,
    engine: EngineName | None = None,
    actors: int | None = None,
    strict: bool = False,
    retry_errors: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> Store:
    """Writes the features of a dataset to a store; the same call continues one that was interrupted.

    The model runs in eval mode, without gradients, and stops after the last layer needed. A shard is written while
    the model runs on the next. Batches are the same whatever was finished before, so the store is byte for byte what
    an uninterrupted call writes.

    Args:
        model: A model, or a `LoadedModel` with its own preprocessing.
        layers: As in `FeatureLayers`; each must give one tensor `[N, ...]`.
        data: A folder of images (at any depth, in the order of their names), a tar of them as webdataset writes it, a
            list of image files or of tars (paths, or URLs that fsspec knows); a `Dataset` or the `DataLoader` of
            one, whose samples are tensors, images or texts, or begin with one; a Hugging Face dataset; a list, or any
            iterator, of pairs of an id and a sample.
        out: The folder of the store, or its URL; it is made, or continued.
        preprocess: Makes an input `[1, ...]`, or keyword arguments, from an image or a text; None: the loaded
            model's, else ImageNet's. Tensors are taken as they are.
        column: Of a Hugging Face dataset; None: the first that holds images, else the first.
        reduce: As in `FeatureLayers`.
        layout: What the dimensions of features are, as in `FeatureLayers`. Whole features whose items are not in the
            first dimension, such as `[T, N, C]`, are refused without it; with `layout="TNC"` their rows are `[T, C]`.
        dtype: Of the features; float16 halves what float32 needs. None keeps the model's.
        device: Where the model runs, and is moved to; None leaves it where it is.
        autocast: The dtype that layers compute in, such as `torch.bfloat16`; None: the model's own.
        fast: Measures the model as it is, with channels last, and compiled, on the first batch, and takes what is
            fastest: `store.meta["mode"]` says which. Values then differ in their last bits.
        batch_size: How many items the model sees at once.
        workers: How many processes read ahead, as `num_workers` of a `DataLoader`.
        threads: How many threads the model runs in: sums depend on it in their last bits. None: as many as the
            store was begun with, for a new one torch's own number.
        shard_rows: How many items a shard has: what one interruption may cost. Take fewer for whole feature maps.
        engine: Who makes the shards: None (this process), `"torchrun"` (the ranks it started), or `"ray"`.
        actors: How many of Ray's actors hold the model; None: as many as there is room for.
        strict: Stop at the first item that cannot be read; else it is among `store.errors`.
        retry_errors: Try the items again that had no row.
        progress: Called after each shard.

    Returns:
        The store, open for reading.

    Raises:
        ItemError: With `strict`, an item cannot be read.
        FeatureOverflowError: A feature does not fit `dtype`.
        StoreMismatchError: The store holds other features; it says what differs.
        StoreLockedError: Another process is writing to it.
        EmptyDatasetError, LayerNotFoundError, MissingExtraError: What they say.

    Examples:
        >>> import tempfile
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU())
        >>> store = extract(model, "1", [("a", torch.ones(2, 2)), ("b", torch.zeros(2, 2))], tempfile.mkdtemp())
        >>> store.ids, store["1"].shape
        (('a', 'b'), (2, 3))
    """
    loaded = model if isinstance(model, LoadedModel) else None
    network: nn.Module = loaded.model if loaded else model  # type: ignore[assignment]
    prepare = preprocess or (loaded.preprocess if loaded else Preprocess())
    source = source_of(data, prepare, column)
    processes = engine_of(engine, actors)
    if isinstance(source, Stream) and (engine is not None or fast):
        raise ValueError(
            "an iterator is read once, in this process: for an engine, or fast=True, give a list or Dataset"
        )
    if dtype is not None and not dtype.is_floating_point:
        raise ValueError(f"dtype must be a floating-point type, not {dtype}: whole numbers would be cut off")
    names = FeatureLayers(network, layers).names
    recipe = Recipe(network.to(device) if device else network, names, reduce, layout, dtype, autocast)
    with _evaluating(network):
        if isinstance(source, Items):
            recipe = replace(recipe, layers=_that_run(recipe, layers, source, batch_size))
        if not processes.leads:
            processes.wait()  # until the leader has opened the store
        begun = store_settings(out)
        threads = threads or begun.get("threads") or torch.get_num_threads()
        if fast and isinstance(source, Items):
            with using_threads(threads):
                recipe = with_mode(recipe, source, batch_size, begun.get("mode"))
        name = loaded.name if loaded else type(network).__name__
        settings = settings_of(name, recipe, source, data, prepare, batch_size, shard_rows, threads)
        job = Job(recipe, fspath(out), batch_size, shard_rows, workers, strict, threads)
        with (StoreWriter.open if processes.leads else StoreWriter.join)(out, settings) as writer:
            if processes.leads:
                processes.wait()
            if isinstance(source, Stream):
                _make_stream(job, source, writer, Tally(writer, retry_errors, progress))
            else:
                _make_items(job, source, processes, Tally(writer, retry_errors, progress))
            processes.wait()
            if processes.leads:
                writer.finish()
    return open_store(out)


def _that_run(recipe: Recipe, layers: Selector | Iterable[Selector], items: Items, batch_size: int) -> tuple[str, ...]:
    """Returns the layers to extract: of those that patterns match, the ones that run on the first items."""
    wrapper = FeatureLayers(recipe.model, layers)
    if not any(request.pattern for request in wrapper.requests):
        return recipe.layers
    example = first_inputs(items, batch_size)
    if example is None:
        return recipe.layers
    example = over(example, lambda value: value.to(recipe.device))
    with torch.no_grad():
        found = wrapper.features(example) if isinstance(example, torch.Tensor) else wrapper.features(**example)
    return found.names


def _make_items(job: Job, items: Items, processes: Engine, tally: Tally) -> None:
    shards = processes.share(range(math.ceil(len(items) / job.shard_rows)))
    tally.at.items = sum(min(job.shard_rows, len(items) - number * job.shard_rows) for number in shards)
    if missing := [number for number in shards if not tally.has(number)]:
        processes.make(job, items, missing, tally.add)


def _make_stream(job: Job, stream: Stream, writer: StoreWriter, tally: Tally) -> None:
    def skip(number: int, ids: list[str]) -> None:
        shard = writer.shard(number)
        there = sorted([*shard.ids, *(error.id for error in shard.errors)])
        if there != sorted(ids):
            raise StoreMismatchError(job.out, {f"ids of shard {number}": (_few(there), _few(sorted(ids)))})

    finished = {number for number in writer.finished() if tally.has(number)}
    job.make(read_stream(stream, job.batch_size, job.shard_rows, finished, skip), tally.add)


def _few(ids: list[str]) -> str:
    return f"{ids[0]} to {ids[-1]}, {len(ids)} of them" if ids else "none"


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Puts a model into eval mode, and each of its modules back into its own."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
