"""`tl.head`: a linear classifier on a layer, which runs on the model."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from .._exceptions import StoreMismatchError
from .._feature_layer import FeatureLayer
from .._reduce import Reduction
from ..engine import Tokens
from ..extraction.query import check_repeatable, function_differences, module_differences, stored_options
from ..models import LoadedModel
from ..store import Store, open_store
from ._data import read_features, read_labels
from ._probe import linear_classifier


class Head(nn.Module):
    """A linear classifier on the features of a layer.

    It takes the arguments of the model, which stops after the layer, and returns logits. The model is not changed, and
    its parameters belong to the head: `head.eval()` and `head.to(device)` apply to it too.

    Args:
        layer: The wrapper that computes the features.
        weight: The weight `[classes, D]`.
        bias: The bias `[classes]`.
        labels: The names of the classes.

    Attributes:
        layer: The wrapper that computes the features.
        linear: The linear layer, from the flat feature to logits.
        labels: The names of the classes, in the order of the logits.
    """

    def __init__(self, layer: FeatureLayer, weight: Tensor, bias: Tensor, labels: Sequence[str]) -> None:
        super().__init__()
        self.layer, self.labels = layer, tuple(labels)
        self.linear = nn.Linear(weight.shape[1], weight.shape[0])
        with torch.no_grad():
            self.linear.weight.copy_(weight)
            self.linear.bias.copy_(bias)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Computes the logits of the classes.

        Args:
            *args: The positional arguments of the model.
            **kwargs: The keyword arguments of the model.

        Returns:
            A tensor `[N, classes]`, with gradient.
        """
        feature = self.layer.features(*args, **kwargs)
        logits: Tensor = self.linear(feature.flatten(1).to(self.linear.weight.dtype))
        return logits

    def predict(self, *args: Any, **kwargs: Any) -> list[str]:
        """Predicts the class of each item.

        Args:
            *args: The positional arguments of the model.
            **kwargs: The keyword arguments of the model.

        Returns:
            The name of the most probable class of each item.
        """
        with torch.no_grad():
            return [self.labels[index] for index in self(*args, **kwargs).argmax(-1).tolist()]


def head(
    store: Store | str | PathLike[str],
    layer: str,
    label: str | Sequence[Any] = "label",
    *,
    model: nn.Module | LoadedModel,
    reduce: Reduction | None = None,
    tokens: Tokens | None = None,
) -> Head:
    """Fits a linear classifier to a layer of a store, and returns it as a module that runs on the model.

    Args:
        store: A store with one row for each item, or its folder.
        layer: The layer.
        label: The column of the classes, or a class for each item in the order of `store.ids`. Default: `"label"`.
        model: The model that the features were extracted from.
        reduce: The reduction of the feature, if that of the store was a function. Default: None, that of the store.
        tokens: The choice of tokens, if that of the store was a function. Default: None, that of the store.

    Returns:
        The `Head`: it takes the arguments of the model and returns logits.

    Raises:
        FeatureNotFoundError: If the store has no such column or layer.
        StoreMismatchError: If the model has other weights, code or attributes than that of the store, or a function is
            another one.
        ValueError: If there are fewer than two classes, items have no label or several rows, values are not finite, or
            the reduction or the choice of tokens of the store is a function and is not given.
        MissingExtraError: If scikit-learn is not installed.
    """
    store = store if isinstance(store, Store) else open_store(store)
    labels = read_labels(store, label, 1)
    features = read_features(store, layer)
    network: nn.Module = model.model if isinstance(model, LoadedModel) else model
    options = stored_options(store.metadata, layer)
    given = {name: value for name, value in (("reduce", reduce), ("tokens", tokens)) if value is not None}
    differences = {**module_differences(network, store.metadata), **function_differences(given, options)}
    if differences:
        raise StoreMismatchError(store.path, differences)
    check_repeatable(store, {**options, **given}, "pass the function as `reduce` or `tokens`")
    wrapper = FeatureLayer(network, layer, **{**options, **given})
    fitted = linear_classifier().fit(features, labels)
    scaler, regression = fitted[0], fitted[-1]
    # The standardisation is part of the linear layer.
    weight = regression.coef_ / scaler.scale_
    bias = regression.intercept_ - weight @ scaler.mean_
    if len(regression.classes_) == 2:  # one logit: that of the second class
        weight, bias = numpy.concatenate([0 * weight, weight]), numpy.concatenate([0 * bias, bias])
    made = Head(wrapper, torch.from_numpy(weight), torch.from_numpy(bias), regression.classes_.tolist())
    return made.train(network.training)
