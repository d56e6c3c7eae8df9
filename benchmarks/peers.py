"""The outputs of every layer, by every library that gives them: which are wrong, missing or refused, and the cost.

Each contender runs in a process of its own, since some change PyTorch as they are used, on the same models and
seeds, against a deep copy made at hook time. Asked for all layers at once; where that raises, for halves, and halves
of those, so that a crash is counted for the layers that cause it. A value is right if it is any one call's output.

    pip install --group peers
    python -m benchmarks.peers [--runs 15] [--only NAME]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torchvision import models

from benchmarks._memory import peak_bytes
from benchmarks._peers import APART, CONTENDERS, DISTRIBUTIONS, STOPPING, Adapter, Values
from benchmarks._report import counts_cell, report, stop_cell
from benchmarks._timing import race

MODELS = """
alexnet vgg11 vgg11_bn resnet18 resnet50 resnext50_32x4d densenet121 googlenet inception_v3 squeezenet1_1
mobilenet_v2 mobilenet_v3_small mnasnet0_5 shufflenet_v2_x0_5 efficientnet_b0 regnet_y_400mf convnext_tiny
swin_t vit_b_16
""".split()  # noqa: SIM905
TIMED = ("resnet50", "vit_b_16")
STOPPED = {"resnet50": "layer2", "vit_small_patch16_224": "blocks.5"}  # of timm, so that timm can take part
PROCESSES = 3  # of which the cost is the median
STAGES = ["maxpool", "layer1", "layer2", "layer3", "layer4"]  # of a compiled ResNet-18
ONE_LAYER = ("timm forward_intermediates", "torchlens pluck")  # which take part in stopping early alone
Calls = dict[str, list[list[Tensor]]]


def build(name: str, size: int | None = None) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    size = size or {"inception_v3": 299, "googlenet": 96, "vit_b_16": 224}.get(name, 64)
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    return models.get_model(name, weights=None, **options).eval(), torch.randn(1, 3, size, size)


def leaves(value: Any) -> list[Tensor]:
    return [part for part in tree_leaves(value) if isinstance(part, Tensor)]


def reference(model: nn.Module, image: Tensor) -> Calls:
    """What each call of each layer returned, in the order in which layers finish."""
    calls: Calls = {}
    handles = [
        module.register_forward_hook(
            lambda _, __, out, name=name: calls.setdefault(name, []).append([part.clone() for part in leaves(out)])
        )
        for name, module in model.named_modules()
        if name
    ]
    model(image)
    for handle in handles:
        handle.remove()
    return calls


def ask(adapter: Adapter, model: nn.Module, names: list[str], image: Tensor) -> tuple[Values, dict[str, str]]:
    """Returns the values, and for the layers that make the contender raise, what it raised."""
    try:
        return adapter(model, names)(image), {}
    except Exception as error:  # noqa: BLE001 (whatever it raises is a result)
        if len(names) == 1:
            return {}, {names[0]: f"{type(error).__name__}: {error}".splitlines()[0][:100]}
    half = len(names) // 2
    (values, crashed), (more, others) = (ask(adapter, model, part, image) for part in (names[:half], names[half:]))
    return {**values, **more}, {**crashed, **others}


def is_right(value: Any, calls: list[list[Tensor]]) -> bool:
    parts = leaves(value)
    return any(
        len(parts) == len(call) and all(torch.equal(left, right) for left, right in zip(parts, call, strict=True))
        for call in calls
    )


def tally(values: Values, crashed: dict[str, str], calls: Calls) -> dict[str, int]:
    """How many of the layers asked for are right, wrong, missing and crashed."""
    given = {layer: value for layer, value in values.items() if layer in calls and leaves(value)}
    right = sum(is_right(value, calls[layer]) for layer, value in given.items())
    missing = len(calls) - len(given) - len(crashed)
    return {"right": right, "wrong": len(given) - right, "missing": missing, "crashed": len(crashed)}


def count(adapter: Adapter, name: str) -> dict[str, Any]:
    model, image = build(name)
    calls = reference(model, image)
    values, crashed = ask(adapter, model, list(calls), image)
    return {"layers": len(calls), **tally(values, crashed, calls), "why": sorted(set(crashed.values()))[:1]}


def cost(adapter: Adapter, name: str, runs: int) -> dict[str, float]:
    """Time and peak memory of one call for all the layers it can take, over the bare model's."""
    model, image = build(name, size=224)
    layers = list(reference(model, image))
    crashed = ask(adapter, model, layers, image)[1]
    call = adapter(model, [layer for layer in layers if layer not in crashed])
    bare = build(name, size=224)[0]
    timings = race({"bare": lambda: bare(image), "contender": lambda: call(image)}, runs)
    ratio = timings["contender"].median / timings["bare"].median
    return {"time": ratio, "memory": peak_bytes(lambda: call(image)) / peak_bytes(lambda: bare(image))}


def early(contender: str, name: str, runs: int) -> dict[str, Any]:
    """Whether one layer is right, and the time to have it, over the whole bare model's."""
    torch.manual_seed(0)
    model, image = timm.create_model(name, pretrained=False).eval(), torch.randn(1, 3, 224, 224)
    layer = STOPPED[name]
    right = reference(model, image)[layer][-1][0]
    try:
        call = STOPPING[contender](model, layer)
        found = leaves(call(image))[0]
    except Exception as error:  # noqa: BLE001 (whatever it raises is a result)
        return {"right": False, "time": None, "why": f"{type(error).__name__}: {error}".splitlines()[0][:100]}
    timings = race({"bare": lambda: model(image), "contender": lambda: call(image)}, runs)
    time = timings["contender"].median / timings["bare"].median
    return {"right": torch.equal(found, getattr(call, "as_theirs", lambda feat: feat)(right)), "time": time}


def compiled(adapter: Adapter) -> dict[str, int]:
    """What becomes of the stages of a ResNet-18 that was compiled, and has run, before anybody asks for them."""
    model, image = build("resnet18", size=64)
    calls = reference(model, image)
    torch.compiler.reset()
    fast = torch.compile(model, backend="eager")
    for _ in range(2):
        fast(image)
    values, crashed = ask(adapter, fast, STAGES, image)
    return tally(values, crashed, {layer: calls[layer] for layer in STAGES})


def measure(contender: str, part: str, runs: int) -> dict[str, Any]:
    warnings.simplefilter("ignore")
    with torch.no_grad():
        if part == "stop":
            return {name: early(contender, name, runs) for name in STOPPED}
        adapter = CONTENDERS[contender]
        if part == "counts":
            return {name: count(adapter, name) for name in MODELS}
        return {name: cost(adapter, name, runs) for name in TIMED} if part == "costs" else compiled(adapter)


@contextmanager
def environment(contender: str) -> Iterator[dict[str, str]]:
    """Yields the environment of a contender's processes, with what must not be installed beside the others."""
    if contender not in APART:
        yield dict(os.environ)
        return
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder]
        subprocess.run([*pip, APART[contender]], check=True)
        yield {**os.environ, "PYTHONPATH": folder}


def in_own_process(contender: str, part: str, runs: int, variables: dict[str, str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.peers", "--child", part, "--only", contender, "--runs", str(runs)]
    output = subprocess.run(command, env=variables, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(output.splitlines()[-1])  # type: ignore[no-any-return]


def medians(several: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """The costs of several processes, which come by their memory in different ways, as one."""
    return {
        name: {part: statistics.median(one[name][part] for one in several) for part in ("time", "memory")}
        for name in TIMED
    }


def measured(contender: str, runs: int) -> dict[str, Any]:
    """All that a contender takes part in."""
    print(contender, flush=True)
    with environment(contender) as variables:
        stop = in_own_process(contender, "stop", runs, variables)
        if contender in ONE_LAYER:
            return {"stop": stop}
        counts, after, *several = (
            in_own_process(contender, part, runs, variables) for part in ("counts", "compiled", *["costs"] * PROCESSES)
        )
    return {"stop": stop, "counts": counts, "compiled": after, "costs": medians(several)}


def title(contender: str) -> str:
    return f"{contender} {metadata.version(DISTRIBUTIONS[contender])}" if contender in DISTRIBUTIONS else (
        APART[contender].replace("==", " ") if contender in APART else contender
    )  # fmt: skip


def totals(result: dict[str, Any]) -> dict[str, int]:
    parts = ("layers", "right", "wrong", "missing", "crashed")
    return {part: sum(one[part] for one in result["counts"].values()) for part in parts}


def layer_row(contender: str, result: dict[str, Any]) -> str:
    cells = [str(totals(result)[part]) for part in ("right", "wrong", "missing", "crashed")]
    cells += [f"{result['costs'][name][part]:.2f}" for part in ("time", "memory") for name in TIMED]
    return f"| {title(contender)} | {' | '.join(cells)} |"


def other_row(contender: str, result: dict[str, Any]) -> str:
    cells = [stop_cell(one) + (f" ({one['why']})" if "why" in one else "") for one in result["stop"].values()]
    return f"| {title(contender)} | {' | '.join(cells)} | {counts_cell(result.get('compiled'))} |"


def reasons(contender: str, result: dict[str, Any]) -> list[str]:
    found = {why for one in result["counts"].values() for why in one["why"]}
    return [f"- {contender}: {why}" for why in sorted(found)[:3]]


ABOUT = f"""
No gradients, eval mode, random weights, torchvision's {", ".join(MODELS)}. Time and peak memory are those of one call
for all layers that a contender supports, at 1×3×224×224, relative to the bare model, in turns in one process;
medians of {PROCESSES} processes. One-time preparation (such as the tracing of torchvision) is left out. A layer is
*missing* if the contender returns nothing for it without an error, and *crashed* if requesting it alone raises. Each
contender, and each part of the benchmark, runs in its own processes.

Strengths and weaknesses: hooks, nnsight, surgeon and torchextractor keep references to the tensors of the model,
which needs the least memory, and is wrong where a later in-place operation overwrites a tensor (unless the user
clones it). pytorch-grad-cam pairs values with layers by position, so a layer that runs twice shifts the layers after
it. torchlens is right for as many layers as this library and records every operation at once, which takes more time;
one layer is recorded and halted after it as its README advises, and taken with `pluck`, its call for one layer.
The graph of torchvision is the fastest where it works. thingsvision clones each tensor and is right; it runs the
whole model and keeps only the first element of a tuple.

Most of the time of all layers of ResNet-50 is memory: what is let go of after a call goes back to the system, which
fills it with zeros, page by page, at the next call. surgeon-pytorch, thingsvision and 0.1.2 hold the features of the
last call until the next one has its own, and are spared that. Glibc can be told to keep it
([how](../guides/performance.md#capture-all-layers-repeatedly-on-a-cpu)). In one process, [overhead](overhead.md) races
cloning, captum and this library.
"""

STOP_ABOUT = """The time to have one layer, over that of the whole bare model (timm's): what ends right after the layer
costs the share of the model before it. And a ResNet-18 that `torch.compile` has compiled (backend `eager`) and that has
run twice in the same grad mode before a contender is given it: compiled code ignores hooks that come later
(pytorch#117758)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--only", choices=STOPPING)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(measure(given.only, given.child, given.runs)))
        return
    results = {name: measured(name, given.runs) for name in ([given.only] if given.only else STOPPING)}
    every = {name: result for name, result in results.items() if name not in ONE_LAYER}
    columns = [f"{part} {name}" for part in ("time", "memory") for name in TIMED]
    lines = [f"| contender | right | wrong | missing | crashed | {' | '.join(columns)} |", "|---" * 9 + "|"]
    lines += [layer_row(name, result) for name, result in every.items()]
    lines += ["", "Some of what they raise:", "", *(why for name in every for why in reasons(name, every[name]))]
    lines += ["", "## Stopping early, and a model that is compiled", "", STOP_ABOUT, ""]
    stops = " | ".join(f"`{layer}` of {name}" for name, layer in STOPPED.items())
    lines += [f"| contender | {stops} | {len(STAGES)} stages of a compiled ResNet-18 |", "|---" * 4 + "|"]
    lines += [other_row(name, result) for name, result in results.items()]
    numbers = {
        name: {"title": title(name), "stop": result["stop"], "compiled": result.get("compiled"),
               **({} if name in ONE_LAYER else {**totals(result), "costs": result["costs"]})}
        for name, result in results.items()
    }  # fmt: skip
    if given.only:
        print(*lines, sep="\n")
        return
    report("peers", f"Every layer of {len(MODELS)} torchvision models, by every library", ABOUT, lines, numbers)


if __name__ == "__main__":
    main()
