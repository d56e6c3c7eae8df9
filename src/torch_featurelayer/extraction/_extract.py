"""`tl.extract`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from os import PathLike, fspath
from typing import Any, Literal, TypeAlias

import torch
from torch import nn

from .._checks import check_arguments, check_choice, check_counts, check_dtype
from .._exceptions import ItemError
from .._feature_layer import FeatureLayers
from .._reduce import Reductions, make_reducers
from .._sharded import has_sharded_weights
from ..address import Selector
from ..models import LoadedModel
from ..store import Store, open_store
from .autotune import choose, first_batch
from .backends import BackendName, make_backend
from .batches import as_arguments, map_inputs
from .collating import Collate, Prepare
from .continuing import extract_iterable, extract_map
from .detecting import AS_IT_IS, Detecting
from .generating import GenerationTokens
from .job import ExtractionJob, Finite, eval_mode, use_threads
from .metadata import describe_extraction
from .preparing import prepare
from .progress import Progress, ProgressTracker, describe_setup
from .runner import precision_error
from .sources import Columns, IterableSource, MapSource
from .spec import FeatureSpec

Verify: TypeAlias = Literal["auto", "contents", "ids"]
Changed: TypeAlias = Literal["error", "redo"]


def extract(
    model: nn.Module | LoadedModel,
    layers: Selector | Iterable[Selector],
    data: Any,
    out: str | PathLike[str],
    *,
    preprocess: Prepare | None = None,
    collate_fn: Collate | None = None,
    column: str | None = None,
    columns: Columns = (),
    reduce: Reductions = None,
    tokens: GenerationTokens | None = None,
    generate: Mapping[str, Any] | None = None,
    objects: Mapping[str, Any] | None = None,
    max_length: int | None = None,
    layout: str | Mapping[str, str] | None = None,
    dtype: torch.dtype | None = torch.float16,
    device: torch.device | str | None = None,
    autocast: torch.dtype | None = None,
    precision: torch.dtype | None = None,
    autotune: bool = False,
    batch_size: int | None = None,
    num_workers: int | None = None,
    num_threads: int | None = None,
    shard_size: int = 1024,
    backend: BackendName | None = None,
    num_actors: int | None = None,
    verify: Verify = "auto",
    changed: Changed = "error",
    finite: Finite = "record",
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
            `Dataset` or `DataLoader`; a Hugging Face dataset; or a list or iterator of samples, or of pairs of id and
            sample. Samples are tensors, arrays, images, texts, dicts of tensors (keyword arguments of the model), or
            tuples that begin with one; of a pair `(sample, label)`, a label that is a number, a text, or a vector or
            list of them is kept as the column `"label"`.
        out: The folder of the store or its URL. It is created, or continued if it exists.
        preprocess: The function from a sample to a model input `[1, ...]`, to one image `[C, H, W]` (transforms of
            torchvision), or to keyword arguments; or a tokenizer of transformers. Default: None, the preprocessing of
            the `LoadedModel`, or that of ImageNet. Preprocessing of images (by default, or a `Preprocess`) leaves
            tensors as they are: they are model inputs.
        collate_fn: The function from a list of samples to a batch of model inputs, as in `DataLoader`: a tensor,
            keyword arguments, or a tuple that begins with one. Default: None, that of a `DataLoader`; otherwise samples
            of the same shape are stacked, and texts are padded.
        column: The column of a Hugging Face dataset, or the key of samples that are dicts. Default: None, the first
            column of images, the column of texts, the columns named as arguments of the model (such as `"input_ids"`
            and `"attention_mask"`), or the first column.
        columns: The columns to keep with each item: names of columns of the dataset, or a dict from name to a value
            for each item. Default: none, besides the label.
        reduce: The reduction of each feature, as in `FeatureLayers`, or a dict from layer to reduction. Default: None,
            whole features.
        tokens: The tokens of texts to keep, as in `FeatureLayers`. Without a reduction, the store has a row for each
            token. With `generate`, also `"prompt"` or `"answer"`. Default: None, all tokens; the reductions leave out
            padding.
        generate: The arguments of the model's `generate`, such as `{"max_new_tokens": 20}`: the model continues each
            text, and the tokens are those of prompt and answer, as in `tl.generate`. Sampling is seeded by the texts of
            a batch. Default: None, the model runs on the texts alone.
        objects: The arguments of `tl.objects`, such as `{"threshold": 0.5}`, for a detector: the store has a row for
            each object that it finds, and `store.objects(id)` their boxes, scores and classes. Default: None, a row for
            each image.
        max_length: The number of tokens at which texts are truncated; the column `"truncated"` has the number of tokens
            that were cut off. Default: None, the maximum of the tokenizer or of the model.
        layout: The layout of features, as in `FeatureLayers`. Whole features whose items are not in the first
            dimension, such as `[T, N, C]`, are refused without it; with `layout="TNC"`, their rows are `[T, C]`.
            Default: None, found from the operations of the model.
        dtype: The dtype of stored features; None keeps that of the model. Default: `torch.float16`, half the size of
            float32.
        device: The device that the model is moved to. Default: None, its present device.
        autocast: The dtype that layers compute in, such as `torch.bfloat16`. Default: None, that of an enclosing
            `torch.autocast`, otherwise no autocast.
        precision: The dtype that the weights of a copy of the model are converted to, such as `torch.bfloat16`, in
            which recent processors compute several times faster; `store.metadata["precision_error"]` has the relative
            error of each feature of the first batch. Default: None, the model itself.
        autotune: Whether to measure the model on the first batch as it is, with channels last, and compiled, and to use
            the fastest; `store.metadata["mode"]` records it, and later calls on this machine remember it. Values then
            differ in their last bits. Default: False.
        batch_size: The number of items that the model processes at once. Default: None, that of a `DataLoader`,
            otherwise 16.
        num_workers: The number of worker processes that read items, as in `DataLoader`. Default: None: 0 for samples
            in memory and few items; for files 1 if the model runs on a CPU, and otherwise up to 16.
        num_threads: The number of threads of the model, on which the last bits of sums depend. Default: None, the
            number that the store was begun with, or that of torch for a new store.
        shard_size: The number of items in a shard, which is the most that an interruption can lose. Use a smaller
            number for whole feature maps. Default: 1024.
        backend: The execution backend: None (default) for this process, `"torchrun"` or `"ray"`. With `"torchrun"`, the
            ranks share the work; if the weights of the model are sharded over them, all compute and rank 0 writes.
        num_actors: The number of Ray's actors. Default: None, as many as there is room for.
        verify: How items are identified, so that changed items are noticed: `"auto"` (default) by the size and time of
            modification of files, and by the contents of all other samples; `"contents"` by the contents of files too;
            `"ids"` by their ids alone. A continued store reads again what is identified by its contents.
        changed: What to do if items of finished shards have changed: `"error"` (default), or `"redo"` to extract the
            batches with these items again.
        finite: What to do with NaN and infinite values: `"record"` (default) counts them in `store.nonfinite`,
            `"raise"` stops.
        strict: Whether to stop at the first item that cannot be read or that the model rejects; otherwise it is listed
            in `store.errors`. Default: False.
        retry_errors: Whether to read items again that have no row. Default: False.
        progress: A function that is called with a `Progress` after the first batch, then twice a second, and after each
            shard. Default: None.

    Returns:
        The store, opened for reading.

    Raises:
        ItemError: If no item has features, or `strict` is set and an item has none.
        TemporaryReadError: If an item could not be read several times because of the network, permissions or memory.
        FeatureOverflowError: If a feature does not fit `dtype`.
        FeatureUnderflowError: If a feature is too small for `dtype`.
        NonFiniteError: If `finite="raise"` and a feature has NaN or infinite values.
        LayoutError: If a reduction needs the layout of a feature and it cannot be determined.
        StoreMismatchError: If the store holds other features, or items have changed. It names the differences.
        StoreTargetError: If `out` is a file, or a folder with other files.
        StoreLockedError: If another process is writing to the store.
        DatasetError: If `data` is not a dataset.
        EmptyDatasetError: If the dataset has no items.
        TypeError: If an option is of another type.
        LayerNotFoundError: If the model has no such layer.
        MissingExtraError: If an optional dependency is not installed.
        ValueError: If an option has no such value, such as a `shard_size` of 0.

    Examples:
        >>> import tempfile
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU())
        >>> store = extract(model, "1", [("a", torch.ones(2, 2)), ("b", torch.zeros(2, 2))], tempfile.mkdtemp())
        >>> store.ids, store["1"].shape
        (('a', 'b'), (2, 3))
    """
    check_choice(Verify, verify=verify)
    check_choice(Changed, changed=changed)
    check_choice(Finite, finite=finite)
    check_counts(num_threads=num_threads, shard_size=shard_size, num_actors=num_actors)
    check_dtype(dtype)
    check_dtype(precision, "precision")
    make_reducers(reduce)  # so that a misspelled one is an error before anything is written
    check_arguments("objects", objects, ("threshold", "size"))
    if not isinstance(out, (str, PathLike)):
        raise TypeError(f"out must be a path, not {out!r}")
    ready = prepare(
        model,
        layers,
        data,
        preprocess=preprocess if objects is None else AS_IT_IS,
        collate_fn=collate_fn,
        column=column,
        columns=columns,
        max_length=max_length,
        device=device,
        batch_size=batch_size,
        num_workers=num_workers,
        autocast=autocast,
    )
    source, batch_size, network = ready.source, ready.batch_size, ready.model
    source.verify = verify
    if isinstance(source, IterableSource) and (backend is not None or autotune):
        raise ValueError("an iterator can be read only once: backend= and autotune=True need a list or Dataset")
    if has_sharded_weights(network) and (autotune or precision is not None):
        raise ValueError(
            "a model whose weights are sharded over processes cannot be copied: leave out autotune= and precision=, "
            "and convert it before it is sharded, as with model.to(torch.bfloat16)"
        )
    processes = make_backend(backend, num_actors, network)
    spec = FeatureSpec(network, ready.layers, reduce, None, layout, dtype, ready.autocast, precision)
    spec = spec.with_tokens(tokens, generate)
    if objects is not None:
        detector = replace(model, model=network) if isinstance(model, LoadedModel) else network
        spec = replace(spec, detecting=Detecting(detector, **objects))

    def configure(existing: Mapping[str, Any]) -> tuple[ExtractionJob, dict[str, Any]]:
        # A continued store keeps its number of threads and its mode, on which the last bits of features depend.
        threads = int(num_threads or existing.get("num_threads") or torch.get_num_threads())
        with use_threads(threads):
            example = None
            if isinstance(source, MapSource) and (autotune or precision is not None):
                example = first_batch(source, batch_size)
            tuned, runner = choose(spec, example, existing.get("mode"), measure=autotune)
            error = existing.get("precision_error") or precision_error(spec, example)
        job = ExtractionJob(
            tuned, fspath(out), batch_size, int(shard_size), ready.num_workers, strict, finite, threads, runner
        )
        config = describe_extraction(
            ready.title, job, source, data, preprocess=ready.preprocess, column=column, columns=columns
        )
        return job, {**config.to_json(), "precision_error": error}

    with eval_mode(network):
        if isinstance(source, MapSource):
            spec = replace(spec, layers=_layers_that_run(spec, layers, source, batch_size))
        with processes.open(fspath(out), configure) as (job, writer):
            tracker = ProgressTracker(writer, retry_errors, progress, describe_setup(job))
            if isinstance(source, IterableSource):
                extract_iterable(job, source, writer, tracker)
            else:
                extract_map(job, source, processes, tracker, redo=changed == "redo")
    return _checked(open_store(out))


def _checked(store: Store) -> Store:
    """Returns a store that has features.

    Raises:
        ItemError: If no item has.
    """
    if store.errors and not len(store):
        first = store.errors[0]
        raise ItemError(first.id, f"{first.reason.rstrip('.')}. None of the {len(store.errors)} items has features")
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
    args, kwargs = as_arguments(map_inputs(example, lambda value: value.to(spec.device)))
    with torch.no_grad():
        return wrapper.features(*args, **kwargs).names
