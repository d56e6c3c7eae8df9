"""The Ray backend: actors hold the model and write the shards."""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from typing import Any

from ..._exceptions import FeatureLayerError
from ..._optional import need
from ..job import Advance, ExtractionJob, Report, ShardResult
from ..reading import ShardTask
from ..sources import MapSource
from .local import LocalBackend


class RayBackend(LocalBackend):
    """Runs on a Ray cluster: the connected one, the one of `RAY_ADDRESS`, or a new one on this machine.

    Args:
        num_actors: The number of actors; None for one for each GPU, or on CPUs as many as leave one CPU free.

    Raises:
        MissingExtraError: If Ray is not installed.
    """

    def __init__(self, num_actors: int | None) -> None:
        # Before the import of ray, which reads it.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        self._ray = need("ray", "ray")
        self._data = need("ray.data", "ray")
        self._num_actors = num_actors

    def write_shards(
        self,
        job: ExtractionJob,
        source: MapSource,
        tasks: list[ShardTask],
        report: Report,
        advance: Advance,  # noqa: ARG002 (actors report whole shards)
    ) -> None:
        """Writes shards in actors; each item of the Ray dataset is the number of a shard.

        Raises:
            ItemError: If `strict` is set and an item cannot be read in an actor.
            FeatureOverflowError: If a feature does not fit its dtype in an actor.
            OSError: If a shard cannot be written in an actor.
        """
        with self._connect():
            self._write_shards(job, source, tasks, report)

    def _write_shards(self, job: ExtractionJob, source: MapSource, tasks: list[ShardTask], report: Report) -> None:
        needs = {"num_gpus": 1.0} if job.spec.device.type == "cuda" else {"num_cpus": self._cpus(job)}
        count = min(self._count(needs), len(tasks))
        # One block for each shard, so that Ray schedules shards, not ranges of them.
        shards = self._data.from_items(
            [{"number": task.number, "task": pickle.dumps(task)} for task in tasks], override_num_blocks=len(tasks)
        )
        references = self._ray.put(job), self._ray.put(source)  # kept while actors may be restarted
        finished = shards.map(
            ShardActor,
            fn_constructor_args=references,
            compute=self._data.ActorPoolStrategy(size=count),
            **needs,
        )
        with closing(
            iter(finished.iter_rows())
        ) as rows:  # also after an error, Ray must end its run before it is shut down
            for row in rows:
                if problem := row.pop("problem"):
                    raise pickle.loads(problem)  # noqa: S301 (from our own actors)
                report(ShardResult(**row))

    @contextmanager
    def _connect(self) -> Iterator[None]:
        """Uses the connected cluster, or connects to one for the duration of the block."""
        is_new = not self._ray.is_initialized()
        if is_new:
            self._ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        self._data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        try:
            yield
        finally:
            if is_new:
                self._ray.shutdown()

    def _cpus(self, job: ExtractionJob) -> float:
        """Returns the number of CPUs of an actor: its threads, while one CPU stays free for Ray's own readers."""
        free = self._ray.cluster_resources().get("CPU", 1) - 1
        return float(max(min(job.num_threads, free), 0.5))

    def _count(self, needs: dict[str, float]) -> int:
        """Returns the number of actors that fit, with one CPU left free."""
        if self._num_actors is not None:
            return self._num_actors
        resources = self._ray.cluster_resources()
        room = resources.get("GPU", 0) if "num_gpus" in needs else resources.get("CPU", 1) - 1
        return max(int(room // next(iter(needs.values()))), 1)


class ShardActor:
    """An actor that writes the shard of a number.

    Args:
        job: A Ray reference to the job.
        source: A Ray reference to the source.
    """

    def __init__(self, job: Any, source: Any) -> None:
        ray = need("ray", "ray")
        self._job: ExtractionJob = ray.get(job)
        self._source: MapSource = ray.get(source)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Writes one shard. Errors of this package are returned, because Ray would wrap them."""
        done = [ShardResult(int(row["number"]), 0, 0)]
        try:
            self._job.write_map_shards(self._source, [pickle.loads(row["task"])], done.append)  # noqa: S301
        except (FeatureLayerError, OSError) as error:
            return {**asdict(done[0]), "problem": pickle.dumps(error)}
        return {**asdict(done[-1]), "problem": b""}
