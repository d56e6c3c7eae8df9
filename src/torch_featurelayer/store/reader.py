"""Reading a store."""

from __future__ import annotations

from functools import cached_property
from os import PathLike
from typing import Any

from .._exceptions import FeatureNotFoundError, StoreCorruptError, StoreNotFoundError
from .folder import Folder
from .rows import StoredLayer
from .samples import StoredSamples
from .settings import is_store, read_settings
from .shards import SHARDS, RowError, Shard, checksum, layer_slice, opened, read_shard
from .tables import write_lance, write_parquet


def open_store(path: str | PathLike[str]) -> Store:
    """Opens a store for reading; also while a writer adds to it, of which it then shows what was finished.

    Args:
        path: Its folder, or the URL of one, such as `s3://bucket/features`.

    Raises:
        StoreNotFoundError: There is none.
        StoreCorruptError: A file of it cannot be read.
    """
    return Store(path)


def store_settings(path: str | PathLike[str]) -> dict[str, Any]:
    """Returns what the features of a store are, or nothing where there is none."""
    folder = Folder(path)
    return read_settings(folder) if is_store(folder) else {}


class Store:
    """The features of a dataset.

    Args:
        path: Its folder, or the URL of one.

    Attributes:
        path: The folder.
        meta: What the features are: model, layers, preprocessing, versions.

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
        self.meta = read_settings(self._folder)
        self._shards = [read_shard(self._folder, name) for name in self._folder.names(SHARDS)]

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """The id of each row."""
        return tuple(name for shard in self._shards for name in shard.ids)

    @property
    def errors(self) -> tuple[RowError, ...]:
        """The items that have no row, and why."""
        return tuple(error for shard in self._shards for error in shard.errors)

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """The names of the layers."""
        first = next((shard for shard in self._shards if shard.ids), None)
        return tuple(first.checksums) if first else ()

    def __getitem__(self, layer: str) -> StoredLayer:
        """Returns the feature of a layer: nothing is read yet.

        Raises:
            FeatureNotFoundError: The store holds no such layer.
        """
        if layer not in self.layers:
            raise FeatureNotFoundError(layer, self.layers)
        return StoredLayer(layer, self._folder, self._full())

    def __contains__(self, layer: object) -> bool:
        return layer in self.layers

    def samples(self, *layers: str) -> StoredSamples:
        """Returns the rows as a `torch.utils.data.Dataset`: dicts of the `"id"` and the features of some layers.

        Args:
            *layers: Which; none given: all.

        Raises:
            FeatureNotFoundError: The store holds no such layer.
        """
        return StoredSamples(self.ids, {layer: self[layer] for layer in layers or self.layers})

    def to_parquet(self, path: str | PathLike[str], *layers: str) -> None:
        """Writes a parquet file: `id`, and each layer as a float32 vector of fixed length, its shape in the metadata.

        DuckDB, polars, pandas and Hugging Face datasets read it. A shard is in memory at a time.

        Args:
            path: The file.
            *layers: Which; none given: all.

        Raises:
            FeatureNotFoundError: The store holds no such layer, or nothing.
            MissingExtraError: pyarrow is not installed.
        """
        write_parquet(self._folder, self._full(), self._chosen(layers), path)

    def to_lance(self, path: str | PathLike[str], *layers: str) -> None:
        """Writes a Lance dataset with the columns of `to_parquet`.

        Args:
            path: The folder of the dataset.
            *layers: Which; none given: all.

        Raises:
            FeatureNotFoundError: The store holds no such layer, or nothing.
            MissingExtraError: pylance is not installed (extra `lance`).
        """
        write_lance(self._folder, self._full(), self._chosen(layers), path)

    def verify(self) -> int:
        """Reads everything and compares it with its checksums.

        Returns:
            How many rows were read.

        Raises:
            StoreCorruptError: A file is not what was written; it names the file and the layer.
        """
        for shard in self._shards:
            with opened(self._folder, shard.name) as file:
                for layer, right in shard.checksums.items():
                    if checksum(layer_slice(file, layer)[:]) != right:
                        problem = f"the bytes of {layer!r} are not those written"
                        raise StoreCorruptError(self._folder.at(shard.name), problem)
        return len(self)

    def _full(self) -> list[Shard]:
        return [shard for shard in self._shards if shard.ids]

    def _chosen(self, layers: tuple[str, ...]) -> tuple[str, ...]:
        chosen = layers or self.layers
        for layer in chosen or ("",):
            self[layer]
        return chosen

    def __repr__(self) -> str:
        return f"Store({self.path!r}: {len(self)} rows of {', '.join(self.layers)}; {len(self.errors)} errors)"
