"""Which shards of a store are left to extract, and whether the items of the others are those of the dataset."""

from __future__ import annotations

import math
from collections.abc import Iterable

from .._exceptions import StoreMismatchError
from ..store import StoreWriter
from .backends import Backend
from .job import ExtractionJob
from .progress import ProgressTracker
from .reading import ShardTask, read_iterable
from .sources import IterableSource, MapSource


def extract_map(
    job: ExtractionJob, source: MapSource, processes: Backend, tracker: ProgressTracker, *, redo: bool
) -> None:
    """Extracts what is left of a map-style source.

    Raises:
        StoreMismatchError: If the store holds other items, or they have changed and `redo` is not set.
        ValueError: If processes have different items.
    """
    processes.check_items(source)
    numbers = processes.assign(range(math.ceil(len(source) / job.shard_size)))
    tracker.progress.items = sum(min(job.shard_size, len(source) - number * job.shard_size) for number in numbers)
    # A fixed assignment of shards, independent of their state, so that ranks need not communicate.
    tasks = [task for number in numbers if (task := _task(job, source, tracker, number, redo)) is not None]
    if not redo and (items := [source.ids[index] for task in tasks for index in task.changed or ()]):
        raise StoreMismatchError(job.out, {"items": ("as they were read", "changed since")}, items)
    if source.collator.takes_texts:  # batches depend on the lengths of all texts of a shard
        tasks = [ShardTask(task.number) for task in tasks]
    if tasks := processes.agree(tasks):
        processes.write_shards(job, source, tasks, tracker.add, tracker.advance)


def extract_iterable(job: ExtractionJob, source: IterableSource, writer: StoreWriter, tracker: ProgressTracker) -> None:
    """Extracts what is left of an iterable source.

    Raises:
        StoreMismatchError: If the store holds other items, or they have changed.
    """

    def check_items(number: int, items: dict[str, str]) -> None:
        stored = {item.id: item.digest for item in writer.shard(number).items}
        if list(stored) != list(items):
            raise StoreMismatchError(job.out, {f"ids of shard {number}": (_summarize(stored), _summarize(items))})
        if changed := [name for name, digest in items.items() if stored[name] != digest]:
            raise StoreMismatchError(job.out, {"items": ("as they were read", "changed since")}, changed)

    shards = [shard for number in writer.finished_shards() if (shard := tracker.finished_shard(number)) is not None]
    for shard in shards:
        tracker.count(shard)
    finished = {shard.number for shard in shards}
    batches = read_iterable(source, job.batch_size, job.shard_size, finished, check_items)
    job.write_shards(batches, source.collator, tracker.add, advance=tracker.advance)


def _task(job: ExtractionJob, source: MapSource, tracker: ProgressTracker, number: int, redo: bool) -> ShardTask | None:
    """Returns what is left to do of a shard; None if it is finished."""
    if (shard := tracker.finished_shard(number)) is None:
        return ShardTask(number)
    span = range(number * job.shard_size, min((number + 1) * job.shard_size, len(source)))
    items, ids = shard.items, source.ids[span.start : span.stop]
    if (stored := [item.id for item in items]) != ids:
        raise StoreMismatchError(job.out, {f"ids of shard {number}": (_summarize(stored), _summarize(ids))})
    # An item without features has none that could be old: it is read again on request.
    looked_at = ((index, item) for index, item in zip(span, items, strict=True) if redo or item.error is None)
    if changed := tuple(index for index, item in looked_at if item.digest != source.digest(index)):
        return ShardTask(number, changed)
    tracker.count(shard)
    return None


def _summarize(names: Iterable[str]) -> str:
    ids = list(names)
    return f"{ids[0]} to {ids[-1]}, {len(ids)} of them" if ids else "none"
