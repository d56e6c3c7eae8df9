"""The torchrun backend: each process writes the shards of its rank."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch.distributed as dist

from .local import LocalBackend


class TorchrunBackend(LocalBackend):
    """Runs in the processes that torchrun started.

    Ranks take shards rather than samples, because `DistributedSampler` repeats samples to give ranks equal numbers.

    Raises:
        ValueError: If torchrun did not start this process.
    """

    def __init__(self) -> None:
        if "RANK" not in os.environ:
            raise ValueError(
                "backend='torchrun' needs a script that was started with torchrun --nproc-per-node N script.py"
            )
        if not dist.is_initialized():
            # Only barriers are needed, and gloo also works without GPUs.
            dist.init_process_group("gloo")
        self._rank, self._world = dist.get_rank(), dist.get_world_size()
        self.is_leader = self._rank == 0

    def wait(self) -> None:
        """Returns when all ranks have called it."""
        dist.barrier()

    def assign(self, numbers: Sequence[int]) -> list[int]:
        """Returns the shards of this rank, independently of what other ranks have finished."""
        return [number for number in numbers if number % self._world == self._rank]
