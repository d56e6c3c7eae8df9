"""Making shards, in any process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import torch
from torch import Tensor

from .._exceptions import ItemError
from ..store import RowError, StoreWriter
from .batches import Batch
from .reading import ShardBatches, read_items
from .rows import Rows
from .runner import Recipe, Runner
from .sources import Items


@dataclass(frozen=True)
class Finished:
    """A shard that is written.

    Attributes:
        number: Of the shard.
        rows: How many items have features.
        errors: How many have none.
    """

    number: int
    rows: int
    errors: int


Report: TypeAlias = Callable[[Finished], None]


@dataclass(frozen=True)
class Job:
    """What every process of an extraction knows.

    Attributes:
        recipe: How features are made.
        out: The store.
        batch_size: How many items are read together.
        shard_rows: How many items a shard has.
        workers: How many processes read ahead; 0: the one that runs the model.
        strict: Whether the first item that cannot be read is an error.
        threads: How many threads the model runs in: sums depend on it in their last bits.
    """

    recipe: Recipe
    out: str
    batch_size: int
    shard_rows: int
    workers: int
    strict: bool
    threads: int

    def make_items(self, items: Items, numbers: Sequence[int], report: Report) -> None:
        """Makes some shards of items."""
        self.make(read_items(items, numbers, self.batch_size, self.shard_rows, self.workers), report)

    def make(self, shards: ShardBatches, report: Report) -> None:
        """Makes shards: each is written while the model runs on the next.

        Raises:
            ItemError: With `strict`, an item cannot be read.
            FeatureOverflowError: A feature does not fit its dtype.
            OSError: A shard cannot be written.
        """
        with using_threads(self.threads), ThreadPoolExecutor(1) as disk:
            writer = StoreWriter(self.out)
            pending: Future[Finished] | None = None
            for number, batches in shards:
                made = self._features(batches)
                if pending is not None:
                    report(pending.result())
                pending = disk.submit(_write, writer, number, *made)
            if pending is not None:
                report(pending.result())

    @cached_property
    def _runner(self) -> Runner:
        """Made once in a process, however often it is asked for shards: making it may compile."""
        return Runner(self.recipe)

    def _features(self, batches: Iterator[Batch]) -> tuple[Mapping[str, Tensor], list[str], list[RowError]]:
        ids: list[str] = []
        errors: list[RowError] = []
        rows = Rows(self.shard_rows)
        for batch in batches:
            if self.strict and batch.errors:
                raise ItemError(batch.errors[0].id, batch.errors[0].reason)
            ids += batch.ids
            errors += batch.errors
            for inputs in batch.inputs:
                for part in self._runner(inputs):
                    rows.add(part)
        return rows.tensors(), ids, errors


@contextmanager
def using_threads(count: int) -> Iterator[None]:
    """Lets torch compute in so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _write(
    writer: StoreWriter, number: int, features: Mapping[str, Tensor], ids: list[str], errors: list[RowError]
) -> Finished:
    writer.write(number, features, ids, errors)
    return Finished(number, len(ids), len(errors))
