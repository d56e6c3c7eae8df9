"""Which calls of a module are wanted, and after which call a forward pass may stop."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..address import Call, Request


class CallSelector:
    """The arithmetic of `@call`; calls are numbered from 0.

    Args:
        call: The call of the address: a number, a negative number from the end, `"*"`, or None for the last call.
        expected: The number of calls in one forward pass, if it is known: the forward pass may then stop early.
            Default: None.

    Attributes:
        last: The number of the last call that is wanted; None if it is not known.
        keeps_all: Whether every call is wanted.
        from_end: The number of latest calls to keep until the last call is known: 1 for the last call itself.
    """

    __slots__ = ("call", "expected", "from_end", "keeps_all", "last")

    def __init__(self, call: Call, expected: int | None = None) -> None:
        self.call, self.expected = call, expected
        self.keeps_all = call == "*"
        self.from_end = -call if isinstance(call, int) and call < 0 else 1
        self.last = self._last()

    def _last(self) -> int | None:
        if isinstance(self.call, int) and self.call >= 0:
            return self.call
        if self.expected is None:
            return None
        return max(self.expected - self.from_end, 0) if isinstance(self.call, int) else self.expected - 1

    def wants(self, number: int) -> bool:
        """Whether the value of a call must be kept."""
        if isinstance(self.call, int) and self.call >= 0:
            return number == self.call
        return self.last is None or number <= self.last

    def selects(self, number: int, seen: int, calls: int) -> bool:
        """Whether a kept call is the wanted one, after the last call of the module.

        Args:
            number: The number of the kept call.
            seen: The number of calls that the capture counted: fewer than `calls` if an operation ran in some only.
            calls: The number of calls of the module.
        """
        if self.call is None:
            return True
        if self.last is not None and seen > self.last:  # the forward pass may have stopped: do not count from the end
            return number == self.last
        return self.call in (number, number - calls)


def call_selectors(requests: Iterable[Request], expected: Sequence[int | None] | None = None) -> list[CallSelector]:
    """Returns a selector for each request.

    Args:
        requests: The requests.
        expected: The number of calls of each request's module in one forward pass. Default: None, unknown.
    """
    if expected is None:
        return [CallSelector(request.address.call) for request in requests]
    return [CallSelector(request.address.call, count) for request, count in zip(requests, expected, strict=True)]
