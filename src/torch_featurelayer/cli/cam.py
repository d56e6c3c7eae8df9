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
        from .. import figures
        from .._feature_layer import FeatureLayers

        at = layer or found.stages[-1]
        args, kwargs = found.inputs(image)
        feats, output = FeatureLayers(found.model, [at, f"{at}:grad_output"])(*args, **kwargs)
        answer = found.logits(output)
        index = int(answer[0].argmax()) if label is None else found.class_index(label)
        answer[0, index].backward()  # type: ignore[no-untyped-call]
        feat, grad = (figures.fold(feats[number]) for number in range(2))
        title = f"{found.label(index)}: {answer.softmax(-1)[0, index]:.1%}"
        drawn = figures.cam(feat, grad, found.photo(image), title=title)
    save(drawn, out)
    if json:
        probability = answer.softmax(-1)[0, index].item()
        print_json(
            {"out": str(out), "layer": at, "class": index, "label": found.label(index), "probability": probability}
        )
        return
    say(f"{title}, as seen by {at}", f"weights: {found.weights}", f"picture: {out}")
