"""The processes that torchrun started: each makes the shards of its rank."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch.distributed as dist

from .engine import Local


class Torchrun(Local):
    """One of the processes that torchrun started.

    Shards go by rank, not samples as with `DistributedSampler`, which repeats some to make the shares equal.

    Raises:
        ValueError: torchrun did not start this process.
    """

    def __init__(self) -> None:
        if "RANK" not in os.environ:
            raise ValueError("engine='torchrun' is for a script started with torchrun --nproc-per-node N script.py")
        if not dist.is_initialized():
            dist.init_process_group("gloo")
        self._rank, self._world = dist.get_rank(), dist.get_world_size()
        self.leads = self._rank == 0

    def wait(self) -> None:
        """Returns when all ranks have come here."""
        dist.barrier()

    def share(self, numbers: Sequence[int]) -> list[int]:
        """Returns those of this rank: a rule that does not depend on what others have finished meanwhile."""
        return [number for number in numbers if number % self._world == self._rank]
