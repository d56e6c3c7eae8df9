"""The lock of a store: one writer at a time."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# filelock, which torch depends on: locks of Linux, macOS and Windows.
from filelock import FileLock, Timeout

from .._exceptions import StoreLockedError
from .folder import LOCK, Folder

_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def lock_store(folder: Folder) -> Iterator[None]:
    """Holds the lock of a store; the operating system releases it when the process ends for any reason.

    Object storage has no such lock: two writers of the same features write the same bytes. A folder that cannot be
    written needs none.

    Raises:
        StoreLockedError: If another process, or another writer of this process, holds the lock.
    """
    if not folder.local:
        yield
        return
    path = Path(folder.at(LOCK))
    lock = FileLock(path, timeout=0)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise StoreLockedError(folder.path) from error
    except OSError as error:
        if error.errno not in _READ_ONLY or not path.parent.is_dir():
            raise
    try:
        yield
    finally:
        lock.release()
