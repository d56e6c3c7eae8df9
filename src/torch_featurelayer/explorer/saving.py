"""The view of an image as a figure and as the Python code that draws it, both from one description."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .. import figures
from ..models import LoadedModel
from .options import Options, probe_position, selection
from .session import Explorer, gradient_of
from .tokens import attention_from

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Drawing:
    """A call of a function of `figures`.

    Attributes:
        function: The name of the function.
        options: Its keyword arguments, which are literals.
        position: The position of the probe, for cosines.
        target: The number of the class, for Grad-CAM.
        attention: The layer with attention, for attention.
        with_image: Whether the image is an argument.
    """

    function: str
    options: Mapping[str, Any] = field(default_factory=dict)
    position: tuple[int, int] | None = None
    target: int | None = None
    attention: str | None = None
    with_image: bool = True


def drawing(explorer: Explorer, options: Options) -> Drawing:
    """Returns the call that draws the view.

    Raises:
        ValueError: If there is no such view.
    """
    (model, picture), layer = selection(options), options["layer"]
    loaded, shown, opacity = explorer.models[model], options.get("shown", "mean"), float(options.get("opacity", 1))
    common = {"layout": "NCHW", "opacity": opacity, "title": f"{loaded.title} {layer}"}
    if shown == "photo":
        return Drawing("plot_image_grid")
    if shown == "pca":
        return Drawing("plot_pca", {"layout": "NCHW"})
    if shown == "attention":
        return _attention(explorer, options, opacity)
    if shown == "cosine":
        _, position, _ = explorer.probe(model, picture, layer, float(options["x"]), float(options["y"]))
        return Drawing("plot_cosine", common, position=position)
    if shown == "cam":
        target = loaded.class_index(options["target"])
        title = f"{common['title']}: Grad-CAM of {loaded.label(target)}"
        return Drawing("plot_cam", {**common, "title": title}, target=target)
    if shown not in ("norm", "mean", "channel"):
        raise ValueError(f"there is no view {shown!r} to save")
    channel = int(options["channel"]) if shown == "channel" else "norm" if shown == "norm" else "mean"
    chosen = {**common, "channel": channel, "percentiles": (1, 99)}
    if opacity < 1:
        return Drawing("plot_overlay", chosen)
    return Drawing("plot_feature_map", {key: chosen[key] for key in chosen if key != "opacity"}, with_image=False)


def _attention(explorer: Explorer, options: Options, opacity: float) -> Drawing:
    (model, picture), layer = selection(options), options["attention"]
    loaded, head = explorer.models[model], int(options["head"])
    _, query = attention_from(explorer, model, picture, layer, probe_position(options))
    title = f"{loaded.title} {layer}: head {head}"
    chosen = {"query": query, "head": head, "patch": loaded.patch, "opacity": opacity, "title": title}
    return Drawing("plot_attention", chosen, attention=layer)


def figure(explorer: Explorer, options: Options) -> Figure:
    """Draws the view.

    Raises:
        ValueError: If there is no such view.
    """
    (model, picture), layer = selection(options), options["layer"]
    call, image = drawing(explorer, options), explorer.photo(model, picture)
    loaded, draw = explorer.models[model], getattr(figures, call.function)
    if call.function == "plot_image_grid":
        return figures.plot_image_grid([image], [explorer.pictures[picture].name])
    if call.attention is not None:
        return draw(explorer.attention(model, picture)[call.attention], image, **call.options)  # type: ignore[no-any-return]
    if call.target is not None:
        feats = explorer.with_gradient(model, picture, layer, call.target)
        return draw(*feats, image, **call.options)  # type: ignore[no-any-return]
    maps = explorer.maps(model, picture, layer)[None]
    arguments = {**call.options, "image": image} if call.with_image else call.options
    if call.function == "plot_pca":
        return draw({f"{loaded.title} {layer}": maps}, **arguments)  # type: ignore[no-any-return]
    return draw(maps, *([call.position] if call.position else []), **arguments)  # type: ignore[no-any-return]


def code(explorer: Explorer, options: Options) -> str:
    """Returns the Python code that draws the view."""
    (model, picture), layer = selection(options), options["layer"]
    loaded, name = explorer.models[model], explorer.pictures[picture].name
    call = drawing(explorer, options)
    lines = [*load_lines(loaded), f"image = loaded.image({name!r})"]
    if call.function == "plot_image_grid":
        lines += [f"figure = tl.figures.plot_image_grid([image[0]], [{name!r}])"]
    else:
        lines += [f"args, kwargs = loaded.inputs({name!r})", *_feature_lines(call, layer)]
        lines += _plot_lines(call, f"{loaded.title} {layer}", layer)
    return "\n".join([*lines, f"figure.savefig({layer + '.png'!r}, dpi=150, bbox_inches='tight')"]) + "\n"


def load_lines(loaded: LoadedModel) -> list[str]:
    """Returns the Python code that loads a model."""
    arguments = "".join(f", {key}={value!r}" for key, value in loaded.arguments.items())
    return ["import torch_featurelayer as tl", "", f"loaded = tl.models.load({loaded.name!r}{arguments})"]


def _feature_lines(call: Drawing, layer: str) -> list[str]:
    if call.attention is not None:
        address = f"{call.attention}:attention_weights"
        return [f"weights, output = tl.FeatureLayer(loaded.model, {address!r})(*args, **kwargs)"]
    ports = f", {gradient_of(layer)!r}" if call.target is not None else ""
    return [
        f"feats, output = tl.FeatureLayers(loaded.model, [{layer!r}{ports}])(*args, **kwargs)",
        f"feat = loaded.to_map({layer!r}, feats[0], image.shape[-2:])",
    ]


def _plot_lines(call: Drawing, title: str, layer: str) -> list[str]:
    options = "".join(f", {key}={value!r}" for key, value in call.options.items())
    function, image = f"figure = tl.figures.{call.function}", ", image=image" if call.with_image else ""
    if call.attention is not None:
        return [f"{function}(weights, image{options})"]
    if call.target is not None:
        return [
            f"loaded.logits(output)[0, {call.target}].backward()",
            f"grad = loaded.to_map({layer!r}, feats[1], image.shape[-2:])",
            f"{function}(feat, grad, image{options})",
        ]
    if call.function == "plot_pca":
        return [f"{function}({{{title!r}: feat}}{image}{options})"]
    position = f", {call.position}" if call.position else ""
    return [f"{function}(feat{position}{image}{options})"]
