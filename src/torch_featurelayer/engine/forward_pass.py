"""One forward pass of a model: the values it fills, and its early stop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from .._errors import LayerNotRunError
from ..address import Request
from ._torch_private import is_traced
from .call_selector import CallSelector
from .captured import CapturedValue, Gradients
from .checkpointing import Replay, may_be_recomputed, wrap_checkpoints
from .diagnostics import explain_missing_call
from .dynamo import force_eager, run_outside_dynamo
from .hook_set import HookSet
from .layouts import LayoutFinder, LayoutTracker
from .operations import unwound
from .options import Options
from .scope import Scope
from .signature import modules_of


class EarlyStop(BaseException):
    """Raised inside the model when every request of a forward pass is filled, and caught by that pass.

    Not an `Exception`: a model's own `except Exception` must not swallow it.
    """

    def __init__(self, forward: ForwardPass) -> None:
        self.forward = forward


class ForwardPass:
    """One forward pass, and the values it fills.

    Args:
        model: The model.
        requests: The requests.
        options: How values are kept.
        scope: The calls that belong to it.
        calls: How often each request's module runs, if that was learned.
        stop: Whether to end the forward pass when every request is filled.
        finders: Finds the layouts of each request's tensors.

    Attributes:
        values: The captured value of each request.
        stopped: Whether the forward pass was ended early.
        ran_elsewhere: Whether hooks ran that do not belong to it, as those of layers in another thread.
    """

    def __init__(
        self,
        model: nn.Module,
        requests: Sequence[Request],
        options: Options,
        scope: Scope,
        *,
        calls: Sequence[int | None] | None = None,
        stop: bool = False,
        finders: Sequence[LayoutFinder | None] | None = None,
    ) -> None:
        self._model, self._requests, self._options, self._scope = model, requests, options, scope
        self._finders = finders or [None] * len(requests)
        self._stop, self.stopped = stop, False
        self.ran_elsewhere = False
        self._owner: list[None] = []  # an identity for the graph, which must not hold the pass and its features
        self._may_recompute = not scope.any_thread and may_be_recomputed()
        copy, traced = options.copier(), not scope.any_thread and is_traced()
        level = None if scope.any_thread else scope.level
        self.values = [
            CapturedValue(request, options, copy, CallSelector(request.address.call, count), finder, level, traced)
            for request, count, finder in zip(requests, calls or [None] * len(requests), self._finders, strict=True)
        ]
        self._unfilled = sum(count != 0 for count in calls or [None] * len(requests))

    def is_current(self) -> bool:
        """Whether the running code belongs to this forward pass."""
        return self._scope.is_current()

    def filled(self, _: CapturedValue) -> None:
        """Counts a value that wants no more calls, and stops the forward pass at the last.

        Raises:
            EarlyStop: If nothing more is wanted.
        """
        self._unfilled -= 1
        if self._stop and self._unfilled == 0:
            raise EarlyStop(self)

    def note_checkpoint(self, value: CapturedValue) -> None:
        """Arranges that the hooks run again with the checkpointed region that runs now, if one does.

        Args:
            value: The value that was just recorded.
        """
        if self._may_recompute and wrap_checkpoints(self._owner, lambda: self._replay(value)):
            for each in self.values:
                each.may_be_recomputed = True

    def _replay(self, value: CapturedValue) -> Replay:
        """Returns what records a region again, from the calls at its beginning."""
        calls = [each.calls - (each is value) for each in self.values]
        gradients = [each.gradients for each in self.values]
        # Nothing here may hold features: the graph holds this function, and features hold the graph.
        model, requests, options, scope, finders = (
            self._model, self._requests, self._options, self._scope, self._finders,
        )  # fmt: skip

        def replay() -> Any:
            return _replayed(model, requests, options, scope, finders, calls, gradients)

        return replay

    def run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Calls the model; returns its output, or None if it was stopped."""
        try:
            return self._model(*args, **kwargs)
        except EarlyStop as stop:
            if stop.forward is not self:
                raise
            self.stopped = True
            return None

    def results(self) -> list[Any]:
        """Returns the features, in the order of the requests; `NOT_RUN` for a pattern's layer that did not run.

        Raises:
            LayerNotRunError: If a named layer, or all layers of a pattern, did not run.
            CallNotMadeError: If a layer ran less often than its address says.
            GradientError: If a gradient is requested and nothing requires grad.
        """
        missing = [value for value in self.values if not value.calls]
        required = required_requests([value.request for value in missing], [v.request for v in self.values if v.calls])
        for value in missing:
            if value.request in required:
                value.check_operation()
        if required:
            ran = [value.request.name for value in self.values if value.calls]
            hint = explain_missing_call(self._model, required, ran_elsewhere=self.ran_elsewhere)
            raise LayerNotRunError([request.name for request in required], ran, hint)
        return [value.result() if value.calls else NOT_RUN for value in self.values]


def required_requests(missing: Sequence[Request], ran: Sequence[Request]) -> list[Request]:
    """Returns the requests whose layers did not run though they must: named ones, and a pattern's if none of it ran."""
    patterns = {request.pattern for request in ran}
    return [request for request in missing if not request.pattern or request.pattern not in patterns]


class _NotRun:
    """Stands for the feature of a layer that did not run."""

    def __repr__(self) -> str:
        return "NOT_RUN"


NOT_RUN = _NotRun()


def run_with_capture(
    model: nn.Module,
    requests: Sequence[Request],
    options: Options,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    stop: bool = False,
    calls: Sequence[int | None] | None = None,
    finders: Sequence[LayoutFinder | None] | None = None,
    track_layouts: bool = False,
) -> tuple[ForwardPass, Any]:
    """Runs a model once and captures.

    Args:
        model: The model.
        requests: The requests.
        options: How values are kept.
        args: The positional arguments of the model.
        kwargs: The keyword arguments of the model.
        stop: Whether to stop after the last value wanted.
        calls: How often each request's module runs, if that was learned.
        finders: Finds the layouts of each request's tensors.
        track_layouts: Whether to follow layouts through this forward pass.

    Returns:
        The forward pass, and the output (None where it was stopped).

    Raises:
        CompileError: If `torch.compile` traces the caller.
    """

    def capture() -> tuple[ForwardPass, Any]:
        forward = ForwardPass(model, requests, options, Scope(), calls=calls, stop=stop, finders=finders)
        hooks = HookSet(model, requests, finders or ())
        hooks.connect(forward)
        with ExitStack() as stack:
            stack.enter_context(force_eager(hooks.modules.values()))
            if track_layouts:
                stack.enter_context(tracked(model, finders or ()))
            stack.callback(hooks.disconnect)
            stack.enter_context(hooks.installed())
            if hooks.has_operations:
                stack.enter_context(unwound())
            restore = _modes(model) if stop else None
            output = forward.run(args, kwargs)
            if restore is not None and forward.stopped:
                restore()
            return forward, output

    return run_outside_dynamo(capture)


@contextmanager
def tracked(model: nn.Module, finders: Sequence[LayoutFinder | None]) -> Iterator[LayoutTracker]:
    """Follows layouts while inside, for some finders."""
    tracker = LayoutTracker(model)
    found = [finder for finder in finders if finder is not None]
    for finder in found:
        finder.tracker = tracker
    try:
        with tracker:
            yield tracker
    finally:
        for finder in found:
            finder.tracker = None


@contextmanager
def _replayed(
    model: nn.Module,
    requests: Sequence[Request],
    options: Options,
    scope: Scope,
    finders: Sequence[LayoutFinder | None],
    calls: Sequence[int],
    gradients: Sequence[dict[int, Gradients]],
) -> Iterator[None]:
    """Runs the hooks of a forward pass again: the same operations, whose values only gradients keep."""
    forward = ForwardPass(model, requests, options, Scope(), finders=finders)
    hooks = HookSet(model, requests)
    hooks.connect(forward)
    for value, count, received in zip(forward.values, calls, gradients, strict=True):
        value.calls, value.gradients = count, received
    with scope.paused(), hooks.installed(), unwound() if hooks.has_operations else nullcontext():
        yield


def _modes(model: nn.Module) -> Callable[[], None]:
    """Returns a function that puts back the modes that a forward may switch by calls, as they are now.

    An early stop skips the code in which the model would have switched them back.
    """
    grad, dtype = torch.is_grad_enabled(), torch.get_default_dtype()
    autocast = [(kind, torch.is_autocast_enabled(kind)) for kind in ("cpu", "cuda")]
    training = [(module, module.training) for module in modules_of(model)]

    def restore() -> None:
        torch.set_grad_enabled(grad)
        torch.set_default_dtype(dtype)
        for kind, enabled in autocast:
            torch.set_autocast_enabled(kind, enabled)
        for module, mode in training:
            if module.training is not mode:
                module.training = mode

    return restore
