"""One adapter per contender: how its own documentation says to get the outputs of many layers.

Each takes a model and layer names in the order they finish, and returns a call that runs the model once and gives
the values by name. What a contender needs in advance, such as tracing the model, happens before that call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

Values = dict[str, Any]
Call = Callable[[Tensor], Values]
Adapter = Callable[[nn.Module, list[str]], Call]


def ours(model: nn.Module, names: list[str]) -> Call:
    import torch_featurelayer as tl

    layers = tl.FeatureLayers(model, names)
    return lambda image: dict(layers(image)[0].items())


def baukit(model: nn.Module, names: list[str]) -> Call:
    """What baukit's TraceDict does by default: a hook on each layer that keeps the model's own tensor, last call."""

    def call(image: Tensor) -> Values:
        kept: Values = {}
        handles = [
            model.get_submodule(name).register_forward_hook(lambda _, __, out, name=name: kept.update({name: out}))
            for name in names
        ]
        try:
            model(image)
        finally:
            for handle in handles:
                handle.remove()
        return kept

    return call


def captum(model: nn.Module, names: list[str]) -> Call:
    from captum.attr import LayerActivation

    attribution = LayerActivation(model, [model.get_submodule(name) for name in names])
    return lambda image: dict(zip(names, attribution.attribute(image), strict=True))


def torchlens(model: nn.Module, names: list[str]) -> Call:
    import torchlens

    def call(image: Tensor) -> Values:
        modules = torchlens.trace(model, image).modules
        return {name: [*modules[name].calls.values()][-1].outs for name in names}

    return call


def nnsight(model: nn.Module, names: list[str]) -> Call:
    from nnsight import NNsight

    wrapped = NNsight(model)

    def call(image: Tensor) -> Values:
        with wrapped.trace(image):
            kept = {}
            for name in names:
                kept[name] = wrapped.get(name).output
            kept.save()
        return kept

    return call


def grad_cam(model: nn.Module, names: list[str]) -> Call:
    """pytorch-grad-cam's recorder; it pairs the values with the layers by position."""
    from pytorch_grad_cam.activations_and_gradients import ActivationsAndGradients

    def call(image: Tensor) -> Values:
        recorder = ActivationsAndGradients(model, [model.get_submodule(name) for name in names], None)
        try:
            recorder(image)
            return dict(zip(names, recorder.activations, strict=False))
        finally:
            recorder.handles, handles = [], recorder.handles
            for handle in handles:
                handle.remove()

    return call


def torchvision(model: nn.Module, names: list[str]) -> Call:
    from torchvision.models.feature_extraction import create_feature_extractor

    return create_feature_extractor(model, names).eval()  # type: ignore[no-any-return]


def surgeon(model: nn.Module, names: list[str]) -> Call:
    from surgeon_pytorch import Inspect

    inspect = Inspect(model, layer=names)
    return lambda image: dict(zip(names, inspect(image)[1], strict=True))


def torchextractor(model: nn.Module, names: list[str]) -> Call:
    import torchextractor

    extractor = torchextractor.Extractor(model, names)

    def call(image: Tensor) -> Values:
        try:
            return dict(extractor(image)[1])
        finally:
            extractor.clear_placeholder()

    return call


def old(model: nn.Module, names: list[str]) -> Call:
    """The unrelated torch-featurelayer 0.1.2, which the process must find in place of this package."""
    import torch_featurelayer as tl

    layers = tl.FeatureLayers(model, names)
    return lambda image: dict(layers(image)[0])


CONTENDERS: dict[str, Adapter] = {
    "torch_featurelayer": ours,
    "torchlens": torchlens,
    "captum": captum,
    "nnsight": nnsight,
    "baukit-like hooks": baukit,
    "pytorch-grad-cam recorder": grad_cam,
    "torchvision fx": torchvision,
    "surgeon-pytorch": surgeon,
    "torchextractor": torchextractor,
    "torch-featurelayer 0.1.2": old,
}
DISTRIBUTIONS = {
    "torchlens": "torchlens",
    "captum": "captum",
    "nnsight": "nnsight",
    "pytorch-grad-cam recorder": "grad-cam",
    "torchvision fx": "torchvision",
    "surgeon-pytorch": "surgeon-pytorch",
    "torchextractor": "torchextractor",
}
