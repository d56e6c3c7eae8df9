"""The dimension of the channels is found by evidence; means are compared with means written out by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torchvision
import transformers
from torch import Tensor, nn
from torch.nn import functional

import torch_featurelayer as tl
from tests import toys

IMAGE = torch.randn(2, 3, 64, 64)
FIXED = torch.randn(8, 8)  # weights without a layer


def whole(model: nn.Module, layer: str, *args: Any, **kwargs: Any) -> Tensor:
    """Returns the feature of a layer, from a plain hook that clones."""
    kept: list[Tensor] = []

    def hook(_: nn.Module, __: Any, output: Any) -> None:
        kept.append((output[0] if isinstance(output, tuple) else output).detach().clone())

    handle = model.get_submodule(layer).register_forward_hook(hook)
    with torch.no_grad():
        model(*args, **kwargs)
    handle.remove()
    return kept[-1]


def swin(**options: Any) -> nn.Module:
    return timm.create_model("swin_tiny_patch4_window7_224", pretrained=False, **options)


@pytest.mark.parametrize(
    ("build", "layer", "size", "positions"),
    [
        (swin, "layers.3", 224, (1, 2)),
        (swin, "layers.0.blocks.1.attn", 224, (1,)),
        (lambda: torchvision.models.swin_t(), "features.7", 64, (1, 2)),
        (lambda: torchvision.models.swin_t(), "permute", 64, (2, 3)),
        (lambda: torchvision.models.swin_v2_t(), "features.1.0.attn", 64, (1, 2)),
        (lambda: torchvision.models.convnext_tiny(), "features.7.0.block.2", 64, (1, 2)),
        (lambda: torchvision.models.convnext_tiny(), "features.7", 64, (2, 3)),
        (lambda: torchvision.models.maxvit_t(), "blocks.1", 224, (2, 3)),
        (lambda: torchvision.models.squeezenet1_0(), "features.3", 64, (2, 3)),
        (lambda: timm.create_model("vit_tiny_patch16_224", img_size=64), "blocks.3", 64, (1,)),
        (lambda: timm.create_model("vit_tiny_patch16_224", img_size=64), "patch_embed", 64, (1,)),
        (lambda: timm.create_model("convnext_atto"), "stages.2", 64, (2, 3)),
        (lambda: timm.create_model("mixer_s32_224"), "blocks.1", 224, (1,)),
        (lambda: timm.create_model("coat_tiny"), "serial_blocks1.0", 224, (1,)),
        (lambda: timm.create_model("nextvit_small"), "stages.2", 224, (2, 3)),
    ],
)
def test_image_models(build: Callable[[], nn.Module], layer: str, size: int, positions: tuple[int, ...]) -> None:
    model, image = build().eval(), torch.randn(2, 3, size, size)
    right = whole(model, layer, image)
    with torch.no_grad():
        mean, _ = tl.FeatureLayer(model, layer, reduce="mean")(image)
        greatest, _ = tl.FeatureLayer(model, layer, reduce="max")(image)
    torch.testing.assert_close(mean, right.mean(positions))
    assert torch.equal(greatest, right.amax(positions))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "layer", "clip", "positions"),
    [
        (torchvision.models.video.r3d_18, "layer2", (2, 3, 4, 32, 32), (2, 3, 4)),
        (torchvision.models.video.swin3d_t, "features.3", (1, 3, 8, 64, 64), (1, 2, 3)),
        (torchvision.models.video.mvit_v2_s, "blocks.3", (1, 3, 16, 224, 224), (1,)),
    ],
)
def test_video_models(
    build: Callable[[], nn.Module], layer: str, clip: tuple[int, ...], positions: tuple[int, ...]
) -> None:
    model, frames = build().eval(), torch.randn(*clip)
    right = whole(model, layer, frames)
    address = f"{layer}[0]" if "mvit" in build.__name__ else layer
    with torch.no_grad():
        mean, _ = tl.FeatureLayer(model, address, reduce="mean")(frames)
    torch.testing.assert_close(mean, right.mean(positions))


def test_sound_models() -> None:
    """wav2vec2: convolutions over time `[N, C, T]`, then a transformer over `[N, T, C]`."""
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    config = Wav2Vec2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48)
    model, sound = Wav2Vec2Model(config).eval(), torch.randn(2, 16_000)
    for layer, positions in {"feature_extractor": 2, "feature_projection": 1, "encoder.layers.1": 1}.items():
        right = whole(model, layer, sound)
        with torch.no_grad():
            value = tl.FeatureLayer(model, layer, reduce="mean")(sound)[0]
        mean = value[0] if isinstance(value, tuple) else value
        torch.testing.assert_close(mean, right.mean(positions))


@pytest.mark.parametrize(
    ("model", "layer", "x", "positions"),
    [
        (nn.Sequential(nn.Conv1d(1, 8, 3)), "0", torch.randn(2, 1, 100), (2,)),
        (nn.Sequential(nn.Conv1d(1, 8, 3), nn.BatchNorm1d(8), nn.ReLU()), "2", torch.randn(2, 1, 10), (2,)),
        (nn.Sequential(nn.Conv3d(1, 4, 1), nn.MaxPool3d(2)), "1", torch.randn(2, 1, 4, 4, 4), (2, 3, 4)),
        (nn.Sequential(nn.ConvTranspose2d(3, 8, 2)), "0", torch.randn(2, 3, 8, 8), (2, 3)),
        # as many channels as rows and columns: only the order of operations tells
        (nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.AvgPool2d(1)), "2", torch.randn(2, 3, 8, 8), (2, 3)),
        (
            nn.Sequential(nn.Conv2d(3, 8, 1), toys.Returns(lambda x: x.permute(0, 2, 3, 1).contiguous()), nn.ReLU()),
            "2",
            torch.randn(2, 3, 8, 8),
            (1, 2),
        ),
        (
            nn.Sequential(nn.Conv2d(3, 8, 1), toys.Returns(lambda x: x.flatten(2).mT), nn.LayerNorm(8)),
            "2",
            torch.randn(2, 3, 8, 8),
            (1,),
        ),
        (
            nn.Sequential(nn.Conv2d(3, 8, 1), toys.Returns(lambda x: x.movedim(1, -1)[:, 1:])),
            "1",
            torch.randn(2, 3, 8, 8),
            (1, 2),
        ),
        (
            nn.Sequential(nn.Conv2d(3, 8, 1), toys.Returns(lambda x: torch.cat([x, x.relu()], 1)), nn.Dropout2d()),
            "1",
            torch.randn(2, 3, 16, 16),
            (2, 3),
        ),
        (nn.Sequential(nn.Conv1d(3, 8, 1), toys.Returns(lambda x: x @ FIXED)), "1", torch.randn(2, 3, 8), (2,)),
        (nn.Sequential(nn.Linear(6, 5), toys.Returns(lambda x: x @ FIXED[:5])), "1", torch.randn(2, 9, 6), (1,)),
        (nn.Sequential(nn.Linear(6, 5), toys.Returns(lambda x: FIXED @ x)), "1", torch.randn(2, 8, 6), (1,)),
        (nn.Sequential(nn.Embedding(9, 7)), "0", torch.randint(9, (2, 7)), (1,)),
        (
            nn.Sequential(toys.Returns(lambda x: functional.linear(x, torch.ones(5, 6)))),
            "0",
            torch.randn(2, 5, 6),
            (1,),
        ),
        (nn.LSTM(5, 6, batch_first=True), "[0]", torch.randn(4, 4, 5), (1,)),
    ],
)
def test_any_order_of_dimensions(model: nn.Module, layer: str, x: Tensor, positions: tuple[int, ...]) -> None:
    right = whole(model.eval(), layer.partition("[")[0], x)
    with torch.no_grad():
        mean, _ = tl.FeatureLayer(model, f":output{layer}" if "[" in layer else layer, reduce="mean")(x)
    torch.testing.assert_close(mean, right.mean(positions))


@pytest.mark.parametrize("length", [4, 7])
def test_items_in_the_second_dimension(length: int) -> None:
    """`[T, N, C]`, also with as many steps as items; the state `[layers, N, C]`."""
    model, x = nn.Sequential(nn.GRU(5, 6, num_layers=4)), torch.randn(length, 4, 5)
    outputs, state = model(x)
    feats, _ = tl.FeatureLayers(model, ["0[0]", "0[1]"], reduce="mean")(x)
    torch.testing.assert_close(feats[0], outputs.mean(0))
    torch.testing.assert_close(feats[1], state.mean(0))
    flat, _ = tl.FeatureLayer(model, "0[0]", reduce="flatten")(x)
    assert torch.equal(flat, outputs.transpose(0, 1).reshape(4, -1))


def test_transformer_with_items_second() -> None:
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 2, enable_nested_tensor=False).eval()
    model, x = nn.Sequential(nn.Linear(6, 8), encoder), torch.randn(5, 5, 6)
    right = whole(model, "1.layers.0", x)
    with torch.no_grad():
        mean, _ = tl.FeatureLayer(model, "1.layers.0", reduce="mean")(x)
        torch.testing.assert_close(mean, right.mean(0))
        with pytest.raises(tl.LayoutError, match="may be in dimension 0 or 1.*layout='NTC' or layout='TNC'"):
            tl.FeatureLayer(model, "0", reduce="mean")(x)
        told, _ = tl.FeatureLayer(model, "0", reduce="mean", layout="TNC")(x)
    torch.testing.assert_close(told, model[0](x).mean(0))


class MovesFirst(nn.Module):
    """Computes on items, then moves their dimension, as fairseq and CLIP do: nothing says `batch_first=False`."""

    def __init__(self, first: nn.Module, move: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.move, self.norm = first, move, nn.LayerNorm(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.move(self.first(x)))


class Prepares(nn.Module):
    """Moves its input before the layer."""

    def __init__(self, move: Callable[[Tensor], Tensor], layer: nn.Module) -> None:
        super().__init__()
        self.move, self.layer = move, layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.move(x))


TEXT = torch.randint(0, 5, (2, 7))
MOVES: list[Callable[[Tensor], Tensor]] = [
    lambda x: x.transpose(0, 1),
    lambda x: x.permute(1, 0, 2),
    lambda x: x.movedim(1, 0),
    lambda x: x.swapaxes(1, 0) * 2 + 1,
    lambda x: x.transpose(0, 1).reshape(7, 2, 2, 4).flatten(2),
]


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("first", [nn.Embedding(5, 8), nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 8))])
def test_items_that_may_have_moved(first: nn.Module, move: Callable[[Tensor], Tensor]) -> None:
    """Whether `[2, 7]` is items by tokens, or the other way round, only the user can say."""
    model = MovesFirst(first, move).eval()
    with pytest.raises(tl.LayoutError, match="may be in dimension 0 or 1") as caught:
        tl.FeatureLayer(model, "norm", reduce="mean")(TEXT)
    assert caught.value.readings == ("NTC", "TNC")
    feat, _ = tl.FeatureLayer(model, "norm", reduce="mean", layout="TNC")(TEXT)
    torch.testing.assert_close(feat, whole(model, "norm", TEXT).mean(0))


@pytest.mark.parametrize(
    ("model", "x"),
    [
        (Prepares(lambda x: x.transpose(0, 1).contiguous(), nn.Embedding(5, 8)), TEXT),
        (Prepares(lambda x: x.t()[:6], nn.Embedding(5, 8)), TEXT),
        (Prepares(lambda x: x.permute(1, 0, 2) * 2, nn.Linear(4, 8)), torch.randn(2, 7, 4)),
        (Prepares(lambda x: x.transpose(0, 1), nn.LayerNorm(4)), torch.randn(2, 7, 4)),
    ],
)
def test_inputs_that_a_model_moves(model: nn.Module, x: Tensor) -> None:
    """As XLNet turns `[items, tokens]` into `[tokens, items]` before it looks up embeddings."""
    with pytest.raises(tl.LayoutError, match="may be in dimension 0 or 1"):
        tl.FeatureLayer(model, "layer", reduce="mean")(x)


def test_a_bias_of_positions_says_nothing_of_items() -> None:
    """T5's bias for relative positions moves dimensions of its own."""
    config = transformers.T5Config(d_model=32, num_layers=2, num_heads=2, d_kv=16, d_ff=64, vocab_size=50)
    model, name = transformers.T5EncoderModel(config).eval(), "encoder.block.1.layer.1.layer_norm"
    tokens = torch.randint(0, 50, (2, 7))
    feat, _ = tl.FeatureLayer(model, name, reduce="mean")(input_ids=tokens)
    torch.testing.assert_close(feat, whole(model, name, input_ids=tokens).mean(1))


@pytest.mark.parametrize(
    ("model", "x", "positions"),
    [
        (MovesFirst(nn.Embedding(5, 8), lambda x: x.transpose(0, 1).transpose(0, 1)), TEXT, (1,)),
        (MovesFirst(nn.Conv1d(3, 8, 1), lambda x: x.permute(2, 0, 1)), torch.randn(2, 3, 7), (0,)),
        (MovesFirst(nn.Conv2d(3, 8, 2, 2), lambda x: x.flatten(2).permute(2, 0, 1)), torch.randn(2, 3, 4, 4), (0,)),
    ],
)
def test_items_that_moved_for_certain(model: nn.Module, x: Tensor, positions: tuple[int, ...]) -> None:
    feat, _ = tl.FeatureLayer(model.eval(), "norm", reduce="mean")(x)
    torch.testing.assert_close(feat, whole(model, "norm", x).mean(positions))


def test_without_evidence_it_is_an_error() -> None:
    """An input that no layer has seen, weights of attention, a product that mixes dimensions."""
    vit = timm.create_model("vit_tiny_patch16_224", img_size=64).eval()
    with torch.no_grad():
        for model, layer, x in (
            (vit, ":input", IMAGE),
            (vit, "blocks.0.attn:attention_weights", IMAGE),
            (
                nn.Sequential(
                    nn.Conv2d(3, 4, 1), toys.Returns(lambda x: torch.tensordot(x, torch.ones(2, 3), 0)[..., 0])
                ),
                "1",
                IMAGE,
            ),
        ):
            with pytest.raises(tl.LayoutError, match="the dimension of the channels of this feature") as caught:
                tl.FeatureLayer(model, layer, reduce="mean")(x)
            assert caught.value.name == layer
            assert "layout=" in str(caught.value)
        told, _ = tl.FeatureLayer(vit, ":input", reduce="mean", layout="NCHW")(IMAGE)
    torch.testing.assert_close(told, IMAGE.mean((2, 3)))


class Attention(nn.Module):
    """Attention of several heads by `einsum`, as einops writes it; it returns its weights too."""

    def __init__(self) -> None:
        super().__init__()
        self.to_qkv, self.drop, self.merge, self.out = nn.Linear(8, 18), nn.Identity(), nn.Flatten(2), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        query, key, value = self.to_qkv(x).unflatten(-1, (3, 2, 3)).permute(2, 0, 3, 1, 4)
        weights = self.drop(torch.einsum("b h i d, b h j d -> b h i j", query, key).softmax(-1))
        heads = torch.einsum("b h i j, b h j d -> b h i d", weights, value)
        return self.out(self.merge(heads.transpose(1, 2))), weights


@pytest.mark.parametrize(
    ("equation", "others", "positions"),
    [
        ("ntc->nct", [], (2,)),
        ("ntc,tu->nuc", [(4, 7)], (1,)),
        ("...c,c->...c", [(3,)], (1,)),
        ("nt...,t->n...t", [(4,)], (2,)),
        ("n t c, m -> n t m c", [(5,)], (1, 2)),
    ],
)
def test_einsum_keeps_channels_over_which_it_does_not_sum(
    equation: str, others: list[tuple[int, ...]], positions: tuple[int, ...]
) -> None:
    factors = [torch.randn(shape) for shape in others]
    model = nn.Sequential(nn.Linear(6, 3), toys.Returns(lambda x: torch.einsum(equation, x, *factors)))
    x = torch.randn(2, 4, 6)
    right = model(x).mean(positions)
    mean, _ = tl.FeatureLayer(model, "1", reduce="mean")(x)
    torch.testing.assert_close(mean, right)


def test_einsum_moves_and_sums_over_items() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), toys.Returns(lambda x: torch.einsum("nchw->hwnc", x)), nn.ReLU())
    mean, _ = tl.FeatureLayer(model, "2", reduce="mean")(IMAGE)
    torch.testing.assert_close(mean, model(IMAGE).mean((0, 1)))
    model[1] = toys.Returns(lambda x: torch.einsum("nchw->hwc", x))
    mean, _ = tl.FeatureLayer(model, "2", reduce="mean")(IMAGE)
    torch.testing.assert_close(mean, model(IMAGE).mean((0, 1)))


@pytest.mark.parametrize("equation", ["ntc,ntc->nt", "nic,njc->nij", "nic,njd->ncd", "ntc,ntd"])
def test_einsum_without_channels(equation: str) -> None:
    """A sum over channels, two readings, an output that is not written."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other, self.end = nn.Linear(6, 3), nn.Linear(6, 3), nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            product = torch.einsum(equation, self.one(x), self.other(x))
            return self.end(product if product.ndim > 2 else product[..., None])

    model, x = Model(), torch.randn(2, 4, 6)
    with pytest.raises(tl.LayoutError, match="the operations of the model do not determine"):
        tl.FeatureLayer(model, "end", reduce="mean")(x)


def test_several_tensors_of_which_one_has_no_layout() -> None:
    model, x = nn.Sequential(Attention()), torch.randn(2, 4, 8)
    right, _ = model(x)
    with torch.no_grad():
        for layer in ("0", "0:output"):
            with pytest.raises(tl.LayoutError, match=r"several tensors in a tuple of 2: .* such as '0\[0\]'") as caught:
                tl.FeatureLayer(model, layer, reduce="mean")(x)
            assert caught.value.shape == (2, 2, 4, 4)
        feats, _ = tl.FeatureLayers(model, ["0[0]", "0.merge"], reduce="mean")(x)
    torch.testing.assert_close(feats[0], right.mean(1))
    torch.testing.assert_close(feats[1], whole(model, "0.merge", x).mean(1))


def test_weights_of_attention_have_no_channels() -> None:
    """Also with a bias that has: one number a head, as of relative positions."""

    class Attends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias, self.drop, self.classes = nn.Embedding(9, 4), nn.Dropout(0.0), nn.Softmax(1)

        def forward(self, scores: Tensor) -> Tensor:
            bias = self.bias(torch.arange(36).reshape(6, 6) % 9).permute(2, 0, 1)[None]
            self.classes(nn.functional.conv2d(scores, torch.ones(5, 4, 1, 1)))
            return self.drop((scores + bias.expand(2, -1, -1, -1)).softmax(-1))

    model, scores = Attends().eval(), torch.randn(2, 4, 6, 6)
    with pytest.raises(tl.LayoutError, match="'drop'"):
        tl.FeatureLayer(model, "drop", reduce="mean")(scores)
    mean, _ = tl.FeatureLayer(model, "classes", reduce="mean")(scores)  # a softmax over channels
    torch.testing.assert_close(mean, whole(model, "classes", scores).mean((2, 3)))


def test_two_readings_are_an_error() -> None:
    """A linear layer over positions, as MLP-Mixer's over tokens, leaves channels where they were."""
    model = nn.Sequential(nn.Conv1d(3, 8, 1), nn.Linear(16, 16))
    with pytest.raises(tl.LayoutError, match="'1': the operations of the model do not determine"):
        tl.FeatureLayer(model, "1", reduce="mean")(torch.randn(2, 3, 16))


def test_what_the_user_says_wins_and_must_fit() -> None:
    model, x = nn.Sequential(nn.Conv2d(3, 5, 1), nn.ReLU()), torch.randn(2, 3, 6, 7)
    right = model(x)
    feats, _ = tl.FeatureLayers(model, ["0", "1"], reduce="mean", layout={"1": "NHWC"})(x)
    torch.testing.assert_close(feats["0"], model[0](x).mean((2, 3)))
    torch.testing.assert_close(feats["1"], right.mean((1, 2)))
    with pytest.raises(tl.LayoutError, match="layout 'NTC' has 3 dimensions, but this feature is"):
        tl.FeatureLayer(model, "0", reduce="mean", layout="NTC")(x)
    for wrong in ("NHW", "NCCH", "N C"):
        with pytest.raises(tl.LayoutError, match="is not a layout"):
            tl.FeatureLayer(model, "0", reduce="mean", layout=wrong)


def test_learned_once_for_each_kind_of_input() -> None:
    """Later calls of the same kind follow no operations; another kind learns again."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3), toys.Returns(lambda x: x.permute(0, 2, 3, 1)))
    layer = tl.FeatureLayer(model, "1", reduce="mean")
    for size in (10, 10, 12, 10):  # 8 × 8 positions of 8 channels, and 10 × 10
        x = torch.randn(2, 3, size, size)
        torch.testing.assert_close(layer(x)[0], model(x).mean((1, 2)))
        torch.testing.assert_close(layer.features(x), model(x).mean((1, 2)))


def test_gradients_and_captures_are_reduced_alike() -> None:
    model, x = nn.Sequential(nn.Conv1d(1, 4, 3), nn.ReLU()), torch.randn(2, 1, 9)
    with tl.capture(model, ["0", "0:grad_output"], reduce="mean") as record:
        model(x).sum().backward()
    right = model[0](x)
    torch.testing.assert_close(record["0"], right.mean(2))
    torch.testing.assert_close(record["0:grad_output"], (right > 0).float().mean(2))


def test_find_layouts() -> None:
    model = torchvision.models.swin_t().eval()
    with torch.no_grad():
        found = tl.find_layouts(model, ["features.0.0", "features.1", "permute", "head", "avgpool"], IMAGE)
    assert found == {
        "features.0.0": "NCHW",
        "features.1": "NHWC",
        "permute": "NCHW",
        "head": None,
        "avgpool": "NCHW",
    }
