"""`ActivationRecorder`: features of any number of forward passes, in code that calls the model itself."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any

from torch import nn

from .._exceptions import FeatureLayerError, LayerNotRunError
from ..address import Request
from ._torch_private import calling_frame, has_compiled_code
from .call_selector import call_selectors
from .captured import CapturedValue
from .diagnostics import explain_missing_call
from .dynamo import force_eager
from .forward_pass import ForwardPass, follow_layouts, required_requests
from .hooks import HookSet, modules_around, register
from .layouts import LayoutFinder, LayoutTracker
from .operations import unwound
from .options import Options
from .scope import Scope


class ForwardTracker:
    """Calls functions at the beginning and the end of the outermost calls of some modules.

    A forward pass that ends by an exception that skips hooks (an early stop, an interrupt) is considered finished when
    the next one begins, or when the context ends.

    Args:
        scope: The calls to track.
        begin: A function that is called with the module and its arguments before a forward pass.
        end: A function that is called after a forward pass, whatever was raised.
    """

    def __init__(
        self, scope: Scope, begin: Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None], end: Callable[[], None]
    ) -> None:
        self._scope, self._on_begin, self._on_end = scope, begin, end
        self._frame: FrameType | None = None
        self._depth = 0

    def install_begin(self, modules: Iterable[nn.Module], stack: ExitStack) -> None:
        """Registers the hooks that run before all others; the stack removes them."""
        for module in modules:
            register(module.register_forward_pre_hook, self._begin, stack, prepend=True, with_kwargs=True)

    def install_end(self, modules: Iterable[nn.Module], stack: ExitStack) -> None:
        """Registers the hooks that run after those registered so far; the stack removes them."""
        # A forward pass that is still open when the context ends is finished there.
        stack.callback(self._finish)
        for module in modules:
            register(module.register_forward_hook, self._end, stack, always_call=True)

    def _begin(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not self._scope.is_current():
            return
        frame = calling_frame(sys._getframe(1))
        # The frame of the last forward pass is gone, so it ended by an exception that skipped its hooks.
        if self._frame is not None and not _is_on_stack(self._frame, frame):
            self._finish()
        self._depth += 1
        if self._depth == 1:
            self._frame = frame
            self._on_begin(module, args, kwargs)

    def _end(self, *_: Any) -> None:
        if self._depth and self._scope.is_current():
            self._depth -= 1
            # The depth alone is not enough: a forward pass inside may have ended without its hooks.
            if self._depth == 0 or (self._frame is not None and calling_frame(sys._getframe(1)) is self._frame):
                self._finish()

    def _finish(self) -> None:
        if self._depth or self._frame is not None:
            self._depth, self._frame = 0, None
            self._on_end()


def _is_on_stack(wanted: FrameType, frame: FrameType | None) -> bool:
    while frame is not None and frame is not wanted:
        frame = frame.f_back
    return frame is wanted


class ActivationRecorder:
    """Records the features of each request in the forward passes of a model.

    A forward pass of the model is one entry. So is a call, outside a forward pass of the model, of a module around the
    layer, such as an encoder that `generate` calls itself. A layer that is called outside both has an entry for each
    call.

    Args:
        model: The model.
        requests: The requests.
        options: How values are kept.
        keep: The number of latest entries of each request to keep; None for all.

    Attributes:
        entries: For each request, pairs of the index of the model's forward pass (None outside one) and the feature.
    """

    def __init__(self, model: nn.Module, requests: Sequence[Request], options: Options, keep: int | None) -> None:
        self.model, self.requests, self.options = model, requests, options
        self.entries: list[deque[tuple[int | None, Any]]] = [deque(maxlen=keep) for _ in requests]
        self._forwards = 0
        self._number: int | None = None
        # Entries are kept as (forward pass, feature or exception): an error is raised when its feature is read.
        self._noted = False  # calls elsewhere, in earlier forward passes
        self._finders = layout_finders(requests, options)
        self._hooks = HookSet(model, requests, self._finders)
        self._scope = Scope()
        self._tracker: LayoutTracker | None = None

    @contextmanager
    def activate(self) -> Iterator[None]:
        """Records while the context is open: all hooks are registered, or none, and removed whatever is raised."""
        around = modules_around(self._hooks.modules, self.requests)
        with ExitStack() as stack:
            if has_compiled_code(self._hooks.modules.values()):
                stack.enter_context(force_eager())
            # The scope is entered before hooks are registered: a hook that runs at once must already find it.
            stack.enter_context(self._scope.enter())
            if any(self._finders):
                self._tracker = stack.enter_context(follow_layouts(self.model, self._finders, self._hooks.followed()))
            if self._hooks.operations is not None:
                stack.enter_context(unwound())
            forwards = ForwardTracker(self._scope, self._begin, self._end)
            forwards.install_begin(around, stack)
            self._hooks.install(stack)
            # Callbacks run in reverse: hooks do nothing before they are removed.
            stack.callback(self._hooks.disconnect)
            forwards.install_end(around, stack)
            self._wait()
            yield

    def _wait(self) -> None:
        """Outside a forward pass, makes each call of a layer an entry."""
        self._pass: ForwardPass = _Waiting(
            self.model, self.requests, self.options, self._scope, self._finders, self.entries
        )
        self._hooks.connect(self._pass)

    def _begin(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._number = self._forwards if module is self.model else None
        self._forwards += module is self.model
        self._pass = ForwardPass(
            self.model, self.requests, self.options, self._scope, args, kwargs, called=module, finders=self._finders
        )
        self._hooks.connect(self._pass)

    @property
    def _ran_elsewhere(self) -> bool:
        self._noted |= self._pass.ran_elsewhere
        return self._noted

    def _end(self) -> None:
        self._noted |= self._pass.ran_elsewhere
        for number, value in enumerate(self._pass.values):
            if value.calls or (value.operations is not None and value.operations.calls):
                self.entries[number].append((self._number, _outcome(value)))
        self._wait()

    def not_run(self) -> list[Request]:
        """Returns the requests of patterns whose layers have not run, while other layers of the pattern have."""
        ran = [request for number, request in enumerate(self.requests) if self._has(number)]
        missing = [request for number, request in enumerate(self.requests) if not self._has(number)]
        required = required_requests(missing, ran)
        return [request for request in missing if request not in required]

    def _has(self, number: int) -> bool:
        value = self._pass.values[number]
        return bool(self.entries[number]) or (bool(value.calls) and not isinstance(self._pass, _Waiting))

    def features(self, number: int) -> list[Any]:
        """Returns the features of a request, the earliest first, including that of a running forward pass.

        Raises:
            LayerNotRunError: If its layer did not run.
            FeatureLayerError: If a feature could not be kept.
        """
        entries = self.entries[number]
        found = [feature for _, feature in entries]
        value = self._pass.values[number]
        if value.calls and not isinstance(self._pass, _Waiting):
            found.append(_outcome(value))
        if not found:
            ran = [request.name for request, kept in zip(self.requests, self.entries, strict=True) if kept]
            request = self.requests[number]
            hint = explain_missing_call(self.model, [request], ran_elsewhere=self._ran_elsewhere)
            raise LayerNotRunError([request.name], ran, hint)
        found = found[-(entries.maxlen or len(found)) :]
        for feature in found:
            if isinstance(feature, FeatureLayerError):
                raise feature
        return found


class _Waiting(ForwardPass):
    """The calls outside a forward pass, each of which is an entry."""

    def __init__(
        self,
        model: nn.Module,
        requests: Sequence[Request],
        options: Options,
        scope: Scope,
        finders: Sequence[LayoutFinder | None],
        entries: list[deque[tuple[int | None, Any]]],
    ) -> None:
        selectors = call_selectors(requests, [1] * len(requests))
        super().__init__(model, requests, options, scope, selectors=selectors, finders=finders)
        self._entries = entries

    def on_complete(self, value: CapturedValue) -> None:
        """Makes a call an entry."""
        self._entries[self.values.index(value)].append((None, _outcome(value)))
        value.restart()


def _outcome(value: CapturedValue) -> Any:
    """Returns the feature, or the exception that reading it raises."""
    try:
        return value.result()
    except FeatureLayerError as error:
        return error


def layout_finders(requests: Sequence[Request], options: Options) -> list[LayoutFinder | None]:
    """Returns a layout finder for each request; None for each if the options do not need layouts."""
    if not options.needs_layout:
        return [None] * len(requests)
    needs = [(request, options.of(request.name)) for request in requests]
    return [
        LayoutFinder(own.find_layout(request.name), needs_channel=own.needs_channel) if own.needs_layout else None
        for request, own in needs
    ]
