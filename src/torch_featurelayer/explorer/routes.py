"""The response to each kind of request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import torch
from torch import Tensor

from .. import analysis
from . import comparison, saving, text_saving, tokens
from .channels import order
from .inputs import transfer
from .options import Options, probe_position, probe_x, selection
from .serialization import frame, picture_frame, quantize
from .session import PAGE, Explorer


def overview(explorer: Explorer, _: Options) -> bytes:
    """The models, their layers, and the images."""
    return frame(explorer.overview(), {})


def photo(explorer: Explorer, options: Options) -> bytes:
    """The image as the model receives it, and the predicted classes."""
    model, picture = selection(options)
    pixels = (explorer.photo(model, picture) * 255).round().to(torch.uint8)
    classes = explorer.classes(model, explorer.run(model, picture).output)
    return frame({"classes": classes}, {"pixels": pixels})


def text(explorer: Explorer, options: Options) -> bytes:
    """The tokens of a text, and the predicted classes or next tokens."""
    model, picture = selection(options)
    classes = explorer.classes(model, explorer.run(model, picture).output, probe_x(options))
    return frame({"tokens": explorer.tokens(model, picture), "classes": classes}, {})


def heat_map(explorer: Explorer, options: Options) -> bytes:
    """A statistic of each token in each stage."""
    of, channel = options.get("of", "norm"), int(options.get("channel", 0))
    layers, values = tokens.heat_map(explorer, *selection(options), of, channel, probe_x(options))
    return frame({"layers": layers}, {"values": values})


def attention_layers(explorer: Explorer, options: Options) -> bytes:
    """The layers with attention, and the number of their heads."""
    found = explorer.attention(*selection(options))
    return frame({"layers": [[name, weights.shape[1]] for name, weights in found.items()]}, {})


def attention(explorer: Explorer, options: Options) -> bytes:
    """The attention of a head from the probe, or from the first token; of a text, also from each token to each."""
    layer, head = options["layer"], int(options["head"])
    values = tokens.attention_map(explorer, *selection(options), layer, head, probe_position(options))
    arrays = {"values": values}
    if explorer.kind == "text":
        arrays["matrix"] = explorer.attention(*selection(options))[layer][0, head]
    return frame({}, arrays)


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
    module = text_saving if explorer.kind == "text" else saving
    name, code = options["layer"], module.code(explorer, options)
    return picture_frame(module.figure(explorer, options), name, options, code)


def probe(explorer: Explorer, options: Options) -> bytes:
    """The cosine map of a position, and its most active channels."""
    model, picture = selection(options)
    cosine, position, vector = explorer.probe(
        model, picture, options["layer"], float(options["x"]), float(options["y"])
    )
    best = vector.nan_to_num(-torch.inf).topk(min(8, len(vector)))
    active = [[index, value] for index, value in zip(best.indices.tolist(), vector[best.indices].tolist(), strict=True)]
    header: dict[str, object] = {"position": position, "active": active}
    if explorer.kind == "text":
        header["classes"] = explorer.classes(model, explorer.run(model, picture).output, float(options["x"]))
    return frame(header, {"cosine": cosine})


def linked_maps(explorer: Explorer, options: Options) -> bytes:
    """The cosine maps of the same point of the image in the stages of all models that receive it."""
    own, picture = selection(options)
    positions: list[dict[str, object]] = []
    arrays: dict[str, Tensor] = {}
    for number, model in enumerate(explorer.models):
        source = explorer.pictures[picture].source
        point = transfer((float(options["x"]), float(options["y"])), source, explorer.models[own], model)
        if point is None:
            continue
        for stage in model.stages:
            if stage in explorer.run(number, picture).maps:
                arrays[str(len(positions))], position, _ = explorer.probe(number, picture, stage, *point)
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
    """The predicted classes with some channels edited."""
    model, picture = selection(options)
    channels = [int(number) for number in options["channels"].split(",") if number]
    output = explorer.ablate(model, picture, options["layer"], channels, options.get("edit", "zero"))
    before = explorer.classes(model, explorer.run(model, picture).output, probe_x(options))
    return frame({"before": before, "after": explorer.classes(model, output, probe_x(options))}, {})


def alignment(explorer: Explorer, options: Options) -> bytes:
    """The CKA between the stages of the models: over the items of a dataset, or over the positions of the image."""
    rows, columns, values, about = comparison.alignment(explorer, int(options.get("picture", 0)))
    return frame({"rows": rows, "columns": columns, "about": about}, {"cka": values})


def differences(explorer: Explorer, options: Options) -> bytes:
    """The relative error of each layer against the other model, for an image or text."""
    about, errors = comparison.differences(explorer, *selection(options))
    return frame({"about": about, "errors": errors}, {})


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
        text,
        heat_map,
        attention_layers,
        attention,
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
        differences,
        picture,
    )
}
