"""Where a set of requests is captured: the hooks of modules, and the watchers of their operations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from torch import nn

from ..address import Request, located
from .operations import Operations
from .run import Run
from .sites import Site


class Places:
    """The sites of a model that requests are of: one module under two names is one place.

    Args:
        model: The model.
        requests: What is to be captured.

    Attributes:
        modules: The modules that requests name and those around them, by path.

    Raises:
        LayerNotFoundError: A layer was there when it was asked for, and is gone.
    """

    def __init__(self, model: nn.Module, requests: Sequence[Request]) -> None:
        self.modules = located(model, requests)
        self._sites: dict[tuple[int, str | None, int | None], tuple[nn.Module, Site]] = {}
        self._operations = Operations()
        self._homes = [self._home(request) for request in requests]

    def _home(self, request: Request) -> Site:
        address, module = request.address, self.modules[request.address.path]
        key = (id(module), address.operation, address.number)
        found = self._sites.get(key)
        if found is None:
            found = self._sites[key] = (module, Site())
            if address.operation is not None:
                self._operations.watch(module, address.operation, address.number, found[1])
        found[1].ports.add(address.port)
        return found[1]

    def connect(self, run: Run) -> None:
        """Shows what happens from now on to the slots of a run, and no longer to any other's."""
        self.disconnect()
        for slot, site in zip(run.slots, self._homes, strict=True):
            site.connect(run, slot)
            if slot.request.address.operation is not None:
                slot.operations = self._operations.watchers[id(self.modules[slot.request.address.path])].counts

    def disconnect(self) -> None:
        """Makes every hook inert."""
        for _, site in self._sites.values():
            site.disconnect()

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Holds the hooks of all places, or of none: each comes off whatever is raised."""
        with ExitStack() as stack:
            self.install(stack)
            yield

    def install(self, stack: ExitStack) -> None:
        """Registers the hooks; the stack removes them."""
        for (_, operation, _), (module, site) in self._sites.items():
            if operation is None:
                site.install(module, stack)
        self._operations.install(stack)
