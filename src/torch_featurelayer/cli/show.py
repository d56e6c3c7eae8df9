"""`featurelayer show`: figures of the features of an image."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .console import load_model, print_json, print_lines, save_figure, status
from .options import Channel, Device, Image, Json, Layers, Model, Seed, Weights, output_option

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from ..models import LoadedModel


class Kind(StrEnum):
    """The kind of figure."""

    MAP = "map"
    CHANNELS = "channels"
    OVERLAY = "overlay"
    PCA = "pca"
    HISTOGRAM = "histogram"


def show(
    model: Model,
    image: Image,
    layer: Layers = None,
    kind: Annotated[Kind, typer.Option("--kind", "-k", help="The kind of figure.")] = Kind.MAP,
    channel: Channel = "norm",
    out: Annotated[Path, output_option()] = Path("features.png"),
    weights: Weights = "default",
    device: Device = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Draws [bold]the features of an image[/]: maps, single channels, overlays, PCA colours, histograms.

    Example: featurelayer show efficientnet-lite0 cat.jpg --layer _blocks.0 --layer _blocks.10 -o cat.png
    """
    if kind is Kind.CHANNELS and len(layer or ()) != 1:
        raise typer.BadParameter("--kind channels draws one layer: pass one --layer")
    loaded = load_model(model, weights, device, seed)
    with status("Running the model"):
        import torch

        from .._feature_layer import FeatureLayers

        args, kwargs = loaded.inputs(image)
        with torch.no_grad():
            feats, output = FeatureLayers(loaded.model, layer or loaded.stages)(*args, **kwargs)
        figure = _draw(kind, loaded, feats.to_dict(), loaded.image(image), channel)
        from ..figures import alt_text

    file = save_figure(figure, out)
    classes = loaded.top_classes(output) if loaded.labels else []
    if json:
        rows = [{"layer": name, **_statistics(feat)} for name, feat in feats.items()]
        about = {"model": loaded.name, "weights": loaded.weights, "out": str(file), "alt": alt_text(figure)}
        print_json({**about, "layers": rows, "classes": classes})
        return
    print_lines(*(f"{probability:6.1%}  {name}" for name, probability in classes))
    print_lines(*(f"{name}  {'×'.join(map(str, feat.shape))}" for name, feat in feats.items()))
    print_lines(f"weights: {loaded.weights}", f"figure: {file}")


def _draw(kind: Kind, loaded: LoadedModel, feats: Mapping[str, Any], image: Tensor, channel: Any) -> Figure:
    from .. import figures

    layouts = {layer: layout for layer in feats if (layout := loaded.find_layout(layer)) is not None}
    if kind is Kind.HISTOGRAM:
        return figures.plot_histogram(feats, layout=layouts)
    height, width = image.shape[-2:]
    maps = {layer: loaded.to_map(layer, feat, (height, width)) for layer, feat in feats.items()}
    if kind is Kind.PCA:
        return figures.plot_pca(maps, image=image, layout="NCHW", shared=False)
    if kind is Kind.CHANNELS:
        return figures.plot_channels(next(iter(maps.values())), layout="NCHW")
    over = kind is Kind.OVERLAY
    return figures.plot_layer_grid({loaded.title: maps}, image=image, layout="NCHW", channel=channel, over=over)


def _statistics(feat: Tensor) -> dict[str, Any]:
    feat = feat.float()
    return {"shape": list(feat.shape), "min": feat.min().item(), "mean": feat.mean().item(), "max": feat.max().item()}
