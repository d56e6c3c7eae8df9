"""Capture compiled with `fullgraph=True`, over every torchvision classification model.

With `fullgraph=True`, a graph break is an error. Each model that compiles without capture is compiled with one layer
from its middle, and with its stages and all layers to depth 2 that run. The compiled features and output are compared
with those of an eager run. The backend is `aot_eager`, which uses Dynamo and AOTAutograd without the minutes that
inductor needs for each model (`benchmarks/compiled.py` runs inductor on five models).

    python -m benchmarks.graph_breaks [name ...]
"""

from __future__ import annotations

import sys
import time
import warnings

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torchvision import models

import torch_featurelayer as tl
from benchmarks._report import report
from benchmarks.correctness import build

COMPILE = {"fullgraph": True, "backend": "aot_eager"}


def layers_that_run(model: nn.Module, image: Tensor) -> list[str]:
    names = list(dict.fromkeys([*tl.get_layer_candidates(model, max_depth=2), *tl.models.stages(model, image)]))
    try:
        tl.FeatureLayers(model, names)(image)
    except tl.LayerNotRunError as error:
        return [name for name in names if name not in error.names]
    return names


def bare(model: nn.Module, image: Tensor) -> str:
    """Compiles the model alone; returns what it raised."""
    torch.compiler.reset()
    try:
        torch.compile(model, **COMPILE)(image)
    except Exception as error:  # noqa: BLE001 (whatever it is, it is not ours)
        return f"{type(error).__name__}: {error}".splitlines()[0][:100]
    return ""


def difference(model: nn.Module, names: list[str], image: Tensor) -> float:
    """Returns the largest difference between compiled and eager values, relative to the largest value."""
    torch.compiler.reset()
    layers = tl.FeatureLayers(model, names)
    right = tree_leaves(layers(image))
    layers.compile(**COMPILE)
    try:
        ours = tree_leaves(layers(image))
    finally:
        layers.uncompile()
    pairs = zip(ours, right, strict=True)
    return max(float((one - two).abs().max() / two.abs().max().clamp(min=1e-9)) for one, two in pairs)


def measure(name: str) -> str:
    start = time.perf_counter()
    model, image = build(name)
    model.eval()
    failed = bare(model, image)
    if failed:
        return f"| {name} | {failed} | | | |"
    names, cells = layers_that_run(model, image), []
    for some in ([names[len(names) // 2]], names):
        try:
            cells.append(f"{len(some)}: {difference(model, some, image):.0e}")
        except Exception as error:  # noqa: BLE001 (a break or any other failure is a result)
            cells.append(f"{len(some)}: **{type(error).__name__}**")
            print(name, error, file=sys.stderr, flush=True)
    return f"| {name} | yes | {' | '.join(cells)} | {time.perf_counter() - start:.0f} |"


def main(names: list[str]) -> None:
    warnings.simplefilter("ignore")
    lines = []
    with torch.no_grad():
        for name in names or models.list_models(module=models):
            lines.append(measure(name))
            print(lines[-1], flush=True)
    compiled = [line for line in lines if "| yes |" in line]
    failed = sum("**" in line for line in compiled)
    header = [
        f"Of {len(lines)} models {len(compiled)} compile bare; of these {failed} broke or failed with capture.", "",
        "| model | compiles bare | one layer: difference | stages, and layers to depth 2: difference | seconds |",
        "|---|---|---|---|---|",
    ]  # fmt: skip
    if not names:
        numbers = {"models": len(lines), "compile_bare": len(compiled), "broke": failed}
        report("graph_breaks", "Graph breaks", (__doc__ or "").split("\n\n")[1], [*header, *lines], numbers)


if __name__ == "__main__":
    main(sys.argv[1:])
