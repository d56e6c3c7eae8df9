"""Reading of one item: retries of temporary failures, and the reason if it cannot be read."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from typing import Any, Final

from ..._exceptions import TemporaryReadError
from ..identity import strip_addresses

_DELAYS: Final = (0.2, 0.8, 3.0)  # seconds between attempts
_TEMPORARY: Final = (ConnectionError, TimeoutError, PermissionError, BlockingIOError, InterruptedError, MemoryError)
_TEMPORARY_CODES: Final = frozenset(
    [
        errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EBUSY, errno.ETIMEDOUT,
        errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ECONNRESET,
    ]
)  # fmt: skip
# Exceptions of these packages are about the network; their types are not those of Python.
_NETWORK: Final = frozenset(["aiohttp", "botocore", "google", "httpx", "httpx2", "requests", "urllib3", "azure"])


def read_patiently(read: Callable[[], Any], name: str) -> Any:
    """Reads an item, again after some time if a temporary failure prevents it.

    Args:
        read: Reads the item.
        name: The id of the item.

    Raises:
        TemporaryReadError: If the failure lasts. It is not recorded as that of the item.
    """
    for delay in (*_DELAYS, None):
        try:
            return read()
        except Exception as error:
            if not is_temporary(error):
                raise
            if delay is None:
                raise TemporaryReadError(name, describe(error)) from error
            time.sleep(delay)
    raise AssertionError("unreachable")


def file_state(path: str | os.PathLike[str]) -> str:
    """Returns the size and the time of modification of a file on this machine."""
    found = os.stat(path)
    return f"{found.st_size} bytes at {found.st_mtime_ns}"


def is_temporary(error: BaseException) -> bool:
    """Whether an exception is about the network, permissions or memory rather than about the item."""
    if isinstance(error, (FileNotFoundError, IsADirectoryError, NotADirectoryError)):
        return False
    if isinstance(error, _TEMPORARY) or (isinstance(error, OSError) and error.errno in _TEMPORARY_CODES):
        return True
    return type(error).__module__.partition(".")[0] in _NETWORK


def describe(error: BaseException) -> str:
    """Returns the type and the message of an exception, without memory addresses."""
    return to_unicode(strip_addresses(f"{type(error).__name__}: {error}"))


def to_unicode(text: str) -> str:
    r"""Returns a text with lone surrogates, as in names of files that are not UTF-8, escaped: Arrow rejects them."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
