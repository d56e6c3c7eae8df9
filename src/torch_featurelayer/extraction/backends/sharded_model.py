"""The torchrun backend for a model whose weights are sharded over its ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import torch
from torch import Tensor

from ...store import store_metadata
from ..autotune import first_batch
from ..compiling import relative_error
from ..identity import digest
from ..job import Advance, ExtractionJob, Report
from ..reading import ShardTask
from ..runner import FeatureRunner
from ..sources import MapSource
from .local import Configure
from .torchrun import TorchrunBackend

_COMPARED: Final = 1000  # values of the first row
_ROUNDING: Final = 0.05  # the relative error of two ranks that compute the same


class ShardedModelBackend(TorchrunBackend):
    """All ranks compute all items, since each has a part of the weights; rank 0 writes.

    With other items on each rank, the ranks of tensor parallelism would add up features of different items, and those
    of FSDP would wait for each other for ever.
    """

    def assign(self, numbers: Sequence[int]) -> list[int]:
        """Returns all shards."""
        return list(numbers)

    def agree(self, tasks: list[ShardTask]) -> list[ShardTask]:
        """Returns the tasks of rank 0: it may look at the store at another time, or see an older state of it."""
        return [
            ShardTask(number, None if changed is None else tuple(changed))
            for number, changed in self._gather("tasks", tasks)[0]
        ]

    def write_shards(
        self, job: ExtractionJob, source: MapSource, tasks: list[ShardTask], report: Report, advance: Advance
    ) -> None:
        """Computes shards in all ranks, and writes them in rank 0.

        Raises:
            ValueError: If ranks have other items, or only parts of a feature.
        """
        runner = job.runner or FeatureRunner(job.spec)
        job = replace(job, runner=runner, writes=self.is_leader)
        if (batch := first_batch(source, job.batch_size)) is not None:
            self._check_same("batch", digest(batch, strict=False))
            self._check_whole(runner(batch).features)
        super().write_shards(job, source, tasks, report, advance)

    def _configure(self, out: str, configure: Configure) -> tuple[ExtractionJob, dict[str, Any]]:
        """Returns the job and the metadata, in all ranks at once, because they gather the weights to identify them."""
        found = configure(self._gather("metadata", store_metadata(out))[0])
        if not self.is_leader:
            self.wait()
        return found

    def _check_whole(self, rows: Mapping[str, Tensor]) -> None:
        """Checks that features are the same on all ranks.

        Raises:
            ValueError: If they are not.
        """
        found = self._gather("rows", {name: [list(value.shape), _start(value)] for name, value in rows.items()})
        for name, (shape, values) in found[0].items():
            others = [each[name] for each in found[1:]]
            if any(each[0] != shape or _differ(each[1], values) for each in others):
                raise ValueError(
                    f"{name!r} is another tensor on each rank, a part of the feature ({shape} on rank 0), because the "
                    "model is sharded there. Name a layer whose output is whole, such as the next row-wise one, or "
                    "shard this layer with use_local_output=False"
                )


def _start(rows: Tensor) -> list[float]:
    values: list[float] = rows[:1].flatten()[:_COMPARED].double().tolist()
    return values


def _differ(one: list[float], other: list[float]) -> bool:
    return relative_error(torch.tensor(one), torch.tensor(other)) > _ROUNDING
