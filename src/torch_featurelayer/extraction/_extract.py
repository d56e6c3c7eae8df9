"""`tl.extract`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from os import PathLike, fspath
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import nn

from .._exceptions import ItemError, StoreMismatchError
from .._feature_layer import FeatureLayers
from .._reduce import Reduction
from ..address import Selector
from ..models import LoadedModel, Preprocess
from ..store import Store, StoreWriter, open_store, store_metadata
from .autotune import first_batch, tune
from .backends import Backend, BackendName, make_backend
from .batches import map_inputs
from .job import ExtractionJob, use_threads
from .metadata import describe_extraction
from .progress import Progress, ProgressTracker
from .reading import ShardTask, read_iterable
from .runner import FeatureSpec
from .sources import IterableSource, MapSource, Prepare, make_source

Verify: TypeAlias = Literal["auto", "contents", "ids"]
Changed: TypeAlias = Literal["error", "redo"]


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
    autotune: bool = False,
    batch_size: int = 16,
    num_workers: int = 0,
    num_threads: int | None = None,
    shard_size: int = 1024,
    backend: BackendName | None = None,
    num_actors: int | None = None,
    verify: Verify = "auto",
    changed: Changed = "error",
    strict: bool = False,
    retry_errors: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> Store:
    """Extracts the features of a dataset to a store; the same call continues after an interruption.

    The model runs in eval mode and without gradients, and stops after the last layer that is needed. Shards are written
    while the model runs on the next. Batches do not depend on what earlier calls finished, so an interrupted and
    continued store has the same bytes as an uninterrupted one.

    Args:
        model: The model, or a `LoadedModel` with its preprocessing.
        layers: Addresses, patterns, modules or types, as in `FeatureLayers`. Each layer must return one tensor
            `[N, ...]`.
        data: The dataset: a folder of images (searched recursively, in the order of their names); a tar file of images
            as webdataset writes it; a list of image files or of tar files (paths, or URLs that fsspec supports); a
            `Dataset` or `DataLoader` whose samples are tensors, images or texts, or tuples that begin with one; a
            Hugging Face dataset; or a list or iterator of pairs of id and sample.
        out: The folder of the store or its URL. It is created, or continued if it exists.
        preprocess: The function from an image or text to a model input `[1, ...]` or keyword arguments. Tensors are
            not preprocessed. Default: None, the preprocessing of the `LoadedModel`, or that of ImageNet.
        column: The column of a Hugging Face dataset. Default: None, the first column of images, or the first column.
        reduce: The reduction of each feature, as in `FeatureLayers`. Default: None, whole features.
        layout: The layout of features, as in `FeatureLayers`. Whole features whose items are not in the first
            dimension, such as `[T, N, C]`, are refused without it; with `layout="TNC"`, their rows are `[T, C]`.
            Default: None, found from the operations of the model.
        dtype: The dtype of stored features; None keeps that of the model. Default: `torch.float16`, half the size of
            float32.
        device: The device that the model is moved to. Default: None, its present device.
        autocast: The dtype that layers compute in, such as `torch.bfloat16`. Default: None, no autocast.
        autotune: Whether to measure the model on the first batch as it is, with channels last, and compiled, and to use
            the fastest; `store.metadata["mode"]` records it. Values then differ in their last bits. Default: False.
        batch_size: The number of items that the model processes at once. Default: 16.
        num_workers: The number of worker processes that read items, as in `DataLoader`. Default: 0, this process.
        num_threads: The number of threads of the model, on which the last bits of sums depend. Default: None, the
            number that the store was begun with, or that of torch for a new store.
        shard_size: The number of items in a shard, which is the most that an interruption can lose. Use a smaller
            number for whole feature maps. Default: 1024.
        backend: The execution backend: None (default) for this process, `"torchrun"` or `"ray"`.
        num_actors: The number of Ray's actors. Default: None, as many as there is room for.
        verify: How items are identified, so that changed items are noticed: `"auto"` (default) by the size and time of
            modification of files, and by the contents of all other samples; `"contents"` by the contents of files too;
            `"ids"` by their ids alone. A continued store reads again what is identified by its contents.
        changed: What to do if items of finished shards have changed: `"error"` (default), or `"redo"` to extract the
            batches with these items again.
        strict: Whether to stop at the first item that cannot be read; otherwise it is listed in `store.errors`.
            Default: False.
        retry_errors: Whether to read items again that have no row. Default: False.
        progress: A function that is called after each shard with a `Progress`. Default: None.

    Returns:
        The store, opened for reading.

    Raises:
        ItemError: If no item can be read, or `strict` is set and an item cannot be read.
        FeatureOverflowError: If a feature does not fit `dtype`.
        LayoutError: If a reduction needs the layout of a feature and it cannot be determined.
        StoreMismatchError: If the store holds other features, or items have changed. It names the differences.
        StoreTargetError: If `out` is a file, or a folder with other files.
        StoreLockedError: If another process is writing to the store.
        DatasetError: If `data` is not a dataset.
        EmptyDatasetError: If the dataset has no items.
        LayerNotFoundError: If the model has no such layer.
        MissingExtraError: If an optional dependency is not installed.

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
    _check_choice("verify", verify, Verify)
    _check_choice("changed", changed, Changed)
    source = make_source(data, prepare, column)
    source.verify = verify
    processes = make_backend(backend, num_actors)
    if isinstance(source, IterableSource) and (backend is not None or autotune):
        raise ValueError("an iterator can be read only once: backend= and autotune=True need a list or Dataset")
    if dtype is not None and not dtype.is_floating_point:
        raise ValueError(f"dtype must be a floating-point type, not {dtype}, which would truncate values")
    # Resolved before anything is read: a misspelled layer is an error at once.
    names = FeatureLayers(network, layers).names
    spec = FeatureSpec(network.to(device) if device else network, names, reduce, layout, dtype, autocast)
    with _eval_mode(network):
        if isinstance(source, MapSource):
            spec = replace(spec, layers=_layers_that_run(spec, layers, source, batch_size))
        if not processes.is_leader:
            processes.wait()  # until the leader has opened the store
        # A continued store keeps its number of threads and its mode, on which the last bits of features depend.
        existing = store_metadata(out)
        num_threads = num_threads or existing.get("num_threads") or torch.get_num_threads()
        if autotune and isinstance(source, MapSource):
            with use_threads(num_threads):
                spec = tune(spec, source, batch_size, existing.get("mode"))
        name = loaded.name if loaded else type(network).__name__
        metadata = describe_extraction(
            name, spec, source, data, preprocess=prepare, column=column, verify=verify,
            batch_size=batch_size, shard_size=shard_size, num_threads=num_threads,
        ).to_json()  # fmt: skip
        job = ExtractionJob(spec, fspath(out), batch_size, shard_size, num_workers, strict, num_threads)
        with (StoreWriter.open if processes.is_leader else StoreWriter.join)(out, metadata) as writer:
            if processes.is_leader:
                processes.wait()
            tracker = ProgressTracker(writer, retry_errors, progress)
            if isinstance(source, IterableSource):
                _extract_iterable(job, source, writer, tracker)
            else:
                _extract_map(job, source, processes, tracker, changed == "redo")
            processes.wait()
            if processes.is_leader:
                writer.finish()
    store = open_store(out)
    if store.errors and not len(store):
        reason = f"{store.errors[0].reason}. None of the {len(store.errors)} items could be read"
        raise ItemError(store.errors[0].id, reason)
    return store


def _layers_that_run(
    spec: FeatureSpec, layers: Selector | Iterable[Selector], source: MapSource, batch_size: int
) -> tuple[str, ...]:
    """Returns the layers to extract: of the layers that patterns match, those that run on the first batch."""
    wrapper = FeatureLayers(spec.model, layers)
    if not any(request.pattern for request in wrapper.requests):
        return spec.layers
    example = first_batch(source, batch_size)
    if example is None:
        return spec.layers
    example = map_inputs(example, lambda value: value.to(spec.device))
    with torch.no_grad():
        found = wrapper.features(example) if isinstance(example, torch.Tensor) else wrapper.features(**example)
    return found.names


def _extract_map(
    job: ExtractionJob, source: MapSource, processes: Backend, tracker: ProgressTracker, redo: bool
) -> None:
    shards = processes.assign(range(math.ceil(len(source) / job.shard_size)))
    tracker.progress.items = sum(min(job.shard_size, len(source) - number * job.shard_size) for number in shards)
    # A fixed assignment of shards, independent of their state, so that ranks need not communicate.
    tasks = [task for number in shards if (task := _task(job, source, tracker, number, redo)) is not None]
    if not redo and (items := [source.ids[index] for task in tasks for index in task.changed or ()]):
        raise StoreMismatchError(job.out, {"items": ("as they were read", "changed since")}, items)
    if tasks:
        processes.write_shards(job, source, tasks, tracker.add)


def _task(job: ExtractionJob, source: MapSource, tracker: ProgressTracker, number: int, redo: bool) -> ShardTask | None:
    """Returns what is left to do of a shard; None if it is finished."""
    if (shard := tracker.finished_shard(number)) is None:
        return ShardTask(number)
    span = range(number * job.shard_size, min((number + 1) * job.shard_size, len(source)))
    stored, ids = shard.items(), source.ids[span.start : span.stop]
    if stored.keys() != set(ids):
        raise StoreMismatchError(job.out, {f"ids of shard {number}": (_summarize(stored), _summarize(ids))})
    # An item without a row has no feature that could be old: it is read again on request.
    rows = set(shard.ids)
    looked_at = span if redo else [index for index in span if source.ids[index] in rows]
    if changed := tuple(index for index in looked_at if stored[source.ids[index]] != source.digest(index)):
        return ShardTask(number, changed)
    tracker.count(shard)
    return None


def _extract_iterable(
    job: ExtractionJob, source: IterableSource, writer: StoreWriter, tracker: ProgressTracker
) -> None:
    def check_items(number: int, items: dict[str, str]) -> None:
        shard = writer.shard(number)
        stored, rows = shard.items(), set(shard.ids)
        # Items with errors are stored apart from rows, so only the rows have an order.
        if stored.keys() != items.keys() or [name for name in items if name in rows] != list(shard.ids):
            difference = _summarize(stored), _summarize(items)
            raise StoreMismatchError(job.out, {f"ids of shard {number}": difference})
        if changed := [name for name, digest in items.items() if stored[name] != digest]:
            raise StoreMismatchError(job.out, {"items": ("as they were read", "changed since")}, changed)

    shards = [shard for number in writer.finished_shards() if (shard := tracker.finished_shard(number)) is not None]
    for shard in shards:
        tracker.count(shard)
    finished = {shard.number for shard in shards}
    job.write_shards(read_iterable(source, job.batch_size, job.shard_size, finished, check_items), tracker.add)


def _summarize(names: Iterable[str]) -> str:
    ids = list(names)
    return f"{ids[0]} to {ids[-1]}, {len(ids)} of them" if ids else "none"


def _check_choice(name: str, value: str, choices: Any) -> None:
    """Checks that an option has one of its values.

    Raises:
        ValueError: If it has another value.
    """
    if value not in (names := get_args(choices)):
        raise ValueError(f"{name} must be {' or '.join(map(repr, names))}, not {value!r}")


@contextmanager
def _eval_mode(model: nn.Module) -> Iterator[None]:
    """Switches a model to eval mode, and restores the mode of each of its modules."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
