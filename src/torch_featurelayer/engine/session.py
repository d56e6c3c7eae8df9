"""One run of a model with its hooks: in all or nothing, out whatever happens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from threading import get_ident
from typing import Any

from torch import nn

from .._errors import LayerNotRunError
from ..address import Request, located
from .compiled import force_eager, outside_compiler
from .hints import why_not_run
from .options import Options
from .sites import Site
from .slots import Slot


class Stop(BaseException):
    """Raised inside the model when every request of a run is filled, caught by that run.

    Not an `Exception`: a model's own `except Exception` must not swallow it.
    """

    def __init__(self, run: Run) -> None:
        self.run = run


class Run:
    """One forward, and what it leaves in the slots.

    Args:
        requests: What to capture.
        options: How to keep it.
        calls: How often each request's module runs, where that was learnt.
        stop: Whether to end the forward when every request is filled.
        thread: The thread whose calls count; None for a run traced by `torch.compile`.
    """

    def __init__(
        self,
        requests: Sequence[Request],
        options: Options,
        *,
        stop: bool = False,
        calls: Sequence[int | None] | None = None,
        thread: int | None = None,
    ) -> None:
        learnt, copy = calls or [None] * len(requests), options.copier()
        self.slots = [Slot(request, options, copy, count) for request, count in zip(requests, learnt, strict=True)]
        self.stop, self.thread = stop, thread
        self.stopped = False
        self._unfilled = len(self.slots)

    def filled(self) -> None:
        """Counts one slot that wants no more, and stops the forward at the last.

        Raises:
            Stop: Nothing more is wanted.
        """
        self._unfilled -= 1
        if self.stop and self._unfilled == 0:
            raise Stop(self)

    def forward(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Calls the model; returns its output, or None where it was stopped."""
        try:
            return model(*args, **kwargs)
        except Stop as stop:
            if stop.run is not self:
                raise
            self.stopped = True
            return None

    def results(self, model: nn.Module) -> list[Any]:
        """Returns the features, in the order of the requests.

        Raises:
            LayerNotRunError, CallNotMadeError, GradientError: What they say.
        """
        missing = [slot.request for slot in self.slots if not slot.calls]
        if missing:
            ran = [slot.request.name for slot in self.slots if slot.calls]
            raise LayerNotRunError([request.name for request in missing], ran, why_not_run(model, missing))
        return [slot.result() for slot in self.slots]


def sites(run: Run, modules: Mapping[str, nn.Module]) -> list[Site]:
    """Groups the slots of a run by module: one module under two names is one site."""
    found: dict[int, Site] = {}
    for slot in run.slots:
        module = modules[slot.request.address.path]
        site = found.get(id(module))
        if site is None:
            site = found[id(module)] = Site(module, run)
        site.add(slot)
    return list(found.values())


@contextmanager
def installed(places: Sequence[Site]) -> Iterator[None]:
    """Holds the hooks of all sites, or of none: each comes off whatever is raised."""
    with ExitStack() as stack:
        for site in places:
            site.install(stack)
        yield


def run_once(
    model: nn.Module,
    requests: Sequence[Request],
    options: Options,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    stop: bool = False,
    calls: Sequence[int | None] | None = None,
) -> tuple[Run, Any]:
    """Runs a model once and captures.

    Returns:
        The run, and the output (None where it stopped).

    Raises:
        CompileError: `torch.compile` is tracing the caller.
    """

    def capture() -> tuple[Run, Any]:
        run = Run(requests, options, stop=stop, calls=calls, thread=get_ident())
        modules = located(model, (request.address.path for request in requests))
        with force_eager(modules.values()), installed(sites(run, modules)):
            return run, run.forward(model, args, kwargs)

    return outside_compiler(capture)
