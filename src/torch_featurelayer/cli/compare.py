"""`featurelayer compare`: several models above each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import loaded, print_json, save, say, working
from .options import MODEL_HELP, Device, Json, Seed, Weights, output
from .show import Channels


def compare(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL MODEL... IMAGE", help=f"{MODEL_HELP} The photo comes last.")
    ],
    channel: Annotated[Channels, typer.Option("--channel", "-c", help="What stands for the channels.")] = Channels.MEAN,
    out: Annotated[Path, output("compare.png")] = Path("compare.png"),
    weights: Weights = "default",
    device: Device = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Draws what several models make of one photo, [bold]stage by stage[/], one row a model.

    Example: featurelayer compare torchvision:vgg11 torchvision:resnet18 cat.jpg -o compare.png
    """
    *specs, image = models
    if not specs:
        raise typer.BadParameter("name at least one model, and the photo last")
    rows = {}
    for spec in specs:
        found = loaded(spec, weights, device, seed)
        with working(f"Looking with {spec}"):
            import torch

            from .. import figures
            from .._feature_layer import FeatureLayers

            args, kwargs = found.inputs(image)
            with torch.no_grad():
                feats, _ = FeatureLayers(found.model, found.stages)(*args, **kwargs)
            photo = found.photo(image)
            height, width = photo.shape[-2:]
            rows[found.title] = {name: found.to_map(name, feat, (height, width)) for name, feat in feats.items()}
    figure = figures.depths(rows, image=photo, layout="NCHW", channel=channel.value)
    save(figure, out)
    if json:
        layers = {title: list(feats) for title, feats in rows.items()}
        print_json({"out": str(out), "alt": figures.alt_text(figure), "layers": layers})
        return
    say(*(f"{title}: {', '.join(feats)}" for title, feats in rows.items()), f"picture: {out}")
