"""Which calls of a module are wanted, and after which one nothing more is."""

from __future__ import annotations

from dataclasses import dataclass

from ..address import Call


@dataclass(frozen=True, slots=True)
class CallSelector:
    """The arithmetic of `@call`, over calls numbered from 0.

    Attributes:
        call: As in the address: a number, a negative number from the end, `"*"`, or None for the last call.
        expected: How many calls one forward pass makes, if known: a forward pass may then stop early.
    """

    call: Call
    expected: int | None = None

    @property
    def keeps_all(self) -> bool:
        """Whether every call is wanted."""
        return self.call == "*"

    @property
    def from_end(self) -> int:
        """How many of the latest calls must be kept until the last one is known: 1 for the last call itself."""
        return -self.call if isinstance(self.call, int) and self.call < 0 else 1

    @property
    def last(self) -> int | None:
        """The number of the call after which nothing more is wanted; None if that is not known."""
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

    def is_done(self, calls: int) -> bool:
        """Whether nothing more is wanted after so many calls."""
        return self.last is not None and calls > self.last
