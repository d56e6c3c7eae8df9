"""Writing a store, shard by shard."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike

from torch import Tensor

from .folder import Folder
from .lock import locked
from .manifest import write_manifest
from .settings import Settings, is_store, write_settings
from .shards import SHARDS, RowError, Shard, read_shard, shard_name, write_shard


class StoreWriter:
    """Adds shards to a store, and says which are there.

    Use `StoreWriter.open`, which holds the store's lock; other processes may help its holder.

    Args:
        folder: Of the store.
    """

    def __init__(self, folder: str | PathLike[str]) -> None:
        self._folder = Folder(folder)

    @classmethod
    @contextmanager
    def open(cls, folder: str | PathLike[str], settings: Settings) -> Iterator[StoreWriter]:
        """Opens a store for writing, a new one or one of the same settings.

        Args:
            folder: Of the store, a path or a URL; it is made where it is not there.
            settings: What the features are: whatever JSON holds.

        Raises:
            StoreTargetError: A file, or a folder with other files, is there.
            StoreLockedError: Another writer is at work.
            StoreMismatchError: The store holds other features.
        """
        writer = cls(folder)
        writer._folder.check_free(is_store(writer._folder))
        with locked(writer._folder):
            write_settings(writer._folder, settings)
            writer._folder.clean()
            try:
                yield writer
            finally:
                writer._folder.clean()

    @classmethod
    @contextmanager
    def join(cls, folder: str | PathLike[str], settings: Settings) -> Iterator[StoreWriter]:
        """Helps a process that has opened the store.

        Raises:
            StoreMismatchError: That process writes other features.
        """
        writer = cls(folder)
        write_settings(writer._folder, settings)
        yield writer

    def finish(self) -> None:
        """Writes the manifest."""
        write_manifest(self._folder, [read_shard(self._folder, name) for name in self._folder.names(SHARDS)])

    def finished(self) -> set[int]:
        """Returns the numbers of the shards that are there."""
        return {int(name.removeprefix(f"{SHARDS}/").partition(".")[0]) for name in self._folder.names(SHARDS)}

    def has(self, number: int) -> bool:
        """Whether a shard is finished."""
        return self._folder.exists(shard_name(number))

    def shard(self, number: int) -> Shard:
        """Returns what is said of a finished shard: its ids, and the items without a row.

        Raises:
            StoreCorruptError: It cannot be read.
        """
        return read_shard(self._folder, shard_name(number))

    def discard(self, number: int) -> None:
        """Deletes a shard that is damaged, so that it is made again."""
        self._folder.delete(shard_name(number))

    def write(
        self, number: int, features: Mapping[str, Tensor], ids: Sequence[str], errors: Sequence[RowError] = ()
    ) -> None:
        """Writes a shard, which is then safe from crashes.

        Args:
            number: Of the shard; one that is there is replaced.
            features: `[rows, ...]` by layer, on any device.
            ids: Of the rows.
            errors: Of the items that have none.

        Raises:
            ValueError: A layer has not as many rows as there are ids.
            OSError: It cannot be written; the store is as it was.
        """
        for name, feature in features.items():
            if len(feature) != len(ids):
                raise ValueError(f"{name!r} has {len(feature)} rows for {len(ids)} ids")
        kept = {name: feature.detach().cpu().contiguous() for name, feature in features.items()}
        write_shard(self._folder, number, kept, ids, errors)
