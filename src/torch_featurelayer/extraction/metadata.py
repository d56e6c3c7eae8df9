"""The metadata of a store: everything that its features depend on, besides the items."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from os import PathLike, fspath
from typing import Any

import torch

from .._version import __version__
from .code import package_versions
from .identity import describe_function, describe_options, model_digests, strip_addresses
from .job import ExtractionJob
from .sources import Columns, IterableSource, MapSource


@dataclass(frozen=True)
class ExtractConfig:
    """The parameters that identify the features of a store; as JSON, they are its `metadata.json`.

    Attributes:
        model: The name of the model.
        identity: The digests of the weights, the code and the attributes of the model.
        layers: The addresses of the layers.
        reduce: The reduction, or that of each layer: a name, or the identity of a function.
        tokens: The tokens that were kept: a name, or the identity of a slice or function.
        generate: The arguments of `generate` that continue texts; None without generation.
        objects: The threshold and the size of features of objects; None for features of images.
        preprocess: The identity of the preprocessing, or of the function that collates samples.
        max_length: The largest number of tokens of a text.
        layout: The layout that the user gave.
        dtype: The dtype of stored features.
        autocast: The dtype that layers compute in.
        precision: The dtype that weights were converted to.
        mode: How the model runs.
        batch_size: The number of items in a batch.
        shard_size: The number of items in a shard.
        num_threads: The number of threads of the model.
        items: The digest of the ids in their order.
        num_items: The number of items; None for an iterator.
        verify: How items are identified.
        column: The column or key that holds the samples.
        columns: The names of the columns that are kept.
        data: The location or type of the dataset, which may change.
        versions: The versions of Python and of the packages whose code computes the features.
    """

    model: str
    identity: Mapping[str, str]
    layers: tuple[str, ...]
    reduce: Any
    tokens: Any
    generate: Any
    objects: Any
    preprocess: Any
    max_length: int | None
    layout: str | None
    dtype: str | None
    autocast: str | None
    precision: str | None
    mode: str
    batch_size: int
    shard_size: int
    num_threads: int
    items: str
    num_items: int | None
    verify: str
    column: str | None
    columns: tuple[str, ...]
    data: str
    versions: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """Returns the parameters as JSON values."""
        found = asdict(self)
        return {**found.pop("identity"), **found}


def describe_extraction(
    name: str,
    job: ExtractionJob,
    source: MapSource | IterableSource,
    data: Any,
    *,
    preprocess: Any,
    column: str | None,
    columns: Columns,
) -> ExtractConfig:
    """Returns the identity of the features of an extraction."""
    spec = job.spec
    packages = {"torch", "torch_featurelayer"}
    identity = model_digests(spec.model, packages)
    is_mapping = isinstance(spec.reduce, Mapping)
    reductions = dict(spec.reduce) if is_mapping else {"": spec.reduce}  # type: ignore[arg-type]
    described = {layer: describe_function(reduce, packages) for layer, reduce in reductions.items()}
    tokens = spec.continuation.tokens if spec.continuation else spec.tokens
    functions = {
        "reduce": described if is_mapping else described[""],
        "tokens": describe_function(_slice_as_text(tokens), packages),
        "preprocess": describe_function(preprocess, packages),
    }
    return ExtractConfig(
        model=name,
        identity=identity,
        layers=spec.layers,
        **functions,
        objects=None if spec.detecting is None else [spec.detecting.threshold, spec.detecting.size],
        generate=describe_options(spec.continuation.options if spec.continuation else None, packages),
        max_length=source.collator.max_length,
        layout=_text(spec.layout),
        dtype=_text(spec.dtype),
        autocast=_text(spec.autocast),
        precision=_text(spec.precision),
        mode=str(spec.mode),
        batch_size=job.batch_size,
        shard_size=job.shard_size,
        num_threads=job.num_threads,
        items=source.fingerprint,
        num_items=len(source) if isinstance(source, MapSource) else None,
        verify=source.verify,
        column=column,
        columns=tuple(columns),
        data=fspath(data) if isinstance(data, (str, PathLike)) else type(data).__name__,
        versions={
            "python": python_version(),
            **package_versions(packages),
            "torch": torch.__version__,
            "torch_featurelayer": __version__,
        },
    )


def python_version() -> str:
    """Returns the version of Python without its last number: bytecode differs between minor versions."""
    return ".".join(platform.python_version_tuple()[:2])


def _slice_as_text(tokens: Any) -> Any:
    return repr(tokens) if isinstance(tokens, slice) else tokens


def _text(value: Any) -> str | None:
    """Returns the `repr` of an object without memory addresses, or a string unchanged."""
    return None if value is None else strip_addresses(value if isinstance(value, str) else repr(value))
