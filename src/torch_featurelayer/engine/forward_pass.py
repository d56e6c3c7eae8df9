"""One forward pass of a model: its captured values, and its early stop."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from .._exceptions import LayerNotRunError
from ..address import Request
from ._torch_private import (
    HAS_FUNCTION_MODES,
    checkpointed_functions,
    dynamo_watches,
    has_compiled_code,
    may_be_checkpointed,
    tracing_state,
)
from .call_selector import CallSelector, call_selectors
from .captured import CapturedValue, Gradients, check_operation
from .checkpointing import Replay, wrap_checkpoints
from .copy_on_write import copier
from .diagnostics import explain_missing_call
from .dynamo import force_eager, run_outside_dynamo
from .hooks import HookSet
from .layouts import LayoutFinder, LayoutTracker
from .operations import unwound
from .options import Options
from .scope import Scope
from .signature import unique_modules
from .token_masks import TokenMasks, without_special_mask
from .value_reads import ValueReads


class EarlyStop(BaseException):
    """Ends a forward pass from inside the model, once every request has its value.

    Not an `Exception`, because a model's own `except Exception` must not catch it.
    """

    def __init__(self, forward: ForwardPass) -> None:
        self.forward = forward


class ForwardPass:
    """One forward pass, and the values that it fills.

    Args:
        model: The model.
        requests: The requests.
        options: How values are kept.
        scope: The calls that belong to the forward pass.
        args: The positional arguments of the model, which say which positions are tokens. Default: none.
        kwargs: The keyword arguments of the model. Default: none.
        called: The module that is called with them. Default: None, the model.
        selectors: Which calls of each request's module are wanted. Default: None, those of the requests' addresses.
        stop: Whether to end the forward pass when every request has its value. Default: False.
        finders: Finds the layouts of each request's tensors. Default: None.

    Attributes:
        reads: The values of tensors that the model reads; None (default) if nothing depends on them.
        scope: The calls that belong to the forward pass.
        values: The captured value of each request.
        stopped: Whether the forward pass was ended early.
        ran_elsewhere: Whether hooks ran for calls outside the scope, such as layers in another thread.
    """

    def __init__(
        self,
        model: nn.Module,
        requests: Sequence[Request],
        options: Options,
        scope: Scope,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        called: nn.Module | None = None,
        selectors: Sequence[CallSelector] | None = None,
        stop: bool = False,
        finders: Sequence[LayoutFinder | None] | None = None,
    ) -> None:
        self._model, self._requests, self._options, self.scope = model, requests, options, scope
        self._finders = finders or [None] * len(requests)
        self._stop, self.stopped = stop, False
        self.reads: ValueReads | None = None
        self.ran_elsewhere = False
        self._owner: list[None] = []  # an identity for the graph, which must not hold the pass and its features
        # With gradients, and in a reentrant region, `torch.utils.checkpoint` may compute this forward pass again.
        self._may_recompute = not scope.any_thread and (
            torch.is_grad_enabled() or next(checkpointed_functions(sys._getframe()), None) is not None
        )
        copy, traced = copier(options.clone), not scope.any_thread and tracing_state() is not None
        level = None if scope.any_thread else scope.level
        self.values: list[CapturedValue] = []
        self._unfilled = 0
        selectors = call_selectors(requests) if selectors is None else selectors
        is_shared = not (options.needs_mask or isinstance(options.reduce, Mapping))
        masks = None if is_shared else TokenMasks(called or model, options.tokens, args, kwargs or {})
        for request, selector, finder in zip(requests, selectors, self._finders, strict=True):
            own = options if masks is None else options.in_call(request, masks)
            self.values.append(CapturedValue(request, own, copy, selector, finder, level, traced))
            self._unfilled += selector.expected != 0

    def on_record(self, value: CapturedValue) -> None:
        """Takes note of a value that has just been recorded.

        Raises:
            EarlyStop: If no request needs another value.
        """
        if self._may_recompute and may_be_checkpointed():
            self._note_checkpoint(value)
        if self.reads is not None:
            self.reads.mark()
        if value.calls - 1 == value.last:
            self.on_complete(value)

    def on_complete(self, _: CapturedValue) -> None:
        """Counts a value that needs no more calls, and stops the forward pass at the last of them.

        Raises:
            EarlyStop: If no request needs another value.
        """
        self._unfilled -= 1
        if self._stop and self._unfilled == 0:
            raise EarlyStop(self)

    def keep_on(self) -> None:
        """Runs to the end, because the model has read other values than when its calls were counted."""
        self._stop = False
        for value, selector in zip(self.values, call_selectors(self._requests), strict=True):
            value.select_anew(selector)

    def _note_checkpoint(self, value: CapturedValue) -> None:
        """Arranges that the hooks run again when the checkpointed region that runs now is recomputed."""
        if wrap_checkpoints(self._owner, lambda: self._replay(value)):
            for each in self.values:
                each.may_be_recomputed = True

    def _replay(self, value: CapturedValue) -> Replay:
        """Returns the function that records a region again, from the calls at its beginning."""
        calls = [each.calls - (each is value) for each in self.values]
        gradients = [each.gradients for each in self.values]
        # The graph holds this function and features hold the graph: it must not refer to any feature.
        # The graph holds this function until backward() ends.
        model, requests, options, scope, finders = (
            self._model, self._requests, self._options, self.scope, self._finders,
        )  # fmt: skip

        def replay() -> Any:
            return _replay(model, requests, options, scope, finders, calls, gradients)

        return replay

    def run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Calls the model; returns its output, or None if it was stopped."""
        try:
            if self._options.tokens is not None:
                kwargs = without_special_mask(self._model, kwargs)
            return self._model(*args, **kwargs)
        except EarlyStop as stop:
            # The stop of an outer forward pass, raised by one of its hooks inside this one.
            if stop.forward is not self:
                raise
            self.stopped = True
            return None

    def results(self) -> list[Any]:
        """Returns the features in the order of the requests; `NOT_RUN` for a layer of a pattern that did not run.

        Raises:
            LayerNotRunError: If a named layer, or every layer of a pattern, did not run.
            CallNotMadeError: If a layer ran fewer times than its address says.
            GradientError: If a gradient is requested and nothing requires grad.
        """
        for value in self.values:
            if not value.calls:
                self._check_missing()
                break
        return [value.result() if value.calls else NOT_RUN for value in self.values]

    def _check_missing(self) -> None:
        """Raises the error of the layers that had to run and did not, if there are any."""
        ran = [value.request for value in self.values if value.calls]
        required = required_requests([value.request for value in self.values if not value.calls], ran)
        for value in self.values:
            if value.request in required and value.operations is not None:
                check_operation(value.request, False, value.operations.counts)
        if required:
            hint = explain_missing_call(self._model, required, ran_elsewhere=self.ran_elsewhere)
            names = [request.name for request in required]
            raise LayerNotRunError(names, [request.name for request in ran], hint)


def required_requests(missing: Sequence[Request], ran: Sequence[Request]) -> list[Request]:
    """Returns the requests whose layers must run and did not: named layers, and patterns of which no layer ran."""
    patterns = {request.pattern for request in ran}
    return [request for request in missing if not request.pattern or request.pattern not in patterns]


class _NotRun:
    """The type of `NOT_RUN`, which takes the place of the feature of a layer that did not run."""

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
    selectors: Sequence[CallSelector] | None = None,
    stop: bool = False,
    finders: Sequence[LayoutFinder | None] | None = None,
    track_layouts: bool = False,
    expected_reads: Sequence[Hashable] | None = None,
) -> tuple[ForwardPass, Any]:
    """Runs one forward pass with hooks.

    Args:
        model: The model.
        requests: The requests.
        options: How values are kept.
        args: The positional arguments of the model.
        kwargs: The keyword arguments of the model.
        selectors: Which calls of each request's module are wanted. Default: None, those of the requests' addresses.
        stop: Whether to end the forward pass when every request has its value. Default: False.
        finders: Finds the layouts of each request's tensors. Default: None.
        track_layouts: Whether to follow layouts through this forward pass. Default: False.
        expected_reads: The values of tensors that an earlier forward pass read: one that reads others runs to the end.
            Empty to only note them. Default: None, they do not matter.

    Returns:
        The forward pass, and the model's output (None if the forward pass was stopped).

    Raises:
        CompileError: If `torch.compile` traces the caller.
    """

    def capture() -> tuple[ForwardPass, Any]:
        forward = ForwardPass(
            model, requests, options, Scope(), args, kwargs, selectors=selectors, stop=stop, finders=finders
        )
        hooks = HookSet(model, requests, finders or ())
        hooks.connect(forward)
        with ExitStack() as stack:
            if has_compiled_code(hooks.modules.values()):
                stack.enter_context(force_eager())
            observes = expected_reads is not None and HAS_FUNCTION_MODES and tracing_state() is None
            inside = hooks.followed() if track_layouts or observes else ()
            if track_layouts:
                stack.enter_context(follow_layouts(model, finders or (), inside))
            if observes:
                on_change = forward.keep_on if expected_reads else None
                forward.reads = ValueReads(model, inside, expected_reads or (), on_change)
                stack.enter_context(forward.reads.observe(model, inside))
                stack.callback(forward.reads.close)
            stack.callback(hooks.disconnect)
            hooks.install(stack)
            if hooks.operations is not None:
                stack.enter_context(unwound())
            # Reading the modes of all modules takes time, so only where a stop may skip code.
            restore = _modes(model) if stop else None
            output = forward.run(args, kwargs)
            if restore is not None and forward.stopped:
                restore()
            return forward, output

    # `torch.compiler.disable` makes every Python call of the model slower, so it is used only where it is needed.
    is_compiling = torch.compiler.is_dynamo_compiling() or dynamo_watches()
    return run_outside_dynamo(capture) if is_compiling else capture()


@contextmanager
def follow_layouts(
    model: nn.Module, finders: Sequence[LayoutFinder | None], inside: Collection[nn.Module]
) -> Iterator[LayoutTracker]:
    """Follows layouts through the operations of a model, for some finders, and inside of modules with a fast path."""
    tracker = LayoutTracker(model)
    found = [finder for finder in finders if finder is not None]
    for finder in found:
        finder.tracker = tracker
    try:
        with tracker.observe(model, inside):
            yield tracker
    finally:
        for finder in found:
            finder.tracker = None


@contextmanager
def _replay(
    model: nn.Module,
    requests: Sequence[Request],
    options: Options,
    scope: Scope,
    finders: Sequence[LayoutFinder | None],
    calls: Sequence[int],
    gradients: Sequence[dict[int, Gradients]],
) -> Iterator[None]:
    """Installs the hooks of a forward pass again: the same operations run, and only gradients are kept."""
    forward = ForwardPass(model, requests, options, Scope(), finders=finders)
    hooks = HookSet(model, requests)
    hooks.connect(forward)
    for value, count, received in zip(forward.values, calls, gradients, strict=True):
        # The recomputed region continues from the calls at its beginning, and fills the same gradients.
        value.calls, value.gradients = count, received
    with scope.pause(), hooks.activate(), unwound() if hooks.operations is not None else nullcontext():
        yield


def _modes(model: nn.Module) -> Callable[[], None]:
    """Returns a function that restores the present modes, which a forward pass may switch.

    An early stop skips the code in which the model would have switched them back.
    """
    grad, dtype = torch.is_grad_enabled(), torch.get_default_dtype()
    # A model that switches autocast for another device type is not restored.
    autocast = [(kind, torch.is_autocast_enabled(kind)) for kind in ("cpu", "cuda")]
    training = [(module, module.training) for module in unique_modules(model)]

    def restore() -> None:
        torch.set_grad_enabled(grad)
        torch.set_default_dtype(dtype)
        for kind, enabled in autocast:
            torch.set_autocast_enabled(kind, enabled)
        for module, mode in training:
            if module.training is not mode:
                module.training = mode

    return restore
