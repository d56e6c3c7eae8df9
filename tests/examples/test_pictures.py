"""The examples on photos find what they say they find."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torchvision.transforms import functional as transforms

import torch_featurelayer as tl
from examples import (
    compare_models,
    detection,
    image_similarity,
    near_duplicates,
    sparse_autoencoder,
    style_transfer,
    super_resolution,
)
from examples._photos import square

pytestmark = pytest.mark.slow


def test_distortions_of_equal_error_are_told_apart() -> None:
    """Brightness looks like the photo, blur does not, another photo least of all; pixels say the same of all."""
    image = transforms.to_tensor(square("chelsea", 224))[None]
    distance = image_similarity.Distance()
    shown = {name: image_similarity.of_equal_error(image, make) for name, make in image_similarity.DISTORTIONS.items()}
    errors = [(one - image).square().mean().item() for one in shown.values()]
    assert errors == pytest.approx([image_similarity.ERROR] * len(shown), rel=0.1)
    found = {name: distance(image, one).item() for name, one in shown.items()}
    assert found["brighter"] < found["noise"] < found["blur"] < found["coarse pixels"]
    assert distance(image, transforms.to_tensor(square("rocket", 224))[None]).item() > max(found.values())


def test_the_pairs_that_belong_together_are_the_most_alike(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    right = near_duplicates.make_folder(folder)
    found = near_duplicates.find(folder, tmp_path / "features")
    assert {(pair.first, pair.second) for pair in found[: len(right)]} == set(right)


def test_style_moves_and_content_stays() -> None:
    """In a layer that no loss looked at, the picture's correlations come near the style's."""
    content, style = (transforms.to_tensor(square(name, 128))[None] for name in ("chelsea", "china"))
    painted, losses = style_transfer.transfer(content, style, steps=40)
    assert losses[-1] < losses[0] / 2
    loaded = tl.models.load("efficientnet-lite0")
    layer, normal = tl.FeatureLayer(loaded.model, "_blocks.1"), (loaded.preprocess.mean, loaded.preprocess.std)
    with torch.no_grad():
        before, after, goal = (
            style_transfer.gram(layer.features(transforms.normalize(one, *normal))) for one in (content, painted, style)
        )
    assert (after - goal).norm() < 0.6 * (before - goal).norm()
    assert painted.shape == content.shape
    assert painted.min() >= 0
    assert painted.max() <= 1


def test_a_feature_loss_goes_further_than_pixels_alone() -> None:
    """On parts of photos that were not learnt from, in layers no loss looked at, at the same difference of pixels."""
    networks, judge = super_resolution.trained(steps=70), super_resolution.Eye(super_resolution.JUDGED_IN)
    features, pixels = {}, {}
    for name in ("china", "coffee"):
        right = super_resolution.right_part(name)
        for kind, image in super_resolution.enlarged(networks, right).items():
            features[name, kind] = judge.distance(image, right)
            pixels[name, kind] = (image - right).abs().mean().item()
        assert features[name, "pixel and feature loss"] < 0.97 * features[name, "pixel loss"]
        assert features[name, "pixel loss"] < features[name, "bicubic"]
        assert pixels[name, "pixel and feature loss"] == pytest.approx(pixels[name, "pixel loss"], rel=0.05)


def test_the_detector_finds_the_boxes() -> None:
    """In photos it was not trained on; its backbone has not learnt."""
    torch.manual_seed(0)
    model = detection.detector()
    frozen = {name: value.clone() for name, value in model.backbone.layers.model.state_dict().items()}
    images, right = zip(*detection.scenes(("chelsea", "rocket"), 20, 7), strict=True)
    assert detection.score(detection.found(model, list(images)), list(right))[0] == 0
    losses = detection.train(model, steps=60)
    recall, precision = detection.score(detection.found(model, list(images)), list(right))
    assert losses[-1] < losses[0] / 2
    assert recall > 0.6
    assert precision > 0.3
    assert all(torch.equal(frozen[name], value) for name, value in model.backbone.layers.model.state_dict().items())


def test_overlapping_boxes_of_the_right_class_count() -> None:
    box = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    right = [{"boxes": box, "labels": torch.tensor([1])}]
    hit, other = {"boxes": box + 1, "labels": torch.tensor([1])}, {"boxes": box + 1, "labels": torch.tensor([2])}
    assert detection.score([hit], right) == (1, 1)
    assert detection.score([other], right) == (0, 0)
    assert detection.score([{"boxes": box + 8, "labels": torch.tensor([1])}], right) == (0, 0)


def test_stages_are_like_their_neighbours_and_unlike_random_ones() -> None:
    stages, matrices = compare_models.measure(each=6)
    for name in ("CKA", "RSA"):
        own, random = matrices[f"{name}, trained and trained"], matrices[f"{name}, trained and random"]
        assert torch.allclose(own.diagonal(), torch.ones(len(stages)), atol=1e-4)
        assert own[0, 1] > own[0, -1]
        assert random.diagonal()[-1] < 0.7


def test_a_few_directions_bring_back_what_noise_cannot(tmp_path: Path) -> None:
    """Against the same autoencoder untrained, on rows of the store."""
    torch.manual_seed(0)
    store, images = sparse_autoencoder.make_store(tmp_path, each=4)
    model = sparse_autoencoder.train(store, epochs=0)
    before = sparse_autoencoder.explained(model, store, slice(None))
    model = sparse_autoencoder.train(store, epochs=12)
    after = sparse_autoencoder.explained(model, store, slice(None))
    assert after > max(before, 0) + 0.2
    strengths = sparse_autoencoder.answers(model, store)
    assert strengths.shape == (len(images), 14, 14, len(model.bias))
    assert (strengths > 0).sum(-1).max() <= model.active
    assert len(sparse_autoencoder.best_patches(strengths, images, 0, 3)) == 3
