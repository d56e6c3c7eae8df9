"""`StoreWriter`: writes a store, shard by shard."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from os import PathLike

from torch import Tensor

from .._optional import need
from .folder import Folder
from .items import Item, empty_table
from .lock import lock_store
from .manifest import check_identity, check_layouts, covered_shards, finish_manifest, mark_stale
from .metadata import Metadata, is_store, metadata_identity, read_metadata, write_metadata
from .shards import (
    ITEMS,
    Shard,
    describe_layouts,
    layer_tensor,
    open_shard,
    read_shard,
    shard_name,
    shard_numbers,
    write_shard,
)


class StoreWriter:
    """Writes shards to a store, and lists those that exist.

    Use `StoreWriter.open`, which holds the lock of the store; other processes may `join` its holder.

    Args:
        folder: The folder of the store.
    """

    def __init__(self, folder: str | PathLike[str]) -> None:
        self._folder = Folder(folder)
        self._identity = ""
        self._layouts: Mapping[str, str] = {}
        self._layouts_of = ""

    @classmethod
    @contextmanager
    def open(cls, folder: str | PathLike[str], metadata: Metadata) -> Iterator[StoreWriter]:
        """Opens a store for writing: a new one, or an existing one with the same metadata.

        Args:
            folder: The folder of the store, a path or a URL. It is created if it does not exist.
            metadata: The identity of the features, as JSON values.

        Raises:
            StoreTargetError: If the path is a file, or a folder with other files.
            StoreLockedError: If another writer holds the lock.
            StoreMismatchError: If the store holds other features.
        """
        writer = cls(folder)
        writer._folder.check_free(is_store(writer._folder))
        with lock_store(writer._folder):
            writer._identity = write_metadata(writer._folder, metadata)
            writer._folder.clean()
            try:
                yield writer
            finally:
                writer._folder.clean()

    @classmethod
    @contextmanager
    def join(cls, folder: str | PathLike[str], metadata: Metadata) -> Iterator[StoreWriter]:
        """Writes to a store that another process has opened.

        Raises:
            StoreMismatchError: If that process writes other features.
        """
        writer = cls(folder)
        writer._identity = write_metadata(writer._folder, metadata)
        yield writer

    @staticmethod
    def prepare() -> None:
        """Imports the modules that `write` uses; Arrow imports pandas at its first table, which takes half a second."""
        need("safetensors.torch", "store")
        empty_table()

    def finish(self) -> None:
        """Writes the manifest, after all shards.

        Raises:
            ValueError: If the rows of shards have different dtypes or shapes.
        """
        finish_manifest(self._folder)

    def finished_shards(self) -> set[int]:
        """Returns the numbers of the shards that exist."""
        return set(shard_numbers(self._folder))

    def has(self, number: int) -> bool:
        """Whether a shard exists.

        Args:
            number: The number of the shard.
        """
        return self._folder.exists(shard_name(number))

    def shard(self, number: int) -> Shard:
        """Returns the header of a shard, and its items.

        Args:
            number: The number of the shard.

        Raises:
            StoreCorruptError: If the shard cannot be read, or holds features of another extraction.
        """
        shard = read_shard(self._folder, number)
        check_identity(self._folder, shard, self._identity or shard.identity)
        return shard

    def discard(self, number: int) -> None:
        """Deletes a damaged shard, so that it is extracted again.

        Args:
            number: The number of the shard.
        """
        self._folder.delete(shard_name(number))

    def features(self, number: int) -> dict[str, Tensor]:
        """Reads the features of a shard.

        Args:
            number: The number of the shard.

        Returns:
            New tensors `[rows, ...]` by layer, on the CPU; those of token ids and spans among them.
        """
        file = open_shard(self._folder, number)
        names = [name for name in self.shard(number).checksums if name != ITEMS]
        return {name: layer_tensor(file, name).clone() for name in names}

    def write(self, number: int, features: Mapping[str, Tensor], items: Sequence[Item | str]) -> None:
        """Writes a shard, which then survives crashes. An existing shard of this number is replaced.

        Args:
            number: The number of the shard.
            features: The features `[rows, ...]` by layer, on any device.
            items: The items in order, those without features among them; a string stands for the item of an id.

        Raises:
            ValueError: If a layer has not as many rows as the items, or rows of another dtype or shape than in the
                other shards.
            OSError: If the shard cannot be written. The store is unchanged.
        """
        listed = [Item(item) if isinstance(item, str) else item for item in items]
        rows = sum(item.rows for item in listed if item.error is None)
        for name, feature in features.items():
            if len(feature) != rows:
                raise ValueError(f"{name!r} has {len(feature)} rows for {rows} rows of items")
        kept = {name: feature.detach().cpu().contiguous() for name, feature in features.items()}
        self._check_layouts(number, kept)
        if number in self._covered:
            mark_stale(self._folder, number)
        self._identity = self._identity or metadata_identity(read_metadata(self._folder))
        write_shard(self._folder, number, kept, listed, self._identity)

    def _check_layouts(self, number: int, features: Mapping[str, Tensor]) -> None:
        """Checks the rows against those of another shard, so that an item that does not fit is refused early."""
        layouts = describe_layouts(features)
        if not self._layouts and (others := [other for other in shard_numbers(self._folder) if other != number]):
            self._layouts, self._layouts_of = self.shard(others[0]).layouts, shard_name(others[0])
        check_layouts(self._layouts, self._layouts_of, layouts, shard_name(number))
        if layouts and not self._layouts:
            self._layouts, self._layouts_of = layouts, shard_name(number)

    @cached_property
    def _covered(self) -> set[int]:
        """The shards that the manifest describes."""
        return covered_shards(self._folder)
