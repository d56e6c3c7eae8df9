"""What an engine is, and the one of this process alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, TypeAlias

from ..job import Job, Report
from ..sources import Items

EngineName: TypeAlias = Literal["torchrun", "ray"]


class Engine(Protocol):
    """Shares the shards of a job out.

    Attributes:
        leads: Whether this process opens the store and ends it.
    """

    leads: bool

    def wait(self) -> None:
        """Returns when all processes have come here."""

    def share(self, numbers: Sequence[int]) -> list[int]:
        """Returns the shards that this process sees to."""

    def make(self, job: Job, items: Items, numbers: Sequence[int], report: Report) -> None:
        """Makes shards."""


class Local:
    """This process alone."""

    leads = True

    def wait(self) -> None:
        """Nobody else is to come."""

    def share(self, numbers: Sequence[int]) -> list[int]:
        """Returns all."""
        return list(numbers)

    def make(self, job: Job, items: Items, numbers: Sequence[int], report: Report) -> None:
        """Makes shards here."""
        job.make_items(items, numbers, report)


def engine_of(name: str | None, actors: int | None) -> Engine:
    """Returns an engine by name.

    Raises:
        ValueError: There is none of that name, or torchrun did not start this process.
        MissingExtraError: Ray is not installed.
    """
    if name is None:
        return Local()
    if name == "ray":
        from .ray import Ray

        return Ray(actors)
    if name == "torchrun":
        from .torchrun import Torchrun

        return Torchrun()
    raise ValueError(f"there is no engine {name!r}: None (this process), 'torchrun' or 'ray'")
