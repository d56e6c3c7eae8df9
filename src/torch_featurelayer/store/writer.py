"""`StoreWriter`: writes a store, shard by shard."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike

from torch import Tensor

from .folder import Folder
from .lock import lock_store
from .manifest import write_manifest
from .metadata import Metadata, is_store, metadata_identity, read_metadata, write_metadata
from .shards import SHARDS, RowError, Shard, layer_slice, open_shard, read_shard, shard_name, write_shard


class StoreWriter:
    """Writes shards to a store, and lists those that exist.

    Use `StoreWriter.open`, which holds the lock of the store; other processes may `join` its holder.

    Args:
        folder: The folder of the store.
    """

    def __init__(self, folder: str | PathLike[str]) -> None:
        self._folder = Folder(folder)
        self._identity = ""

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

    def finish(self) -> None:
        """Writes the manifest."""
        write_manifest(self._folder, [read_shard(self._folder, name) for name in self._folder.names(SHARDS)])

    def finished_shards(self) -> set[int]:
        """Returns the numbers of the shards that exist."""
        return {int(name.removeprefix(f"{SHARDS}/").partition(".")[0]) for name in self._folder.names(SHARDS)}

    def has(self, number: int) -> bool:
        """Whether a shard exists.

        Args:
            number: The number of the shard.
        """
        return self._folder.exists(shard_name(number))

    def shard(self, number: int) -> Shard:
        """Returns the header of a shard: its ids, and the items without a row.

        Args:
            number: The number of the shard.

        Raises:
            StoreCorruptError: If the shard cannot be read.
        """
        return read_shard(self._folder, shard_name(number))

    def discard(self, number: int) -> None:
        """Deletes a damaged shard, so that it is extracted again.

        Args:
            number: The number of the shard.
        """
        self._folder.delete(shard_name(number))

    def rows(self, number: int) -> dict[str, Tensor]:
        """Reads the features of a shard.

        Args:
            number: The number of the shard.

        Returns:
            The features `[rows, ...]` by layer, on the CPU.
        """
        with open_shard(self._folder, shard_name(number)) as file:
            return {layer: layer_slice(file, layer)[:] for layer in self.shard(number).checksums}

    def write(
        self,
        number: int,
        features: Mapping[str, Tensor],
        ids: Sequence[str],
        errors: Sequence[RowError] = (),
        digests: Sequence[str] = (),
    ) -> None:
        """Writes a shard, which then survives crashes. An existing shard of this number is replaced.

        Args:
            number: The number of the shard.
            features: The features `[rows, ...]` by layer, on any device.
            ids: The ids of the rows.
            errors: The items without a row. Default: none.
            digests: The digests of the items of the rows. Default: none.

        Raises:
            ValueError: If a layer has not as many rows as there are ids.
            OSError: If the shard cannot be written. The store is unchanged.
        """
        for name, feature in features.items():
            if len(feature) != len(ids):
                raise ValueError(f"{name!r} has {len(feature)} rows for {len(ids)} ids")
        self._identity = self._identity or metadata_identity(read_metadata(self._folder))
        kept = {name: feature.detach().cpu().contiguous() for name, feature in features.items()}
        write_shard(self._folder, number, kept, ids, errors, digests or [""] * len(ids), self._identity)
