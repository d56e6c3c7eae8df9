"""`featurelayer cam`: Grad-CAM over an image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import load_model, print_json, print_lines, save_figure, status
from .options import Device, Image, Json, Layer, Model, Seed, Weights, output_option


def cam(
    model: Model,
    image: Image,
    label: Annotated[
        str | None,
        typer.Option("--class", metavar="NAME|NUMBER", help="The class. [dim]\\[default: the most probable class][/]"),
    ] = None,
    layer: Layer = None,
    out: Annotated[Path, output_option()] = Path("cam.png"),
    weights: Weights = "default",
    device: Device = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Draws [bold]the evidence for a class[/] (Grad-CAM) over the image.

    Example: featurelayer cam efficientnet-lite0 cat.jpg --class "Egyptian cat"
    """
    loaded = load_model(model, weights, device, seed)
    with status("Computing gradients"):
        from .. import analysis, figures
        from .._exceptions import LabelNotFoundError
        from .._feature_layer import FeatureLayers

        address, pixels = layer or loaded.cam_layer, loaded.image(image)
        args, kwargs = loaded.inputs(image)
        feats, output = FeatureLayers(loaded.model, [address, f"{address}:grad_output"])(*args, **kwargs)
        logits = loaded.logits(output)
        index = int(logits[0].argmax()) if label is None else loaded.class_index(label)
        if index >= logits.shape[1]:
            raise LabelNotFoundError(str(index), (), count=logits.shape[1])
        logits[0, index].backward()  # type: ignore[no-untyped-call]
        height, width = pixels.shape[-2:]
        feat, grad = (loaded.to_map(address, feats[number], (height, width)) for number in range(2))
        probability = logits.softmax(-1)[0, index].item()
        title = f"{loaded.label(index)}: {probability:.1%}"
        figure = figures.plot_cam(feat, grad, pixels, layout="NCHW", title=title)
        is_zero = not bool(analysis.grad_cam(feat, grad, layout="NCHW").any())
    file = save_figure(figure, out)
    if json:
        found = {"class": index, "label": loaded.label(index), "probability": probability}
        print_json({"out": str(file), "layer": address, **found, "is_zero": is_zero})
        return
    if is_zero:
        print_lines(f"The map is zero everywhere: {address} has no evidence for this class. Try another --layer.")
    print_lines(f"{title}, evidence from {address}", f"weights: {loaded.weights}", f"figure: {file}")
