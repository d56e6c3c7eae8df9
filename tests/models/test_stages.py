"""Stages: where the resolution changes, or evenly through a transformer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import nn
from torchvision import models

import torch_featurelayer as tl
from tests.versions import STATES


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    """alexnet vgg16_bn resnet50 densenet121 googlenet mobilenet_v2 efficientnet_b0 regnet_y_400mf convnext_tiny swin_t
    shufflenet_v2_x0_5 squeezenet1_1 mnasnet0_5 mobilenet_v3_small""".split(),  # noqa: SIM905
)
def test_resolution_falls_from_stage_to_stage(name: str) -> None:
    """Three to six layers that run, each of a size no other has, shallow to deep."""
    options = {"init_weights": False} if name == "googlenet" else {}
    model, image = models.get_model(name, weights=None, **options).eval(), torch.randn(1, 3, 224, 224)
    found = tl.models.stages(model, image)
    feats, _ = tl.FeatureLayers(model, found)(image)
    sizes = [sorted(feat.shape[1:])[:2] for feat in feats]
    areas = [feat.shape[2] * min(feat.shape[1], feat.shape[3]) for feat in feats]
    assert 3 <= len(found) <= 6
    assert len({feat.shape[2:] for feat in feats}) == len(found), sizes
    assert areas == sorted(areas, reverse=True)


def test_a_transformer_evenly() -> None:
    model = models.vit_b_16(weights=None).eval()
    found = tl.models.stages(model, torch.randn(1, 3, 224, 224))
    assert found == tuple(f"encoder.layers.encoder_layer_{number}" for number in (1, 3, 5, 7, 9, 11))


@pytest.mark.parametrize(
    ("kind", "options", "address"),
    [
        ("Llama", {"num_key_value_heads": 2}, "model.layers.{}"),
        ("GPT2", {"n_embd": 32, "n_head": 4}, f"transformer.h.{{}}{STATES}"),
        ("Bloom", {"n_head": 4}, "transformer.h.{}[0]"),
        ("OPT", {"ffn_dim": 48, "word_embed_proj_dim": 32}, f"model.decoder.layers.{{}}{STATES}"),
    ],
)
def test_blocks_of_language_models(kind: str, options: dict[str, Any], address: str) -> None:
    """Neither embeddings nor what returns no states; the states, where a block returns a tuple."""
    size = {"hidden_size": 32, "num_hidden_layers": 8, "num_attention_heads": 4, "intermediate_size": 48}
    config = getattr(transformers, f"{kind}Config")(vocab_size=60, **{**size, **options})
    model = getattr(transformers, f"{kind}ForCausalLM" if kind != "GPT2" else "GPT2LMHeadModel")(config).eval()
    ids = torch.arange(5, 12).reshape(1, 7)
    found = tl.models.stages(model, ids)
    assert found == tuple(address.format(number) for number in (0, 2, 3, 4, 6, 7))
    feats, _ = tl.FeatureLayers(model, found)(ids)
    states = model(ids, output_hidden_states=True).hidden_states
    assert [feat.shape for feat in feats] == [(1, 7, 32)] * 6
    torch.testing.assert_close(feats[1], states[3])


@pytest.mark.slow
def test_vgg_as_timm_names_them() -> None:
    """Each is the last layer before a pooling, as timm's `feature_info` has it."""
    import timm

    theirs = [info["module"] for info in timm.create_model("vgg11", pretrained=False).feature_info]
    found = tl.models.stages(models.vgg11(weights=None).eval(), torch.randn(1, 3, 224, 224))
    assert list(found) == theirs


def test_a_model_without_maps_has_none() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    assert tl.models.stages(model, torch.ones(2, 4)) == ()
    assert all(not module._forward_hooks for module in model.modules())
