"""Capture inside `torch.compile`: graph breaks, exactness and speed, with PyTorch's own backend.

python -m benchmarks.compiled [--runs 30]
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torchvision import models

import torch_featurelayer as tl
from benchmarks._report import report
from benchmarks._timing import Contenders, race

LAYERS = {
    "vgg11": "features.5",
    "resnet18": "layer2",
    "mobilenet_v2": "features.7",
    "vit_b_16": "encoder.layers.encoder_layer_5",
    "convnext_tiny": "features.3",
}
ABOUT = """
Inductor, no gradients, 1×3×224×224, random weights. Every call is compiled with `fullgraph=True`, so a graph break is
an error; the first `.features()` runs eagerly to count calls. The difference is the largest absolute difference,
relative to the largest value of the feature. The contenders run in turns, in random order; medians and quartiles.
"""


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def difference(ours: Tensor, right: Tensor) -> float:
    return float((ours - right).abs().max() / right.abs().max())


def measure(name: str, runs: int) -> tuple[list[str], dict[str, float]]:
    torch.compiler.reset()
    model, image = models.get_model(name, weights=None).eval(), torch.randn(1, 3, 224, 224)
    path = LAYERS[name]
    eager, layer = tl.FeatureLayer(model, path), tl.FeatureLayer(model, path)
    right, answer = eager(image)
    eager.features(image)
    bare = torch.compile(copy.deepcopy(model), fullgraph=True)
    layer.compile(fullgraph=True)
    took = seconds(lambda: layer(image))
    feat, output = layer(image)
    layer.features(image)
    took += seconds(lambda: layer.features(image))
    stopped = layer.features(image)
    bare(image)
    contenders: Contenders = {
        "eager model": lambda: eager.model(image),
        "compiled model": lambda: bare(image),
        "FeatureLayer, eager": lambda: eager(image),
        "FeatureLayer, compiled": lambda: layer(image),
        ".features, eager": lambda: eager.features(image),
        ".features, compiled": lambda: layer.features(image),
    }
    timings = race(contenders, runs)
    base = timings["compiled model"].median
    breaks = torch._dynamo.utils.counters["graph_break"]
    worst = max(difference(feat, right), difference(stopped, right), difference(output, answer))
    lines = [
        f"| {name}, `{path}` | median (quartiles) | × compiled model |",
        "|---|---|---|",
        *(f"| {who} | {timing} | {timing.median / base:.3f} |" for who, timing in timings.items()),
        "",
        f"Graph breaks: {sum(breaks.values())}. Largest difference: {worst:.1e}. Compiling both: {took:.0f} s.",
        "",
    ]
    layer.uncompile()
    ratios = {who: timing.median / base for who, timing in timings.items()}
    return lines, {"breaks": sum(breaks.values()), "difference": worst, **ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=30)
    runs = parser.parse_args().runs
    lines, numbers = [], {}
    with torch.no_grad():
        for name in LAYERS:
            part, numbers[name] = measure(name, runs)
            lines += part
    report("compiled", "Capture inside torch.compile", ABOUT, lines, numbers)


if __name__ == "__main__":
    main()
