"""One run of a model with its hooks: in all or nothing, out whatever happens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from threading import get_ident
from typing import Any

from torch import nn

from ..address import Request, located
from .compiled import force_eager, outside_compiler
from .options import Options
from .run import Run
from .sites import Site


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
        modules = located(model, requests)
        with force_eager(modules.values()), installed(sites(run, modules)):
            return run, run.forward(model, args, kwargs)

    return outside_compiler(capture)
