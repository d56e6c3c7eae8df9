"""The protocol of execution backends, and the backend that runs in this process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, TypeAlias

from ..job import ExtractionJob, Report
from ..reading import ShardTask
from ..sources import MapSource

BackendName: TypeAlias = Literal["torchrun", "ray"]


class Backend(Protocol):
    """Distributes the shards of a job over processes.

    Attributes:
        is_leader: Whether this process opens and finishes the store.
    """

    is_leader: bool

    def wait(self) -> None:
        """Returns when all processes have called it: a barrier."""

    def assign(self, numbers: Sequence[int]) -> list[int]:
        """Returns the shards that this process is responsible for."""

    def write_shards(self, job: ExtractionJob, source: MapSource, tasks: Sequence[ShardTask], report: Report) -> None:
        """Writes shards, and reports each."""


class LocalBackend:
    """Runs in this process."""

    is_leader = True

    def wait(self) -> None:
        """Returns at once: there is one process."""

    def assign(self, numbers: Sequence[int]) -> list[int]:
        """Returns all shards."""
        return list(numbers)

    def write_shards(self, job: ExtractionJob, source: MapSource, tasks: Sequence[ShardTask], report: Report) -> None:
        """Writes shards in this process."""
        job.write_map_shards(source, tasks, report)
