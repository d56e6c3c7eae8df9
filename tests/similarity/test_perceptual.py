"""The perceptual distance, against the package lpips with its own learnt weights."""

from __future__ import annotations

import warnings

import lpips
import pytest
import torch
from torch import Tensor

import torch_featurelayer as tl
from torch_featurelayer.similarity import perceptual_distance

# the layers lpips takes, by the names of its trunks: each ReLU before a pooling, for one
LAYERS = {
    "alex": [f"slice{number}.{layer}" for number, layer in ((1, 1), (2, 4), (3, 7), (4, 9), (5, 11))],
    "vgg": [f"slice{number}.{layer}" for number, layer in ((1, 3), (2, 8), (3, 15), (4, 22), (5, 29))],
}


def lpips_of(net: str, **options: bool) -> lpips.LPIPS:
    """The package's own, with a trunk of random weights, since those of ImageNet cannot be fetched."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision's, of arguments that lpips passes
        return lpips.LPIPS(net=net, pnet_rand=True, verbose=False, **options).eval()


def pictures() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    one = torch.rand(3, 3, 64, 64, generator=generator) * 2 - 1
    return one, (one + 0.3 * torch.randn(one.shape, generator=generator)).clamp(-1, 1)


@pytest.mark.slow
@pytest.mark.parametrize("net", ["alex", "vgg"])
@pytest.mark.parametrize("learnt", [True, False])
def test_is_that_of_lpips(net: str, learnt: bool) -> None:
    """With the weights it learnt and without; the features taken from its own trunk, by address."""
    right = lpips_of(net, lpips=learnt)
    layers = tl.FeatureLayers(right.net, LAYERS[net])
    weights = [linear.model[-1].weight for linear in right.lins] if learnt else None
    one, other = pictures()
    with torch.no_grad():
        feats = [layers.features(right.scaling_layer(image)) for image in (one, other)]
        ours = perceptual_distance(*feats, weights)
        assert torch.allclose(ours, right(one, other).flatten(), rtol=1e-5)
    assert (ours > 0).all()


def test_as_a_loss_its_gradient_is_that_of_lpips() -> None:
    right = lpips_of("alex")
    layers = tl.FeatureLayers(right.net, LAYERS["alex"])
    weights = [linear.model[-1].weight.detach() for linear in right.lins]
    one, other = pictures()
    ours, theirs = one.clone().requires_grad_(), one.clone().requires_grad_()
    feats = [layers.features(right.scaling_layer(image)) for image in (ours, other)]
    perceptual_distance(*feats, weights).sum().backward()
    right(theirs, other).sum().backward()
    assert ours.grad is not None
    assert torch.allclose(ours.grad, theirs.grad, rtol=1e-3, atol=1e-7)


def test_tokens_have_their_channels_last() -> None:
    maps = [torch.randn(2, 8, 3, 5), torch.randn(2, 8, 3, 5)]
    tokens = [feature.flatten(2).transpose(1, 2) for feature in maps]
    assert torch.allclose(perceptual_distance(maps[:1], maps[1:]), perceptual_distance(tokens[:1], tokens[1:]))


def test_a_batch_of_one_is_compared_with_each() -> None:
    one, others = torch.randn(1, 8, 3, 3), torch.randn(4, 8, 3, 3)
    each = [perceptual_distance([one], [other[None]]).item() for other in others]
    assert perceptual_distance([one], [others]).tolist() == pytest.approx(each)


def test_what_does_not_fit_is_refused() -> None:
    layer = torch.randn(1, 8, 3, 3)
    with pytest.raises(ValueError, match="not of 1 and 2"):
        perceptual_distance([layer], [layer, layer])
    with pytest.raises(ValueError, match="with 2 weights"):
        perceptual_distance([layer], [layer], [torch.ones(8)] * 2)
    with pytest.raises(ValueError, match="under 4 weights"):
        perceptual_distance([layer], [layer], [torch.ones(4)])
    with pytest.raises(ValueError, match=r"\[1, 8, 3, 3\] and \[1, 8, 2, 3\]"):
        perceptual_distance([layer], [layer[:, :, 1:]])
    with pytest.raises(ValueError, match="not of 0 and 0"):
        perceptual_distance([], [])
