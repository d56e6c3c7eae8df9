"""Padding of images and of sounds, by the masks and lengths that models take, does not enter reductions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import torch_featurelayer as tl
from tests.versions import STATES


def make_detr() -> nn.Module:
    torch.manual_seed(0)
    backbone = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 8, 16], depths=[1, 1, 1, 1], out_features=["stage4"]
    )
    sizes = {f"{side}_{name}": 2 for side in ("encoder", "decoder") for name in ("layers", "attention_heads")}
    config = transformers.DetrConfig(
        use_timm_backbone=False, use_pretrained_backbone=False, backbone_config=backbone, d_model=16, **sizes
    )
    model: nn.Module = transformers.DetrModel(config).eval()
    return model


def path_of(model: nn.Module, ending: str) -> str:
    return next(name for name, _ in model.named_modules() if name.endswith(ending))


IMAGES = torch.randn(2, 3, 128, 160, generator=torch.Generator().manual_seed(0))
PIXELS = torch.ones(2, 128, 160, dtype=torch.long)
PIXELS[1, 64:] = PIXELS[1, :, 96:] = 0


@pytest.mark.parametrize("reduce", ["mean", "max"])
def test_maps_of_padded_images(reduce: Any) -> None:
    """A stride of 32: of the second map, 2 × 3 positions are those of the image."""
    model = make_detr()
    layer, batch = path_of(model, "stages.3"), {"pixel_values": IMAGES, "pixel_mask": PIXELS}
    whole = tl.FeatureLayer(model, layer)(**batch)[0]
    reduced = tl.FeatureLayer(model, layer, reduce=reduce)(**batch)[0]
    take = torch.mean if reduce == "mean" else torch.amax
    assert whole.shape == (2, 16, 4, 5)
    torch.testing.assert_close(reduced, torch.stack([take(whole[0], (1, 2)), take(whole[1, :, :2, :3], (1, 2))]))
    unpadded = tl.FeatureLayer(model, layer, reduce=reduce)(pixel_values=IMAGES, pixel_mask=torch.ones_like(PIXELS))[0]
    torch.testing.assert_close(unpadded, take(whole, (2, 3)))


def test_tokens_of_padded_images() -> None:
    """Those of the encoder cannot be told from padding; the queries of the decoder are no positions of the image."""
    model, batch = make_detr(), {"pixel_values": IMAGES, "pixel_mask": PIXELS}
    with pytest.raises(tl.LayoutError, match="pixel_mask has padding"):
        _ = tl.FeatureLayer(model, f"encoder.layers.0{STATES}", reduce="mean")(**batch)[0]
    queries = tl.FeatureLayer(model, f"decoder.layers.0{STATES}")(**batch)[0]
    reduced = tl.FeatureLayer(model, f"decoder.layers.0{STATES}", reduce="mean")(**batch)[0]
    if isinstance(queries, tuple):  # of transformers 5.0
        queries, reduced = queries[0], reduced[0]
    torch.testing.assert_close(reduced, queries.mean(1))


def test_patches_of_images_of_different_sizes() -> None:
    """SigLIP 2: a padded batch has the means of each image alone."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.Siglip2VisionConfig(**sizes, num_patches=16, patch_size=4)
    model = transformers.Siglip2VisionModel(config).eval()
    wrapper = tl.FeatureLayer(model, path_of(model, "post_layernorm"), reduce="mean")
    patches, mask = torch.randn(2, 12, 48), torch.ones(2, 12, dtype=torch.long)
    mask[1, 6:] = 0
    shapes = torch.tensor([[3, 4], [2, 3]])
    together = wrapper(pixel_values=patches, pixel_attention_mask=mask, spatial_shapes=shapes)[0]
    alone = wrapper(pixel_values=patches[1:, :6], pixel_attention_mask=mask[1:, :6], spatial_shapes=shapes[1:])[0]
    torch.testing.assert_close(together[1:], alone)


def test_sounds_with_lengths() -> None:
    """A Conformer keeps the steps, `[T, N, C]` inside; wav2vec 2.0 shortens them by a number that is not known."""
    torch.manual_seed(0)
    models: Any = pytest.importorskip("torchaudio.models", reason="comes with the examples")
    model = models.Conformer(16, 2, 16, 2, 3).eval()
    steps, lengths = torch.randn(2, 20, 16), torch.tensor([20, 11])
    whole: Tensor = tl.FeatureLayer(model, "conformer_layers.0")(steps, lengths)[0]
    reduced = tl.FeatureLayer(model, "conformer_layers.0", reduce="mean")(steps, lengths)[0]
    torch.testing.assert_close(reduced, torch.stack([whole[:, 0].mean(0), whole[:11, 1].mean(0)]))


class Convolution(nn.Module):
    """A model of sounds `[N, C, T]` with lengths, which may shorten them."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(4, 8, 3, stride, padding=1)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:  # noqa: ARG002
        return self.conv(x)


def test_lengths_of_channels_first() -> None:
    torch.manual_seed(0)
    sounds, lengths = torch.randn(2, 4, 30), torch.tensor([30, 12])
    wrapper = tl.FeatureLayer(Convolution(1).eval(), "conv", reduce="mean")
    whole = wrapper.model.conv(sounds)
    torch.testing.assert_close(wrapper(sounds, lengths)[0][1], whole[1, :, :12].mean(1))
    torch.testing.assert_close(wrapper(sounds)[0][1], whole[1].mean(1))
    shortened = tl.FeatureLayer(Convolution(2).eval(), "conv", reduce="mean")
    assert shortened(sounds, torch.tensor([30, 30]))[0].shape == (2, 8)
    with pytest.raises(tl.LayoutError, match=r"is \[2, 30\] and has padding, but this feature has 2 items of 15"):
        _ = shortened(sounds, lengths)[0]


class Recurrent(nn.Module):
    """A recurrent model of packed sequences."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(4, 6, batch_first=True)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0]


@pytest.mark.parametrize("reduce", ["mean", "max", "cls", "last"])
def test_packed_sequences(reduce: Any) -> None:
    """In the order of the items, with gradient."""
    torch.manual_seed(0)
    model, x, lengths = Recurrent(), torch.randn(3, 7, 4), torch.tensor([3, 7, 5])
    feat, output = tl.FeatureLayer(model, "rnn[0]", reduce=reduce)(x, lengths)
    rows = [row[:length] for row, length in zip(output, lengths, strict=True)]
    take: Any = {"mean": lambda row: row.mean(0), "max": lambda row: row.amax(0), "cls": lambda row: row[0]}
    right = torch.stack([take.get(reduce, lambda row: row[-1])(row) for row in rows])
    torch.testing.assert_close(feat, right)
    weight: Any = model.rnn.weight_ih_l0
    ours, others = (torch.autograd.grad(each.sum(), weight, retain_graph=True)[0] for each in (feat, right))
    torch.testing.assert_close(ours, others)


class Masked(nn.Module):
    """A model with a mask of a private name."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.proj, self._name = nn.Linear(4, 6), name

    def forward(self, x: Tensor, **masks: Tensor) -> Tensor:
        return self.proj(x) * masks[self._name].unsqueeze(-1)


@pytest.mark.parametrize("name", ["mask", "padding_mask", "input_mask"])
def test_masks_that_may_mean_either(name: str) -> None:
    """Whether 1 is a token differs between libraries, so that no mean over all positions is returned."""
    torch.manual_seed(0)
    model, x = Masked(name), torch.randn(2, 5, 4)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]).bool()
    wrapper = tl.FeatureLayer(model, "proj", reduce="mean")
    with pytest.raises(tl.LayoutError, match=f"'{name}' among the arguments may be a mask of padding") as caught:
        _ = wrapper(x, **{name: mask})[0]
    assert "attention_mask" in str(caught.value)
    with pytest.raises(tl.ReductionError, match=f"'{name}' among the arguments may be a mask of padding"):
        _ = tl.FeatureLayer(model, "proj", tokens="last")(x, **{name: mask})[0]
    by_hand = tl.FeatureLayer(model, "proj", reduce=lambda feat: feat[:, :3].mean(1))(x, **{name: mask})[0]
    torch.testing.assert_close(by_hand, model.proj(x)[:, :3].mean(1))
    torch.testing.assert_close(wrapper(x, **{name: torch.ones_like(mask)})[0], model.proj(x).mean(1))
    torch.testing.assert_close(tl.FeatureLayer(model, "proj")(x, **{name: mask})[0], model.proj(x))


@pytest.mark.parametrize("name", ["lengths", "seq_lens", "x_lengths"])
def test_names_of_lengths(name: str) -> None:
    torch.manual_seed(0)
    model, x = nn.Linear(4, 6), torch.randn(2, 5, 4)
    called = type("Named", (nn.Module,), {"forward": lambda self, x, **_: self.proj(x)})()
    called.proj = model
    found = tl.FeatureLayer(called, "proj", reduce="mean")(x, **{name: torch.tensor([5, 2])})[0]
    torch.testing.assert_close(found, torch.stack([model(x[0]).mean(0), model(x[1, :2]).mean(0)]))
