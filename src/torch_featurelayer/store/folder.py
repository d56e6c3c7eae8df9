"""Folders in which a file appears completely or not at all, on this machine or on object storage."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from .._exceptions import StoreTargetError

_TEMPORARY: Final = ".torch_featurelayer.tmp"  # a name that no folder of a user has
LOCK: Final = ".lock"
_OWN: Final = frozenset([_TEMPORARY, LOCK])  # left behind by a writer that was killed at its start


def is_local(path: str) -> bool:
    """Whether a path is in the local file system. fsspec would parse `::` in it as a chain of URLs."""
    return "://" not in path.partition("::")[0]


class Folder:
    """The files in a folder, by name. fsspec, which torch depends on, supports object storage.

    Args:
        path: A path, or a URL such as `s3://bucket/features`.

    Attributes:
        path: The path as given.
        local: Whether it is in the local file system.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = fspath(path)
        system, root = (LocalFileSystem(), os.path.abspath(self.path)) if is_local(self.path) else url_to_fs(self.path)
        self._system: Any = system
        self._root: str = root.rstrip("/")
        self.local = isinstance(system, LocalFileSystem)

    def at(self, name: str) -> str:
        """Returns the full path of a file in the notation of its file system."""
        return f"{self._root}/{name}"

    def exists(self, name: str) -> bool:
        """Whether a file exists.

        Raises:
            OSError: If that cannot be determined, for example because a server does not answer.
        """
        self._system.invalidate_cache()
        # Not `isfile`, for which any error means that there is no file.
        try:
            return bool(self._system.info(self.at(name))["type"] == "file")
        except (FileNotFoundError, NotADirectoryError):
            return False

    def names(self, folder: str) -> list[str]:
        """Returns the names of the finished files in a subfolder, sorted."""
        self._system.invalidate_cache()
        if not self._system.isdir(self.at(folder)):
            return []
        found = (path.rpartition("/")[2] for path in self._system.ls(self.at(folder), detail=False))
        return sorted(f"{folder}/{name}" for name in found if name)

    def size(self, name: str) -> int:
        """Returns the size of a file in bytes."""
        return int(self._system.size(self.at(name)))

    def read(self, name: str, start: int | None = None, stop: int | None = None) -> bytes:
        """Reads a file, or a range of its bytes."""
        return bytes(self._system.cat_file(self.at(name), start=start, end=stop))

    @contextmanager
    def replacing(self, name: str) -> Iterator[Path]:
        """Yields a temporary path; the file appears completely, and synced to disk, when the block ends, or not at all.

        Raises:
            OSError: If there is no space or no permission. Nothing is left behind.
        """
        folder = Path(self._root, _TEMPORARY) if self.local else Path(self._copies, _TEMPORARY)
        folder.mkdir(parents=True, exist_ok=True)
        # In the store's own folder, because a rename is atomic only within a file system.
        temporary = folder / uuid4().hex
        try:
            yield temporary
            if self.local:
                _commit(temporary, Path(self.at(name)))
            else:  # an object appears when its upload is complete
                self._system.put_file(str(temporary), self.at(name))
        finally:
            temporary.unlink(missing_ok=True)

    def write(self, name: str, content: bytes) -> None:
        """Writes a file through `replacing`."""
        with self.replacing(name) as path:
            path.write_bytes(content)

    def delete(self, name: str, *, missing_ok: bool = False) -> None:
        """Deletes a file.

        Raises:
            FileNotFoundError: If there is no such file, unless `missing_ok` is set.
        """
        if not (missing_ok and not self.exists(name)):
            self._system.rm_file(self.at(name))

    def check_free(self, is_store: bool) -> None:
        """Checks that a new store would not mix with other files.

        Raises:
            StoreTargetError: If the path is a file, or a folder with other files.
        """
        if not self.local or is_store:
            return
        root = Path(self._root)
        if root.exists() and not root.is_dir():
            raise StoreTargetError(self.path, "it is a file")
        others = [path.name for path in root.iterdir() if path.name not in _OWN] if root.exists() else []
        if others:
            raise StoreTargetError(self.path, f"the folder holds other files, such as {others[0]!r}")

    def clean(self) -> None:
        """Removes temporary files of writers that were killed."""
        if self.local:
            shutil.rmtree(self.at(_TEMPORARY), ignore_errors=True)

    def local_path(self, name: str) -> str:
        """Returns the path of a file on this machine: the file itself, or a copy of an object, downloaded once."""
        if self.local:
            return self.at(name)
        copy = Path(self._copies, name)
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            self._system.get_file(self.at(name), f"{copy}{_TEMPORARY}")
            Path(f"{copy}{_TEMPORARY}").replace(copy)
        return str(copy)

    @cached_property
    def _copies(self) -> str:
        """The folder of downloaded copies, which is deleted with this object."""
        folder = tempfile.mkdtemp(prefix="featurelayer-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return folder

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_copies"}


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside a local file; it takes the file's place when the block ends, or disappears.

    Unlike `Folder.replacing`, it does not wait for the disk: for files that can be made again.

    Raises:
        OSError: If there is no space or no permission.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _commit(temporary: Path, path: Path) -> None:
    """Moves a file to its place after syncing it to disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary.chmod(path.parent.stat().st_mode & 0o666)  # some libraries create files that only their owner can read
    _sync(temporary)
    # The file is on disk before its name is: a crash between the two leaves nothing.
    temporary.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on disk."""
    if os.name == "nt":  # Windows opens no folders, and flushes only files that are open for writing
        if path.is_dir():
            return
        flags = os.O_RDWR
    else:
        flags = os.O_RDONLY
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
