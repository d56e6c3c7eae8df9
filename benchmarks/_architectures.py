"""Architectures to measure on: how to build each with random weights, small, and what to call it with."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from benchmarks._more_architectures import detectors, diffusers_models, torchaudio_models

Case = tuple[nn.Module, tuple[Any, ...], dict[str, Any]]
Cases = Iterator[tuple[str, Callable[[], Case]]]

_SIZES = {"maxvit_t": 224, "googlenet": 96, "inception_v3": 299, "vit_h_14": 112}


def torchvision_models() -> Cases:
    from torchvision import models

    for name in models.list_models():
        if not name.startswith("quantized_"):  # the same networks, quantized only with weights
            yield name, lambda name=name: _torchvision(name)


def _torchvision(name: str) -> Case:
    from torchvision import models

    kind = models.get_model_builder(name).__module__.split(".")[2]
    options: dict[str, Any] = {"weights": None}
    if kind in ("detection", "segmentation"):
        options["weights_backbone"] = None
    if name.startswith(("fasterrcnn", "maskrcnn", "keypointrcnn", "retinanet", "fcos")):
        options.update(min_size=96, max_size=128)
    if name in ("googlenet", "inception_v3"):
        options["init_weights"] = False
    size = _SIZES.get(name, 128 if name.startswith("vit_") else 64)
    if name.startswith("vit_"):
        options["image_size"] = size
    model = models.get_model(name, **options)
    if kind == "detection":
        boxes = {"boxes": torch.tensor([[5.0, 5.0, 40.0, 50.0]]), "labels": torch.tensor([1])}
        boxes["masks"], boxes["keypoints"] = torch.ones(1, 96, 96, dtype=torch.uint8), torch.ones(1, 17, 3) * 10
        return model, ([torch.rand(3, 96, 96) for _ in range(2)], [boxes, boxes]), {}
    if kind == "video":
        side, frames = (224, 16) if name.startswith(("mvit", "swin3d", "s3d")) else (112, 8)
        return model, (torch.randn(2 if side == 112 else 1, 3, frames, side, side),), {}
    if kind == "optical_flow":
        return model, (torch.randn(1, 3, 128, 128), torch.randn(1, 3, 128, 128)), {"num_flow_updates": 3}
    return model, (torch.randn(2, 3, size, size),), {}


_SMALL = ("test_", "atto", "femto", "pico", "nano", "tiny", "xxs", "xs", "small", "_s", "_t", "18", "050", "b0")


def timm_models() -> Cases:
    import timm

    for module in timm.list_modules():
        names = [name for name in timm.list_models(module=module) if _rank(name) < _LARGE]
        for name in sorted(names, key=lambda name: (_rank(name), len(name), name))[:3]:
            yield name, lambda name=name: _timm(name)


_LARGE = 99


def _rank(name: str) -> int:
    large = re.search(r"huge|giant|gigant|xlarge|xxl|large|_h\d|_g\d|so400m|so150m|enormous|_7b|\d{3}m", name)
    return _LARGE if large else next((rank for rank, word in enumerate(_SMALL) if word in name), 50)


def _timm(name: str) -> Case:
    """Builds a model for the smallest image it runs on."""
    import timm

    channels, side, _ = timm.create_model(name, pretrained=False).pretrained_cfg["input_size"]
    for size in (64, 128, 224):
        try:
            model, image = _timm_at(name, size), torch.randn(2, channels, size, size)
            with torch.no_grad():
                model(image)
        except Exception:  # noqa: BLE001, S112 (too small for this one, or it takes one size only)
            continue
        return model, (image,), {}
    return timm.create_model(name, pretrained=False), (torch.randn(1, channels, side, side),), {}


def _timm_at(name: str, size: int) -> nn.Module:
    import timm

    try:
        return timm.create_model(name, pretrained=False, img_size=size)
    except TypeError:  # it takes images of any size
        return timm.create_model(name, pretrained=False)


TEXT = """
albert apertus arcee bamba bert bert-generation big_bird biogpt bloom camembert canine codegen cohere convbert ctrl
dbrx deberta deberta-v2 deepseek_v3 diffllama distilbert doge electra ernie esm exaone4 falcon falcon_mamba flaubert
fnet funnel gemma gemma2 gemma3_text glm glm4 gpt2 gpt_bigcode gpt_neo gpt_neox gpt_oss gptj granite granitemoe helium
ibert jamba jetmoe layoutlm lfm2 llama longformer luke mamba mamba2 megatron-bert minimax mistral mixtral mobilebert
modernbert mpnet mpt mra nemotron nystromformer olmo olmo2 olmoe openai-gpt opt persimmon phi phi3 phimoe qwen2
qwen2_moe qwen3 qwen3_moe recurrent_gemma rembert roberta roformer rwkv smollm3 splinter squeezebert stablelm
starcoder2 xglm xlm xlm-roberta xlnet xlstm xmod yoso zamba zamba2
""".split()  # noqa: SIM905
PAIRS = """
bart bigbird_pegasus blenderbot led longt5 m2m_100 marian mbart mt5 mvp pegasus plbart prophetnet switch_transformers
t5 umt5
""".split()  # noqa: SIM905
IMAGES = """
beit bit convnext convnextv2 cvt data2vec-vision deit dinov2 dinov2_with_registers dpt efficientnet focalnet hiera
ijepa levit mobilenet_v1 mobilenet_v2 mobilevit poolformer pvt pvt_v2 regnet resnet segformer siglip_vision_model
swiftformer swin swinv2 vit vit_mae vit_msn yolos
""".split()  # noqa: SIM905
SOUNDS = """
audio-spectrogram-transformer data2vec-audio hubert sew speech_to_text unispeech wav2vec2 wavlm whisper
""".split()  # noqa: SIM905
BOTH = """
align altclip blip chinese_clip clip clipseg flava groupvit siglip vilt xclip
""".split()  # noqa: SIM905

AS_THEY_ARE = ("convnext", "convnextv2", "levit", "swin", "swinv2")  # their sizes depend on each other
SPECIAL: dict[str, dict[str, Any]] = {"esm": {"vocab_size": 33}, "xmod": {"default_language": "en_XX"}}

TINY = {
    "hidden_size": 32,
    "d_model": 32,
    "n_embd": 32,
    "dim": 32,
    "emb_dim": 32,
    "embed_dim": 32,
    "embedding_size": 32,
    "num_hidden_layers": 2,
    "n_layer": 2,
    "n_layers": 2,
    "num_layers": 2,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "num_decoder_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "n_head": 4,
    "n_heads": 4,
    "num_heads": 4,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "intermediate_size": 48,
    "moe_intermediate_size": 48,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "ffn_dim": 48,
    "n_inner": 48,
    "d_ff": 48,
    "vocab_size": 99,
    "max_position_embeddings": 64,
    "num_experts": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "rotary_dim": 4,
    "image_size": 32,
    "patch_size": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def transformers_models() -> Cases:
    for kind, names in (("text", TEXT), ("pair", PAIRS), ("image", IMAGES), ("sound", SOUNDS), ("both", BOTH)):
        for name in names:
            yield f"{name} ({kind})", lambda name=name, kind=kind: _transformers(name, kind)
    from transformers import CONFIG_MAPPING

    known = {*TEXT, *PAIRS, *IMAGES, *SOUNDS, *BOTH}
    for name in CONFIG_MAPPING:
        if name not in known:
            yield name, lambda name=name: _any_transformers(name)


_MOST_PARAMETERS = 200_000_000
_TOKENS = (2, 12)


def _any_transformers(name: str) -> Case:
    """Builds a model of any family, and finds inputs that it runs with.

    Raises:
        ValueError: If it is too large though its configuration is small.
    """
    from transformers import CONFIG_MAPPING, AutoModel

    config = shrunk(CONFIG_MAPPING[name](**SPECIAL.get(name, {})))
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in AutoModel.from_config(config).parameters())
    if count > _MOST_PARAMETERS:
        raise ValueError(f"it has {count:,} parameters with a small configuration")
    model, reason = AutoModel.from_config(config).eval(), ""
    for inputs in _candidates(config):
        try:
            with torch.no_grad():
                model(**inputs)
        except Exception as error:  # noqa: BLE001 (it takes other inputs)
            reason = reason or f"{type(error).__name__}: {error}"
        else:
            return model, (), inputs
    raise ValueError(reason.splitlines()[0] if reason else "no inputs")


def _candidates(config: Any) -> Iterator[dict[str, Any]]:
    """Yields inputs of texts, pairs of texts, images, both, and sounds."""
    tokens = torch.randint(3, 50, _TOKENS)
    vision = getattr(config, "vision_config", config)
    side = getattr(vision, "image_size", None) or 32
    side = side if isinstance(side, int) else side[0]
    yield {"input_ids": tokens}
    yield {"input_ids": tokens, "decoder_input_ids": tokens[:, :7]}
    for size in {side: 0, 32: 0, 64: 0, 224: 0}:
        image = torch.randn(1, getattr(vision, "num_channels", 3), size, size)
        yield {"pixel_values": image}
        yield {"input_ids": tokens[:1], "pixel_values": image}
        yield {"pixel_values": image[:, None].expand(-1, 8, -1, -1, -1).contiguous()}  # a video
    for features in (getattr(config, "num_mel_bins", None) or 80, getattr(config, "feature_size", None) or 80):
        yield {"input_features": torch.randn(1, features, 200)}
        yield {"input_features": torch.randn(1, 200, features)}
        yield {"input_features": torch.randn(1, features, 3000), "decoder_input_ids": tokens[:1]}
    yield {"input_values": torch.randn(1, 4000)}
    yield {"input_values": torch.randn(1, 1, 4000)}
    yield {"input_values": torch.randn(1, 4000), "decoder_input_ids": tokens[:1]}
    series = getattr(config, "num_input_channels", 1)
    yield {"past_values": torch.randn(1, getattr(config, "context_length", 64), series)}


def _transformers(name: str, kind: str) -> Case:
    from transformers import CONFIG_MAPPING, AutoModel

    config = CONFIG_MAPPING[name]() if name in AS_THEY_ARE else shrunk(CONFIG_MAPPING[name](**SPECIAL.get(name, {})))
    model = AutoModel.from_config(config)
    side = getattr(config, "image_size", None) or 32
    side = side if isinstance(side, int) else side[0]
    if kind == "both":
        vision = getattr(config, "vision_config", config)
        side = getattr(vision, "image_size", side)
    tokens = torch.randint(3, 50, (2, 12))
    inputs: dict[str, Any] = {
        "text": {"input_ids": tokens},
        "pair": {"input_ids": tokens, "decoder_input_ids": tokens[:, :7]},
        "image": {"pixel_values": torch.randn(2, 3, side, side)},
        "sound": {"input_values": torch.randn(2, 4000)},
        "both": {"input_ids": tokens, "pixel_values": torch.randn(2, 3, side, side)},
    }[kind]
    if kind == "sound" and model.main_input_name == "input_features":
        inputs = {"input_features": torch.randn(2, 80, 3000), "decoder_input_ids": tokens}
        if name == "speech_to_text":
            inputs["input_features"] = torch.randn(2, 60, 80)
    if name == "audio-spectrogram-transformer":
        inputs = {"input_values": torch.randn(2, config.max_length, config.num_mel_bins)}
    return model, (), inputs


def shrunk(config: Any) -> Any:
    """Returns the configuration with every size it has made small, those of its parts too."""
    for part in (*vars(config).values(),):
        if hasattr(part, "model_type"):
            shrunk(part)
    for key, small in TINY.items():
        value = getattr(config, key, None)
        if isinstance(value, int) and not isinstance(value, bool):
            try:
                setattr(config, key, small)
            except (NotImplementedError, AttributeError, ValueError):  # another name for a size set already
                continue
    types = getattr(config, "layer_types", None)
    if isinstance(types, list) and "layer_types" in vars(config):
        config.layer_types = types[: getattr(config, "num_hidden_layers", 2)]
    return config


LIBRARIES = {
    "torchvision": torchvision_models,
    "timm": timm_models,
    "transformers": transformers_models,
    "diffusers": diffusers_models,
    "torchaudio": torchaudio_models,
    "detectors": detectors,
}
