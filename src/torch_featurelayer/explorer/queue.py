"""One thread for the models: the latest request of each kind is the one that counts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


class StaleError(Exception):
    """A newer request of the same kind has taken the place of this one."""


class ModelThread:
    """Runs calls one after the other in a thread of its own.

    A call whose kind has been asked for again while it waited is not made.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._latest: dict[str, int] = {}

    async def run(self, kind: str, call: Callable[[], Result]) -> Result:
        """Returns what a call returns.

        Args:
            kind: Which requests it replaces: those of one view of one page.
            call: What to do.

        Raises:
            StaleError: There is a newer one.
        """
        number = self._latest[kind] = self._latest.get(kind, 0) + 1

        def unless_stale() -> Result:
            if self._latest[kind] != number:
                raise StaleError
            return call()

        return await asyncio.get_running_loop().run_in_executor(self._thread, unless_stale)

    def close(self) -> None:
        """Waits for the call that is running; those that wait are dropped."""
        self._thread.shutdown(cancel_futures=True)
