"""A pattern gives every layer it matches that ran; a named layer must run."""

from __future__ import annotations

import re

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

import torch_featurelayer as tl
from tests.reference import holds_hooks, hooked


@pytest.fixture(scope="module")
def vit() -> nn.Module:
    return timm.create_model("vit_tiny_patch16_224", img_size=32).eval()


IMAGE = torch.randn(1, 3, 32, 32)


@pytest.mark.parametrize("pattern", ["**", "blocks.*.attn.*", nn.Dropout, re.compile(r".*drop.*|.*proj")])
def test_everything_that_ran(vit: nn.Module, pattern: object) -> None:
    with torch.no_grad():
        right, _, _ = hooked(vit, lambda: vit(IMAGE))
        wrapper = tl.FeatureLayers(vit, pattern)  # type: ignore[arg-type]
        feats, _ = wrapper(IMAGE)
        early = wrapper.features(IMAGE)
        stopped = wrapper.features(IMAGE)
        with tl.capture(vit, pattern) as record:  # type: ignore[arg-type]
            vit(IMAGE)
    matched = set(wrapper.names)
    for found in (feats, early, stopped, record):
        assert set(found.names) == matched & set(right)
        assert set(found.not_run) == matched - set(right)
        assert any("attn_drop" in name for name in found.not_run)
        assert all(torch.equal(found[name], right[name]) for name in found.names)
        assert len(found) == len(list(found)) == len(found.names)


def test_a_pattern_of_which_nothing_ran(vit: nn.Module) -> None:
    with pytest.raises(tl.LayerNotRunError, match="attn_drop") as caught:
        tl.FeatureLayers(vit, ["blocks.0", "**.attn_drop"])(IMAGE)
    assert len(caught.value.names) == len(vit.blocks)
    with pytest.raises(tl.LayerNotRunError, match="attn_drop"), tl.edit(vit, {"**.attn_drop": 0.0}):
        vit(IMAGE)


def test_a_named_layer_must_run(vit: nn.Module) -> None:
    """Also where a pattern matches it too, before or after it is named."""
    for layers in (["blocks.0.attn.attn_drop"], ["blocks.0.**", "blocks.0.attn.attn_drop"]):
        with pytest.raises(tl.LayerNotRunError, match="attn_drop"):
            tl.FeatureLayers(vit, layers)(IMAGE)
    with tl.capture(vit, ["blocks.0", "blocks.0.attn.attn_drop"]) as record:
        vit(IMAGE)
    assert record["blocks.0"].shape == (1, 5, 192)
    with pytest.raises(tl.LayerNotRunError, match="attn_drop"):
        _ = record["blocks.0.attn.attn_drop"]


def test_edits_of_a_pattern_change_what_ran(vit: nn.Module) -> None:
    with torch.no_grad(), tl.edit(vit, {"blocks.*.attn.**": lambda value: value * 0}):
        changed = vit(IMAGE)
    assert not torch.equal(changed, vit(IMAGE))
    assert holds_hooks(vit) == 0


def test_in_training_and_evaluation() -> None:
    """What runs may differ from call to call: each result says its own."""
    model = torchvision.models.googlenet(init_weights=False, aux_logits=True)
    layers = tl.FeatureLayers(model, ["aux*", "fc"])
    image = torch.randn(2, 3, 64, 64)
    feats, _ = layers(image)
    assert feats.names == ("aux1", "aux2", "fc")
    model.eval()
    with pytest.raises(tl.LayerNotRunError, match="'aux1', 'aux2'"):
        layers(image)
    mixed = tl.FeatureLayers(model, "*")
    feats, _ = mixed(image)
    assert set(feats.not_run) == {"aux1", "aux2"}
    assert feats[:2].not_run == feats.not_run
    assert feats.detach().not_run == feats.not_run


def test_layers_inside_torchscript_are_passed_over() -> None:
    scripted = torch.jit.script(nn.Sequential(nn.Linear(4, 4)))
    model = nn.Sequential(nn.Linear(4, 4), scripted, nn.ReLU())
    x = torch.randn(2, 4)
    feats, _ = tl.FeatureLayers(model, "**")(x)
    assert feats.names == ("0", "2")
    assert [(row.path, row.calls) for row in tl.layers(model, x)] == [("", 1), ("0", 1), ("1", 0), ("1.0", 0), ("2", 1)]
    with pytest.raises(tl.ScriptedModuleError, match="'1.0' is inside '1'"):
        tl.FeatureLayers(model, "1.*")


class Beside(nn.Module):
    """Runs an operation beside a scripted layer."""

    def __init__(self) -> None:
        super().__init__()
        self.scripted = torch.jit.script(nn.Sequential(*(nn.Linear(4, 4) for _ in range(6))))

    def forward(self, x: Tensor) -> Tensor:
        return self.scripted(x) + 1


def test_operations_beside_torchscript() -> None:
    model, x = Beside(), torch.randn(2, 4)
    feat, output = tl.FeatureLayer(model, ":add")(x)
    assert torch.equal(feat, output)
