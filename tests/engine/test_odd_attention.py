"""Attention that takes another path as soon as something listens: nested tensors, flex attention."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import torch_featurelayer as tl
from tests.versions import TORCH


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage:UserWarning")
@pytest.mark.parametrize(
    "layers", ["layers.0.linear1", "layers.1", "layers.0.self_attn[0]", "layers.1.norm2:input", "**"]
)
def test_a_padding_mask_in_the_encoders_fast_path(layers: str) -> None:
    """It runs, equals the usual path, and leaves the model as it was."""
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2).eval()
    x, mask = torch.randn(2, 5, 8), torch.tensor([[0, 0, 0, 1, 1], [0, 0, 0, 0, 0]], dtype=torch.bool)
    with torch.no_grad():
        bare = encoder(x, src_key_padding_mask=mask)
        _, output = tl.FeatureLayers(encoder, layers)(x, src_key_padding_mask=mask)
        torch.testing.assert_close(output[~mask], bare[~mask])
        with tl.capture(encoder, "layers.1"), tl.edit(encoder, {"layers.0": lambda value: value}):
            again = encoder(x, src_key_padding_mask=mask)
        torch.testing.assert_close(again[~mask], bare[~mask])
        slow = nn.TransformerEncoder(encoder.layers[0], 1, enable_nested_tensor=False).eval()
        slow.layers = encoder.layers
        torch.testing.assert_close(slow(x, src_key_padding_mask=mask)[~mask], bare[~mask])
    assert encoder.use_nested_tensor
    assert encoder.layers[0].activation_relu_or_gelu == 1


@pytest.mark.parametrize(
    "layer", ["linear1", "self_attn[0]", "norm1:input", "self_attn:multi_head_attention_forward[0]"]
)
def test_a_layer_of_an_encoder_without_a_mask(layer: str) -> None:
    """One fused kernel runs an encoder's layer in eval mode: what is inside is found and edited all the same."""
    model = nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu")).eval()
    x = torch.randn(2, 5, 8)
    with torch.no_grad():
        bare = model(x)
        _, output = tl.FeatureLayer(model, f"0.{layer}")(x)
        with tl.edit(model, {f"0.{layer}": torch.zeros_like}):
            changed = model(x)
        torch.testing.assert_close(output, bare)
        assert torch.equal(model(x), bare)
    assert not torch.allclose(changed, bare)


@pytest.mark.skipif(TORCH < (2, 6), reason="flex attention was a prototype")
@pytest.mark.filterwarnings("ignore")
def test_flex_attention() -> None:
    """It compiles itself, which no function mode of ours may disturb."""
    from torch.nn.attention.flex_attention import flex_attention

    class Flex(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query, self.norm = nn.Linear(8, 8), nn.LayerNorm(8)

        def forward(self, x: Tensor) -> Tensor:
            query = self.query(x)[:, None]
            return self.norm(flex_attention(query, query, query)[:, 0] * 2 + x)

    model, x = Flex().eval(), torch.randn(1, 16, 8)
    with torch.no_grad():
        bare = model(x)
        feats, output = tl.FeatureLayers(model, [":add", ":mul", "norm:input"])(x)
        torch.testing.assert_close(output, bare)
        torch.testing.assert_close(feats[":add"], feats["norm:input"])
        torch.testing.assert_close(feats[":add"], feats[":mul"] + x)
        assert tl.layers(model, x)[0].operations["add"] == 1
        mean, _ = tl.FeatureLayer(model, "norm", reduce="mean")(x)
        torch.testing.assert_close(mean, bare.mean(1))
        with tl.edit(model, {":mul": 0.0}):
            torch.testing.assert_close(model(x), model.norm(x))
