"""One forward of a model: the slots it fills, and its early end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from .._errors import LayerNotRunError
from ..address import Request
from .hints import why_not_run
from .options import Options
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

    def filled(self, _: Slot) -> None:
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
        missing = [slot for slot in self.slots if not slot.calls]
        for slot in missing:
            slot.check_operation()
        if missing:
            ran = [slot.request.name for slot in self.slots if slot.calls]
            hint = why_not_run(model, [slot.request for slot in missing])
            raise LayerNotRunError([slot.request.name for slot in missing], ran, hint)
        return [slot.result() for slot in self.slots]
