"""What `tl.guard`, `tl.diff` and `tl.statistics` cost on ResNet-50 and ViT-B, and which planted faults are found.

python -m benchmarks.diagnosis [--runs 7]
"""

from __future__ import annotations

import argparse
import copy
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._debug_mode import DebugMode
from torchvision import models

import torch_featurelayer as tl
from benchmarks._report import report
from benchmarks._timing import race

BATCH = 16
BATCHES = 4  # of a pass for statistics
STAGES = {
    "resnet50": ["layer1", "layer2", "layer3", "layer4"],
    "vit_b_16": [f"encoder.layers.encoder_layer_{number}" for number in (2, 5, 8, 11)],
}
POOLED = {"resnet50": ["avgpool"], "vit_b_16": ["encoder.ln"]}


def costs(name: str, runs: int) -> tuple[list[str], dict[str, float]]:
    torch.manual_seed(0)
    model, image = models.get_model(name, weights=None).eval(), torch.randn(BATCH, 3, 224, 224)
    other, changed = copy.deepcopy(model), copy.deepcopy(model)
    with torch.no_grad():
        next(each for each in changed.modules() if isinstance(each, nn.Conv2d)).weight.mul_(1.001)
    images = image.repeat(BATCHES, 1, 1, 1)

    def forward() -> None:
        with torch.no_grad():
            model(image)

    def whole_pass() -> None:
        with torch.no_grad():
            for batch in images.split(BATCH):
                model(batch)

    def guarded(operations: bool) -> None:
        with tl.guard(model, operations=operations), torch.no_grad():
            model(image)

    taken = race(
        {
            "forward": forward,
            "pass": whole_pass,
            "guard, operations=False": lambda: guarded(False),
            "guard": lambda: guarded(True),
            "diff, of two forward passes": lambda: tl.diff(model, other, image),
            "diff where all layers differ, of two forward passes": lambda: tl.diff(model, changed, image),
            "statistics, four stages": lambda: tl.statistics(model, STAGES[name], images, batch_size=BATCH),
            "statistics, pooled layer": lambda: tl.statistics(model, POOLED[name], images, batch_size=BATCH),
        },
        runs,
        warmup=1,
    )
    bare, whole = taken.pop("forward").median, taken.pop("pass").median
    found = {key: timing.median / (whole if key.startswith("statistics") else bare) for key, timing in taken.items()}
    found = {key: ratio / 2 if key.startswith("diff") else ratio for key, ratio in found.items()}
    lines = [f"| {name}, {key} | {ratio:.2f} |" for key, ratio in found.items()]
    return lines, {f"{name}, {key}": ratio for key, ratio in found.items()}


class Applied(nn.Module):
    """Applies a function to the output of a layer."""

    def __init__(self, inner: nn.Module, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.inner, self.function = inner, function

    def forward(self, x: Tensor) -> Tensor:
        """Returns the function of the output."""
        return self.function(self.inner(x))


def faults() -> dict[str, tuple[nn.Module, Tensor]]:
    """Returns ResNet-18 with one fault each."""
    image = torch.randn(2, 3, 64, 64)
    found: dict[str, tuple[nn.Module, Tensor]] = {}
    for name in ("an infinite weight", "log of negative numbers", "overflow of float16", "gradient of sqrt(0)"):
        torch.manual_seed(0)
        found[name] = models.resnet18(weights=None), image
    weight = found["an infinite weight"][0].get_parameter("layer2.0.conv1.weight")
    weight.data.view(-1)[0] = torch.inf
    for name, function in (
        ("log of negative numbers", lambda x: torch.log(x) * 0 + x),
        ("gradient of sqrt(0)", lambda x: x + torch.sqrt(x * 0)),
    ):
        model: Any = found[name][0]
        model.layer2 = Applied(model.layer2, function)
    found["overflow of float16"][0].get_parameter("layer2.0.conv1.weight").data.mul_(4e5)
    found["overflow of float16"] = found["overflow of float16"][0].half(), image.half()
    return found


def detect() -> tuple[list[str], dict[str, str]]:
    lines = [
        "| fault | `tl.guard` | s | `torch.autograd.detect_anomaly` | s | `DebugMode` | s |",
        "|---|---|---|---|---|---|---|",
    ]
    numbers = {}
    for name, (model, image) in faults().items():
        texts = []
        for context in (lambda model=model: tl.guard(model), torch.autograd.detect_anomaly):
            start, text = time.perf_counter(), "not found"
            try:
                with context():  # type: ignore[no-untyped-call]
                    model(image).float().square().mean().backward()
            except tl.NonFiniteError as error:
                text = f"`{error.name}`" + (f" ({error.operation})" if error.operation else "")
            except RuntimeError as error:
                text = str(error).partition("'")[2].partition("'")[0] or "an error"
            texts += [text, f"{time.perf_counter() - start:.2f}"]
        start, text = time.perf_counter(), with_debug_mode(model, image)
        texts += [text, f"{time.perf_counter() - start:.2f}"]
        lines.append(f"| {name} | {' | '.join(texts)} |")
        numbers[name] = texts[0]
    return lines, numbers


def with_debug_mode(model: nn.Module, image: Tensor) -> str:
    """Returns the first operator whose recorded output is not finite, searched in the log of PyTorch's `DebugMode`."""
    with DebugMode() as mode, DebugMode.record_outputs():
        model(image).float().square().mean().backward()
    for number, call in enumerate(mode.logs):
        output = (call.record or {}).get("output")
        if isinstance(output, Tensor) and not output.isfinite().all():
            return f"operator {number} of {len(mode.logs)}, {call.render([]).partition('(')[0].strip()}"
    return "not found"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    warnings.simplefilter("ignore")
    lines, numbers = ["| | of a forward pass |", "|---|---|"], {}
    for name in STAGES:
        found, ratios = costs(name, runs)
        lines += found
        numbers.update(ratios)
    found, names = detect()
    lines += ["", "## Planted faults in ResNet-18", "", *found]
    about = f"""
Medians of interleaved runs with {BATCH} images of 224 × 224 in memory, relative to the forward pass alone, without
gradients. `diff` has the outputs of all layers of both models; its time is halved. It is measured with a copy of the
model, and with a copy whose first weights differ by a thousandth. `statistics` includes the digests of
model and items, and is relative to a pass over {BATCHES} batches. The anomaly detection of PyTorch names the node of
the graph at which a gradient becomes NaN; it does not look at values in the forward pass, nor at infinite gradients.
`DebugMode` logs operators and keeps their outputs, which are searched here for the first that is not finite; it knows
no layers.
"""
    report("diagnosis", "Cost of diagnosis", about, lines, {**numbers, "faults": names})


if __name__ == "__main__":
    main()
