"""The Ray backend: actors hold the model and write the shards."""

from __future__ import annotations

import logging
import os
import pickle
import socket
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from typing import Any, Final

from ..._exceptions import BackendError, FeatureLayerError
from ..._optional import need
from ..job import Advance, ExtractionJob, Report, ShardResult
from ..reading import ShardTask
from ..sources import MapSource
from .local import LocalBackend

_MOST_RESTARTS: Final = 3
_PATIENCE: Final = 10.0  # seconds


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
            BackendError: If actors die again and again, or the cluster does not answer.
            ItemError: If `strict` is set and an item cannot be read in an actor.
            FeatureOverflowError: If a feature does not fit its dtype in an actor.
            OSError: If a shard cannot be written in an actor.
        """
        with self._connect():
            try:
                self._write_shards(job, source, tasks, report)
            except self._ray.exceptions.RayError as error:
                raise BackendError("ray", _summary(error)) from error

    def _write_shards(self, job: ExtractionJob, source: MapSource, tasks: list[ShardTask], report: Report) -> None:
        needs = {"num_gpus": 1.0} if job.spec.device.type == "cuda" else {"num_cpus": self._cpus(job)}
        count = min(self._count(needs), len(tasks))
        # One block for each shard, so that Ray schedules shards, not ranges of them.
        shards = self._data.from_items(
            [{"number": task.number, "task": pickle.dumps(task)} for task in tasks], override_num_blocks=len(tasks)
        )
        references = self._ray.put(job), self._ray.put(source)  # kept while actors may be restarted
        with warnings.catch_warnings():
            # Ray 2.60 announces other parameters for these two, and has none so far.
            warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated")
            finished = shards.map(
                ShardActor,
                fn_constructor_args=references,
                compute=self._data.ActorPoolStrategy(size=count),
                # By default, Ray restarts an actor that always dies forever.
                max_restarts=_MOST_RESTARTS,
                max_task_retries=_MOST_RESTARTS,
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
            self._init()
        self._data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        try:
            yield
        finally:
            if is_new:
                self._ray.shutdown()

    def _init(self) -> None:
        """Connects to the cluster of `RAY_ADDRESS`, or starts one on this machine.

        Raises:
            BackendError: If the cluster does not answer.
        """
        address = os.environ.get("RAY_ADDRESS")
        if address is not None and not address.startswith(("ray://", "local", "auto")):
            _check_answers(address)
        try:
            self._ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise BackendError("ray", f"no cluster at {address!r} ({_summary(error)})") from error

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


def _check_answers(address: str) -> None:
    """Checks that a machine answers at the address of a cluster; Ray would try for minutes.

    Raises:
        BackendError: If it does not.
    """
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()
    except (OSError, ValueError) as error:
        raise BackendError("ray", f"no cluster answers at {address!r}, the RAY_ADDRESS ({error})") from error


def _summary(error: Exception) -> str:
    """Returns the last line of an exception of Ray that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


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
