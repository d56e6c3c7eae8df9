"""The lock of a store: one writer at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .._exceptions import StoreLockedError
from .folder import Folder


@contextmanager
def lock_store(folder: Folder) -> Iterator[None]:
    """Holds the lock of a store; the operating system releases it when the process ends for any reason.

    Object storage has no such lock: two writers of the same features write the same bytes.

    Raises:
        StoreLockedError: If another process, or another writer of this process, holds the lock.
    """
    if not folder.local:
        yield
        return
    import fcntl

    path = Path(folder.at(".lock"))
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        # The file itself stays: deleting it would let a third process lock another file of that name.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise StoreLockedError(folder.path) from error
    try:
        yield
    finally:
        os.close(descriptor)
