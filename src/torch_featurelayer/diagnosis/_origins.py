"""Which error the bad values of a tensor come from."""

from __future__ import annotations

import weakref
from contextlib import suppress
from typing import Any

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from .._exceptions import NonFiniteError


class Origins:
    """The origins of bad values, by storage: views and tensors that were written in place share that of their base."""

    def __init__(self) -> None:
        self._found: dict[int, tuple[Any, NonFiniteError]] = {}
        self._finite: tuple[weakref.ref[Tensor], int] | None = None

    def add(self, tensor: Tensor, error: NonFiniteError) -> NonFiniteError:
        """Attaches an origin to a tensor, and returns it."""
        for reference in (reference for reference, _ in [*self._found.values()] if reference.expired()):
            del self._found[reference.cdata]
        with suppress(NotImplementedError, RuntimeError):  # of tensors without storage
            added = StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]
            self._found[added.cdata] = added, error
        return error

    def find(self, tensor: Tensor) -> NonFiniteError | None:
        """Returns the origin of a tensor; None if it has none."""
        with suppress(NotImplementedError, RuntimeError):
            reference, error = self._found.get(tensor.untyped_storage()._cdata, (None, None))
            # The storage of a tensor that is gone may be that of another tensor now.
            return error if reference is not None and not reference.expired() else None
        return None

    def note_finite(self, tensor: Tensor) -> None:
        """Remembers that the last output is finite, so that the module that returns it need not read it again."""
        self._finite = None if tensor.is_inference() else (weakref.ref(tensor), tensor._version)

    def is_known_finite(self, tensor: Tensor) -> bool:
        """Whether a tensor is the last output and was not written to since."""
        return self._finite is not None and self._finite[0]() is tensor and self._finite[1] == tensor._version
