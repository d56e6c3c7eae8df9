"""The view as a figure, and as the Python lines that make the same: both from one description."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .. import figures
from .views import Explorer, Options, which

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Drawing:
    """A call of a function of `figures`.

    Attributes:
        function: The name of the function.
        options: Its keyword arguments, all of them literals.
        position: The position that is looked at, for cosines.
        target: The number of the class, for Grad-CAM.
        with_photo: Whether the photo is drawn too.
    """

    function: str
    options: Mapping[str, Any] = field(default_factory=dict)
    position: tuple[int, int] | None = None
    target: int | None = None
    with_photo: bool = False


def drawing(explorer: Explorer, options: Options) -> Drawing:
    """Returns what draws the view: a map, colours by PCA, cosines or Grad-CAM over the photo.

    Raises:
        ValueError: If there is no such view.
    """
    (model, picture), layer = which(options), options["layer"]
    loaded, shown = explorer.models[model], options.get("shown", "mean")
    common = {"layout": "NCHW", "title": f"{loaded.title} {layer}"}
    if shown == "pca":
        return Drawing("pca", {"layout": "NCHW"}, with_photo=True)
    if shown == "cosine":
        _, position, _ = explorer.probe(model, picture, layer, float(options["x"]), float(options["y"]))
        return Drawing("cosine", common, position=position, with_photo=True)
    if shown == "cam":
        target = loaded.class_index(options["target"])
        title = f"{common['title']}: Grad-CAM of {loaded.label(target)}"
        return Drawing("cam", {**common, "title": title}, target=target, with_photo=True)
    if shown not in ("mean", "channel", "photo"):
        raise ValueError(f"there is no view {shown!r} to save")
    channel = int(options["channel"]) if shown == "channel" else "mean"
    return Drawing("feature_map", {**common, "channel": channel, "percentiles": (1, 99)})


def figure(explorer: Explorer, options: Options) -> Figure:
    """Draws the view.

    Raises:
        ValueError: If there is no such view.
    """
    (model, picture), layer = which(options), options["layer"]
    made, photo = drawing(explorer, options), explorer.photo(model, picture)
    loaded, draw = explorer.models[model], getattr(figures, made.function)
    if made.target is not None:
        feats = explorer.with_gradient(model, picture, layer, made.target)
        return draw(*feats, photo, **made.options)  # type: ignore[no-any-return]
    maps = explorer.maps(model, picture, layer)[None]
    given = {**made.options, "photo": photo} if made.with_photo else made.options
    if made.function == "pca":
        return draw({f"{loaded.title} {layer}": maps}, **given)  # type: ignore[no-any-return]
    return draw(maps, *([made.position] if made.position else []), **given)  # type: ignore[no-any-return]


def code(explorer: Explorer, options: Options) -> str:
    """Returns the Python lines that draw the view."""
    (model, picture), layer = which(options), options["layer"]
    loaded, name = explorer.models[model], explorer.pictures[picture].name
    made = drawing(explorer, options)
    arguments = "".join(f", {key}={value!r}" for key, value in loaded.arguments.items())
    ports = f", {layer + ':grad_output'!r}" if made.target is not None else ""
    lines = [
        "import torch_featurelayer as tl",
        "",
        f"loaded = tl.models.load({loaded.name!r}{arguments})",
        f"photo = loaded.photo({name!r})",
        f"args, kwargs = loaded.inputs({name!r})",
        f"feats, output = tl.FeatureLayers(loaded.model, [{layer!r}{ports}])(*args, **kwargs)",
        f"feat = loaded.to_map({layer!r}, feats[0], photo.shape[-2:])",
        *_drawn(made, f"{loaded.title} {layer}", layer),
        f"figure.savefig({layer + '.png'!r}, dpi=150, bbox_inches='tight')",
    ]
    return "\n".join(lines) + "\n"


def _drawn(made: Drawing, title: str, layer: str) -> list[str]:
    options = "".join(f", {key}={value!r}" for key, value in made.options.items())
    call, photo = f"figure = tl.figures.{made.function}", ", photo=photo" if made.with_photo else ""
    if made.target is not None:
        return [
            f"loaded.logits(output)[0, {made.target}].backward()",
            f"grad = loaded.to_map({layer!r}, feats[1], photo.shape[-2:])",
            f"{call}(feat, grad, photo{options})",
        ]
    if made.function == "pca":
        return [f"{call}({{{title!r}: feat}}{photo}{options})"]
    position = f", {made.position}" if made.position else ""
    return [f"{call}(feat{position}{photo}{options})"]
