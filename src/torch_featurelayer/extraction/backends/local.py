"""The protocol of execution backends, and the backend that runs in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, Protocol, TypeAlias

from ...store import StoreWriter, store_metadata
from ..job import Advance, ExtractionJob, Report
from ..reading import ShardTask
from ..sources import MapSource

BackendName: TypeAlias = Literal["torchrun", "ray"]
Configure: TypeAlias = Callable[[Mapping[str, Any]], tuple[ExtractionJob, dict[str, Any]]]


class Backend(Protocol):
    """Distributes the shards of a job over processes, and owns what they wait for.

    Attributes:
        is_leader: Whether this process opens and finishes the store.
    """

    is_leader: bool

    def open(self, out: str, configure: Configure) -> Any:
        """Opens the store in every process."""

    def check_items(self, source: MapSource) -> None:
        """Checks that all processes have the same items."""

    def assign(self, numbers: Sequence[int]) -> list[int]:
        """Returns the shards that this process is responsible for."""

    def agree(self, tasks: list[ShardTask]) -> list[ShardTask]:
        """Returns the tasks of this process, given the tasks that it has found."""

    def write_shards(
        self, job: ExtractionJob, source: MapSource, tasks: list[ShardTask], report: Report, advance: Advance
    ) -> None:
        """Writes shards, and reports each; in this process, also each batch."""


class LocalBackend:
    """Runs in this process."""

    is_leader = True

    @contextmanager
    def open(self, out: str, configure: Configure) -> Iterator[tuple[ExtractionJob, StoreWriter]]:
        """Opens the store: the leader first, which also writes the manifest after all have finished.

        Args:
            out: The folder of the store.
            configure: Returns the job and the metadata, given the metadata of an existing store.

        Yields:
            The job, and the writer of this process.

        Raises:
            StoreMismatchError: If the store holds other features.
            StoreTargetError: If `out` is a file, or a folder with other files.
            StoreLockedError: If another process is writing to the store.
        """
        job, metadata = self._configure(out, configure)
        with (StoreWriter.open if self.is_leader else StoreWriter.join)(out, metadata) as writer:
            if self.is_leader:
                self.wait()
            yield job, writer
            self.wait()
            if self.is_leader:
                writer.finish()
            self.wait()  # so that every process returns a complete store

    def wait(self) -> None:
        """Returns at once: there is one process."""

    def check_items(self, source: MapSource) -> None:
        """Returns at once: there is one process."""

    def assign(self, numbers: Sequence[int]) -> list[int]:
        """Returns all shards."""
        return list(numbers)

    def agree(self, tasks: list[ShardTask]) -> list[ShardTask]:
        """Returns the tasks as they are: no other process has the same shards."""
        return tasks

    def write_shards(
        self, job: ExtractionJob, source: MapSource, tasks: list[ShardTask], report: Report, advance: Advance
    ) -> None:
        """Writes shards in this process."""
        job.write_map_shards(source, tasks, report, advance)

    def _configure(self, out: str, configure: Configure) -> tuple[ExtractionJob, dict[str, Any]]:
        """Returns the job and the metadata, after the leader has opened the store."""
        if not self.is_leader:
            self.wait()
        return configure(store_metadata(out))
