"""One run of a model with its hooks: in all or nothing, out whatever happens."""

from __future__ import annotations

from collections.abc import Sequence
from threading import get_ident
from typing import Any

from torch import nn

from ..address import Request
from .compiled import force_eager, outside_compiler
from .modes import unwound
from .options import Options
from .places import Places
from .run import Run


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
        places = Places(model, requests)
        places.connect(run)
        with force_eager(places.modules.values()), places.installed(), unwound():
            return run, run.forward(model, args, kwargs)

    return outside_compiler(capture)
