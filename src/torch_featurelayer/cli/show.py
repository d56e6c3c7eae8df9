"""`featurelayer show`: what layers make of a photo."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .console import loaded, print_json, save, say, working
from .options import Device, Image, Json, Layers, Model, Seed, Weights, output

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from ..models import LoadedModel


class Kind(StrEnum):
    """What is drawn of a feature."""

    MAP = "map"
    CHANNELS = "channels"
    OVERLAY = "overlay"
    PCA = "pca"
    HISTOGRAM = "histogram"


class Channels(StrEnum):
    """What stands for the channels in a map."""

    MEAN = "mean"
    MAX = "max"
    NORM = "norm"


def show(
    model: Model,
    image: Image,
    layer: Layers = None,
    kind: Annotated[Kind, typer.Option("--kind", "-k", help="What to draw.")] = Kind.MAP,
    channel: Annotated[Channels, typer.Option("--channel", "-c", help="What stands for the channels.")] = Channels.NORM,
    out: Annotated[Path, output("features.png")] = Path("features.png"),
    weights: Weights = "default",
    device: Device = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Draws [bold]what layers make of a photo[/]: maps, single channels, overlays, colours by PCA, histograms.

    Example: featurelayer show efficientnet-lite0 cat.jpg --layer _blocks.0 --layer _blocks.10 -o cat.png
    """
    if kind is Kind.CHANNELS and len(layer or ()) != 1:
        raise typer.BadParameter("--kind channels shows one layer: name it with --layer")
    found = loaded(model, weights, device, seed)
    with working("Looking"):
        import torch

        from .._feature_layer import FeatureLayers

        args, kwargs = found.inputs(image)
        with torch.no_grad():
            feats, answer = FeatureLayers(found.model, layer or found.stages)(*args, **kwargs)
        drawn = _drawn(kind, found, feats.to_dict(), found.photo(image), channel.value)
        from ..figures import alt_text

    save(drawn, out)
    classes = found.top_classes(answer) if found.labels else []
    if json:
        rows = [{"layer": name, **_numbers(feat)} for name, feat in feats.items()]
        told = {"model": found.name, "weights": found.weights, "out": str(out), "alt": alt_text(drawn)}
        print_json({**told, "layers": rows, "classes": classes})
        return
    say(*(f"{probability:6.1%}  {name}" for name, probability in classes))
    say(*(f"{name}  {'×'.join(map(str, feat.shape))}" for name, feat in feats.items()))
    say(f"weights: {found.weights}", f"picture: {out}")


def _drawn(kind: Kind, found: LoadedModel, feats: Mapping[str, Any], photo: Tensor, channel: Any) -> Figure:
    from .. import figures

    layouts = {layer: layout for layer in feats if (layout := found.layouts.get(layer)) is not None}
    if kind is Kind.HISTOGRAM:
        return figures.histogram(feats, layout=layouts)
    height, width = photo.shape[-2:]
    maps = {layer: found.to_map(layer, feat, (height, width)) for layer, feat in feats.items()}
    if kind is Kind.PCA:
        return figures.pca(maps, photo=photo, layout="NCHW", shared=False)
    if kind is Kind.CHANNELS:
        return figures.channels(next(iter(maps.values())), layout="NCHW")
    over = kind is Kind.OVERLAY
    return figures.depths({found.title: maps}, image=photo, layout="NCHW", channel=channel, over=over)


def _numbers(feat: Tensor) -> dict[str, Any]:
    feat = feat.float()
    return {"shape": list(feat.shape), "min": feat.min().item(), "mean": feat.mean().item(), "max": feat.max().item()}
