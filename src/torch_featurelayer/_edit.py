"""Interventions: replace, scale, zero or patch what happens inside a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from torch import nn

from .address import Request, Selector, check_model, resolve
from .engine import EditValue, InterventionSet

__all__ = ["edit"]

# The keys of a Mapping are invariant: a dict of str is no Mapping of Selector.
Key = TypeVar("Key", bound=Selector)


@contextmanager
def edit(model: nn.Module, changes: Mapping[Key, EditValue]) -> Iterator[None]:
    """Replaces values inside a model while inside, wherever it is called from.

    Edits are made where captures read: an address may name an output, an `:input`,
    an operation (`"layer1.0:add"`) or a part (`"encoder[0]"`). Captures see
    the edited value, and gradients flow through it. Where edits nest, the
    innermost comes first. Only calls of the same thread, and of the same asyncio task, are
    edited. While the function of an edit runs the model itself, that edit does not apply there.

    Args:
        model: Any `nn.Module`.
        changes: A dict from a layer, as for `FeatureLayers` (patterns change all they
            match), to what replaces its value: a function from the value to
            the new one (it gets a copy, which it may change in place and must
            return), a tensor that broadcasts to the value (converted to its
            dtype and device), or a number that fills it. An unmarked layer is
            changed at every call, `@n` at that call of each forward pass.

    Raises:
        EditError: If a new value does not fit.
        LayerNotRunError: At the end, if an edit changed nothing because its layer did not run.
        OperationNotFoundError: At the end, if the operation did not run in its layer.
        AmbiguousOperationError: At the end, if several such operations ran and the address does not number them.
        EmptyRequestError: If no layer is named.
        DuplicateRequestError: If a layer is named twice.
        LayerNotFoundError: If the model has no such layer, or a pattern matches none.
        AddressError: If the text of an address cannot be read.
        NotAModuleError: If the model is not an `nn.Module`.
        ScriptedModuleError: If a layer is inside a TorchScript module.

    Examples:
        >>> import torch
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(inplace=True))
        >>> with edit(model, {"0": 2.0}):
        ...     model(torch.ones(1, 4))
        tensor([[2., 2., 2.]])
    """
    check_model(model)
    found: dict[Request, EditValue] = {}
    for selector, value in changes.items():
        found.update(dict.fromkeys(resolve(model, selector), value))
    if not found:
        resolve(model, [])  # says that no layer was named
    interventions = InterventionSet(model, found)
    with interventions.installed():
        yield
    interventions.check_done()
