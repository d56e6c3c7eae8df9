"""Capture over any number of forwards, for code that calls the model itself."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from threading import get_ident
from typing import Any

from torch import nn

from .._errors import FeatureLayerError, LayerNotRunError
from ..address import Request
from .compiled import force_eager
from .forwards import Forwards
from .hints import why_not_run
from .modes import unwound
from .options import Options
from .places import Places
from .run import Run
from .slots import Slot


class Recording:
    """What forwards of one model leave, for each request.

    A forward of the model is one entry. What is called outside of one, such as
    an encoder that `generate` calls itself, is an entry for each call.

    Args:
        model: The model.
        requests: What to capture.
        options: How to keep it.
        keep: How many entries to keep of each request, the latest; None for all.

    Attributes:
        entries: For each request, pairs of the number of the forward (None outside one) and its feature.
        forwards: How many forwards of the model began.
    """

    def __init__(self, model: nn.Module, requests: Sequence[Request], options: Options, keep: int | None) -> None:
        self.model, self.requests, self.options = model, requests, options
        self.entries: list[deque[tuple[int | None, Any]]] = [deque(maxlen=keep) for _ in requests]
        self.forwards = 0
        self._places = Places(model, requests)
        self._thread = get_ident()

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Records while inside: hooks go in all or none, and come off whatever is raised."""
        with force_eager(self._places.modules.values()), ExitStack() as stack, unwound():
            forwards = Forwards(self._begin, self._end)
            forwards.install_begin(self.model, stack)
            self._places.install(stack)
            stack.callback(self._places.disconnect)
            forwards.install_end(self.model, stack)
            self._wait()
            yield

    def _wait(self) -> None:
        """Outside a forward of the model, each call of a layer is an entry."""
        self._run: Run = _Waiting(self)
        self._places.connect(self._run)

    def _begin(self) -> None:
        self.forwards += 1
        self._run = Run(self.requests, self.options, thread=self._thread)
        self._places.connect(self._run)

    def _end(self) -> None:
        for number, slot in enumerate(self._run.slots):
            if slot.calls or slot.operations:
                self.entries[number].append((self.forwards - 1, _outcome(slot)))
        self._wait()

    def check_ran(self, number: int) -> None:
        """Refuses to answer for a request that no call was recorded of.

        Raises:
            LayerNotRunError: Its layer did not run.
        """
        if not self.entries[number]:
            ran = [request.name for request, entries in zip(self.requests, self.entries, strict=True) if entries]
            request = self.requests[number]
            raise LayerNotRunError([request.name], ran, why_not_run(self.model, [request]))


class _Waiting(Run):
    """What is called while no forward of the model is under way."""

    def __init__(self, recording: Recording) -> None:
        requests = recording.requests
        super().__init__(requests, recording.options, calls=[1] * len(requests), thread=recording._thread)
        self._recording = recording

    def filled(self, slot: Slot) -> None:
        """Makes an entry of each call."""
        number = self.slots.index(slot)
        self._recording.entries[number].append((None, _outcome(slot)))
        slot.restart()


def _outcome(slot: Slot) -> Any:
    """Returns the feature, or the error that reading it is to raise."""
    try:
        return slot.result()
    except FeatureLayerError as error:
        return error
