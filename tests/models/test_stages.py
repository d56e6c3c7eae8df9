"""Stages: where the resolution changes, or evenly through a transformer."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision import models

import torch_featurelayer as tl


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
