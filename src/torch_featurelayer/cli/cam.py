"""`featurelayer cam`: where a class was seen."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import loaded, print_json, save, say, working
from .options import Device, Image, Json, Layer, Model, Seed, Weights, output


def cam(
    model: Model,
    image: Image,
    label: Annotated[
        str | None, typer.Option("--class", help="Its name or number. Default: the most probable.")
    ] = None,
    layer: Layer = None,
    out: Annotated[Path, output("cam.png")] = Path("cam.png"),
    weights: Weights = "default",
    device: Device = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Draws [bold]where a class was seen[/] (Grad-CAM) over the photo.

    Example: featurelayer cam efficientnet-lite0 cat.jpg --class "Egyptian cat"
    """
    found = loaded(model, weights, device, seed)
    with working("Looking back"):
        from .. import analysis, figures
        from .._feature_layer import FeatureLayers

        at, photo = layer or found.cam_layer, found.photo(image)
        args, kwargs = found.inputs(image)
        feats, output = FeatureLayers(found.model, [at, f"{at}:grad_output"])(*args, **kwargs)
        answer = found.logits(output)
        index = int(answer[0].argmax()) if label is None else found.class_index(label)
        answer[0, index].backward()  # type: ignore[no-untyped-call]
        height, width = photo.shape[-2:]
        feat, grad = (found.to_map(at, feats[number], (height, width)) for number in range(2))
        title = f"{found.label(index)}: {answer.softmax(-1)[0, index]:.1%}"
        drawn = figures.cam(feat, grad, photo, layout="NCHW", title=title)
        is_zero = not bool(analysis.grad_cam(feat, grad, layout="NCHW").any())
    save(drawn, out)
    if json:
        probability = answer.softmax(-1)[0, index].item()
        print_json(
            {"out": str(out), "layer": at, "class": index, "label": found.label(index), "probability": probability}
        )
        return
    if is_zero:
        say(f"The map is zero everywhere: no position of {at} is evidence for this class. Try another --layer.")
    say(f"{title}, as seen by {at}", f"weights: {found.weights}", f"picture: {out}")
