"""A million captures in one process: whether memory stays flat, and whether hooks are left behind.

python -m benchmarks.soak [--calls 1000000]
"""

from __future__ import annotations

import argparse
import gc
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import cycle

import torch
from torch import nn

import torch_featurelayer as tl
from benchmarks._report import report

STEPS = 20  # at which memory is read


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU(inplace=True), nn.Linear(8, 8), nn.ReLU(inplace=True)).eval()


def uses(model: nn.Module, x: torch.Tensor) -> Iterator[tuple[str, Callable[[], object]]]:
    """Each way to capture or edit, one after the other for ever."""
    one, several = tl.FeatureLayer(model, "2"), tl.FeatureLayers(model, ["0", "1:input", "2", ":grad_output"])
    failing = tl.FeatureLayer(nn.Sequential(model, nn.Linear(9, 9)), "0")

    def backward() -> None:
        feats, output = several(x)
        output.sum().backward()
        assert feats[":grad_output"] is not None

    def in_a_loop() -> None:
        with tl.capture(model, "**", keep=2) as feats:
            model(x)
        assert len(feats)

    def edited() -> None:
        with tl.edit(model, {"0": 0.0}), torch.no_grad():
            model(x)

    def raises() -> None:
        with suppress(RuntimeError):
            failing(x)

    yield from cycle(
        [
            ("a layer", lambda: one(x)),
            ("early stop", lambda: one.features(x)),
            ("several, with gradients", backward),
            ("capture", in_a_loop),
            ("edit", edited),
            ("a model that raises", raises),
            ("a new wrapper", lambda: tl.FeatureLayer(model, "1")(x)),
        ]
    )


def resident() -> float:
    """The resident memory in MB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def hooks(model: nn.Module) -> int:
    return sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks) + len(module._backward_hooks)
        for module in model.modules()
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=1_000_000)
    calls = parser.parse_args().calls
    torch.set_num_threads(1)
    model, x = network(), torch.randn(4, 8)
    ways = uses(model, x)
    for _ in range(2000):  # caches fill
        next(ways)[1]()
    memory: list[tuple[int, float, int]] = []
    start = time.perf_counter()
    for number in range(calls):
        next(ways)[1]()
        if (number + 1) % (calls // STEPS) == 0:
            gc.collect()
            memory.append((number + 1, resident(), len(gc.get_objects())))
    seconds = time.perf_counter() - start
    _, first, objects = memory[0]
    _, last, objects_last = memory[-1]
    lines = ["| calls | resident memory | objects of Python |", "|---|---|---|"]
    lines += [
        f"| {count:,} | {used:.1f} MB | {alive:,} |" for count, used, alive in memory[:: STEPS // 5] + memory[-1:]
    ]
    growth = f"{last - first:+.1f} MB and {objects_last - objects:+,} objects"
    lines += ["", f"Growth from the first reading to the last: {growth}; hooks left in the model: {hooks(model)}."]
    lines += ["", f"A call takes {seconds / calls * 1e6:.0f} µs on average."]
    about = """
Seven uses in turn, on a network of four small layers: a captured layer, early stop, several layers with gradients, a
capture around the user's call, an edit, a model that raises an error, and a new wrapper for each call.
"""
    numbers = {"calls": calls, "growth": last - first, "objects": objects_last - objects, "hooks": hooks(model)}
    report("soak", "A million captures", about, lines, numbers)


if __name__ == "__main__":
    main()
