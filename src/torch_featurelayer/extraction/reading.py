"""Reads the items of shards, ahead of their use if there are worker processes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, count, islice
from types import TracebackType
from typing import Any, Final, NamedTuple, TypeAlias

import torch
from torch.utils.data import DataLoader

from .._exceptions import EmptyDatasetError
from .batches import Batch
from .sources import IterableSource, MapSource

ShardBatches: TypeAlias = Iterator[tuple[int, Iterator[Batch]]]

_FEW_BATCHES: Final = 8  # for which starting worker processes takes longer than they save
_MOST_WORKERS: Final = 16


class ShardTask(NamedTuple):
    """A shard to extract.

    Attributes:
        number: The number of the shard.
        changed: The indices of the items to extract again; None for all items of the shard.
    """

    number: int
    changed: tuple[int, ...] | None = None


def choose_workers(source: MapSource | IterableSource, batch_size: int, device: torch.device) -> int:
    """Returns the number of worker processes that read items, for a user who does not say.

    Samples in memory need none. Files are decoded beside the model: on a GPU by all processors but one, on a CPU by one
    process, since the model uses the processors itself.
    """
    if isinstance(source, IterableSource) or not source.is_read_from_files or len(source) < _FEW_BATCHES * batch_size:
        return 0
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 1 if device.type == "cpu" else max(min(processors - 1, _MOST_WORKERS), 1)


def read_items(
    source: MapSource,
    tasks: Sequence[ShardTask],
    batch_size: int,
    shard_size: int,
    num_workers: int,
    pin_memory: bool = False,
) -> ShardBatches:
    """Yields the batches of some shards; the batches of one shard must be consumed before the next shard is requested.

    Args:
        source: The items of the whole dataset.
        tasks: The shards.
        batch_size: The number of items in a batch.
        shard_size: The number of items in a shard.
        num_workers: The number of worker processes that read items; 0 for this process.
        pin_memory: Whether inputs are copied to pinned memory, from which a GPU copies while it computes. Default:
            False.
    """
    spans = _Spans(tasks, batch_size, shard_size, len(source))
    batches = (
        _load(source, spans, num_workers, pin_memory) if num_workers or pin_memory else map(source.__getitem__, spans)
    )
    for task in tasks:
        # Counted, because looking for the end of a shard would read a batch of the next one before it is written.
        yield task.number, islice(batches, sum(1 for _ in spans.of(task)))


def _load(source: MapSource, spans: _Spans, num_workers: int, pin_memory: bool) -> Iterator[Batch]:
    """Returns an iterator of batches that are read ahead, or pinned."""
    loader = DataLoader(
        source,
        # The sampler yields spans of indices, and the source returns whole batches: no collating of items.
        sampler=spans,
        batch_size=None,
        num_workers=num_workers,
        collate_fn=_identity,
        pin_memory=pin_memory,
        worker_init_fn=_ignore_lost_connections,
        # Two batches for each worker: enough to hide reading, and a bound on memory.
        prefetch_factor=2 if num_workers else None,
    )
    return iter(loader)


def _ignore_lost_connections(_worker: int) -> None:
    """Leaves it to the process that runs the model to report an interruption.

    A thread of the worker that hands over a tensor at that moment loses its connection, and would print a traceback.
    """
    before = sys.excepthook

    def report(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if not isinstance(error, (ConnectionError, EOFError)):
            before(kind, error, traceback)

    sys.excepthook = report


def read_iterable(
    source: IterableSource,
    batch_size: int,
    shard_size: int,
    finished: set[int],
    skip: Callable[[int, dict[str, str]], None],
) -> ShardBatches:
    """Yields the batches of the shards of an iterable source, without finished shards.

    Args:
        source: The items.
        batch_size: The number of items in a batch.
        shard_size: The number of items in a shard.
        finished: The numbers of the finished shards.
        skip: A function that is called with the number of a finished shard, and the digests by id of the items of the
            source in its place.

    Raises:
        EmptyDatasetError: If the source has no items.
    """
    for number in count():
        if number in finished:
            skip(number, source.skip(shard_size))
            continue
        first = source.take(min(batch_size, shard_size))
        if not len(first) and first.failure is None:
            if not number:
                raise EmptyDatasetError
            return
        yield number, chain([first], _rest(source, batch_size, shard_size - len(first)))


def _rest(source: IterableSource, batch_size: int, left: int) -> Iterator[Batch]:
    while left > 0 and (len(batch := source.take(min(batch_size, left))) or batch.failure is not None):
        left -= len(batch)
        yield batch


class _Spans:
    """The batches of shards, made when they are needed: a large data set has millions.

    Of a shard with changed items, these are the batches with changed items, whole, so that their rows have the same
    bytes.

    Args:
        tasks: The shards.
        batch_size: The number of items in a batch.
        shard_size: The number of items in a shard.
        items: The number of items of the dataset.
    """

    def __init__(self, tasks: Sequence[ShardTask], batch_size: int, shard_size: int, items: int) -> None:
        self._tasks, self._batch_size, self._shard_size, self._items = tasks, batch_size, shard_size, items

    def of(self, task: ShardTask) -> Iterator[range]:
        """Yields the indices of each batch of a shard."""
        stop = min((task.number + 1) * self._shard_size, self._items)
        for first in range(task.number * self._shard_size, stop, self._batch_size):
            span = range(first, min(first + self._batch_size, stop))
            if task.changed is None or any(index in span for index in task.changed):
                yield span

    def __iter__(self) -> Iterator[range]:
        return chain.from_iterable(map(self.of, self._tasks))


def _identity(batch: Any) -> Any:
    return batch
