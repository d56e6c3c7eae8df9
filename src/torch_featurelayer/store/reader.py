"""`Store`: reads the features of a dataset."""

from __future__ import annotations

from functools import cached_property
from os import PathLike
from typing import Any

from .._exceptions import FeatureNotFoundError, StoreCorruptError, StoreNotFoundError
from .folder import Folder
from .metadata import is_store, metadata_identity, read_metadata
from .rows import StoredLayer
from .samples import StoredSamples
from .shards import SHARDS, RowError, Shard, checksum, layer_slice, open_shard, read_shard
from .tables import write_lance, write_parquet


def open_store(path: str | PathLike[str]) -> Store:
    """Opens a store for reading.

    While a writer adds to a store, the opened store has the shards that were finished when it was opened.

    Args:
        path: The folder of the store, or its URL, such as `s3://bucket/features`.

    Returns:
        The store. Its features are read when they are indexed.

    Raises:
        StoreNotFoundError: If the folder is not a store.
        StoreCorruptError: If a file of the store cannot be read.
    """
    return Store(path)


def store_metadata(path: str | PathLike[str]) -> dict[str, Any]:
    """Returns the metadata of a store; an empty dict if there is no store.

    Args:
        path: The folder of the store, or its URL.
    """
    folder = Folder(path)
    return read_metadata(folder) if is_store(folder) else {}


class Store:
    """The features of a dataset.

    Args:
        path: The folder of the store, or its URL.

    Attributes:
        path: The folder of the store.
        metadata: The identity of the features: model, layers, preprocessing, versions.

    Examples:
        >>> import tempfile, torch
        >>> from torch_featurelayer.store import StoreWriter
        >>> folder = tempfile.mkdtemp()
        >>> with StoreWriter.open(folder, {"model": "a"}) as writer:
        ...     writer.write(0, {"fc": torch.arange(6.0).reshape(3, 2)}, ["a.png", "b.png", "c.png"])
        >>> store = open_store(folder)
        >>> store["fc"][1], store.ids[1]
        (tensor([2., 3.]), 'b.png')
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self._folder = Folder(path)
        self.path = self._folder.path
        if not is_store(self._folder):
            raise StoreNotFoundError(self.path)
        self.metadata = read_metadata(self._folder)
        self._shards = [read_shard(self._folder, name) for name in self._folder.names(SHARDS)]
        identity = metadata_identity(self.metadata)
        for shard in self._shards:
            if shard.identity and shard.identity != identity:
                raise StoreCorruptError(self._folder.at(shard.name), "it holds features of another extraction")

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """The ids of the rows."""
        return tuple(name for shard in self._shards for name in shard.ids)

    @property
    def errors(self) -> tuple[RowError, ...]:
        """The items without a row, and the reasons."""
        return tuple(error for shard in self._shards for error in shard.errors)

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """The names of the layers."""
        first = next((shard for shard in self._shards if shard.ids), None)
        return tuple(first.checksums) if first else ()

    def __getitem__(self, layer: str) -> StoredLayer:
        """Returns the features of a layer, which are read when they are indexed.

        Raises:
            FeatureNotFoundError: If the store has no such layer.
        """
        if layer not in self.layers:
            raise FeatureNotFoundError(layer, self.layers)
        return StoredLayer(layer, self._folder, self._full())

    def __contains__(self, layer: object) -> bool:
        return layer in self.layers

    def samples(self, *layers: str) -> StoredSamples:
        """Returns the rows as a `torch.utils.data.Dataset` of dicts: the id under `"id"`, and the features by layer.

        Args:
            *layers: The names of the layers. Default: all layers.

        Raises:
            FeatureNotFoundError: If the store has no such layer.
        """
        return StoredSamples(self.ids, {layer: self[layer] for layer in layers or self.layers})

    def to_parquet(self, path: str | PathLike[str], *layers: str) -> None:
        """Writes a Parquet file with a column `id` and for each layer a column of vectors of fixed length.

        The shape of a row is in the metadata of its column. DuckDB, polars, pandas and Hugging Face datasets can read
        the file. One shard at a time is in memory.

        Args:
            path: The file.
            *layers: The names of the layers. Default: all layers.

        Raises:
            FeatureNotFoundError: If the store has no such layer, or no rows.
            TypeError: If a layer holds complex numbers.
            MissingExtraError: If pyarrow is not installed.
        """
        write_parquet(self._folder, self._full(), self._select_layers(layers), path)

    def to_lance(self, path: str | PathLike[str], *layers: str) -> None:
        """Writes a Lance dataset with the columns of `to_parquet`.

        Args:
            path: The folder of the dataset.
            *layers: The names of the layers. Default: all layers.

        Raises:
            FeatureNotFoundError: If the store has no such layer, or no rows.
            TypeError: If a layer holds complex numbers.
            MissingExtraError: If pylance is not installed (extra `lance`).
        """
        write_lance(self._folder, self._full(), self._select_layers(layers), path)

    def verify(self) -> int:
        """Reads all features and compares them with their checksums.

        Returns:
            The number of rows.

        Raises:
            StoreCorruptError: If a file is damaged. It names the file and the layer.
        """
        for shard in self._shards:
            with open_shard(self._folder, shard.name) as file:
                for layer, right in shard.checksums.items():
                    if checksum(layer_slice(file, layer)[:]) != right:
                        problem = f"the bytes of {layer!r} differ from those that were written"
                        raise StoreCorruptError(self._folder.at(shard.name), problem)
        return len(self)

    def _full(self) -> list[Shard]:
        return [shard for shard in self._shards if shard.ids]

    def _select_layers(self, layers: tuple[str, ...]) -> tuple[str, ...]:
        chosen = layers or self.layers
        for layer in chosen or ("",):
            self[layer]
        return chosen

    def __repr__(self) -> str:
        return f"Store({self.path!r}: {len(self)} rows of {', '.join(self.layers)}; {len(self.errors)} errors)"
