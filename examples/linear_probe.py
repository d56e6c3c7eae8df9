"""At what depth can a straight line tell the classes apart?

A linear probe (logistic regression) on each stage of EfficientNet-Lite0, which was trained on photos, for scanned
handwritten digits it was never trained for; with random weights beside it, and the pixels themselves. Source: Alain and
Bengio, "Understanding intermediate layers using linear classifier probes", 2016.

    python -m examples.linear_probe [--count 1797] [--out probe.png]
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
import typer
from matplotlib.figure import Figure
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

import torch_featurelayer as tl
from examples._untrained import forget

SIDE = 64
CUT = tl.models.Preprocess(resize=SIDE, crop=SIDE)


def digits(count: int) -> tuple[list[Image.Image], Tensor]:
    """Returns scanned digits (those of scikit-learn, of many writers) and which they are."""
    found = load_digits()
    images = [Image.fromarray((scan * 15.9).astype("uint8")).convert("RGB") for scan in found.images[:count]]
    return images, torch.from_numpy(found.target[:count])


def accuracy(features: Tensor, labels: Tensor) -> float:
    """Trains a probe on the first two thirds, and returns the share it gets right of the rest, other writers."""
    split = len(labels) * 2 // 3
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
    probe.fit(features[:split].numpy(), labels[:split].numpy())
    return float(probe.score(features[split:].numpy(), labels[split:].numpy()))


def by_depth(model: nn.Module, layers: tuple[str, ...], images: list[Image.Image], labels: Tensor) -> dict[str, float]:
    """Returns the accuracy of a probe on each layer: mean over positions in a grid of 2 × 2."""
    pairs = [(str(number), image) for number, image in enumerate(images)]
    with tempfile.TemporaryDirectory() as folder:
        # In float32, because the activations of untrained networks vanish in float16.
        options = {"reduce": in_quarters, "preprocess": CUT, "batch_size": 64, "dtype": None}
        store = tl.extract(model, list(layers), pairs, folder, **options)
        return {layer: accuracy(store[layer][:], labels) for layer in layers}


def in_quarters(feat: Tensor) -> Tensor:
    return nn.functional.adaptive_avg_pool2d(feat, 2).flatten(1)


def measure(count: int) -> dict[str, dict[str, float]]:
    """Returns the accuracies by layer, with trained and with random weights, and those of the pixels."""
    images, labels = digits(count)
    loaded = tl.models.load("efficientnet-lite0")
    layers = ("_conv_stem", *loaded.stages)
    pixels = torch.stack([CUT(image)[0, 0, ::8, ::8].flatten() for image in images])
    found = {"trained on photos": by_depth(loaded.model, layers, images, labels)}
    forget(loaded.model)
    found["random weights"] = by_depth(loaded.model, layers, images, labels)
    found["pixels"] = dict.fromkeys(layers, accuracy(pixels, labels))
    return found


def drawn(found: dict[str, dict[str, float]]) -> Figure:
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    ax = figure.subplots()
    for (name, accuracies), marker in zip(found.items(), ("o-", "s--", ":"), strict=True):
        ax.plot(list(accuracies), list(accuracies.values()), marker, label=name)
    ax.set(ylabel="digits told apart", title="A linear probe by depth", ylim=(0, 1))
    ax.tick_params(axis="x", labelsize="small")
    ax.legend()
    return figure


def main(out: Path = Path("probe.png"), count: int = 1797) -> None:
    """Draws accuracy by depth."""
    found = measure(count)
    for name, accuracies in found.items():
        print(name, {layer: round(value, 3) for layer, value in accuracies.items()})
    drawn(found).savefig(out, dpi=100)


if __name__ == "__main__":
    typer.run(main)
