"""`featurelayer compare`: feature maps of several models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import load_model, print_json, print_lines, save_figure, status
from .options import MODEL_HELP, Channel, Device, Json, Seed, Weights, output_option


def compare(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL MODEL... IMAGE", help=f"Models, then one image. {MODEL_HELP}")
    ],
    channel: Channel = "mean",
    out: Annotated[Path, output_option()] = Path("compare.png"),
    weights: Weights = "default",
    device: Device = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Draws the feature maps of several models for one image, [bold]stage by stage[/], one row for each model.

    Example: featurelayer compare torchvision:vgg11 torchvision:resnet18 cat.jpg -o compare.png
    """
    *specs, image = models
    if not specs:
        raise typer.BadParameter("give at least one model, then the image")
    rows = {}
    for spec in specs:
        loaded = load_model(spec, weights, device, seed)
        with status(f"Running {spec}"):
            import torch

            from .. import figures
            from .._feature_layer import FeatureLayers

            args, kwargs = loaded.inputs(image)
            with torch.no_grad():
                feats, _ = FeatureLayers(loaded.model, loaded.stages)(*args, **kwargs)
            pixels = loaded.image(image)
            height, width = pixels.shape[-2:]
            rows[loaded.title] = {name: loaded.to_map(name, feat, (height, width)) for name, feat in feats.items()}
    figure = figures.plot_layer_grid(rows, image=pixels, layout="NCHW", channel=channel)
    file = save_figure(figure, out)
    if json:
        layers = {title: list(feats) for title, feats in rows.items()}
        print_json({"out": str(file), "alt": figures.alt_text(figure), "layers": layers})
        return
    print_lines(*(f"{title}: {', '.join(feats)}" for title, feats in rows.items()), f"figure: {file}")
