"""One adapter per contender: how its own documentation says to get the outputs of many layers.

Each takes a model and layer names in the order they finish, and returns a call that runs the model once and gives
the values by name. What a contender needs in advance, such as tracing the model, happens before that call.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Callable
from typing import Any
from unittest.mock import MagicMock

from torch import Tensor, nn

Stopped = Callable[[Tensor], Any]
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


class _Empty(types.ModuleType):
    """A package that is not installed, empty."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return MagicMock()


class _EmptyPackages(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds what thingsvision imports for its other backends."""

    names = ("tensorflow", "keras", "torchtyping", "open_clip", "dreamsim", "clip")

    def find_spec(self, name: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        """Says that it is here."""
        missing = name.partition(".")[0] in self.names
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if missing else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        """Makes it."""
        return _Empty(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """It has nothing to run."""


def thingsvision_extractor(model: nn.Module) -> Any:
    """Thingsvision's extractor of a model of one's own."""
    import numpy as np

    if not any(isinstance(finder, _EmptyPackages) for finder in sys.meta_path):
        sys.meta_path.append(_EmptyPackages())
    np.AxisError = np.exceptions.AxisError  # type: ignore[attr-defined]  # it is written for NumPy 1
    from thingsvision import get_extractor_from_model

    return get_extractor_from_model(model=model, device="cpu", backend="pt")


def thingsvision(model: nn.Module, names: list[str]) -> Call:
    extractor = thingsvision_extractor(model)

    def call(image: Tensor) -> Values:
        with extractor.batch_extraction(module_names=names, output_type="tensor") as batches:
            return dict(batches.extract_batch(batch=image, flatten_acts=False))

    return call


def old(model: nn.Module, names: list[str]) -> Call:
    """The unrelated torch-featurelayer 0.1.2, which the process must find in place of this package."""
    import torch_featurelayer as tl

    layers = tl.FeatureLayers(model, names)
    return lambda image: dict(layers(image)[0])


class _Stop(BaseException):
    """Ends a model early."""


def hooks_that_raise(model: nn.Module, name: str) -> Stopped:
    """What baukit's Trace(stop=True) does: the hook raises, and is caught outside."""
    kept: list[Any] = []

    def hook(_: nn.Module, __: object, output: Any) -> None:
        kept[:] = [output]
        raise _Stop

    def call(image: Tensor) -> Any:
        handle = model.get_submodule(name).register_forward_hook(hook)
        try:
            model(image)
        except _Stop:
            return kept.pop()
        finally:
            handle.remove()

    return call


def ours_stopped(model: nn.Module, name: str) -> Stopped:
    import torch_featurelayer as tl

    return tl.FeatureLayer(model, name).features


def timm_stopped(model: nn.Module, name: str) -> Stopped:
    """Timm's own way, for the stages its models list."""
    from torch_featurelayer.analysis import tokens_to_map

    index = [info["module"] for info in model.feature_info].index(name)

    def call(image: Tensor) -> Any:
        return model.forward_intermediates(
            image, indices=[index], norm=False, stop_early=True, intermediates_only=True
        )[0]

    call.as_theirs = lambda feat: tokens_to_map(feat, image_size=(224, 224)) if feat.ndim == 3 else feat  # type: ignore[attr-defined]
    return call


def nnsight_stopped(model: nn.Module, name: str) -> Stopped:
    from nnsight import NNsight

    wrapped = NNsight(model)

    def call(image: Tensor) -> Any:
        with wrapped.trace(image) as tracer:
            kept = wrapped.get(name).output.save()
            tracer.stop()
        return kept

    return call


def torchlens_stopped(model: nn.Module, name: str) -> Stopped:
    """As its README advises: a recording of the operations inside a module, halted at the next module."""
    import torchlens

    parent, _, _ = name.rpartition(".")
    siblings = [f"{parent}.{child}".lstrip(".") for child, _ in model.get_submodule(parent).named_children()]
    save = torchlens.in_module(name)
    halt = torchlens.in_module(siblings[siblings.index(name) + 1])
    return lambda image: torchlens.record(model, image, save=save, halt=halt).records[-1].ram_payload


def torchlens_plucked(model: nn.Module, name: str) -> Stopped:
    """Its call for one layer, which records every operation."""
    import torchlens

    return lambda image: torchlens.pluck(model, image, name, stop_after=name)


def _whole(adapter: Adapter) -> Callable[[nn.Module, str], Stopped]:
    """A contender's one layer, where it has no other way than to run the model to its end."""

    def stopped(model: nn.Module, name: str) -> Stopped:
        call = adapter(model, [name])
        return lambda image: call(image)[name]

    return stopped


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
    "thingsvision": thingsvision,
    "torch-featurelayer 0.1.2": old,
}
# installed for their own process only: 0.1.2 has this package's name, thingsvision brings a package called `tests`
APART = {"torch-featurelayer 0.1.2": "torch-featurelayer==0.1.2", "thingsvision": "thingsvision==2.7.3"}
DISTRIBUTIONS = {
    "torchlens": "torchlens",
    "torchlens pluck": "torchlens",
    "captum": "captum",
    "nnsight": "nnsight",
    "pytorch-grad-cam recorder": "grad-cam",
    "torchvision fx": "torchvision",
    "surgeon-pytorch": "surgeon-pytorch",
    "torchextractor": "torchextractor",
    "timm forward_intermediates": "timm",
}
# a call that gives one layer and runs no more of the model than its library can avoid
STOPPING = {name: _whole(adapter) for name, adapter in CONTENDERS.items()} | {
    "torch_featurelayer": ours_stopped,
    "torchlens": torchlens_stopped,
    "torchlens pluck": torchlens_plucked,
    "nnsight": nnsight_stopped,
    "baukit-like hooks": hooks_that_raise,
    "timm forward_intermediates": timm_stopped,
}
