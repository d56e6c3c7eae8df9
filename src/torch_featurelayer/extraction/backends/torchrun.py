"""The torchrun backend: each process writes the shards of its rank."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from threading import Event, Thread
from typing import Any, Final

import torch
import torch.distributed as dist

from ..._exceptions import BackendError
from ...store import StoreWriter
from ..job import ExtractionJob
from ..sources import MapSource
from .local import Configure, LocalBackend

_BEAT: Final = 1.0  # seconds between the signs of life of a rank
_SILENCE: Final = 30.0  # seconds without one, after which a rank is considered dead


class TorchrunBackend(LocalBackend):
    """Runs in the processes that torchrun started.

    Ranks take shards rather than samples, because `DistributedSampler` repeats samples to give ranks equal numbers. A
    rank waits for the others as long as they live: a barrier of `torch.distributed` would end a slow rank's peers, and
    hang for half an hour if a rank is gone.

    Raises:
        ValueError: If torchrun did not start this process.
    """

    def __init__(self) -> None:
        if "RANK" not in os.environ:
            raise ValueError(
                "backend='torchrun' needs a script that was started with torchrun --nproc-per-node N script.py"
            )
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))  # so that "cuda" is a GPU of this rank's own
        if not dist.is_initialized():
            # gloo also works without GPUs.
            dist.init_process_group("gloo")
        self._rank, self._world = dist.get_rank(), dist.get_world_size()
        self.is_leader = self._rank == 0
        self._store, self._round = _connect(self._rank), 0

    @contextmanager
    def open(self, out: str, configure: Configure) -> Iterator[tuple[ExtractionJob, StoreWriter]]:
        """Opens the store as `LocalBackend` does, while this rank shows the others that it lives.

        Raises:
            BackendError: If another rank has ended, failed, or does not answer.
        """
        ended = Event()
        beating = Thread(target=self._beat, args=(ended,), daemon=True)
        beating.start()
        try:
            with super().open(out, configure) as opened:
                yield opened
        except BackendError:
            raise
        except BaseException as error:
            self._store.set("failed", f"rank {self._rank} failed: {type(error).__name__}: {error}")
            raise
        finally:
            ended.set()
            beating.join()

    def wait(self) -> None:
        """Returns when all ranks have called it.

        Raises:
            BackendError: If another rank has ended, failed, or does not answer.
        """
        self._round += 1
        try:
            self._meet(f"arrived {self._round}")
            if self.is_leader:  # which holds the counters, and must not end before the others have seen them
                self._meet(f"seen {self._round}")
            else:
                self._store.add(f"seen {self._round}", 1)
        except dist.DistError as error:
            raise BackendError("torchrun", f"rank 0 does not answer ({error})") from error

    def check_items(self, source: MapSource) -> None:
        """Checks that all ranks have the same items, in the same order.

        Raises:
            ValueError: If they do not.
        """
        # The ids of files identify them; those of other samples may be their numbers.
        ends = [] if source.is_read_from_files else [source.digest(index) for index in (0, len(source) - 1)]
        self._check_same("items", [len(source), *ends])

    def assign(self, numbers: Sequence[int]) -> list[int]:
        """Returns the shards of this rank, independently of what other ranks have finished."""
        return [number for number in numbers if number % self._world == self._rank]

    def _check_same(self, name: str, value: Any) -> None:
        if any(each != value for each in self._gather(name, value)):
            raise ValueError(
                "the ranks of torchrun have different data: pass all items, in the same order, to each rank; `extract` "
                "distributes the work"
            )

    def _gather(self, name: str, value: Any) -> list[Any]:
        """Returns the JSON values of all ranks, in order."""
        self._store.set(f"{name} {self._rank}", json.dumps(value))
        self.wait()
        return [json.loads(self._store.get(f"{name} {rank}")) for rank in range(self._world)]

    def _meet(self, name: str) -> None:
        """Adds one to a counter, and returns when all ranks have."""
        self._store.add(name, 1)
        beats, since = dict.fromkeys(range(self._world), -1), dict.fromkeys(range(self._world), time.monotonic())
        while self._store.add(name, 0) < self._world:
            if self._store.check(["failed"]):
                raise BackendError("torchrun", self._store.get("failed").decode())
            for rank in beats:
                if (count := self._store.add(f"beat {rank}", 0)) != beats[rank]:
                    beats[rank], since[rank] = count, time.monotonic()
                elif rank != self._rank and time.monotonic() - since[rank] > _SILENCE:
                    raise BackendError("torchrun", f"rank {rank} has ended, or has not answered for {_SILENCE:.0f} s")
            time.sleep(0.05)

    def _beat(self, ended: Event) -> None:
        while not ended.wait(_BEAT):
            try:
                self._store.add(f"beat {self._rank}", 1)
            except dist.DistError:  # rank 0 is gone; `wait` says so
                return


def _connect(rank: int) -> Any:
    """Returns counters that all ranks share, which rank 0 holds: a `TCPStore`."""
    host, kind = os.environ.get("MASTER_ADDR", "localhost"), dist.TCPStore  # type: ignore[attr-defined]
    limit = timedelta(seconds=_SILENCE)
    store = kind(host, 0, is_master=True, wait_for_workers=False, timeout=limit) if rank == 0 else None
    port = [store.port if store is not None else 0]
    dist.broadcast_object_list(port, src=0)
    return store or kind(host, port[0], is_master=False, timeout=limit)
