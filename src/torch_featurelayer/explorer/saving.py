"""The view as a figure, and as the Python lines that make the same."""

from __future__ import annotations

from .. import figures
from ..figures import FeatureFigure
from ..figures._draw import Channel
from .views import Explorer, Options, which


def figure(explorer: Explorer, options: Options) -> FeatureFigure:
    """Draws what the page shows: a map, colours by PCA, cosines or Grad-CAM over the photo.

    Raises:
        ValueError: There is no such view.
    """
    (model, picture), layer = which(options), options["layer"]
    maps, photo = explorer.maps(model, picture, layer)[None], explorer.photo(model, picture)
    shown, title = options.get("shown", "mean"), f"{explorer.models[model].title} {layer}"
    if shown == "pca":
        return figures.pca({title: maps}, photo=photo)
    if shown == "cosine":
        _, position, _ = explorer.probe(model, picture, layer, float(options["x"]), float(options["y"]))
        return _own(figures.cosine(maps, position, photo=photo, title=title))
    if shown == "cam":
        target = explorer.models[model].class_index(options["target"])
        made = explorer.cam(model, picture, layer, target)
        label = explorer.models[model].label(target)
        return _own(figures.overlay(made, photo, title=f"{title}: Grad-CAM of {label}"))
    channel: Channel = int(options["channel"]) if shown == "channel" else "mean"
    if shown not in ("mean", "channel", "photo"):
        raise ValueError(f"there is no view {shown!r} to save")
    return _own(figures.feature_map(maps, channel=channel, percentiles=(1, 99), colorbar=True, title=title))


def code(explorer: Explorer, options: Options) -> str:
    """Returns the Python lines that make the figure."""
    (model, picture), layer = which(options), options["layer"]
    loaded, name = explorer.models[model], explorer.pictures[picture].name
    weights = ', weights="random"' if loaded.weights.startswith("random") else ""
    ports = f", {layer + ':grad_output'!r}" if options.get("shown") == "cam" else ""
    lines = [
        "import torch_featurelayer as tl",
        "",
        f"loaded = tl.models.load({loaded.name!r}{weights})",
        f"args, kwargs = loaded.inputs({name!r})",
        f"feats, output = tl.FeatureLayers(loaded.model, [{layer!r}{ports}])(*args, **kwargs)",
        "feat = tl.figures.fold(feats[0])",
        *_drawn(explorer, options, name),
        f"figure.savefig({layer + '.png'!r}, dpi=150)",
    ]
    return "\n".join(lines) + "\n"


def _drawn(explorer: Explorer, options: Options, name: str) -> list[str]:
    (model, picture), layer = which(options), options["layer"]
    shown, photo = options.get("shown", "mean"), f"loaded.photo({name!r})"
    if shown == "pca":
        return [f"figure = tl.figures.pca({{{layer!r}: feat}}, photo={photo})"]
    if shown == "cosine":
        _, position, _ = explorer.probe(model, picture, layer, float(options["x"]), float(options["y"]))
        return [f"figure = tl.figures.cosine(feat, {position}, photo={photo})"]
    if shown == "cam":
        target = explorer.models[model].class_index(options["target"])
        return [
            f"loaded.logits(output)[0, {target}].backward()",
            f"figure = tl.figures.cam(feat, tl.figures.fold(feats[1]), {photo})",
        ]
    channel = options["channel"] if shown == "channel" else repr("mean")
    return [f"figure = tl.figures.feature_map(feat, channel={channel}, percentiles=(1, 99), colorbar=True)"]


def _own(drawn: object) -> FeatureFigure:
    if not isinstance(drawn, FeatureFigure):
        raise TypeError("figures draw into their own figure where no axes are given")
    return drawn
