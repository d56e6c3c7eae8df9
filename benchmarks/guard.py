"""`tl.guard`: false alarms over architectures, and its cost beside `torch.autograd.detect_anomaly`.

python -m benchmarks.guard [--runs 15]
"""

from __future__ import annotations

import argparse
import gc
import sys
import warnings
from collections.abc import Callable
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torchvision import models

import torch_featurelayer as tl
from benchmarks._architectures import Cases, torchvision_models, transformers_models
from benchmarks._report import report
from benchmarks._timing import race
from torch_featurelayer._pytree import tensors


def loss_of(output: Any) -> Tensor | None:
    parts = [each for each in tensors(output) if each.requires_grad and each.is_floating_point() and each.numel()]
    return sum(each.float().square().mean() for each in parts) if parts else None  # type: ignore[return-value]


def alarms(cases: Cases) -> tuple[dict[str, int], list[str]]:
    """Runs a forward and a backward pass of each model; an alarm is false if the output is finite."""
    counts, found = {"models": 0, "alarms": 0, "false": 0, "do not run": 0}, []
    for name, build in cases:
        torch.manual_seed(0)
        try:
            model, args, kwargs = build()
            model.eval()
            with torch.no_grad():
                output = model(*args, **kwargs)
        except Exception:  # noqa: BLE001 (some architectures need inputs of another kind)
            counts["do not run"] += 1
            continue
        counts["models"] += 1
        is_finite = all(each.isfinite().all() for each in tensors(output) if each.is_floating_point())
        try:
            with tl.guard(model):
                loss = loss_of(model(*args, **kwargs))
                if loss is not None:
                    loss.backward()
        except tl.NonFiniteError as error:
            counts["alarms"] += 1
            counts["false"] += is_finite and not error.is_gradient
            found.append(f"{name}: {error.name}, {'gradient' if error.is_gradient else 'value'}")
        print(name, file=sys.stderr)
        gc.collect()
    return counts, found


def costs(runs: int) -> tuple[list[str], dict[str, float]]:
    lines = ["| | forward | training step |", "|---|---|---|"]
    numbers: dict[str, float] = {}
    image = torch.randn(8, 3, 224, 224)
    for name, model in (("resnet18", models.resnet18()), ("vit_tiny", timm.create_model("vit_tiny_patch16_224"))):
        taken = race(calls(model, image), runs, warmup=2)
        for kind in ("guard", "guard, operations=False", "detect_anomaly"):
            ratios = [taken[f"{kind}, {way}"].median / taken[f"bare, {way}"].median for way in ("forward", "step")]
            lines.append(f"| {name}, {kind} | {ratios[0]:.2f} | {ratios[1]:.2f} |")
            numbers[f"{name}, {kind}, forward"], numbers[f"{name}, {kind}, step"] = ratios
    return lines, numbers


def calls(model: nn.Module, image: Tensor) -> dict[str, Callable[[], object]]:
    def forward() -> None:
        with torch.no_grad():
            model(image)

    def step() -> None:
        model.zero_grad()
        model(image).square().mean().backward()

    def guarded(run: Callable[[], object], operations: bool) -> None:
        with tl.guard(model, operations=operations):
            run()

    def anomaly(run: Callable[[], object]) -> None:
        with torch.autograd.detect_anomaly():  # type: ignore[no-untyped-call]
            run()

    found: dict[str, Callable[[], object]] = {}
    for way, run in (("forward", forward), ("step", step)):
        found[f"bare, {way}"] = run
        found[f"guard, {way}"] = lambda run=run: guarded(run, True)
        found[f"guard, operations=False, {way}"] = lambda run=run: guarded(run, False)
        found[f"detect_anomaly, {way}"] = lambda run=run: anomaly(run)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
    warnings.simplefilter("ignore")
    lines, numbers = costs(runs)
    lines = [
        "## Cost",
        "",
        "Of the time without a guard, medians of interleaved runs.",
        "",
        *lines,
        "",
        "## False alarms",
        "",
    ]
    for kind, cases in (("torchvision", torchvision_models()), ("transformers", transformers_models())):
        counts, found = alarms(cases)
        lines.append(
            f"- {kind}: {counts['models']} models, forward and backward: {counts['alarms']} alarms, {counts['false']} "
            f"of them with a finite output ({counts['do not run']} do not run with our inputs)"
        )
        lines += [f"    - {each}" for each in found]
        numbers.update({f"{kind}, {key}": value for key, value in counts.items()})
    about = """
`tl.guard` around a forward pass without gradients, and around a training step, of 8 images of 224 × 224 on a CPU. Then
around a forward and a backward pass of each architecture with random weights: an alarm is false unless the output has
NaN too.
"""
    report("guard", "Finding NaN: false alarms and cost", about, lines, numbers)


if __name__ == "__main__":
    main()
