"""`ExtractionJob`: from batches to shards, in any process."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from types import FrameType
from typing import Any, Final, Literal, TypeAlias

import torch

from .._exceptions import ItemError, NonFiniteError
from ..store import Item, StoreWriter
from .batches import Batch, take_rows
from .collating import Collator
from .memory import keep_memory
from .reading import ShardBatches, ShardTask, read_items
from .row_buffer import RowBuffer, ShardContent, merge_rows, stored_content
from .runner import FeatureRunner, RejectedError
from .sources import MapSource
from .sources.reading import describe
from .spec import FeatureSpec

Finite: TypeAlias = Literal["record", "raise"]

_MOST_REJECTED: Final = 16  # items; if a shard begins with as many that the model rejects, the fault is not theirs


@dataclass(frozen=True)
class ShardResult:
    """The result of writing a shard.

    Attributes:
        number: The number of the shard.
        rows: The number of items with features.
        errors: The number of items without features.
    """

    number: int
    rows: int
    errors: int


Report: TypeAlias = Callable[[ShardResult], None]
Advance: TypeAlias = Callable[[int], None]


@dataclass(frozen=True)
class ExtractionJob:
    """The parameters of an extraction, for each of its processes.

    Attributes:
        spec: The specification of the features.
        out: The path of the store.
        batch_size: The number of items in a batch.
        shard_size: The number of items in a shard.
        num_workers: The number of worker processes that read items; 0 for the process that runs the model.
        strict: Whether the first item without features is an error.
        finite: Whether NaN and infinite values are recorded or an error.
        num_threads: The number of threads of the model, on which the last bits of sums depend.
        runner: The runner of the specification, if one was made already; other processes make their own.
        writes: Whether this process writes the shards that it computes. Default: True.
    """

    spec: FeatureSpec
    out: str
    batch_size: int
    shard_size: int
    num_workers: int
    strict: bool
    finite: Finite
    num_threads: int
    runner: FeatureRunner | None = field(default=None, compare=False, repr=False)
    writes: bool = True

    def __getstate__(self) -> dict[str, Any]:
        kept = {name: value for name, value in self.__dict__.items() if name != "_runner"}
        return {**kept, "runner": None}

    def write_map_shards(
        self, source: MapSource, tasks: list[ShardTask], report: Report, advance: Advance | None = None
    ) -> None:
        """Writes some shards of a map-style source; see `write_shards`."""
        pinned = self.spec.device.type == "cuda"
        batches = read_items(source, tasks, self.batch_size, self.shard_size, self.num_workers, pinned)
        partial_shards = {task.number for task in tasks if task.changed is not None}
        self.write_shards(batches, source.collator, report, partial_shards, advance)

    def write_shards(
        self,
        shards: ShardBatches,
        collator: Collator,
        report: Report,
        partial_shards: Collection[int] = (),
        advance: Advance | None = None,
    ) -> None:
        """Writes shards; each is written while the model runs on the next.

        Args:
            shards: The batches of each shard.
            collator: The collator of the source.
            report: A function that is called with the result of each shard.
            partial_shards: The numbers of existing shards of which only some items are extracted again.
            advance: A function that is called with the number of items after each batch. Default: None.

        Raises:
            ItemError: If `strict` is set and an item has no features.
            TemporaryReadError: If an item could not be read because of a temporary failure.
            FeatureOverflowError: If a feature does not fit its dtype.
            NonFiniteError: If `finite="raise"` and a feature has NaN or infinite values.
            OSError: If a shard cannot be written.
        """
        # Leaving the executor waits for the last shard, also after an exception.
        with use_threads(self.num_threads), keep_memory(), ThreadPoolExecutor(1) as disk:
            writer = StoreWriter(self.out)
            pending: Future[ShardResult] | None = None
            for number, batches in shards:
                if pending is None:
                    # While the first items are read. Worker processes run by now: a fork would copy locks of imports.
                    with _deferred_interrupts():
                        disk.submit(writer.prepare)
                content = self._features(collator.arrange(batches, self.batch_size), advance)
                if number in partial_shards and self.writes:
                    content = merge_rows(stored_content(writer, number), content)
                if pending is not None:
                    report(_wait(pending))
                with _deferred_interrupts():
                    pending = disk.submit(_write, writer if self.writes else None, number, content)
            if pending is not None:
                report(_wait(pending))

    @cached_property
    def _runner(self) -> FeatureRunner:
        """The runner of this process, made once because making it may compile the model."""
        return self.runner or FeatureRunner(self.spec)

    def _features(self, batches: Iterator[Batch], advance: Advance | None) -> ShardContent:
        items: list[Item] = []
        rows = RowBuffer(self.shard_size)
        for batch in batches:
            if batch.failure is not None:
                raise batch.failure
            start = len(items)
            items += batch.items
            for group in batch.groups:
                self._add(items, [start + place for place in group.places], group.inputs, rows)
                if advance is not None:
                    advance(len(group.places))
            if self.strict and (failed := next((item for item in items[start:] if item.error is not None), None)):
                raise ItemError(failed.id, str(failed.error))
        self._runner.check_overflow()
        content = rows.content(items)
        if self.finite == "raise":
            self._check_finite(content)
        return content

    def _add(self, items: list[Item], places: list[int], inputs: Any, rows: RowBuffer) -> None:
        """Computes the rows of some items; those that the model rejects, each alone, become errors.

        Raises:
            Exception: The exception of the model, if it accepts each item alone, or has rejected all items so far.
        """
        try:
            rows.add(places, self._runner(inputs), items[places[0]].id)
        except RejectedError as error:
            if len(places) == 1:
                self._reject(items, places[0], error.cause, rows)
                return
            before = rows.rejected
            for number, place in enumerate(places):
                self._add(items, [place], take_rows(inputs, slice(number, number + 1)), rows)
            if rows.rejected == before:
                raise error.cause from error

    def _reject(self, items: list[Item], place: int, cause: Exception, rows: RowBuffer) -> None:
        """Records that the model rejects an item.

        Raises:
            Exception: The cause, if the model has rejected all items so far.
        """
        items[place] = items[place]._replace(error=describe(cause), rows=0)
        rows.rejected += 1
        if rows.is_empty and rows.rejected >= _MOST_REJECTED:
            raise cause

    def _check_finite(self, content: ShardContent) -> None:
        for item in content.items:
            if item.nonfinite:
                raise NonFiniteError(", ".join(self.spec.layers), item.nonfinite, id=item.id)


@contextmanager
def use_threads(count: int) -> Iterator[None]:
    """Sets the number of threads of torch, and restores it."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def eval_mode(model: torch.nn.Module) -> Iterator[None]:
    """Switches a model to eval mode, and restores the mode of each of its modules."""
    training = [module for module in model.modules() if module.training]
    try:
        model.eval()
    except NotImplementedError:  # of torch.export, where the mode is part of the graph
        for module in training:
            module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def _deferred_interrupts() -> Iterator[None]:
    """Defers Ctrl-C to the end of the block.

    A KeyboardInterrupt while this thread holds a lock of the executor would leave it locked, and the thread that writes
    shards would wait for it for ever.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[tuple[int, FrameType | None]] = []
    before = signal.signal(signal.SIGINT, lambda *arguments: received.append(arguments))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if received and callable(before):
            before(*received[0])


def _wait(pending: Future[ShardResult]) -> ShardResult:
    """Returns the result of a shard that is being written, which takes a moment."""
    with _deferred_interrupts():
        return pending.result()


def _write(writer: StoreWriter | None, number: int, content: ShardContent) -> ShardResult:
    if writer is not None:
        writer.write(number, content.features, content.items)
    failed = sum(item.error is not None for item in content.items)
    return ShardResult(number, len(content.items) - failed, failed)
