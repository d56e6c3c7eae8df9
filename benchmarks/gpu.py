"""Features and gradients on a CUDA device, compared with hooks that clone, and the time of a capture.

Correctness: the features of all layers of every torchvision classification model, in float32, under autocast to
float16, and in the memory format channels_last; the gradients of three models; activation checkpointing, whose
recomputation runs in another thread on CUDA. Time: medians of interleaved runs, relative to the bare model.
Extraction: images per second of ResNet-50 beside a plain loop, from tensors in memory, and the share of the time in
which the device computes.

    python -m benchmarks.gpu
"""

from __future__ import annotations

import copy
import statistics
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.checkpoint import checkpoint
from torchvision import models

import torch_featurelayer as tl
from benchmarks._report import report

CUDA = torch.device("cuda")
ROUNDS = 30


def clones_at_once(model: nn.Module, image: Tensor, run: Callable[[Tensor], Any] | None = None) -> dict[str, Any]:
    """Returns the last output of each layer, cloned in plain hooks during one call of the model or of `run`."""
    found: dict[str, Any] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            found[name] = tree_map(lambda part: part.detach().clone() if isinstance(part, Tensor) else part, output)

        return hook

    handles = [module.register_forward_hook(keep(name)) for name, module in model.named_modules() if name]
    (run or model)(image)
    for handle in handles:
        handle.remove()
    return found


def equal(ours: Any, right: Any) -> bool:
    pairs = zip(tree_leaves(ours), tree_leaves(right), strict=True)
    # NaN equals NaN: deep networks with random weights overflow float16
    tensors = ((one, other) for one, other in pairs if isinstance(other, Tensor))
    return all(torch.equal(one.nan_to_num(), other.nan_to_num()) for one, other in tensors)


def built() -> Iterator[tuple[str, nn.Module, Tensor]]:
    for name in models.list_models(models):
        options: dict[str, Any] = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
        size = {"maxvit_t": 224, "inception_v3": 299}.get(name, 128)
        if name.startswith("vit_"):
            size = options["image_size"] = 2 * int(name.rpartition("_")[2])
        torch.manual_seed(0)
        model = models.get_model(name, weights=None, **options).eval().to(CUDA)
        yield name, model, torch.randn(2, 3, size, size, device=CUDA)


def correctness() -> Counter[str]:
    counts: Counter[str] = Counter()
    for name, model, image in built():
        kinds: dict[str, tuple[AbstractContextManager[Any], Tensor]] = {
            "float32": (nullcontext(), image),
            "autocast": (torch.autocast("cuda", torch.float16), image),
            "channels_last": (nullcontext(), image.to(memory_format=torch.channels_last)),
        }
        for kind, (context, given) in kinds.items():
            if kind == "channels_last":
                model.to(memory_format=torch.channels_last)
            with torch.no_grad(), context:
                layers = tl.FeatureLayers(model, "**")
                kept: list[tl.Features] = []
                right = clones_at_once(model, given, lambda x, layers=layers, kept=kept: kept.append(layers(x)[0]))
                (feats,) = kept
            for path in feats.names:  # one forward pass: kernels may not be deterministic
                same = equal(feats[path], right[path])
                counts["features"] += 1
                counts["wrong"] += not same
                if not same:
                    print(f"WRONG {name} {kind} {path}", file=sys.stderr)
        counts["models"] += 1
        del model, right, feats
        torch.cuda.empty_cache()
    return counts


def gradients() -> Counter[str]:
    """Compares `:grad_output` with `torch.autograd.grad` on the captured features, and with checkpointing."""
    counts: Counter[str] = Counter()
    for name, path in {"resnet18": "layer2", "convnext_tiny": "features.3", "swin_t": "features.3"}.items():
        torch.manual_seed(0)
        model, image = models.get_model(name, weights=None).eval().to(CUDA), torch.randn(2, 3, 64, 64, device=CUDA)
        feats, output = tl.FeatureLayers(model, [path, f"{path}:grad_output"])(image)
        (right,) = torch.autograd.grad(output.square().sum(), feats[path], retain_graph=True)
        output.square().sum().backward()
        counts["gradients"] += 1
        # two backward passes: kernels that add in any order differ in the last bits
        off = (feats[f"{path}:grad_output"] - right).abs().max() / right.abs().max()
        print(f"gradient of {name}: {off:.1e} off, relative to the largest", file=sys.stderr)
        counts["wrong"] += not off < 1e-3
    for reentrant in (True, False):
        found = []
        for use in (True, False):
            torch.manual_seed(0)
            layers = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8)).to(CUDA)
            x = torch.ones(4, 8, device=CUDA, requires_grad=True)
            with tl.edit(layers, {"0": lambda feat: feat * 2}), tl.capture(layers, ["2:grad_output"]) as record:
                output = checkpoint(layers, x, use_reentrant=reentrant) if use else layers(x)
            output.square().sum().backward()
            found.append([x.grad, layers[0].weight.grad, record["2:grad_output"]])
        counts["gradients"] += 1
        off = max(float((one - other).abs().max() / other.abs().max()) for one, other in zip(*found, strict=True))
        print(f"checkpointing, reentrant={reentrant}: {off:.1e} off", file=sys.stderr)
        counts["wrong"] += not off < 1e-3
    return counts


def timed(call: Callable[[], object]) -> float:
    torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def costs() -> tuple[list[str], dict[str, Any]]:
    lines = [
        "| model, batch | bare, ms | one layer | all layers | hooks that clone | early stop, middle |",
        "|---|---|---|---|---|---|",
    ]
    numbers: dict[str, Any] = {}
    for name, middle, batch in (
        ("resnet50", "layer2", 1),
        ("resnet50", "layer2", 64),
        ("vit_b_16", "encoder.layers.encoder_layer_5", 1),
        ("vit_b_16", "encoder.layers.encoder_layer_5", 64),
    ):
        model = models.get_model(name, weights=None).eval().to(CUDA)
        image = torch.randn(batch, 3, 224, 224, device=CUDA)
        one, everything = tl.FeatureLayer(model, middle), tl.FeatureLayers(model, "**")
        calls: dict[str, Callable[[], object]] = {
            "bare": lambda model=model, image=image: model(image),
            "one": lambda one=one, image=image: one(image),
            "all": lambda everything=everything, image=image: everything(image),
            "clones": lambda model=model, image=image: clones_at_once(model, image),
            "stop": lambda one=one, image=image: one.features(image),
        }
        taken: dict[str, list[float]] = {key: [] for key in calls}
        with torch.no_grad():
            for turn in range(ROUNDS + 5):
                for key, call in calls.items():
                    seconds = timed(call)
                    if turn >= 5:
                        taken[key].append(seconds)
        median = {key: statistics.median(values) for key, values in taken.items()}
        ratio = {key: value / median["bare"] for key, value in median.items()}
        spread = statistics.quantiles(taken["bare"], n=4)
        numbers[f"{name}, {batch}"] = ratio
        bare = f"{median['bare'] * 1e3:.2f} (quartiles {spread[0] * 1e3:.2f} to {spread[2] * 1e3:.2f})"
        lines.append(
            f"| {name}, {batch} | {bare} | {ratio['one']:.3f} | {ratio['all']:.3f} | "
            f"{ratio['clones']:.3f} | {ratio['stop']:.3f} |"
        )
    return lines, numbers


def memory() -> str:
    """Measures the peak memory of all layers of ResNet-50, with copy-on-write and with `clone=True`."""
    model, image = models.resnet50(weights=None).eval().to(CUDA), torch.randn(32, 3, 224, 224, device=CUDA)
    peaks = {}
    for name, clone in {"copy-on-write": "lazy", "clone=True": True}.items():
        layers = tl.FeatureLayers(model, "**", clone=clone)  # type: ignore[arg-type]
        with torch.no_grad():
            layers(image)
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            layers(image)
        peaks[name] = torch.cuda.max_memory_allocated() / 2**20
    return "Peak memory of all layers of ResNet-50, batch 32: " + ", ".join(
        f"{name} {peak:.0f} MiB" for name, peak in peaks.items()
    )


def extraction(rounds: int = 3, count: int = 4096, batch: int = 128) -> tuple[list[str], dict[str, float]]:
    """Images per second of `tl.extract` and of a loop with one hook, in float32 and bfloat16, interleaved."""
    model = models.resnet50(weights=None).eval().to(CUDA)
    images = torch.randn(count, 3, 224, 224)

    def plain(dtype: torch.dtype) -> None:
        net, kept = copy.deepcopy(model).to(dtype), []
        net.layer4.register_forward_hook(lambda *args: kept.append(args[2]))
        with torch.no_grad():
            rows = []
            for part in images.split(batch):
                net(part.to(CUDA, dtype))
                rows.append(kept.pop().mean((2, 3)).half().cpu())
        torch.cat(rows)

    def ours(dtype: torch.dtype) -> None:
        precision = None if dtype is torch.float32 else dtype
        with tempfile.TemporaryDirectory() as folder:
            tl.extract(model, "layer4", images, folder, reduce="mean", batch_size=batch, precision=precision)

    runs = {
        f"{run.__name__}, {dtype}": partial(run, dtype)
        for dtype in (torch.float32, torch.bfloat16)
        for run in (plain, ours)
    }
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        for name, run in runs.items():
            seconds = timed(run)
            if turn:
                rates[name].append(count / seconds)
    found = {name: statistics.median(values) for name, values in rates.items()}
    busy = device_share(partial(ours, torch.float32))
    lines = ["", "| extraction, ResNet-50 | images/s |", "|---|---|", *(f"| {n} | {r:.0f} |" for n, r in found.items())]
    return [*lines, "", f"The device computes or copies in {busy:.0%} of an extraction in float32."], found


def device_share(call: Callable[[], None]) -> float:
    """Returns the share of the time of a call in which a kernel or copy runs, of torch.profiler."""
    from torch.profiler import ProfilerActivity, profile

    start = time.perf_counter()
    with profile(activities=[ProfilerActivity.CUDA]) as trace:
        call()
        torch.cuda.synchronize()
    total = time.perf_counter() - start
    spans = sorted((e.time_range.start, e.time_range.end) for e in trace.events() if e.device_type.name == "CUDA")
    busy, last = 0.0, 0.0
    for begin, end in spans:
        busy += max(0.0, end - max(begin, last))
        last = max(last, end)
    return busy / 1e6 / total


def main() -> None:
    if not torch.cuda.is_available():
        raise SystemExit("this benchmark needs a CUDA device")
    warnings.simplefilter("ignore")
    counts, grads = correctness(), gradients()
    lines, numbers = costs()
    more, rates = extraction()
    lines += more
    about = f"{__doc__.partition('    python')[0].strip()}\n\nDevice: {torch.cuda.get_device_name()}."
    features = f"{counts['wrong']} of {counts['features']} features of {counts['models']} models wrong"
    found = [f"{features}; {grads['wrong']} of {grads['gradients']} gradients wrong. {memory()}.", "", *lines]
    report(
        "gpu",
        "On a GPU",
        about,
        found,
        {"features": dict(counts), "gradients": dict(grads), "costs": numbers, "rates": rates},
    )


if __name__ == "__main__":
    main()
