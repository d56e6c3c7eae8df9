"""The demo: what a pretrained EfficientNet-Lite0 sees in a photo of a cat."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from . import figures, models
from ._feature_layer import FeatureLayer, FeatureLayers
from ._features import Features
from ._optional import need

LAYERS = ("_conv_stem", "_blocks.0", "_blocks.2", "_blocks.4", "_blocks.7", "_blocks.10", "_conv_head")


def milliseconds(model: nn.Module, layer: str, image: Tensor, runs: int = 7) -> float:
    """Returns the median time to reach a layer with early stop."""
    to_layer = FeatureLayer(model, layer).features
    to_layer(image)
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        to_layer(image)
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1000


def show(model: nn.Module, feats: Features, image: Tensor, classes: Sequence[tuple[str, float]]) -> None:
    """Prints the classes and the table of captured layers."""
    console = need("rich.console", "demo").Console()
    table, box = need("rich.table", "demo").Table, need("rich.box", "demo").SIMPLE
    answer = table("class", "probability", title="What the model says", box=box, title_justify="left")
    for name, probability in classes:
        answer.add_row(name, f"{probability:.1%}")
    layers = table("path", "type", "shape", "range", "time", title="What we captured", box=box, title_justify="left")
    layers.columns[1].overflow = "fold"
    for name, feat in feats.items():
        size, span = "×".join(map(str, feat.shape)), f"{feat.min():.2f} to {feat.max():.2f}"
        time_to_layer = f"{milliseconds(model, name, image):.1f} ms"
        layers.add_row(name, type(model.get_submodule(name)).__name__, size, span, time_to_layer)
    console.print(answer, layers)


def run(out: Path) -> None:
    """Looks at the photo, prints what is seen, and writes the figure."""
    print("EfficientNet-Lite0, pretrained on ImageNet, looks at scikit-image's photo 'chelsea'.\n")
    photo, loaded = need("skimage.data", "demo").chelsea(), models.load("efficientnet-lite0")
    (image,), _ = loaded.inputs(photo)
    with torch.no_grad():
        feats, logits = FeatureLayers(loaded.model, LAYERS)(image)
        show(loaded.model, feats, image, loaded.top_classes(logits))
    # These blocks end without an activation: in a mean over channels, positive and negative values would cancel.
    figure = figures.depths({"EfficientNet-Lite0": feats}, image=loaded.photo(photo), channel="norm")
    figure.savefig(out, dpi=150)
    print("time: from the image to the layer, the model stopped right after it; median of 7 runs.")
    print(f"\nThe feature maps, shallow to deep, are in {out.resolve()}")
    print("Next, in Python (.venv/bin/python, if you ran `make demo`), with any model of your own:\n")
    print("  import torch_featurelayer as tl")
    print("  tl.get_layer_candidates(model, max_depth=2)")
    print('  feat, output = tl.FeatureLayer(model, "features.5")(image)')
    print('  tl.figures.feature_map(feat).savefig("feature.png")')
