"""Features of one more sample, extracted like those of a store."""

from __future__ import annotations

from ast import literal_eval
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .._exceptions import StoreMismatchError
from ..models import LoadedModel
from ..store import TOKEN_IDS, Item, Store
from .batches import Batch
from .collating import make_collator
from .identity import describe_function, model_digests
from .metadata import python_version
from .modes import EAGER, Mode
from .runner import FeatureRunner
from .spec import FeatureSpec


def extract_like(store: Store, loaded: LoadedModel, sample: Any) -> Mapping[str, Tensor]:
    """Extracts the features of a sample in the same way as those of a store.

    Args:
        store: The store. Its reduction and its choice of tokens must have names, such as `"mean"`, because a store does
            not hold functions; it must not be one of objects or of generated texts.
        loaded: The model of the store.
        sample: An image or a text.

    Returns:
        The features by layer, each in the shape of a row of the store, or `[rows, ...]` in a store with a row for each
        token; new tensors on the CPU, without gradient.

    Raises:
        StoreMismatchError: If the model has other weights, code or attributes, or another preprocessing.
        ValueError: If the store needs more than its metadata say, such as a function.
    """
    metadata = store.metadata
    layers = tuple(metadata["layers"])
    options = {layer: stored_options(metadata, layer) for layer in layers}
    for each in options.values():
        check_repeatable(store, each, "extract the sample with the same arguments")
    if differences := model_differences(loaded, metadata):
        raise StoreMismatchError(store.path, differences)
    spec = FeatureSpec(
        loaded.model,
        layers,
        metadata["reduce"],
        tokens=options[layers[0]]["tokens"],
        layout=options[layers[0]]["layout"],
        dtype=_dtype(metadata["dtype"]),
        autocast=_dtype(metadata["autocast"]),
        precision=_dtype(metadata.get("precision")),
        mode=EAGER if (mode := Mode.parse(metadata["mode"])).is_copy else mode,
    )
    collator = make_collator(
        loaded.model, loaded.preprocess, None, is_default=True, max_length=metadata.get("max_length")
    )
    groups, _ = collator.collate([0], [collator.prepare(sample)])
    (batch,) = collator.arrange([Batch([Item("")], groups)], 1)
    runner = FeatureRunner(spec)
    rows = runner(batch.groups[0].inputs)
    runner.check_overflow()
    by_token = TOKEN_IDS in rows.features
    return {name: (rows.features[name] if by_token else rows.features[name][0]).cpu() for name in spec.layers}


def stored_options(metadata: Mapping[str, Any], layer: str) -> dict[str, Any]:
    """Returns the `reduce`, `tokens` and `layout` of a layer of a store, as `FeatureLayer` takes them.

    A function, which a store does not hold, is a mapping that describes it.
    """
    reduce, tokens, layout = (metadata.get(name) for name in ("reduce", "tokens", "layout"))
    if isinstance(reduce, Mapping) and (layer in reduce or not {"name", "named"} & set(reduce)):
        reduce = reduce.get(layer)  # of some layers, by layer
    if isinstance(tokens, str) and tokens.startswith("slice("):
        tokens = slice(*literal_eval(tokens.removeprefix("slice")))
    if isinstance(layout, str) and layout.startswith("{"):
        layout = literal_eval(layout)
    return {"reduce": reduce, "tokens": tokens, "layout": layout}


def function_differences(given: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Compares functions that the user gives with the options of a layer of a store; see `model_differences`."""
    found = {name: (options[name], describe_function(value, set())) for name, value in given.items()}
    # A function without a digest cannot be compared.
    return {name: pair for name, pair in found.items() if pair[0] != pair[1] and not _is_unknown(pair[0])}


def _is_unknown(described: Any) -> bool:
    return isinstance(described, Mapping) and described.get("digest", "") is None


def check_repeatable(store: Store, options: Mapping[str, Any], instead: str) -> None:
    """Checks that the features of more samples can be computed as those of a store.

    Args:
        store: The store.
        options: The options of a layer of the store.
        instead: The advice for the exception.

    Raises:
        ValueError: If they depend on a function, on generated tokens or on objects.
    """
    functions = [name for name, value in options.items() if isinstance(value, Mapping) and name != "layout"]
    passes = [name for name in ("generate", "objects") if store.metadata.get(name) is not None]
    if names := ", ".join(f"{name}=" for name in (*functions, *passes)):
        raise ValueError(f"the features in {store.path} depend on {names}, of which a store holds the name: {instead}")


def model_differences(loaded: LoadedModel, metadata: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Compares a model and its preprocessing with those of stored features.

    Returns:
        For each difference, the value in the metadata and that of the model; an empty dict if features agree.
    """
    preprocess = describe_function(loaded.preprocess, set())
    found = module_differences(loaded.model, metadata)
    return {**found, **_differences({"preprocess": preprocess}, metadata)}


def module_differences(model: nn.Module, metadata: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Compares a model with that of stored features, without its preprocessing; see `model_differences`."""
    found = model_digests(model, set())
    if metadata.get("versions", {}).get("python") != python_version():  # bytecode differs
        found = {"weights": found["weights"]}
    return _differences(found, metadata)


def _differences(found: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    # Stores of older versions do not hold all of them.
    return {name: (metadata[name], value) for name, value in found.items() if metadata.get(name, value) != value}


def _dtype(name: str | None) -> torch.dtype | None:
    found = None if name is None else getattr(torch, name.removeprefix("torch."))
    return found if isinstance(found, torch.dtype) else None
