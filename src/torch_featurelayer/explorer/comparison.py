"""Compares the two models of the explorer: the CKA of their stages, and the differences of their layers."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

import torch
from torch import Tensor

from ..diagnosis import diff
from ..similarity import cka
from .inputs import inputs_of
from .session import Explorer

_ITEMS: Final = 1000  # of a dataset, for CKA
_FEWEST: Final = 8


def alignment(explorer: Explorer, picture: int) -> tuple[list[str], list[str], Tensor, str]:
    """Returns the CKA of the stages of the first model with those of the last.

    Returns:
        The names of rows and columns, the values `[A, B]`, and a sentence that says over what: the items of a
        dataset where both models have features, otherwise the positions of one image or text.
    """
    shared = _shared_features(explorer)
    if shared is not None:
        sides, count = shared
        about = f"Debiased linear CKA over {count} items of the dataset: 1 for the same features up to rotation."
    else:
        last = len(explorer.models) - 1
        sides = [
            {stage: _grid(explorer, number, picture, stage) for stage in explorer.models[number].stages}
            for number in (0, last)
        ]
        about = f"Linear CKA over positions of this {explorer.kind}: 1 for the same features up to rotation."
    first, second = sides
    values = [[cka(one, other, debiased=shared is not None) for other in second.values()] for one in first.values()]
    return list(first), list(second), torch.tensor(values), about


def differences(explorer: Explorer, model: int, picture: int) -> tuple[str, dict[str, float]]:
    """Compares the layers of a model with those of the other one, for an image or text.

    Returns:
        A sentence, and the relative error by layer: infinite where shapes or finite values differ.
    """
    if len(explorer.models) < 2:
        return "", {}
    one, other = explorer.models[model], explorer.models[1 - model]
    args, kwargs = inputs_of(one, explorer.pictures[picture].source)
    named: dict[str, Any] = dict(kwargs)
    errors: dict[str, float] = {}
    with suppress(ValueError):  # without layers of the same name
        table = diff(one.model, other.model, *args, **named)
        for row in table:
            path = row.name.partition("@")[0]
            error = float("inf") if row.error != row.error else row.error
            errors[path] = max(errors.get(path, 0.0), error)
    if not any(errors):  # the models themselves have one name
        return "No layer of one model has the name of one of the other, so they are not compared.", {}
    first = table.first()
    found = "no layer differs" if first is None else f"the first to differ is {first.name or 'the model'}"
    return f"Relative error against the other model for this {explorer.kind}: {found}.", errors


def _shared_features(explorer: Explorer) -> tuple[list[dict[str, Tensor]], int] | None:
    """Returns the features of the items that both models have, by layer, and their number; None without stores."""
    datasets = [each for each in (explorer.datasets[0], explorer.datasets[-1]) if each and each.store]
    stores = [each.store for each in datasets if each.store]
    whole = all(len(each.comparable) == len(store.layers) for each, store in zip(datasets, stores, strict=True))
    if len(stores) < 2 or not whole:
        return None
    common = set(stores[0].ids) & set(stores[1].ids)
    names = [name for name in stores[0].ids if name in common]
    step = max(1, len(names) // _ITEMS)
    names = names[::step]
    if len(names) < _FEWEST:
        return None
    sides = []
    for store, model in zip(stores, (explorer.models[0], explorer.models[-1]), strict=True):
        places = {name: place for place, name in enumerate(store.ids)}
        rows = [places[name] for name in names]
        # In the order of the model, which the store does not keep.
        layers = [path for path, _ in model.model.named_modules() if path in store]
        sides.append({layer: store[layer][rows].float() for layer in layers})
    return sides, len(names)


def _grid(explorer: Explorer, model: int, picture: int, layer: str) -> Tensor:
    """Returns the vectors of a layer at 14 × 14 positions of the image, or at the tokens of the text."""
    maps = explorer.maps(model, picture, layer)[None]
    if explorer.kind == "text":
        return maps[0, :, 0].T
    resized: Tensor = torch.nn.functional.interpolate(maps, size=(14, 14), mode="bilinear", antialias=True)
    return resized[0].flatten(1).T
