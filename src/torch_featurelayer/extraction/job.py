"""`ExtractionJob`: from batches to shards, in any process."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import torch

from .._exceptions import ItemError
from ..store import RowError, StoreWriter
from .batches import Batch
from .reading import ShardBatches, ShardTask, read_items
from .row_buffer import RowBuffer, ShardContent, merge_rows, stored_content
from .runner import FeatureRunner, FeatureSpec
from .sources import MapSource


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


@dataclass(frozen=True)
class ExtractionJob:
    """The parameters of an extraction, for each of its processes.

    Attributes:
        spec: The specification of the features.
        out: The path of the store.
        batch_size: The number of items in a batch.
        shard_size: The number of items in a shard.
        num_workers: The number of worker processes that read items; 0 for the process that runs the model.
        strict: Whether the first item that cannot be read is an error.
        num_threads: The number of threads of the model, on which the last bits of sums depend.
    """

    spec: FeatureSpec
    out: str
    batch_size: int
    shard_size: int
    num_workers: int
    strict: bool
    num_threads: int

    def write_map_shards(self, source: MapSource, tasks: Sequence[ShardTask], report: Report) -> None:
        """Writes some shards of a map-style source."""
        batches = read_items(source, tasks, self.batch_size, self.shard_size, self.num_workers)
        partial_shards = {task.number for task in tasks if task.changed is not None}
        order = {name: place for place, name in enumerate(source.ids)} if partial_shards else {}
        self.write_shards(batches, report, partial_shards, order)

    def write_shards(
        self,
        shards: ShardBatches,
        report: Report,
        partial_shards: Collection[int] = (),
        order: Mapping[str, int] | None = None,
    ) -> None:
        """Writes shards; each is written while the model runs on the next.

        Args:
            shards: The batches of each shard.
            report: A function that is called with the result of each shard.
            partial_shards: The numbers of existing shards of which only some items are extracted again.
            order: The places of all items by id, for these shards.

        Raises:
            ItemError: If `strict` is set and an item cannot be read.
            FeatureOverflowError: If a feature does not fit its dtype.
            OSError: If a shard cannot be written.
        """
        # Leaving the executor waits for the last shard, also after an exception.
        with use_threads(self.num_threads), ThreadPoolExecutor(1) as disk:
            writer = StoreWriter(self.out)
            pending: Future[ShardResult] | None = None
            for number, batches in shards:
                content = self._features(batches)
                if number in partial_shards:
                    content = merge_rows(stored_content(writer, number), content, order or {})
                if pending is not None:
                    report(pending.result())
                pending = disk.submit(_write, writer, number, content)
            if pending is not None:
                report(pending.result())

    @cached_property
    def _runner(self) -> FeatureRunner:
        """The runner of this process, made once because making it may compile the model."""
        return FeatureRunner(self.spec)

    def _features(self, batches: Iterator[Batch]) -> ShardContent:
        ids: list[str] = []
        digests: list[str] = []
        errors: list[RowError] = []
        rows = RowBuffer(self.shard_size)
        for batch in batches:
            if self.strict and batch.errors:
                raise ItemError(batch.errors[0].id, batch.errors[0].reason)
            ids += batch.ids
            digests += batch.digests
            errors += batch.errors
            for inputs in batch.inputs:
                for part in self._runner(inputs):
                    rows.add(part)
        return ShardContent(rows.tensors(), ids, errors, digests)


@contextmanager
def use_threads(count: int) -> Iterator[None]:
    """Sets the number of threads of torch, and restores it."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _write(writer: StoreWriter, number: int, content: ShardContent) -> ShardResult:
    writer.write(number, *content)
    return ShardResult(number, len(content.ids), len(content.errors))
