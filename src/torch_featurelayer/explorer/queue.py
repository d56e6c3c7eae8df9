"""One thread for the models, in which the latest request of each kind replaces earlier ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


class StaleError(Exception):
    """A newer request of the same kind replaced this one."""


class ModelThread:
    """Runs calls one after another in one thread.

    A waiting call is skipped if a newer call of its kind arrives.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._latest: dict[str, int] = {}

    async def run(self, kind: str, call: Callable[[], Result], number: int | None = None) -> Result:
        """Returns the result of a call.

        Args:
            kind: The kind of request, such as one view of one page.
            call: The function to call.
            number: The number of the request among those of its page: requests may arrive in another order. Default:
                None, after all that have arrived.

        Raises:
            StaleError: If a newer request replaced this one.
        """
        latest = self._latest.get(kind, 0)
        number = latest + 1 if number is None else number
        self._latest[kind] = max(latest, number)

        def unless_stale() -> Result:
            # Checked in the thread of the models, when the call would begin.
            if self._latest[kind] != number:
                raise StaleError
            return call()

        return await asyncio.get_running_loop().run_in_executor(self._thread, unless_stale)

    def close(self) -> None:
        """Waits for the running call, and cancels waiting ones."""
        self._thread.shutdown(cancel_futures=True)
