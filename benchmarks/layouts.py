"""The layout of the feature of every layer, compared with a reference that uses only shapes.

Each model runs with two batch sizes and with two input sizes. The dimension that changes with the batch size is the
batch dimension, the dimensions that change with the input size are positions, and the dimension that never changes is
the channel dimension. If there is exactly one channel dimension, the mean over the positions is compared with
`reduce="mean"` to 1e-5: the result is right, wrong, or refused with a `LayoutError`. Layers whose shapes are ambiguous
are left out.

    python -m benchmarks.layouts
"""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import torch_featurelayer as tl
from benchmarks._report import report

Inputs = tuple[tuple[Any, ...], dict[str, Any]]
ONE_SIZE: list[str] = []

TEXT_MODELS = (
    "albert bart bert big_bird bigbird_pegasus biogpt bloom camembert canine convbert ctrl data2vec-text deberta "
    "deberta-v2 distilbert electra ernie falcon falcon_mamba flaubert fnet gemma gemma2 gpt2 gpt_bigcode gpt_neo "
    "gpt_neox gpt_neox_japanese granite ibert layoutlm led lilt llama longt5 luke mamba mbart megatron-bert mistral "
    "mixtral mobilebert mpnet mpt mra mt5 nystromformer olmo2 opt persimmon phi plbart qwen2 qwen3 qwen3_moe rembert "
    "roberta roc_bert roformer rwkv squeezebert starcoder2 switch_transformers t5 umt5 xglm xlm xlm-roberta xlnet yoso"
)
DECODING = ("bart", "longt5", "mbart", "mt5", "switch_transformers", "t5", "umt5")
SMALL = {
    48: ("d_model", "n_embd", "hidden_size", "dim", "emb_dim", "embedding_size"),
    2: ("n_layer", "num_layers", "n_layers", "encoder_layers", "decoder_layers", "num_hidden_layers"),
    4: ("n_head", "n_heads", "encoder_attention_heads", "decoder_attention_heads", "num_attention_heads"),
}


@dataclass(frozen=True)
class Subject:
    """A family of models: how one is built for a size of input, and called with so many items of it."""

    name: str
    build: Callable[[Any], nn.Module]
    call: Callable[[int, Any], Inputs]
    sizes: tuple[Any, Any]


def first_tensors(model: nn.Module, inputs: Inputs) -> dict[str, Tensor]:
    """Returns the first tensor that each layer returned last, by its path: plain hooks that clone."""
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            first = next((leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)), None)
            if first is not None:
                found[name] = first.detach().clone()

        return hook

    handles = [module.register_forward_hook(keep(name)) for name, module in model.named_modules() if name]
    with torch.no_grad():
        model(*inputs[0], **inputs[1])
    for handle in handles:
        handle.remove()
    return found


def reference(feature: Tensor, more: Tensor, larger: Tensor) -> Tensor | None:
    """Returns the mean over positions of a feature, where its shapes tell which these are."""
    shape = feature.shape
    if feature.ndim < 3 or not feature.is_floating_point() or not feature.ndim == more.ndim == larger.ndim:
        return None
    items = [dim for dim, size in enumerate(shape) if more.shape[dim] != size]
    positions = [dim for dim, size in enumerate(shape) if larger.shape[dim] != size and dim not in items]
    channels = [dim for dim, size in enumerate(shape) if dim not in items and dim not in positions]
    ones = [dim for dim in channels if shape[dim] == 1]
    if len(ones) == 1:
        return None  # one channel, or one position
    positions += ones
    channels = [dim for dim in channels if shape[dim] != 1]
    if len(items) != 1 or len(channels) != 1 or larger.shape[items[0]] != shape[items[0]]:
        return None
    return feature.permute(items[0], channels[0], *positions).flatten(2).mean(2)


def measure(subject: Subject) -> tuple[Counter[str], list[str]]:
    """Counts the layers of one model whose means are right, refused and wrong; and names the wrong ones."""
    small, large = subject.sizes
    model = subject.build(small).eval()
    plain = first_tensors(model, subject.call(2, small))
    more, larger = (
        first_tensors(model, subject.call(3, small)),
        first_tensors(subject.build(large).eval(), subject.call(2, large)),
    )
    right = {
        name: mean
        for name, feature in plain.items()
        if name in more and name in larger and (mean := reference(feature, more[name], larger[name])) is not None
    }
    counts, wrong = Counter({"right": 0, "refused": 0, "wrong": 0}), []
    if not right:
        return counts, wrong
    args, kwargs = subject.call(2, small)
    with torch.no_grad(), tl.capture(model, list(right), reduce="mean") as record:
        model(*args, **kwargs)
    for name, mean in right.items():
        try:
            ours = next(leaf for leaf in tree_leaves(record[name]) if isinstance(leaf, Tensor))
        except tl.LayoutError:
            counts["refused"] += 1
            continue
        same = ours.shape == mean.shape and torch.allclose(ours, mean, atol=1e-5, rtol=1e-4)
        counts["right" if same else "wrong"] += 1
        wrong += [] if same else [name]
    return counts, wrong


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return build()


def images(channels: int = 3) -> Callable[[int, Any], Inputs]:
    def call(items: int, size: Any) -> Inputs:
        height, width = size if isinstance(size, tuple) else (size, size)
        return (noise(items, channels, height, width),), {}

    return call


def torchvision_subjects() -> Iterator[Subject]:
    from torchvision import models

    for name in models.list_models():
        kind = models.get_model_builder(name).__module__.split(".")[2]
        if name.startswith("quantized_") or kind in ("detection", "optical_flow", "quantization"):
            continue
        options: dict[str, Any] = {"weights": None}
        if kind == "segmentation":
            options["weights_backbone"] = None
        if name in ("googlenet", "inception_v3"):
            options["init_weights"] = False
        if kind == "video":
            yield Subject(f"torchvision {name}", builder(models.get_model, name, options), clips, video_sizes(name))
        elif name.startswith("vit_"):
            yield Subject(
                f"torchvision {name}", builder(models.get_model, name, options, "image_size"), images(), _vit(name)
            )
        else:
            small = {"inception_v3": (299, 331), "maxvit_t": (224, 224)}.get(name, ((96, 160), (128, 224)))
            yield Subject(f"torchvision {name}", builder(models.get_model, name, options), images(), small)


def _vit(name: str) -> tuple[int, int]:
    patch = int(name.rpartition("_")[2])
    return patch * 5, patch * 7


def builder(make: Any, name: str, options: dict[str, Any], size_option: str = "") -> Callable[[Any], nn.Module]:
    def build(size: Any) -> nn.Module:
        sized = {**options, size_option: size} if size_option else options
        return seeded(lambda: make(name, **sized))

    return build


def video_sizes(name: str) -> tuple[Any, Any]:
    if name.startswith("mvit"):
        return (16, 224), (16, 224)
    if name == "s3d":
        return (16, 224), (32, 256)
    return ((8, 64), (12, 96)) if name.startswith("swin3d") else ((4, 40), (8, 72))


def noise(*shape: int) -> Tensor:
    """The same values for the same shape."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def clips(items: int, size: Any) -> Inputs:
    frames, side = size
    return (noise(items, 3, frames, side, side),), {}


def sounds(items: int, size: Any) -> Inputs:
    return (noise(items, size),), {}


def timm_subjects() -> Iterator[Subject]:
    import timm
    from timm.models._registry import _model_to_module

    from benchmarks._architectures import timm_models

    seen: set[str] = set()
    for name, _ in timm_models():
        family = _model_to_module[name]
        if family in seen:
            continue
        model = timm.create_model(name, pretrained=False)
        if not hasattr(model, "forward_intermediates"):
            continue
        seen.add(family)
        channels, side, _ = model.pretrained_cfg["input_size"]
        sizes = next((pair for pair in _timm_sizes(side) if _runs(name, channels, pair)), None)
        if sizes is not None:
            yield Subject(f"timm {family}", lambda size, name=name: _timm(name, size), images(channels), sizes)
        else:
            ONE_SIZE.append(f"timm {family} ({name}): it runs on one size only")


def _timm_sizes(side: int) -> list[tuple[Any, Any]]:
    return [((96, 160), (128, 224)), (128, 192), (96, 128), (192, 256), (224, 448), (side, 2 * side), (256, 512)]


def _timm(name: str, size: Any) -> nn.Module:
    import timm

    def make() -> nn.Module:
        try:
            return timm.create_model(name, pretrained=False, img_size=size)
        except TypeError:  # it takes images of any size
            return timm.create_model(name, pretrained=False)

    return seeded(make)


def _runs(name: str, channels: int, sizes: tuple[Any, Any]) -> bool:
    try:
        for size in sizes:
            with torch.no_grad():
                args, _ = images(channels)(2, size)
                _timm(name, size).eval()(*args)
    except Exception:  # noqa: BLE001 (this model takes other sizes)
        return False
    return True


def sound_subjects() -> Iterator[Subject]:
    from transformers import AutoConfig, AutoModel

    small = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 72}
    for kind in ("wav2vec2", "hubert", "wavlm", "sew", "unispeech", "unispeech-sat", "data2vec-audio"):
        config = AutoConfig.for_model(kind, **small)

        def build(_: Any, config: Any = config) -> nn.Module:
            return seeded(lambda: AutoModel.from_config(config))

        yield Subject(f"transformers {kind}", build, sounds, (16_000, 24_000))


def text_subjects() -> Iterator[Subject]:
    from transformers import AutoModel

    for kind in TEXT_MODELS.split():

        def build(_: Any, kind: str = kind) -> nn.Module:
            return seeded(lambda: AutoModel.from_config(_small(kind)))

        yield Subject(f"transformers {kind}", build, tokens(decodes=kind in DECODING), (16, 32))


def _small(kind: str) -> Any:
    from transformers import AutoConfig

    options = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    try:
        config = AutoConfig.for_model(kind, **options, intermediate_size=72, vocab_size=60)
    except Exception:  # noqa: BLE001 (other options depend on these)
        config = AutoConfig.for_model(kind)
    for size, names in SMALL.items():
        for name in names:
            with suppress(AttributeError, NotImplementedError):  # a configuration without this option
                if hasattr(config, name):
                    setattr(config, name, size)
    return config


def tokens(*, decodes: bool) -> Callable[[int, Any], Inputs]:
    def call(items: int, size: Any) -> Inputs:
        ids = torch.randint(3, 50, (items, size), generator=torch.Generator().manual_seed(1))
        return (), {"input_ids": ids, **({"decoder_input_ids": ids} if decodes else {})}

    return call


def main() -> None:
    warnings.simplefilter("ignore")
    only = sys.argv[1:]
    total, lines, failed = Counter({"right": 0, "refused": 0, "wrong": 0}), [], []
    for subjects in (torchvision_subjects, timm_subjects, sound_subjects, text_subjects):
        if only and not any(subjects.__name__.startswith(word) for word in only):
            continue
        for subject in subjects():
            try:
                counts, wrong = measure(subject)
            except Exception as error:  # noqa: BLE001 (listed, not hidden)
                failed.append(f"{subject.name}: {type(error).__name__}: {str(error).splitlines()[0][:100]}")
                print("FAILED", failed[-1], file=sys.stderr, flush=True)
                continue
            total.update(counts)
            lines.append(f"| {subject.name} | {counts['right']} | {counts['refused']} | {counts['wrong']} |")
            print(lines[-1], *wrong[:6], file=sys.stderr, flush=True)
    if only:
        return
    head = ["| model | right | refused | wrong |", "|---|---|---|---|"]
    head.append(f"| **all {len(lines)}** | {total['right']} | {total['refused']} | {total['wrong']} |")
    notes = [
        "",
        "Not measured, since they do not run on two sizes or two items:",
        "",
        *(f"- {line}" for line in failed),
    ]
    report(
        "layouts",
        "Layouts",
        __doc__.partition("    python")[0],
        [*head, *lines, *(notes if failed else [])],
        {"models": len(lines), **total},
    )


if __name__ == "__main__":
    main()
