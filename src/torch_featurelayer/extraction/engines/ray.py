"""Ray Data: actors hold the model, and write the shards they make."""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from typing import Any

from ..._exceptions import FeatureLayerError
from ..._optional import need
from ..job import Finished, Job, Report
from ..sources import Items
from .engine import Local


class Ray(Local):
    """A Ray cluster: the one that is connected to, that of `RAY_ADDRESS`, else one started on this machine.

    Args:
        actors: How many processes hold the model; None: one for each GPU, on CPUs as many as leave one free.

    Raises:
        MissingExtraError: Ray is not installed.
    """

    def __init__(self, actors: int | None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        self._ray = need("ray", "ray")
        self._data = need("ray.data", "ray")
        self._actors = actors

    def make(self, job: Job, items: Items, numbers: Sequence[int], report: Report) -> None:
        """Makes shards in actors; every item of Ray's dataset is the number of a shard.

        Raises:
            ItemError, FeatureOverflowError, OSError: What happened in an actor.
        """
        with self._connected():
            self._make(job, items, numbers, report)

    def _make(self, job: Job, items: Items, numbers: Sequence[int], report: Report) -> None:
        needs = {"num_gpus": 1.0} if job.recipe.device.type == "cuda" else {"num_cpus": self._cpus(job)}
        count = min(self._count(needs), len(numbers))
        shards = self._data.from_items([{"number": number} for number in numbers], override_num_blocks=len(numbers))
        held = self._ray.put(job), self._ray.put(items)  # for as long as actors may start again
        finished = shards.map(
            Maker,
            fn_constructor_args=held,
            compute=self._data.ActorPoolStrategy(size=count),
            **needs,
        )
        with closing(iter(finished.iter_rows())) as rows:  # after an error too Ray ends its run before it is shut down
            for row in rows:
                if problem := row.pop("problem"):
                    raise pickle.loads(problem)  # noqa: S301 (from our own actors)
                report(Finished(**row))

    @contextmanager
    def _connected(self) -> Iterator[None]:
        """Uses the cluster that is connected to, or connects to one for as long as this takes."""
        ours = not self._ray.is_initialized()
        if ours:
            self._ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        self._data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        try:
            yield
        finally:
            if ours:
                self._ray.shutdown()

    def _cpus(self, job: Job) -> float:
        """An actor's share of CPUs: its threads, but one CPU of the cluster is left, or Ray could not read."""
        free = self._ray.cluster_resources().get("CPU", 1) - 1
        return float(max(min(job.threads, free), 0.5))

    def _count(self, needs: dict[str, float]) -> int:
        """Returns how many actors there is room for, one CPU left."""
        if self._actors is not None:
            return self._actors
        resources = self._ray.cluster_resources()
        room = resources.get("GPU", 0) if "num_gpus" in needs else resources.get("CPU", 1) - 1
        return max(int(room // next(iter(needs.values()))), 1)


class Maker:
    """An actor: it makes the shard of a number.

    Args:
        job: Where Ray holds the job.
        items: Where Ray holds the items.
    """

    def __init__(self, job: Any, items: Any) -> None:
        ray = need("ray", "ray")
        self._job: Job = ray.get(job)
        self._items: Items = ray.get(items)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Makes one shard; an error of ours is returned, since Ray would wrap it."""
        done = [Finished(int(row["number"]), 0, 0)]
        try:
            self._job.make_items(self._items, [done[0].number], done.append)
        except (FeatureLayerError, OSError) as error:
            return {**asdict(done[0]), "problem": pickle.dumps(error)}
        return {**asdict(done[-1]), "problem": b""}
