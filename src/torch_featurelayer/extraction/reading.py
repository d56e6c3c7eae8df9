"""Reading the items of shards, ahead of their use where there are workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, count, groupby
from operator import itemgetter
from typing import Any, TypeAlias

from torch.utils.data import DataLoader

from .batches import Batch
from .sources import Items, Stream

ShardBatches: TypeAlias = Iterator[tuple[int, Iterator[Batch]]]


def read_items(items: Items, numbers: Sequence[int], batch_size: int, shard_rows: int, workers: int) -> ShardBatches:
    """Yields the batches of some shards; each must be used up before the next is asked for.

    Args:
        items: Of the whole dataset.
        numbers: Of the shards.
        batch_size: How many items are read together.
        shard_rows: How many items a shard has.
        workers: How many processes read; 0: this one.
    """
    spans = [(number, span) for number in numbers for span in _spans(number, batch_size, shard_rows, len(items))]
    loader = DataLoader(
        items,
        sampler=[span for _, span in spans],
        batch_size=None,
        num_workers=workers,
        collate_fn=_itself,
        prefetch_factor=2 if workers else None,
    )
    numbered = zip((number for number, _ in spans), loader, strict=True)
    for number, group in groupby(numbered, key=itemgetter(0)):
        yield number, map(itemgetter(1), group)


def read_stream(
    stream: Stream, batch_size: int, shard_rows: int, finished: set[int], skip: Callable[[int, list[str]], None]
) -> ShardBatches:
    """Yields the batches of a stream's shards, those left out that are finished.

    Args:
        stream: The items.
        batch_size: How many items are read together.
        shard_rows: How many items a shard has.
        finished: The shards that need not be made.
        skip: Called with the number of a finished shard, and the ids that the stream has in its place.
    """
    for number in count():
        if number in finished:
            skip(number, stream.pass_over(shard_rows))
            continue
        first = stream.take(min(batch_size, shard_rows))
        if not len(first):
            return
        yield number, chain([first], _rest(stream, batch_size, shard_rows - len(first)))


def _rest(stream: Stream, batch_size: int, left: int) -> Iterator[Batch]:
    while left > 0 and len(batch := stream.take(min(batch_size, left))):
        left -= len(batch)
        yield batch


def _spans(number: int, batch_size: int, shard_rows: int, items: int) -> Iterator[range]:
    start, stop = number * shard_rows, min((number + 1) * shard_rows, items)
    return (range(first, min(first + batch_size, stop)) for first in range(start, stop, batch_size))


def _itself(batch: Any) -> Any:
    return batch
