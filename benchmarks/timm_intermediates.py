"""timm's `forward_intermediates` against our features, for one model of each family that has it.

Each tensor that timm returns is looked up first at the module that `feature_info` names, then at all other modules
and their parts. It must be bit-equal after conversion to the layout of timm: channels first, and tokens reshaped to
their grid without class and register tokens (for Hiera, in the order that its `reroll` restores).

    python -m benchmarks.timm_intermediates
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import torch
from timm.models._registry import _model_to_module
from torch import Tensor, nn

import torch_featurelayer as tl
from benchmarks._architectures import timm_models
from benchmarks._report import report


def one_of_each_family() -> dict[str, tuple[nn.Module, Tensor]]:
    found: dict[str, Any] = {}
    for name, build in timm_models():
        if _model_to_module[name] not in found:
            torch.manual_seed(0)
            model, (image,), _ = build()
            found[_model_to_module[name]] = (name, model.eval(), image)
    return found


def layouts(feat: Tensor, model: nn.Module, path: str) -> Iterator[Tensor]:
    """Yields a feature as it is and in the layouts timm turns features to."""
    yield feat
    if feat.ndim == 4:
        yield feat.permute(0, 3, 1, 2)
    if feat.ndim == 3:
        for prefix in {0, 1, getattr(model, "num_prefix_tokens", 0)}:
            yield feat[:, prefix:].transpose(1, 2)
    if hasattr(model, "reroll") and path.startswith("blocks."):
        yield model.reroll(feat, int(path.split(".")[1])).permute(0, 3, 1, 2)


def is_there(wanted: Tensor, feat: Tensor, model: nn.Module, path: str) -> bool:
    return any(
        one.numel() == wanted.numel()
        and one.shape[:2] == wanted.shape[:2]
        and torch.equal(one.reshape(wanted.shape), wanted)
        for one in layouts(feat, model, path)
    )


def addresses(feats: tl.Features) -> dict[str, Tensor]:
    """Returns the tensors among features, parts of tuples by their index."""
    found = {}
    for name in feats.names:
        value = feats[name]
        parts = {name: value} if isinstance(value, Tensor) else {}
        if isinstance(value, (tuple, list)):
            parts = {f"{name}[{number}]": part for number, part in enumerate(value) if isinstance(part, Tensor)}
        found.update(parts)
    return found


def all_that_run(model: nn.Module, image: Tensor) -> dict[str, Tensor]:
    names = [name for name, _ in model.named_modules() if name]
    try:
        feats, _ = tl.FeatureLayers(model, names)(image)
    except tl.LayerNotRunError as error:
        feats, _ = tl.FeatureLayers(model, [name for name in names if name not in error.names])(image)
    return addresses(feats)


def measure(model: nn.Module, image: Tensor) -> tuple[int, int, list[str], int]:
    """Returns how many features there are, how many are at timm's own name, where others are, how many are nowhere."""
    wanted = model.forward_intermediates(image, intermediates_only=True)
    own = [info["module"] for info in model.feature_info]
    own = own if len(own) == len(wanted) else [""] * len(wanted)
    there = all_that_run(model, image)
    named, elsewhere, nowhere = 0, [], 0
    for tensor, path in zip(wanted, own, strict=True):
        if path in there and is_there(tensor, there[path], model, path):
            named += 1
            continue
        found = next((at for at, feat in there.items() if is_there(tensor, feat, model, at)), None)
        elsewhere += [found] if found else []
        nowhere += found is None
    return len(wanted), named, elsewhere, nowhere


def main() -> None:
    warnings.simplefilter("ignore")
    lines, without, totals = [], [], [0, 0, 0, 0]
    for family, (name, model, image) in one_of_each_family().items():
        if not hasattr(model, "forward_intermediates"):
            without.append(family)
            continue
        with torch.no_grad():
            count, named, elsewhere, nowhere = measure(model, image)
        totals = [a + b for a, b in zip(totals, (count, named, len(elsewhere), nowhere), strict=True)]
        places = ", ".join(f"`{at}`" for at in elsewhere)
        lines.append(f"| {family} | {name} | {count} | {named} | {places} | {nowhere} |")
        print(lines[-1], flush=True)
    lines.append(f"| **{len(lines)} families** | | {' | '.join(map(str, totals))} |")
    header = [
        f"Families without `forward_intermediates`: {', '.join(without) or 'none'}.", "",
        "| family | model | features | equal at timm's name for it | equal at another address | nowhere |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    keys = ("features", "at_timms_name", "elsewhere", "nowhere")
    numbers = {"families": len(lines) - 1, **dict(zip(keys, totals, strict=True))}
    title = "timm's forward_intermediates, from addresses"
    report("timm_intermediates", title, (__doc__ or "").split("\n\n")[1], [*header, *lines], numbers)


if __name__ == "__main__":
    main()
