"""The Ray backend: actors hold the model and write the shards."""

from __future__ import annotations

import logging
import os
import pickle
import socket
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any, Final, NamedTuple

from ..._exceptions import BackendError
from ..._optional import need
from ..job import Advance, ExtractionJob, Report, ShardResult
from ..reading import ShardTask
from ..sources import MapSource
from ..sources.reading import describe
from .local import LocalBackend

_MOST_RESTARTS: Final = 3
_PATIENCE: Final = 10.0  # seconds


class RayBackend(LocalBackend):
    """Runs on a Ray cluster: the connected one, the one of `RAY_ADDRESS`, or a new one on this machine.

    Plain actors, not Ray Data: its executor and the import of it in each actor take seconds before the first shard.

    Args:
        num_actors: The number of actors; None for one for each GPU, or on CPUs as many as there is room for.

    Raises:
        MissingExtraError: If Ray is not installed.
    """

    def __init__(self, num_actors: int | None) -> None:
        # Before the import of ray, which reads it.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        self._ray = need("ray", "ray")
        self._num_actors = num_actors

    def write_shards(
        self,
        job: ExtractionJob,
        source: MapSource,
        tasks: list[ShardTask],
        report: Report,
        advance: Advance,  # noqa: ARG002 (actors report whole shards)
    ) -> None:
        """Writes shards in actors.

        Raises:
            BackendError: If actors die again and again, or the cluster does not answer.
            Exception: The exception of an actor: that of one process.
        """
        with self._connect():
            try:
                with self._actors(job, source, len(tasks)) as actors:
                    for result in _run(self._ray, actors, tasks):
                        report(result)
            except self._ray.exceptions.RayError as error:
                raise BackendError("ray", _summary(error)) from error

    @contextmanager
    def _actors(self, job: ExtractionJob, source: MapSource, most: int) -> Iterator[list[Any]]:
        """Starts actors for the duration of the block."""
        needs = {"num_gpus": 1.0} if job.spec.device.type == "cuda" else {"num_cpus": self._cpus(job)}
        # By default, Ray does not restart actors.
        actor = self._ray.remote(ShardActor).options(
            max_restarts=_MOST_RESTARTS, max_task_retries=_MOST_RESTARTS, **needs
        )
        job_reference, source_reference = (
            self._ray.put(job),
            self._ray.put(source),
        )  # kept for actors that are restarted
        actors = [actor.remote(job_reference, source_reference) for _ in range(min(self._count(needs), most))]
        try:
            yield actors
        finally:
            for each in actors:
                self._ray.kill(each)

    @contextmanager
    def _connect(self) -> Iterator[None]:
        """Uses the connected cluster, or connects to one for the duration of the block."""
        is_new = not self._ray.is_initialized()
        if is_new:
            self._init()
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
        if address and not address.startswith(("ray://", "local", "auto")):
            _check_answers(address)
        where = "local" if not address and _is_latest_gone() else None
        try:
            self._ray.init(where, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise BackendError("ray", f"no cluster at {address!r} ({_summary(error)})") from error

    def _cpus(self, job: ExtractionJob) -> float:
        """Returns the number of CPUs of an actor: one for each of its threads, at most those of the largest node."""
        nodes = [node["Resources"].get("CPU", 0.0) for node in self._ray.nodes() if node["Alive"]]
        return float(min(job.num_threads, max(nodes, default=1.0)))

    def _count(self, needs: dict[str, float]) -> int:
        """Returns the number of actors that there is room for."""
        if self._num_actors is not None:
            return self._num_actors
        room = self._ray.cluster_resources().get("GPU" if "num_gpus" in needs else "CPU", 1)
        return max(int(room // next(iter(needs.values()))), 1)


class _Running(NamedTuple):
    """What an actor does.

    Attributes:
        actor: The actor.
        task: The task; None while the actor starts.
        since: When it began.
    """

    actor: Any
    task: ShardTask | None
    since: float


def _run(ray: Any, actors: list[Any], tasks: list[ShardTask]) -> Iterator[ShardResult]:
    """Gives tasks to actors that have started, and those of lost actors to others; yields results as they come.

    Raises:
        RayError: If all actors are lost.
        Exception: The exception of a task.
    """
    waiting, unfinished, idle = deque(tasks), {task.number for task in tasks}, list[Any]()
    running = {actor.ready.remote(): _Running(actor, None, time.monotonic()) for actor in actors}
    patience = _PATIENCE
    while unfinished:
        done, _ = ray.wait(list(running), timeout=patience)
        if not done and idle:
            # Of a node that is gone, Ray may wait for ever for another one. A shard that two actors write is the same.
            waiting.extend(each.task for each in running.values() if each.task is not None)
        for reference in done:
            ended = running.pop(reference)
            try:
                result = ray.get(reference)
            except ray.exceptions.RayActorError:
                if not running and not idle:
                    raise
                waiting.extend(filter(None, [ended.task]))
                continue
            idle.append(ended.actor)
            if ended.task is not None and ended.task.number in unfinished:
                unfinished.remove(ended.task.number)
                patience = max(patience, 2 * (time.monotonic() - ended.since))
                yield _unpacked(result)
        while idle and waiting:
            task = waiting.popleft()
            if task.number in unfinished:
                actor = idle.pop()
                running[actor.write.remote(task)] = _Running(actor, task, time.monotonic())


def _check_answers(address: str) -> None:
    """Checks that a machine answers at the address of a cluster; Ray would try for minutes.

    Raises:
        BackendError: If it does not.
    """
    if (error := _failure(address)) is not None:
        raise BackendError("ray", f"no cluster answers at {address!r}, the RAY_ADDRESS ({error})") from error


def _is_latest_gone() -> bool:
    """Whether the cluster that was started last on this machine was killed: Ray would try to connect to it."""
    latest = None
    with suppress(ImportError, AttributeError, OSError):  # private, as is the place of the file
        latest = import_module("ray._private.utils").read_ray_address()
    return bool(latest and _failure(latest))


def _failure(address: str) -> Exception | None:
    """Returns why a machine does not answer; None if it does."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()
    except (OSError, ValueError) as error:
        return error
    return None


def _summary(error: Exception) -> str:
    """Returns the last line of an exception of Ray that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


class ShardActor:
    """An actor that writes shards.

    Args:
        job: The job.
        source: The items.
    """

    def __init__(self, job: ExtractionJob, source: MapSource) -> None:
        self._job, self._source = job, source

    def ready(self) -> None:
        """Returns when the actor has started."""

    def write(self, task: ShardTask) -> ShardResult | bytes:
        """Writes a shard; returns its result or, because Ray would wrap it, the pickle of an exception."""
        done: list[ShardResult] = []
        try:
            self._job.write_map_shards(self._source, [task], done.append)
        except Exception as error:  # noqa: BLE001 (raised again in the process of the user)
            return _packed(error)
        return done[0]


def _packed(error: Exception) -> bytes:
    try:
        return pickle.dumps(error)
    except Exception:  # noqa: BLE001 (an exception may hold anything)
        return pickle.dumps(RuntimeError(describe(error)))


def _unpacked(result: ShardResult | bytes) -> ShardResult:
    """Returns the result of a task.

    Raises:
        Exception: The exception of the task.
    """
    if isinstance(result, bytes):
        raise pickle.loads(result)  # noqa: S301 (from our own actors)
    return result
