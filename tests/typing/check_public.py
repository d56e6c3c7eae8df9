"""What type checkers see of the public names: `make lint` runs mypy and pyright on it; it is never run."""

from __future__ import annotations

import re
from typing import Any, assert_type

import torch
from torch import Tensor, nn

import torch_featurelayer as tl


def features(model: nn.Module, image: Tensor) -> None:
    feat, output = tl.FeatureLayer(model, "layer1", reduce="mean", layout="NCHW")(image)
    assert_type(feat, Tensor | Any)
    assert_type(tl.FeatureLayer(model, "layer1").features(image), Tensor | Any)
    feats, output = tl.FeatureLayers(model, ["layer1", nn.ReLU, re.compile("layer.")], clone=True)(image)
    assert_type(feats, tl.Features)
    assert_type(feats["layer1"], Tensor | Any)
    assert_type(feats[:2], tl.Features)
    assert_type(feats.names, tuple[str, ...])
    assert_type(feats.not_run, tuple[str, ...])
    assert_type(feats.to_dict(), dict[str, Tensor | Any])
    first, *_ = feats
    first.shape  # noqa: B018
    del output
    tl.FeatureLayer(model, "layer1", reduce="avg")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    tl.FeatureLayer(model, "layer1", redcue="mean")  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]


def captures(model: nn.Module, image: Tensor) -> None:
    with tl.capture(model, "layer*", keep="all", reduce=torch.relu) as record:
        model(image)
    assert_type(record, tl.Record)
    assert_type(record.forwards("layer1"), list[int | None])
    assert_type(tl.layers(model, image)["layer1"].calls, int)
    assert_type(tl.find_layouts(model, "**", image), dict[str, str | None])
    selector: tl.Selector = nn.ReLU
    reduction: tl.Reduction = torch.relu
    tl.FeatureLayers(model, selector, reduce=reduction)


def edits(model: nn.Module) -> None:
    numbers: dict[str, float] = {"layer1": 0.0}
    tensors: dict[nn.Module, Tensor] = {model: torch.zeros(1)}
    with tl.edit(model, numbers), tl.edit(model, tensors), tl.edit(model, {nn.ReLU: lambda feat: feat * 2}):
        pass
    with tl.edit(model, {"layer1": "zero"}):  # type: ignore[dict-item] # pyright: ignore[reportArgumentType]
        pass


def stores(model: nn.Module) -> None:
    store = tl.extract(model, "layer1", "photos", "features", reduce="mean", backend="ray")
    assert_type(store["layer1"][:3], Tensor)
    assert_type(store.ids[0], str)
    tl.extract(model, "layer1", "photos", "features", backend="rya")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    assert_type(tl.similarity.search(store, "cat.jpg")[0].score, float)


def pictures(model: nn.Module, image: Tensor) -> None:
    feats, _ = tl.FeatureLayers(model, "layer*")(image)
    tl.figures.plot_histogram(feats)
    tl.figures.plot_layer_grid({"model": feats, "other": {"a": image}})
    tl.figures.plot_pca(feats).savefig("pca.png")
    tl.figures.plot_feature_map(feats[0], channel="mean")
    tl.figures.plot_feature_map(feats[0], channel="average")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    assert_type(tl.analysis.tokens_to_map(image, grid=(2, 2)), Tensor)
    loaded = tl.models.load("torchvision:vgg11", weights="random")
    assert_type(loaded.stages, tuple[str, ...])
    assert_type(loaded.image("cat.jpg"), Tensor)


def errors() -> None:
    try:
        pass
    except tl.LayerNotRunError as error:
        assert_type(error.names, list[str])
    except tl.LayoutError as error:
        assert_type(error.readings, tuple[str, ...])
