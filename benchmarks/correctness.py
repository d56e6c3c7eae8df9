"""Wrong and missing features, over every torchvision classification model.

Each module's output and input is captured in one run and compared bit for bit
with a clone taken at hook time; so is the model's output with that of the bare
model. In train and eval mode, with copy-on-write and with `clone()`.

    python -m benchmarks.correctness [name ...]
"""

from __future__ import annotations

import gc
import sys
import time

import torch
from torch import nn
from torchvision import models

import torch_featurelayer as tl
from benchmarks._report import report
from tests.reference import cloned, hooked, same, same_arguments

SIZES = {"maxvit_t": 224, "googlenet": 96, "inception_v3": 299, "vit_h_14": 112}


def build(name: str) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    size = SIZES.get(name, 128 if name.startswith("vit_") else 64)
    options: dict[str, object] = {"image_size": size} if name.startswith("vit_") else {}
    if name in ("googlenet", "inception_v3"):
        options["init_weights"] = False
    return models.get_model(name, weights=None, **options), torch.randn(2, 3, size, size)


def plain(model: nn.Module, image: torch.Tensor) -> list[bool]:
    """Returns, for each layer, whether a plain hook that keeps a reference gets its output wrong."""
    kept: dict[str, object] = {}
    handles = [
        module.register_forward_hook(lambda _, __, out, name=name: kept.update({name: (out, cloned(out))}))
        for name, module in model.named_modules()
    ]
    torch.manual_seed(1)
    with torch.no_grad():
        model(image)
    for handle in handles:
        handle.remove()
    return [not same(out, right) for out, right in kept.values()]


def compare(model: nn.Module, image: torch.Tensor, clone: object) -> tuple[int, int, int, bool]:
    """Returns how many features were compared, wrong and missing, and whether the output is bit-equal."""
    torch.manual_seed(1)
    bare = cloned(model(image))
    torch.manual_seed(1)
    outputs, inputs, _ = hooked(model, lambda: model(image))
    names = [*outputs, *(f"{name}:input" for name in inputs)]
    torch.manual_seed(1)
    feats, output = tl.FeatureLayers(model, names, clone=clone)(image)
    wrong = sum(not same(feats[name], right) for name, right in outputs.items())
    wrong += sum(not same_arguments(feats[f"{name}:input"], *given) for name, given in inputs.items())
    return len(names), wrong, len(names) - len(feats), same(output, bare)


def main(names: list[str]) -> None:
    lines = ["| model | features compared | wrong | missing | output bit-equal | plain hooks: wrong | seconds |"]
    lines += ["|---|---|---|---|---|---|---|"]
    totals = [0, 0, 0, 0, 0, 0]
    for name in names or models.list_models(module=models):
        start = time.perf_counter()
        counts, equal = [0, 0, 0], True
        model, image = build(name)
        bad: list[bool] = []
        for training in (True, False):
            model.train(training)
            bad += plain(model, image)
            for clone in ("lazy", True):
                *some, bit_equal = compare(model, image, clone)
                counts = [a + b for a, b in zip(counts, some, strict=True)]
                equal &= bit_equal
        seconds = time.perf_counter() - start
        lines.append(
            f"| {name} | {counts[0]} | {counts[1]} | {counts[2]} | {equal} | {sum(bad)} of {len(bad)} | {seconds:.1f} |"
        )
        print(lines[-1], flush=True)
        totals = [a + b for a, b in zip(totals, [*counts, equal, sum(bad), len(bad)], strict=True)]
        del model
        gc.collect()
    count = len(lines) - 2
    wrong = f"{totals[4]} of {totals[5]}"
    lines.append(f"| **{count} models** | {' | '.join(map(str, totals[:3]))} | {totals[3]} of {count} | {wrong} | |")
    print(lines[-1])
    if not names:
        keys = ("features", "wrong", "missing", "equal", "plain_wrong", "plain_outputs")
        numbers = {"models": count, **dict(zip(keys, totals, strict=True))}
        report("correctness", "Wrong and missing features", ABOUT, lines, numbers)


ABOUT = """
Every torchvision classification model on the CPU, with random weights and a batch of 2, in train and eval mode, with
gradients, with copy-on-write and with `clone=True`. The output and the input of each module are captured in one forward
pass and compared with clones taken in forward hooks. The column "plain hooks" counts the outputs that are wrong when a
forward hook keeps a reference instead (without gradients).
"""

if __name__ == "__main__":
    main(sys.argv[1:])
