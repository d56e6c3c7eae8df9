"""Overhead of capture: time and memory beside the bare model and beside peers, in one run.

python -m benchmarks.overhead [--runs 60]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torchvision import models

import torch_featurelayer as tl
from benchmarks._memory import peak_bytes
from benchmarks._report import report
from benchmarks._timing import Contenders, race

ABOUT = """
Time and memory relative to the bare model, compared with hooks written by hand: no gradients, 1×3×224×224, random
weights. The contenders run in turns, in random order; medians. Early stop and other libraries: [peers](peers.md).
"""
ALL_MODULES = ("resnet50", "vgg11", "convnext_tiny", "vit_b_16")
ONE_LAYER = {
    "resnet18": "layer2",
    "resnet50": "layer2",
    "vgg11": "features.5",
    "vit_b_16": "encoder.layers.encoder_layer_5",
}
OPERATIONS = {
    "resnet18": [f"layer{stage}.{block}:add" for stage in range(1, 5) for block in range(2)],
    "vit_small_patch16_224": [f"blocks.{block}:add.{number}" for block in range(12) for number in range(2)],
    "vit_tiny_patch16_224": [f"blocks.{block}:add.{number}" for block in range(12) for number in range(2)],
}


def hooks(model: nn.Module, names: list[str], image: Tensor, keep: Callable[[Any], Any]) -> dict[str, Any]:
    """Plain forward hooks, as a user writes them."""
    kept: dict[str, Any] = {}
    handles = [
        model.get_submodule(name).register_forward_hook(lambda _, __, out, name=name: kept.update({name: keep(out)}))
        for name in names
    ]
    try:
        model(image)
    finally:
        for handle in handles:
            handle.remove()
    return kept


def clone(value: Any) -> Any:
    return (
        value.clone() if isinstance(value, Tensor) else tuple(part if part is None else part.clone() for part in value)
    )


def modules_that_run(model: nn.Module, image: Tensor) -> list[str]:
    return list(hooks(model, [name for name, _ in model.named_modules()], image, lambda _: None))


def captum(model: nn.Module, names: list[str], image: Tensor) -> Callable[[], Any]:
    """Captum on the layers it can take: it raises where an output holds None (attention; captum#745)."""
    from captum.attr import LayerActivation

    outputs = hooks(model, names, image, lambda value: isinstance(value, Tensor))
    layers = [model.get_submodule(name) for name in names if outputs[name]]
    return lambda: LayerActivation(model, layers).attribute(image)


Part = tuple[list[str], dict[str, float]]


def table(title: str, timings: dict[str, Any], base: str) -> Part:
    lines = [f"| {title} | median (quartiles) | × {base} |", "|---|---|---|"]
    ratios = {name: timing.median / timings[base].median for name, timing in timings.items()}
    lines += [f"| {name} | {timing} | {ratios[name]:.3f} |" for name, timing in timings.items()]
    return [*lines, ""], ratios


def one_layer(name: str, runs: int) -> Part:
    model, image = models.get_model(name, weights=None).eval(), torch.randn(1, 3, 224, 224)
    layer = tl.FeatureLayer(model, ONE_LAYER[name])
    contenders: Contenders = {
        "bare": lambda: model(image),
        "bare, repeated (the noise)": lambda: model(image),
        "FeatureLayer": lambda: layer(image),
    }
    return table(f"{name}, one layer `{ONE_LAYER[name]}`", race(contenders, runs * 2), "bare")


def all_modules(name: str, runs: int) -> Part:
    model, image = models.get_model(name, weights=None).eval(), torch.randn(1, 3, 224, 224)
    names = modules_that_run(model, image)
    layers, cloning = tl.FeatureLayers(model, names), tl.FeatureLayers(model, names, clone=True)
    contenders: Contenders = {
        "bare": lambda: model(image),
        "hooks keeping references (wrong)": lambda: hooks(model, names, image, lambda value: value),
        "hooks that clone": lambda: hooks(model, names, image, clone),
        "captum LayerActivation": captum(model, names, image),
        "FeatureLayers": lambda: layers(image),
        "FeatureLayers, clone=True": lambda: cloning(image),
    }
    return table(f"{name}, all {len(names)} modules", race(contenders, runs), "hooks keeping references (wrong)")


def operations(name: str, runs: int) -> Part:
    model, image = timm.create_model(name, pretrained=False).eval(), torch.randn(1, 3, 224, 224)
    names = OPERATIONS[name]
    one, every = tl.FeatureLayer(model, names[len(names) // 2]), tl.FeatureLayers(model, names)
    layers = list(dict.fromkeys(name.partition(":")[0] for name in names))
    around = tl.FeatureLayers(model, layers)
    contenders: Contenders = {
        "bare": lambda: model(image),
        "bare, repeated (the noise)": lambda: model(image),
        f"one addition, `{names[len(names) // 2]}`": lambda: one(image),
        f"all {len(names)} additions": lambda: every(image),
        f"hooks that clone, on the {len(layers)} blocks": lambda: hooks(model, layers, image, clone),
        f"FeatureLayers, the {len(layers)} blocks, no operation": lambda: around(image),
    }
    return table(f"{name}, operations", race(contenders, runs * 2), "bare")


def memory(name: str) -> str:
    model, image = models.get_model(name, weights=None).eval(), torch.randn(1, 3, 224, 224)
    layer = tl.FeatureLayer(model, ONE_LAYER[name])
    feat = layer(image)[0]
    bare, ours = peak_bytes(lambda: model(image)), peak_bytes(lambda: layer(image))
    bound = (bare + feat.nbytes) * 1.05
    columns = [f"{size / 1e6:.2f}" for size in (bare, feat.nbytes, ours, bound)]
    return f"| {name} | {' | '.join(columns)} | {ours <= bound} |"


def import_time(runs: int = 15) -> list[str]:
    use = "import torch_featurelayer; torch_featurelayer.FeatureLayer"
    code = f"import torch, time; t = time.perf_counter(); {use}; print(time.perf_counter() - t)"
    with tempfile.TemporaryDirectory() as folder:
        # With bytecode, which pip compiles when it installs a package; an editable install has none at first.
        env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        env["PYTHONPYCACHEPREFIX"] = folder
        command = [sys.executable, "-c", code]
        times = [float(subprocess.check_output(command, env=env)) * 1000 for _ in range(runs + 1)][1:]
    spread = f"median of {runs}, {min(times):.1f} to {max(times):.1f}"
    return [f"`import torch_featurelayer` after `import torch`: {statistics.median(times):.1f} ms ({spread}).", ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=40)
    runs = parser.parse_args().runs
    lines, numbers = [], {}
    with torch.no_grad():
        for measure, names in ((one_layer, ONE_LAYER), (operations, OPERATIONS), (all_modules, ALL_MODULES)):
            for name in names:
                part, numbers[f"{measure.__name__} {name}"] = measure(name, runs)
                lines += part
        lines += ["| peak memory, one layer | bare MB | feature MB | ours MB | bound MB | within |", "|" + "---|" * 6]
        lines += [memory(name) for name in ONE_LAYER]
        lines += ["", *import_time()]
    report("overhead", "Overhead of capture", ABOUT, lines, numbers)


if __name__ == "__main__":
    main()
