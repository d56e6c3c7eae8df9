"""Features of one more sample, extracted like those of a store."""

from __future__ import annotations

from ast import literal_eval
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

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
    _check_repeatable(store.path, metadata)
    if differences := model_differences(loaded, metadata):
        raise StoreMismatchError(store.path, differences)
    spec = FeatureSpec(
        loaded.model,
        tuple(metadata["layers"]),
        metadata["reduce"],
        tokens=_tokens(metadata.get("tokens")),
        layout=_layout(metadata.get("layout")),
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


def _check_repeatable(path: str, metadata: Mapping[str, Any]) -> None:
    """Checks that the metadata say how to extract one more sample.

    Raises:
        ValueError: If they do not.
    """
    reduce = metadata["reduce"]
    reductions = reduce.values() if isinstance(reduce, Mapping) and set(reduce) == set(metadata["layers"]) else [reduce]
    functions = [name for name, values in (("reduce", reductions), ("tokens", [metadata.get("tokens")]))
                 if any(isinstance(value, Mapping) for value in values)]  # fmt: skip
    passes = [name for name in ("generate", "objects") if metadata.get(name) is not None]
    if functions or passes:
        names = ", ".join(f"{name}=" for name in (*functions, *passes))
        raise ValueError(
            f"the features in {path} depend on {names}, which the store cannot repeat for one more sample: call "
            "`extract` with the same arguments on it"
        )


def model_differences(loaded: LoadedModel, metadata: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Compares a model and its preprocessing with those of stored features.

    Returns:
        For each difference, the value in the metadata and that of the model; an empty dict if features agree.
    """
    packages: set[str] = set()
    now = {**model_digests(loaded.model, packages), "preprocess": describe_function(loaded.preprocess, packages)}
    # Bytecode differs between versions of Python, and stores of older versions do not hold all of them.
    is_same_python = metadata.get("versions", {}).get("python") == python_version()
    names = [name for name in now if name in metadata and (is_same_python or name in ("weights", "preprocess"))]
    return {name: (metadata[name], now[name]) for name in names if metadata[name] != now[name]}


def _tokens(text: str | None) -> Any:
    """Returns the choice of tokens that a store describes."""
    if text is not None and text.startswith("slice("):
        return slice(*literal_eval(text.removeprefix("slice")))
    return text


def _layout(text: str | None) -> Any:
    """Returns the layout that a store describes: a text, or the `repr` of a dict."""
    return literal_eval(text) if text is not None and text.startswith("{") else text


def _dtype(name: str | None) -> torch.dtype | None:
    found = None if name is None else getattr(torch, name.removeprefix("torch."))
    return found if isinstance(found, torch.dtype) else None
