"""The metadata of a store: everything that its features depend on, besides the items."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from os import PathLike, fspath
from typing import Any

import torch

from .. import __version__
from .identity import describe_function, model_digests, package_versions, strip_addresses
from .runner import FeatureSpec
from .sources import IterableSource, MapSource


@dataclass(frozen=True)
class ExtractConfig:
    """The parameters that identify the features of a store; as JSON, they are its `metadata.json`.

    Attributes:
        model: The name of the model.
        identity: The digests of the weights, the code and the attributes of the model.
        layers: The addresses of the layers.
        reduce: The reduction: a name, or the identity of a function.
        preprocess: The identity of the preprocessing.
        layout: The layout that the user gave.
        dtype: The dtype of stored features.
        autocast: The dtype that layers compute in.
        mode: How the model runs.
        batch_size: The number of items in a batch.
        shard_size: The number of items in a shard.
        num_threads: The number of threads of the model.
        items: The digest of the ids in their order.
        verify: How items are identified.
        column: The column of a Hugging Face dataset.
        data: The location or type of the dataset, which may change.
        versions: The versions of Python and of the packages whose code computes the features.
    """

    model: str
    identity: Mapping[str, str]
    layers: tuple[str, ...]
    reduce: Any
    preprocess: Any
    layout: str | None
    dtype: str | None
    autocast: str | None
    mode: str
    batch_size: int
    shard_size: int
    num_threads: int
    items: str
    verify: str
    column: str | None
    data: str
    versions: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """Returns the parameters as JSON values."""
        found = asdict(self)
        return {**found.pop("identity"), **found}


def describe_extraction(
    name: str,
    spec: FeatureSpec,
    source: MapSource | IterableSource,
    data: Any,
    *,
    preprocess: Any,
    column: str | None,
    verify: str,
    batch_size: int,
    shard_size: int,
    num_threads: int,
) -> ExtractConfig:
    """Returns the identity of the features of an extraction."""
    packages = {"torch", "torch_featurelayer"}
    identity = model_digests(spec.model, packages)
    reduce, prepare = describe_function(spec.reduce, packages), describe_function(preprocess, packages)
    python = ".".join(platform.python_version_tuple()[:2])  # bytecode differs between minor versions
    versions = package_versions(packages)
    return ExtractConfig(
        model=name,
        identity=identity,
        layers=spec.layers,
        reduce=reduce,
        preprocess=prepare,
        layout=_text(spec.layout),
        dtype=_text(spec.dtype),
        autocast=_text(spec.autocast),
        mode=str(spec.mode),
        batch_size=batch_size,
        shard_size=shard_size,
        num_threads=num_threads,
        items=source.fingerprint,
        verify=verify,
        column=column,
        data=fspath(data) if isinstance(data, (str, PathLike)) else type(data).__name__,
        versions={"python": python, **versions, "torch": torch.__version__, "torch_featurelayer": __version__},
    )


def _text(value: Any) -> str | None:
    """Returns the `repr` of an object without memory addresses, or a string unchanged."""
    return None if value is None else strip_addresses(value if isinstance(value, str) else repr(value))
