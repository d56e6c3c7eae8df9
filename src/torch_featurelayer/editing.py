"""Interventions: replace, scale, zero or patch what happens inside a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import nn

from .address import Request, Selector, checked, resolve
from .engine import Edits, EditValue

__all__ = ["edit"]


@contextmanager
def edit(model: nn.Module, changes: Mapping[Selector, EditValue]) -> Iterator[None]:
    """Replaces values inside a model while inside, whoever calls it.

    Edits sit where captures read: an address may name an output, an `:input`,
    an operation (`"layer1.0:add"`) or a part (`"encoder[0]"`). Captures see
    the edited value, and gradients flow through it. Where edits nest, the
    innermost comes first. Calls from other threads are not edited.

    Args:
        model: Any `nn.Module`.
        changes: From a layer, as for `FeatureLayers` (patterns change all they
            match), to what takes its value's place: a function from the value to
            the new one (it gets a copy, which it may change in place and must
            return), a tensor that broadcasts to the value (converted to its
            dtype and device), or a number that fills it. An unmarked layer is
            changed at every call, `@n` at that call of each forward of the model.

    Raises:
        EditError: A value does not fit.
        LayerNotRunError: At the end: an edit has changed nothing, since its layer did not run.
        OperationNotFoundError, AmbiguousOperationError: At the end: what they say.
        LayerNotFoundError, AddressError, NotAModuleError, ScriptedModuleError: What they say.
        EmptyRequestError, DuplicateRequestError: What they say.

    Examples:
        >>> import torch
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(inplace=True))
        >>> with edit(model, {"0": 2.0}):
        ...     model(torch.ones(1, 4))
        tensor([[2., 2., 2.]])
    """
    checked(model)
    found: dict[Request, EditValue] = {}
    for selector, value in changes.items():
        found.update(dict.fromkeys(resolve(model, selector), value))
    if not found:
        resolve(model, [])  # says that no layer was named
    edits = Edits(model, found)
    with edits.installed():
        yield
    edits.check_done()
