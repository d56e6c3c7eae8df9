"""`Store`: reads the features of a dataset."""

from __future__ import annotations

import math
from functools import cached_property
from os import PathLike
from typing import Any

from torch import Tensor

from .._exceptions import FeatureNotFoundError, StoreCorruptError, StoreIncompleteError, StoreNotFoundError
from .._optional import need
from .folder import Folder
from .ids import Ids
from .items import OWN_COLUMNS, RowError, to_errors
from .manifest import ShardEntry, read_manifest
from .metadata import differences, is_store, metadata_identity, read_metadata
from .rows import ShardFiles, StoredLayer
from .samples import StoredSamples
from .shards import (
    BOXES,
    CLASSES,
    SCORES,
    SPANS,
    TOKEN_IDS,
    checksum,
    has_tensor,
    layer_tensor,
    open_shard,
    read_shard,
    shard_name,
)
from .tables import Content, write_lance, write_parquet


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
        complete: Whether the extraction was finished and no shard is missing.
        missing: The numbers of the shards that are missing: not extracted so far, or deleted.

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
        identity = metadata_identity(self.metadata)
        self._manifest = read_manifest(self._folder, identity, _count_shards(self.metadata))
        self._files = ShardFiles(self._folder, identity)
        self.complete, self.missing = self._manifest.is_complete, self._manifest.missing

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def ids(self) -> Ids:
        """The ids of the items with features, in order."""
        return Ids(self._manifest.table, self._manifest.entries)

    @property
    def errors(self) -> tuple[RowError, ...]:
        """The items without features, and the reasons."""
        return to_errors(self._manifest.table)

    @property
    def manifest(self) -> Any:
        """All items, with and without features, as an Arrow table.

        Its columns are `id`, `digest`, `error` (null with features), `rows` (the number of rows), `nonfinite` (the
        number of NaN and infinite values), and the columns of the dataset.
        """
        return self._manifest.table

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns of the dataset, such as `"label"`."""
        return tuple(name for name in self._manifest.table.column_names if name not in OWN_COLUMNS)

    def column(self, name: str) -> Any:
        """Reads a column of the dataset.

        Args:
            name: The name of the column.

        Returns:
            A NumPy array with a value for each item of `ids`.

        Raises:
            FeatureNotFoundError: If the store has no such column.
        """
        if name not in self.columns:
            raise FeatureNotFoundError(name, self.columns, "column")
        return self.ids.column(name).to_numpy()

    @property
    def nonfinite(self) -> dict[str, int]:
        """The number of NaN and infinite values of each item that has any, by id."""
        compute = need("pyarrow.compute", "store")
        found = self._manifest.table.select(["id", "nonfinite"]).filter(compute.field("nonfinite") > 0)
        return dict(zip(found["id"].to_pylist(), found["nonfinite"].to_pylist(), strict=True))

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """The names of the layers."""
        return tuple(self._manifest.layouts)

    def __getitem__(self, layer: str) -> StoredLayer:
        """Returns the features of a layer, which are read when they are indexed.

        Raises:
            FeatureNotFoundError: If the store has no such layer.
        """
        if layer not in self.layers:
            raise FeatureNotFoundError(layer, self.layers)
        return StoredLayer(layer, self._files, self._full(), self.ids)

    def __contains__(self, layer: object) -> bool:
        return layer in self.layers

    def tokens(self, item: str | int) -> tuple[Tensor, Tensor | None]:
        """Reads the tokens of an item of a store of tokens.

        Args:
            item: The id of the item, or its place among `ids`.

        Returns:
            The ids of its tokens `[T]`, and their spans of characters in the text `[T, 2]`: int32 tensors on the CPU.
            The spans are None if the texts were tokenized before, or by a tokenizer that does not tell them.

        Raises:
            LookupError: If there is no such item.
            FeatureNotFoundError: If the store has no tokens.
        """
        (ids,) = self._of_item(item, "tokens", (TOKEN_IDS,))
        return ids, self._of_item(item, "spans", (SPANS,))[0] if self._keeps(SPANS) else None

    def objects(self, item: str | int) -> tuple[Tensor, Tensor, Tensor]:
        """Reads the objects of an item of a store of objects, in the order of the rows of its layers.

        Args:
            item: The id of the item, or its place among `ids`.

        Returns:
            The corners `x0, y0, x1, y1` of their boxes in pixels of the image `[K, 4]`, their scores `[K]`, both
            float32, and the numbers of their classes, int64 `[K]`: tensors on the CPU.

        Raises:
            LookupError: If there is no such item.
            FeatureNotFoundError: If the store has no objects.
        """
        boxes, scores, classes = self._of_item(item, "objects", (BOXES, SCORES, CLASSES))
        return boxes, scores, classes

    def _of_item(self, item: str | int, kind: str, names: tuple[str, ...]) -> list[Tensor]:
        """Reads what is stored beside the features of an item.

        Raises:
            FeatureNotFoundError: If the store has nothing of this kind.
        """
        if not self._keeps(names[0]):
            raise FeatureNotFoundError(kind, self.layers)
        return [StoredLayer(name, self._files, self._full(), self.ids).item(item) for name in names]

    def _keeps(self, name: str) -> bool:
        """Whether something of this name is stored beside the features."""
        with open_shard(self._folder, self._full()[0].number) as file:
            return has_tensor(file, name)

    def samples(self, *layers: str) -> StoredSamples:
        """Returns the rows as a `torch.utils.data.Dataset` of dicts.

        A sample has the id under `"id"`, the columns of the dataset by name, and the features by layer.

        Args:
            *layers: The names of the layers. Default: all layers.

        Raises:
            FeatureNotFoundError: If the store has no such layer.
        """
        return StoredSamples(self.ids, {layer: self[layer] for layer in layers or self.layers}, self.columns)

    def to_parquet(self, path: str | PathLike[str], *layers: str) -> None:
        """Writes a Parquet file: a column `id`, the columns of the dataset, and a column of vectors for each layer.

        The shape of a row is in the metadata of its column. A store of tokens has a row for each token, with the
        columns `token_id`, `start` and `end`. DuckDB, polars, pandas and Hugging Face datasets can read the file. One
        shard at a time is in memory.

        Args:
            path: The file.
            *layers: The names of the layers. Default: all layers.

        Raises:
            FeatureNotFoundError: If the store has no such layer, or no rows.
            TypeError: If a layer holds complex numbers.
            MissingExtraError: If pyarrow is not installed.
        """
        write_parquet(self._content(layers), path)

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
        write_lance(self._content(layers), path)

    def verify(self) -> int:
        """Reads all features and compares them with their checksums, and the manifest with the shards.

        Returns:
            The number of items with features.

        Raises:
            StoreCorruptError: If a file is damaged. It names the file and the layer.
            StoreIncompleteError: If shards are missing.
        """
        start = 0
        for entry in self._manifest.entries:
            self._verify_shard(entry, start)
            start += entry.items
        if self.missing:
            raise StoreIncompleteError(self.path, self.missing)
        return len(self)

    def diff(self, other: Store | str | PathLike[str]) -> dict[str, tuple[Any, Any]]:
        """Compares with another store.

        Args:
            other: The other store, or its folder.

        Returns:
            For each difference, its value in this store and in the other one: settings by name, `"items"` with the
            ids that only one of them has, and `"changed"` with the ids of items whose contents differ. An empty dict
            if both hold features of the same items, computed in the same way.

        Raises:
            StoreNotFoundError: If there is no other store.
        """
        theirs = other if isinstance(other, Store) else open_store(other)
        found: dict[str, tuple[Any, Any]] = dict(differences(self.metadata, theirs.metadata))
        mine, others = _digests(self), _digests(theirs)
        if mine.keys() != others.keys():
            only = [name for name in mine if name not in others], [name for name in others if name not in mine]
            found["items"] = only[0], only[1]
        if changed := [name for name, digest in mine.items() if others.get(name, digest) != digest]:
            found["changed"] = changed, changed
        return found

    def _verify_shard(self, entry: ShardEntry, start: int) -> None:
        path = self._folder.at(shard_name(entry.number))
        shard = read_shard(self._folder, entry.number)
        listed = self._manifest.table.slice(start, entry.items)
        if not listed.select(OWN_COLUMNS).equals(shard.table.select(OWN_COLUMNS)):
            raise StoreCorruptError(path, "its items differ from those of the manifest")
        file = open_shard(self._folder, entry.number, metadata_identity(self.metadata))
        for layer, right in shard.checksums.items():
            if checksum(layer_tensor(file, layer)) != right:
                raise StoreCorruptError(path, f"the bytes of {layer!r} differ from those that were written")

    def _full(self) -> list[ShardEntry]:
        return [entry for entry in self._manifest.entries if entry.rows]

    def _content(self, layers: tuple[str, ...]) -> Content:
        """Returns what is written to a table."""
        chosen = layers or self.layers
        for layer in chosen or ("",):
            self[layer]
        return Content(self._files, self._full(), self.ids, chosen, self.columns)

    def __repr__(self) -> str:
        state = "" if not self.missing else f"; {len(self.missing)} shards missing"
        return f"Store({self.path!r}: {len(self)} rows of {', '.join(self.layers)}; {len(self.errors)} errors{state})"


def _count_shards(metadata: Any) -> int:
    """Returns the number of shards of the finished store; 0 if it is not known."""
    count, size = metadata.get("num_items"), metadata.get("shard_size")
    return math.ceil(count / size) if count and size else 0


def _digests(store: Store) -> dict[str, str]:
    table = store.manifest
    return dict(zip(table["id"].to_pylist(), table["digest"].to_pylist(), strict=True))
