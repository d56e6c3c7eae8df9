"""`edit`: replaces, scales, zeroes or patches values inside a model."""

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
    """Replaces values inside a model while the context is open, in any code that calls the model.

    An address may name an output, an `:input`, an operation (`"layer1.0:add"`) or a part (`"encoder[0]"`). Captures
    record the edited value, and gradients flow through it. If edits are nested, the innermost is applied first. Only
    calls of the same thread and the same asyncio task are edited. If the function of an edit runs the model itself,
    that edit is not applied there.

    Args:
        model: The model, any `nn.Module`.
        changes: A dict from layer, as in `FeatureLayers`, to its new value: a function from the value to the new value
            (it receives a copy, which it may change in place and must return), a tensor that can be broadcast to the
            value (it is converted to its dtype and device), or a number. A pattern changes every matching layer.
            Without a call in the address, every call is changed; with `@n`, that call of each forward pass.

    Yields:
        None. The edits are in effect while the context is open.

    Raises:
        EditError: If a new value does not fit.
        TypeError: If `changes` is not a dict.
        LayerNotRunError: On exit, if an edit was not applied because its layer did not run.
        OperationNotFoundError: On exit, if the operation of an address did not run in its layer.
        AmbiguousOperationError: On exit, if several such operations ran and the address does not number them.
        EmptyRequestError: If no layer is named.
        DuplicateRequestError: If a layer is named twice.
        LayerNotFoundError: If the model has no such layer, or no layer matches a pattern.
        AddressError: If an address cannot be parsed.
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
    if not isinstance(changes, Mapping):
        raise TypeError(f"changes must be a dict from layer to new value, not a {type(changes).__name__}")
    found: dict[Request, EditValue] = {}
    for selector, value in changes.items():
        found.update(dict.fromkeys(resolve(model, selector), value))
    if not found:
        resolve(model, [])  # says that no layer was named
    interventions = InterventionSet(model, found)
    with interventions.activate():
        yield
    interventions.check_done()
