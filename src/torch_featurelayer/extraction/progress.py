"""The progress of an extraction."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

from .._exceptions import StoreCorruptError
from ..store import Shard, StoreWriter
from ..store.manifest import entry_of
from .job import ShardResult


@dataclass
class Progress:
    """The progress of an extraction.

    Attributes:
        items: The number of items; None for an iterator, whose length is not known.
        before: The number of items that earlier calls finished.
        done: The number of items that are finished, including those of earlier calls.
        errors: The number of finished items without a row.
    """

    items: int | None
    before: int = 0
    done: int = 0
    errors: int = 0
    _start: float = field(default_factory=time.perf_counter, repr=False)

    @property
    def rate(self) -> float:
        """The number of items per second in this call."""
        return (self.done - self.before) / max(time.perf_counter() - self._start, 1e-9)

    @property
    def remaining(self) -> float | None:
        """The number of seconds to the end at this rate; None if it is not known."""
        return (self.items - self.done) / self.rate if self.items is not None and self.rate else None


class ProgressTracker:
    """Counts finished shards.

    Args:
        writer: The writer of the store.
        retry_errors: Whether shards with errors count as unfinished.
        report: A function that is called after each shard; None for no reports.
    """

    def __init__(self, writer: StoreWriter, retry_errors: bool, report: Callable[[Progress], None] | None) -> None:
        self._writer, self._retry, self._report = writer, retry_errors, report
        self._finished = writer.finished_shards()
        self.progress = Progress(None)

    def finished_shard(self, number: int) -> Shard | None:
        """Returns a shard that an earlier call finished; None if it is missing, damaged, or to be retried."""
        if number not in self._finished:
            return None
        try:
            shard = self._writer.shard(number)
        except StoreCorruptError as error:
            warnings.warn(
                f"{error.path} is damaged ({error.problem}): the shard is deleted and extracted again",
                UserWarning,
                stacklevel=5,
            )
            self._writer.discard(number)
            return None
        entry = entry_of(shard)
        return None if self._retry and entry.features < entry.items else shard

    def count(self, shard: Shard) -> None:
        """Counts a shard of an earlier call."""
        entry = entry_of(shard)
        self.progress.before += entry.items
        self.progress.done += entry.items
        self.progress.errors += entry.items - entry.features

    def add(self, result: ShardResult) -> None:
        """Counts a shard of this call."""
        self.progress.done += result.rows + result.errors
        self.progress.errors += result.errors
        if self._report is not None:
            self._report(self.progress)
