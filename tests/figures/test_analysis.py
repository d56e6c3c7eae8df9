"""What figures compute, against other people's implementations of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.metrics.pairwise import cosine_similarity

import torch_featurelayer as tl
from torch_featurelayer import analysis
from torch_featurelayer._layout import map_layout


def test_grad_cam_equals_pytorch_grad_cam() -> None:
    """On EfficientNet-Lite0 with the cat, for three classes: within 1e-4 at every pixel."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    from skimage.data import chelsea

    loaded = tl.models.load("efficientnet-lite0")
    image, at = loaded.preprocess(chelsea()), "_blocks.10"
    reference = GradCAM(loaded.model, [loaded.model.get_submodule(at)])
    for index in (285, 281, 817):
        feats, output = tl.FeatureLayers(loaded.model, [at, f"{at}:grad_output"])(image)
        output[0, index].backward()
        ours = analysis.grad_cam(feats[0], feats[1], size=(224, 224))
        right = reference(image, [ClassifierOutputTarget(index)])
        np.testing.assert_allclose(ours.numpy(), right, atol=1e-4)


def test_pca_equals_scikit_learn() -> None:
    """Up to sign, and the sign is the rule: the greatest weight of a component is positive."""
    feats = [torch.randn(2, 8, 5, 6), torch.randn(1, 8, 9, 4) * torch.arange(1, 9.0).reshape(1, 8, 1, 1)]
    vectors = torch.cat([feat.movedim(1, -1).reshape(-1, 8) for feat in feats]).numpy().astype(np.float64)
    fitted = PCA(3).fit(vectors)
    signs = np.sign(np.take_along_axis(fitted.components_, np.abs(fitted.components_).argmax(1)[:, None], 1))[:, 0]
    right = fitted.transform(vectors) * signs
    low, high = np.quantile(right, [0.01, 0.99], axis=0)
    right = ((right - low) / (high - low)).clip(0, 1)
    ours = torch.cat([rgb.movedim(1, -1).reshape(-1, 3) for rgb in analysis.pca_rgb(feats, layout="NCHW")])
    np.testing.assert_allclose(ours.numpy(), right, atol=1e-4)
    assert [tuple(rgb.shape) for rgb in analysis.pca_rgb(feats, layout="NCHW")] == [(2, 3, 5, 6), (1, 3, 9, 4)]


def test_there_are_no_components_of_nan() -> None:
    feat = torch.randn(1, 4, 5, 6)
    feat[0, 2, 1, 1] = torch.nan
    with pytest.raises(ValueError, match="1 of 30 positions have NaN or infinite values"):
        analysis.pca_rgb([feat], layout="NCHW")


def test_cosine_equals_scikit_learn() -> None:
    feat = torch.randn(2, 7, 4, 5)
    vectors = feat[1].flatten(1).T.numpy()
    right = cosine_similarity(vectors[2 * 5 + 3][None], vectors)[0].reshape(4, 5)
    np.testing.assert_allclose(analysis.cosine_map(feat, (2, 3), sample=1, layout="NCHW").numpy(), right, atol=1e-6)
    np.testing.assert_allclose(analysis.cosine_map(feat, (-2, -2), sample=1, layout="NCHW").numpy(), right, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-36, 1e-20, 1e-9, 1e9, 1e20, 1e37])
def test_cosine_of_vectors_of_any_length(scale: float) -> None:
    """Such as gradients: `torch.cosine_similarity` takes vectors shorter than 1e-8 for longer ones."""
    feat = torch.randn(1, 7, 4, 5)
    right = analysis.cosine_map(feat, (2, 3), layout="NCHW")
    torch.testing.assert_close(analysis.cosine_map(feat * scale, (2, 3), layout="NCHW"), right, rtol=0, atol=1e-5)
    feat[0, :, 0, 0] = 0
    feat[0, 0, 0, 1] = torch.inf
    found = analysis.cosine_map(feat * scale, (2, 3), layout="NCHW")
    assert found[0, 0] == 0
    assert found[0, 1].isnan()
    torch.testing.assert_close(found[1:], right[1:], rtol=0, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-35, 1e-14, 1e14, 1e35])
def test_values_of_any_magnitude(scale: float) -> None:
    """Such as the activations and gradients of untrained networks."""
    feat, grad = torch.randn(2, 5, 6, 7), torch.randn(2, 5, 6, 7)
    (right,) = analysis.pca_rgb([feat], layout="NCHW")
    (found,) = analysis.pca_rgb([feat * scale], layout="NCHW")
    torch.testing.assert_close(found, right, rtol=0, atol=1e-4)
    right = analysis.grad_cam(feat, grad, layout="NCHW")
    torch.testing.assert_close(analysis.grad_cam(feat * scale, grad * scale, layout="NCHW"), right, rtol=0, atol=1e-5)
    assert not analysis.grad_cam(feat * 0, grad, layout="NCHW").any()
    assert analysis.pca_rgb([feat * 0 + scale], layout="NCHW")[0].isfinite().all()
    for by in ("mean", "max", "std"):
        tops = [analysis.top_channels(each, by=by, layout="NCHW") for each in (feat, feat * scale)]  # type: ignore[arg-type]
        assert tops[0] == tops[1]


@pytest.mark.parametrize(("count", "prefix"), [(196, 0), (197, 1), (201, 5)])
def test_tokens_become_maps_of_their_grid(count: int, prefix: int) -> None:
    """The token of row r and column c of the patches is the value there; class and register tokens are left out."""
    tokens = torch.randn(2, count, 3)
    for given in ({"image_size": (224, 224)}, {"grid": (14, 14)}, {"image_size": (448, 448), "patch": 32}):
        maps = analysis.tokens_to_map(tokens, **given)  # type: ignore[arg-type]
        assert maps.shape == (2, 3, 14, 14)
        assert torch.equal(maps[:, :, 4, 9], tokens[:, prefix + 4 * 14 + 9])
    half = analysis.tokens_to_map(tokens[:, : prefix + 14 * 7], grid=(7, 14))
    assert torch.equal(half[:, :, 6, 13], tokens[:, prefix + 97])
    swapped = analysis.tokens_to_map(tokens.transpose(0, 1), layout="TNC", grid=(14, 14))
    assert torch.equal(swapped, analysis.tokens_to_map(tokens, grid=(14, 14)))


@pytest.mark.parametrize(
    ("count", "size", "patch", "wanted"),
    [
        (200, (160, 320), None, (0, (10, 20))),
        (200, (320, 320), None, (4, (14, 14))),
        (129, (128, 256), 16, (1, (8, 16))),
        (17, (64, 64), 16, (1, (4, 4))),
        (50, (224, 224), (32, 32), (1, (7, 7))),
        (3136, (224, 224), None, (0, (56, 56))),
    ],
)
def test_grids_come_from_the_image(count: int, size: tuple[int, int], patch: object, wanted: object) -> None:
    """Not from a square root: 200 tokens of an image that is twice as wide as high are 10 × 20."""
    assert analysis.token_grid(count, image_size=size, patch=patch) == wanted  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "the grid of 197 tokens is unknown. Pass image_size="),
        ({"prefix": 3, "image_size": (224, 224)}, "do not fill"),
        ({"grid": (5, 5)}, "197 tokens do not fill a 5 × 5 grid"),
        ({"prefix": 200, "image_size": (224, 224)}, "do not fill"),
        ({"image_size": (224, 448)}, "do not fill"),
    ],
)
def test_tokens_that_fill_no_grid(options: dict[str, object], says: str) -> None:
    with pytest.raises(tl.LayoutError, match=says):
        analysis.tokens_to_map(torch.zeros(1, 197, 3), **options)  # type: ignore[arg-type]


def test_several_grids_are_an_error() -> None:
    with pytest.raises(tl.LayoutError, match=r"17 tokens may be 1 \+ 4 × 4 or 8 \+ 3 × 3"):
        analysis.tokens_to_map(torch.zeros(1, 17, 3), image_size=(64, 64))


def test_tokens_are_those_of_the_patches_of_a_vit() -> None:
    """The patch embedding is a convolution: its map, made of tokens, is the convolution's own output."""
    loaded = tl.models.load("timm:vit_tiny_patch16_224", weights="random")
    feats, _ = tl.FeatureLayers(loaded.model, ["patch_embed.proj", "patch_embed"])(torch.randn(1, 3, 224, 224))
    maps = analysis.tokens_to_map(feats["patch_embed"], image_size=(224, 224))
    assert torch.equal(maps, feats["patch_embed.proj"])
    assert torch.equal(loaded.to_map("patch_embed", feats["patch_embed"], (224, 224)), maps)
    assert loaded.patch == (16, 16)


def test_maps_of_swin_have_their_channels_last() -> None:
    loaded = tl.models.load("torchvision:swin_t", weights="random")
    feats, _ = tl.FeatureLayers(loaded.model, loaded.stages)(torch.randn(1, 3, 224, 224))
    for layer, (side, width) in zip(loaded.stages, ((56, 96), (28, 192), (14, 384), (7, 768)), strict=True):
        maps = analysis.tokens_to_map(feats[layer], image_size=(224, 224))
        assert maps.shape == (1, width, side, side)
        assert torch.equal(maps[0, 5, 2, 6], feats[layer][0, 2, 6, 5])
        assert torch.equal(loaded.to_map(layer, feats[layer], (224, 224)), maps)
    plain = torch.randn(1, 7, 14, 14)
    assert analysis.tokens_to_map(plain) is plain
    assert analysis.tokens_to_map(torch.randn(1, 6, 9, 4), layout="NHWC").shape == (1, 4, 6, 9)


@pytest.mark.parametrize(
    ("shape", "image_size", "layout"),
    [
        ((1, 64, 56, 56), None, "NCHW"),
        ((1, 7, 7, 768), None, "NHWC"),
        ((1, 512, 7, 14), None, "NCHW"),
        ((1, 7, 14, 768), None, "NHWC"),
        ((1, 28, 56, 192), (224, 448), "NHWC"),
        ((1, 192, 28, 56), (224, 448), "NCHW"),
        ((1, 28, 56, 192), None, None),
        ((1, 14, 14, 14), None, None),
        ((1, 16, 10, 20), None, None),
    ],
)
def test_a_layout_from_shapes_alone(
    shape: tuple[int, ...], image_size: tuple[int, int] | None, layout: str | None
) -> None:
    """Where two readings are possible it is an error that names both."""
    if layout is None:
        with pytest.raises(tl.LayoutError, match="may be 'NCHW' .* or 'NHWC'.*layout='NCHW' or layout='NHWC'"):
            map_layout(shape, image_size)
    else:
        assert str(map_layout(shape, image_size)) == layout


def test_attention_of_a_vit() -> None:
    """The row of the class token, without its attention to itself, folded."""
    loaded = tl.models.load("timm:vit_tiny_patch16_224", weights="random")
    weights, _ = tl.FeatureLayer(loaded.model, "blocks.5.attn:attention_weights")(torch.randn(1, 3, 224, 224))
    seen = analysis.attention_map(weights, image_size=(224, 224))
    assert seen.shape == (14, 14)
    torch.testing.assert_close(seen[3, 8], weights[0, :, 0, 1 + 3 * 14 + 8].mean())
    torch.testing.assert_close(seen.sum() + weights[0, :, 0, 0].mean(), torch.tensor(1.0))
    torch.testing.assert_close(
        analysis.attention_map(weights, head=2, image_size=(224, 224))[0, 0], weights[0, 2, 0, 1]
    )


def test_dead_channels() -> None:
    feat = torch.randn(3, 5, 4, 4).abs()
    feat[:, 1], feat[:, 4] = -feat[:, 1], 0
    feat[2, 1, 0, 0] = 0.1
    assert analysis.dead_channels(feat) == [4]
    assert analysis.dead_channels(feat[:2]) == [1, 4]


@pytest.mark.parametrize("by", ["mean", "max", "std"])
def test_top_channels(by: str) -> None:
    feat = torch.randn(2, 9, 6, 6)
    right = np.argsort(-getattr(np, by)(feat[1].numpy().astype(np.float64), axis=(1, 2)))[:4]
    assert analysis.top_channels(feat, 4, by=by, sample=1) == right.tolist()  # type: ignore[arg-type]
