"""The response to each kind of request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Final

import torch
from torch import Tensor

from .. import analysis
from ..figures import alt_text
from . import saving
from .serialization import frame, quantize
from .session import PAGE, Explorer, Options, order, selection


def overview(explorer: Explorer, _: Options) -> bytes:
    """The models, their layers, and the images."""
    return frame(explorer.overview(), {})


def photo(explorer: Explorer, options: Options) -> bytes:
    """The image as the model receives it, and the predicted classes."""
    model, picture = selection(options)
    pixels = (explorer.photo(model, picture) * 255).round().to(torch.uint8)
    classes = explorer.classes(model, explorer.run(model, picture).output)
    return frame({"classes": classes}, {"pixels": pixels})


def layer(explorer: Explorer, options: Options) -> bytes:
    """The norm and the mean of the channels, and a page of channels, each scaled to its own range."""
    maps = _maps(explorer, options)
    ordered = order(maps, options.get("by", "index"))
    page = int(options.get("page", 0))
    shown = ordered[page * PAGE : (page + 1) * PAGE]
    some = maps[shown]
    low, high = _ranges(some)
    header = {
        "shape": list(maps.shape), "order": shown, "pages": -(-len(ordered) // PAGE),
        "low": low.tolist(), "high": high.tolist(), "not_finite": int((~maps.isfinite()).sum()),
    }  # fmt: skip
    return frame(header, {"norm": maps.norm(dim=0), "mean": maps.mean(0), "channels": quantize(some, low, high)})


def channel(explorer: Explorer, options: Options) -> bytes:
    """The exact values of one channel."""
    maps = _maps(explorer, options)
    return frame({"shape": list(maps.shape)}, {"values": maps[int(options["channel"])]})


def pca(explorer: Explorer, options: Options) -> bytes:
    """Three principal components as colours."""
    (coloured,) = analysis.pca_rgb([_maps(explorer, options)[None]], layout="NCHW")
    return frame({}, {"pixels": (coloured[0] * 255).round().to(torch.uint8)})


def cam(explorer: Explorer, options: Options) -> bytes:
    """Grad-CAM for a class."""
    model, picture = selection(options)
    target = explorer.models[model].class_index(options["target"])
    heat = explorer.cam(model, picture, options["layer"], target)
    return frame({"target": explorer.models[model].label(target)}, {"values": heat})


def picture(explorer: Explorer, options: Options) -> bytes:
    """The view as a PNG or SVG file with its caption, and the Python code that draws it."""
    kind = options.get("format", "png")
    if kind not in ("png", "svg"):
        raise ValueError(f"format must be png or svg, not {kind!r}")
    buffer = BytesIO()
    figure = saving.figure(explorer, options)
    figure.savefig(buffer, format=kind, dpi=150, bbox_inches="tight")
    content = torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)
    header = {"name": f"{options['layer']}.{kind}", "alt": alt_text(figure), "code": saving.code(explorer, options)}
    return frame(header, {"file": content})


def probe(explorer: Explorer, options: Options) -> bytes:
    """The cosine map of a position, and its most active channels."""
    model, picture = selection(options)
    cosine, position, vector = explorer.probe(
        model, picture, options["layer"], float(options["x"]), float(options["y"])
    )
    best = vector.nan_to_num(-torch.inf).topk(min(8, len(vector)))
    active = [[index, value] for index, value in zip(best.indices.tolist(), vector[best.indices].tolist(), strict=True)]
    return frame({"position": position, "active": active}, {"cosine": cosine})


def linked_maps(explorer: Explorer, options: Options) -> bytes:
    """The cosine maps of the same position in the stages of all models."""
    picture, x, y = int(options.get("picture", 0)), float(options["x"]), float(options["y"])
    positions: list[dict[str, object]] = []
    arrays: dict[str, Tensor] = {}
    for number, model in enumerate(explorer.models):
        for stage in model.stages:
            if stage in explorer.run(number, picture).maps:
                arrays[str(len(positions))], position, _ = explorer.probe(number, picture, stage, x, y)
                positions.append({"model": number, "layer": stage, "position": position})
    return frame({"maps": positions}, arrays)


def stages(explorer: Explorer, options: Options) -> bytes:
    """The norms of the channels in the stages of a model."""
    model, picture = selection(options)
    maps = explorer.run(model, picture).maps
    shown = [stage for stage in explorer.models[model].stages if stage in maps]
    arrays = {str(number): maps[stage].norm(dim=0) for number, stage in enumerate(shown)}
    return frame({"maps": [{"model": model, "layer": stage} for stage in shown]}, arrays)


def statistics(explorer: Explorer, options: Options) -> bytes:
    """Statistics of the channels over all images."""
    return frame(explorer.statistics(selection(options)[0], options["layer"]), {})


def ablate(explorer: Explorer, options: Options) -> bytes:
    """The predicted classes without some channels."""
    model, picture = selection(options)
    channels = [int(number) for number in options["channels"].split(",") if number]
    output = explorer.ablate(model, picture, options["layer"], channels)
    before = explorer.classes(model, explorer.run(model, picture).output)
    return frame({"before": before, "after": explorer.classes(model, output)}, {})


def alignment(explorer: Explorer, options: Options) -> bytes:
    """The CKA between the stages of the models."""
    return frame({}, {"cka": explorer.alignment(int(options.get("picture", 0)))})


def _maps(explorer: Explorer, options: Options) -> Tensor:
    return explorer.maps(*selection(options), options["layer"])


def _ranges(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the smallest and the largest finite value of each map."""
    flat = maps.flatten(1)
    low = torch.where(flat.isfinite(), flat, torch.inf).amin(1)
    high = torch.where(flat.isfinite(), flat, -torch.inf).amax(1)
    return low.nan_to_num(0, 0, 0), high.nan_to_num(0, 0, 0)


VIEWS: Final[Mapping[str, Callable[[Explorer, Options], bytes]]] = {
    view.__name__: view
    for view in (
        overview,
        photo,
        layer,
        channel,
        pca,
        probe,
        cam,
        linked_maps,
        stages,
        statistics,
        ablate,
        alignment,
        picture,
    )
}
