"""The progress of an extraction."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from .._exceptions import StoreCorruptError
from ..store import Shard, StoreWriter
from ..store.manifest import entry_of
from .job import ExtractionJob, ShardResult

_INTERVAL: Final = 0.5  # seconds between reports inside a shard


@dataclass
class Progress:
    """The progress of an extraction.

    Attributes:
        items: The number of items; None for an iterator, whose length is not known.
        before: The number of items that earlier calls finished.
        done: The number of items that are computed, including those of earlier calls.
        errors: The number of finished items without features.
        setup: How items are read and computed, such as `"batches of 16, 1 worker, eager"`.
    """

    items: int | None
    before: int = 0
    done: int = 0
    errors: int = 0
    setup: str = ""
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
    """Counts items, and reports them: those of the first batch, then twice a second, and each shard.

    Args:
        writer: The writer of the store.
        retry_errors: Whether shards with errors count as unfinished.
        report: A function that is called with the progress; None for no reports.
        setup: How items are read and computed.
    """

    def __init__(
        self, writer: StoreWriter, retry_errors: bool, report: Callable[[Progress], None] | None, setup: str
    ) -> None:
        self._writer, self._retry, self._report = writer, retry_errors, report
        self._finished = writer.finished_shards()
        self.progress = Progress(None, setup=setup)
        self._running = 0  # items that are computed and whose shard is not written
        self._reported = 0.0

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
        computed = min(self._running, result.rows + result.errors)
        self._running -= computed
        self.progress.done += result.rows + result.errors - computed
        self.progress.errors += result.errors
        self._call_report()

    def advance(self, items: int) -> None:
        """Counts items that were computed."""
        self._running += items
        self.progress.done += items
        if time.monotonic() - self._reported >= _INTERVAL:
            self._call_report()

    def _call_report(self) -> None:
        self._reported = time.monotonic()
        if self._report is not None:
            self._report(self.progress)


def describe_setup(job: ExtractionJob) -> str:
    """Returns how items are read and computed, for the user."""
    workers = f"{job.num_workers} worker{'s' if job.num_workers != 1 else ''}"
    dtype = str(job.spec.precision or job.spec.autocast or "").removeprefix("torch.")
    return ", ".join(
        filter(None, [f"batches of {job.batch_size}", workers, str(job.spec.mode), dtype, str(job.spec.device)])
    )
