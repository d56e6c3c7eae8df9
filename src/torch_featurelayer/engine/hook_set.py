"""The hook points of a model that requests name, installed and removed together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from torch import nn

from ..address import Request, located
from .hooks import HookPoint, Pass, disable_fast_path
from .layouts import LayoutFinder
from .operations import OperationMode


class HookSet:
    """The hook points of a model that requests name: one module under two names is one point.

    Args:
        model: The model.
        requests: The requests.
        finders: Finds the layout of each request's tensors, where they are needed.

    Attributes:
        modules: The modules that requests name and those around them, by path.

    Raises:
        LayerNotFoundError: If a layer that was in the model before is gone.
    """

    def __init__(
        self, model: nn.Module, requests: Sequence[Request], finders: Sequence[LayoutFinder | None] = ()
    ) -> None:
        self.modules = located(model, requests)
        self._points: dict[tuple[int, str | None, int | None], tuple[nn.Module, HookPoint]] = {}
        self._operations: OperationMode | None = None
        self._requested = [self._point(request) for request in requests]
        for request, finder in zip(requests, finders, strict=False):
            if finder is not None:
                finder.module = self.modules[request.address.path]

    def _point(self, request: Request) -> HookPoint:
        address, module = request.address, self.modules[request.address.path]
        key = (id(module), address.operation, address.number)
        found = self._points.get(key)
        if found is None:
            found = self._points[key] = (module, HookPoint())
            if address.operation is not None:
                self._watch(module, address.operation, address.number, found[1])
        found[1].ports.add(address.port)
        return found[1]

    def _watch(self, module: nn.Module, operation: str, number: int | None, point: HookPoint) -> None:
        if self._operations is None:  # without operations, no function mode is built
            self._operations = OperationMode()
        self._operations.watch(module, operation, number, point)

    @property
    def has_operations(self) -> bool:
        """Whether operations are captured, so that a function mode may have to be removed after an early stop."""
        return self._operations is not None

    def connect(self, forward: Pass) -> None:
        """Records what happens from now on in the values of a forward pass, and no longer in any other's."""
        self.disconnect()
        if self._operations is not None:
            self._operations.restart()
        for value, point in zip(forward.values, self._requested, strict=True):
            point.connect(forward, value)
            if self._operations is not None and value.request.address.operation is not None:
                value.operations = self._operations.watchers[id(self.modules[value.request.address.path])]

    def disconnect(self) -> None:
        """Makes every hook do nothing."""
        for _, point in self._points.values():
            point.disconnect()

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Holds the hooks of all points, or of none: each is removed whatever is raised."""
        with ExitStack() as stack:
            self.install(stack)
            yield

    def install(self, stack: ExitStack) -> None:
        """Registers the hooks; the stack removes them."""
        disable_fast_path(self.modules.values(), stack)
        for (_, operation, _), (module, point) in self._points.items():
            if operation is None:
                point.install(module, stack)
        if self._operations is not None:
            self._operations.install(stack)
