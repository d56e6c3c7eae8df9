"""The demo: the features of a pretrained EfficientNet-Lite0 for a photo of a cat."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from . import figures, models
from ._feature_layer import FeatureLayers
from ._features import Features
from ._optional import need

LAYERS = ("_conv_stem", "_blocks.0", "_blocks.2", "_blocks.4", "_blocks.7", "_blocks.10", "_conv_head")


def show(model: nn.Module, feats: Features, classes: Sequence[tuple[str, float]]) -> None:
    """Prints the predictions and the table of captured layers."""
    console = need("rich.console", "demo").Console()
    table, box = need("rich.table", "demo").Table, need("rich.box", "demo").SIMPLE
    predictions = table("class", "probability", title="Predictions", box=box, title_justify="left")
    for name, probability in classes:
        predictions.add_row(name, f"{probability:.1%}")
    layers = table("path", "type", "shape", "range", title="Captured layers", box=box, title_justify="left")
    layers.columns[1].overflow = "fold"
    for name, feat in feats.items():
        size, span = "×".join(map(str, feat.shape)), f"{feat.min():.2f} to {feat.max():.2f}"
        layers.add_row(name, type(model.get_submodule(name)).__name__, size, span)
    console.print(predictions, layers)


def run(out: Path) -> None:
    """Runs the model on the photo, prints the predictions and layers, and writes the figure."""
    print("EfficientNet-Lite0, pretrained on ImageNet, on scikit-image's photo 'chelsea'.\n")
    photo, loaded = need("skimage.data", "demo").chelsea(), models.load("efficientnet-lite0")
    (pixels,), _ = loaded.inputs(photo)
    with torch.no_grad():
        feats, logits = FeatureLayers(loaded.model, LAYERS)(pixels)
        show(loaded.model, feats, loaded.top_classes(logits))
    # These blocks end without an activation, so that positive and negative values would cancel in a mean.
    figure = figures.plot_layer_grid({"EfficientNet-Lite0": feats}, image=loaded.image(photo), channel="norm")
    figure.savefig(out, dpi=150)
    print(f"\nThe feature maps, shallow to deep, are in {out.resolve()}")
    print("Next, in Python (.venv/bin/python, if you ran `make demo`), with any model of your own:\n")
    print("  import torch_featurelayer as tl")
    print("  tl.get_layer_candidates(model, max_depth=2)")
    print('  feat, output = tl.FeatureLayer(model, "features.5")(image)')
    print('  tl.figures.plot_feature_map(feat).savefig("feature.png")')
