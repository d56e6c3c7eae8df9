"""The view as a figure and as the Python code that draws it, both from one description."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .. import figures
from .session import Explorer, Options, selection

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
        with_image: Whether the image is an argument.
    """

    function: str
    options: Mapping[str, Any] = field(default_factory=dict)
    position: tuple[int, int] | None = None
    target: int | None = None
    with_image: bool = False


def drawing(explorer: Explorer, options: Options) -> Drawing:
    """Returns the call that draws the view: a map, PCA colours, cosines or Grad-CAM over the image.

    Raises:
        ValueError: If there is no such view.
    """
    (model, picture), layer = selection(options), options["layer"]
    loaded, shown = explorer.models[model], options.get("shown", "mean")
    common = {"layout": "NCHW", "title": f"{loaded.title} {layer}"}
    if shown == "pca":
        return Drawing("plot_pca", {"layout": "NCHW"}, with_image=True)
    if shown == "cosine":
        _, position, _ = explorer.probe(model, picture, layer, float(options["x"]), float(options["y"]))
        return Drawing("plot_cosine", common, position=position, with_image=True)
    if shown == "cam":
        target = loaded.class_index(options["target"])
        title = f"{common['title']}: Grad-CAM of {loaded.label(target)}"
        return Drawing("plot_cam", {**common, "title": title}, target=target, with_image=True)
    if shown not in ("norm", "mean", "channel", "photo"):
        raise ValueError(f"there is no view {shown!r} to save")
    channel = int(options["channel"]) if shown == "channel" else "norm" if shown == "norm" else "mean"
    return Drawing("plot_feature_map", {**common, "channel": channel, "percentiles": (1, 99)})


def figure(explorer: Explorer, options: Options) -> Figure:
    """Draws the view.

    Raises:
        ValueError: If there is no such view.
    """
    (model, picture), layer = selection(options), options["layer"]
    call, image = drawing(explorer, options), explorer.photo(model, picture)
    loaded, draw = explorer.models[model], getattr(figures, call.function)
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
    arguments = "".join(f", {key}={value!r}" for key, value in loaded.arguments.items())
    ports = f", {layer + ':grad_output'!r}" if call.target is not None else ""
    lines = [
        "import torch_featurelayer as tl",
        "",
        f"loaded = tl.models.load({loaded.name!r}{arguments})",
        f"image = loaded.image({name!r})",
        f"args, kwargs = loaded.inputs({name!r})",
        f"feats, output = tl.FeatureLayers(loaded.model, [{layer!r}{ports}])(*args, **kwargs)",
        f"feat = loaded.to_map({layer!r}, feats[0], image.shape[-2:])",
        *_plot_lines(call, f"{loaded.title} {layer}", layer),
        f"figure.savefig({layer + '.png'!r}, dpi=150, bbox_inches='tight')",
    ]
    return "\n".join(lines) + "\n"


def _plot_lines(call: Drawing, title: str, layer: str) -> list[str]:
    options = "".join(f", {key}={value!r}" for key, value in call.options.items())
    function, image = f"figure = tl.figures.{call.function}", ", image=image" if call.with_image else ""
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
