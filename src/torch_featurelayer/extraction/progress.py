"""How far an extraction is."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

from .._exceptions import StoreCorruptError
from ..store import StoreWriter
from .job import Finished


@dataclass
class Progress:
    """How far an extraction is.

    Attributes:
        items: How many there are; None where that is not known before the end.
        before: How many were finished by earlier runs.
        done: How many are finished, those of earlier runs included.
        errors: How many of them have no row.
    """

    items: int | None
    before: int = 0
    done: int = 0
    errors: int = 0
    _start: float = field(default_factory=time.perf_counter, repr=False)

    @property
    def rate(self) -> float:
        """Items per second in this run."""
        return (self.done - self.before) / max(time.perf_counter() - self._start, 1e-9)

    @property
    def remaining(self) -> float | None:
        """Seconds to the end at this rate; None where that is not known."""
        return (self.items - self.done) / self.rate if self.items is not None and self.rate else None


class Tally:
    """Counts what is finished.

    Args:
        writer: Of the store.
        retry_errors: Whether a shard with errors counts as not finished.
        report: Called after each shard.
    """

    def __init__(self, writer: StoreWriter, retry_errors: bool, report: Callable[[Progress], None] | None) -> None:
        self._writer, self._retry, self._report = writer, retry_errors, report
        self._there = writer.finished()
        self.at = Progress(None)

    def has(self, number: int) -> bool:
        """Counts a shard that an earlier run finished; returns whether it did."""
        if number not in self._there:
            return False
        try:
            shard = self._writer.shard(number)
        except StoreCorruptError as error:
            warnings.warn(
                f"{error.path} is damaged ({error.problem}): it is deleted and made again", UserWarning, stacklevel=4
            )
            self._writer.discard(number)
            return False
        if self._retry and shard.errors:
            return False
        self.at.before += len(shard.ids) + len(shard.errors)
        self.at.done += len(shard.ids) + len(shard.errors)
        self.at.errors += len(shard.errors)
        return True

    def add(self, finished: Finished) -> None:
        """Counts a shard that was made now."""
        self.at.done += finished.rows + finished.errors
        self.at.errors += finished.errors
        if self._report is not None:
            self._report(self.at)
