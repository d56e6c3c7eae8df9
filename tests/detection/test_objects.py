"""The feature of each object is RoIAlign of the layer's map under its box."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.ops import roi_align

import torch_featurelayer as tl
from tests.versions import TRANSFORMERS

LAYER = "backbone.body.12"


@pytest.fixture
def picture() -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 255, (120, 200, 3), dtype=np.uint8)


def faster_rcnn() -> Any:
    torch.manual_seed(0)
    model: Any = detection.fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None, num_classes=5)
    nn.init.normal_(model.roi_heads.box_predictor.cls_score.weight, std=0.5)
    return model.eval()


def by_hand(feature: Tensor, boxes: Tensor, stride: float, size: int = 1) -> Tensor:
    """RoIAlign of boxes in the input of the layers, with the stride of the map."""
    return roi_align(feature, [boxes], size, spatial_scale=1 / stride, aligned=True)


def test_boxes_of_torchvision_equal_roi_align_by_hand(picture: Any) -> None:
    model = faster_rcnn()
    found = tl.objects(model, [LAYER, "backbone['0']"], picture, threshold=0.0)
    assert len(found) > 5
    pixels = torch.from_numpy(picture).permute(2, 0, 1) / 255
    # The boxes before they are mapped to the image, which the heads return.
    with torch.no_grad():
        feats, output = tl.FeatureLayers(model, ["roi_heads[0][0]['boxes']", LAYER])([pixels])
    torch.testing.assert_close(found.boxes, output[0]["boxes"])
    expected = by_hand(feats[1], feats[0], 16).flatten(1)
    torch.testing.assert_close(found[LAYER], expected, rtol=1e-3, atol=1e-4)
    assert found.classes.tolist() == output[0]["labels"].tolist()
    square = tl.objects(model, LAYER, pixels, threshold=0.0, size=3)
    torch.testing.assert_close(square[LAYER], by_hand(feats[1], feats[0], 16, 3), rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["retinanet_resnet50_fpn", "fcos_resnet50_fpn", "ssdlite320_mobilenet_v3_large"])
def test_other_detectors_of_torchvision(name: str, picture: Any) -> None:
    """Each box mapped to the input by hand, with the sizes that the transform of the detector gives."""
    torch.manual_seed(0)
    small: dict[str, Any] = {} if "ssd" in name else {"min_size": 128, "max_size": 256}
    loaded = tl.models.load(f"torchvision:{name}", weights="random")
    model: Any = getattr(detection, name)(weights=None, weights_backbone=None, **small).eval()
    model.score_thresh = 0.0
    layer = "backbone.features.0" if "ssd" in name else "backbone.body.layer3"
    found = tl.objects(model, layer, picture, threshold=0.0)
    assert len(found)
    pixels = torch.from_numpy(picture).permute(2, 0, 1) / 255
    images, _ = model.transform([pixels])
    with torch.no_grad():
        feature, _ = tl.FeatureLayer(model, layer)([pixels])
    (height, width), boxes = images.image_sizes[0], found.boxes.clone()
    boxes[:, ::2] *= width / 200
    boxes[:, 1::2] *= height / 120
    stride = images.tensors.shape[-1] / feature.shape[-1]
    torch.testing.assert_close(found[layer], by_hand(feature, boxes, stride).flatten(1), rtol=1e-3, atol=1e-4)
    assert loaded.labels


STAGE = f"model.backbone.{'model' if TRANSFORMERS >= (5,) else 'conv_encoder.model'}.encoder.stages.2"


def detr(folder: Path) -> tl.models.LoadedModel:
    torch.manual_seed(0)
    backbone = transformers.ResNetConfig(
        embedding_size=16, hidden_sizes=[16, 16, 32, 32], depths=[1, 1, 1, 1], layer_type="basic",
        out_features=["stage4"],
    )  # fmt: skip
    config = transformers.DetrConfig(
        use_timm_backbone=False, use_pretrained_backbone=False, backbone=None, backbone_config=backbone, d_model=32,
        encoder_layers=1, decoder_layers=1, encoder_attention_heads=4, decoder_attention_heads=4, num_queries=6,
        encoder_ffn_dim=32, decoder_ffn_dim=32, num_labels=3, id2label={0: "cat", 1: "dog", 2: "car"},
        label2id={"cat": 0, "dog": 1, "car": 2},
    )  # fmt: skip
    transformers.DetrForObjectDetection(config).save_pretrained(folder)
    transformers.DetrImageProcessor(size={"shortest_edge": 96, "longest_edge": 192}).save_pretrained(folder)
    return tl.models.load(f"hf:{folder}")


def test_a_detector_of_transformers(tmp_path: Path, picture: Any) -> None:
    loaded = detr(tmp_path)
    layer = STAGE
    found = tl.objects(loaded, layer, picture, threshold=0.0)
    _, inputs = loaded.inputs(picture)
    with torch.no_grad():
        feature, output = tl.FeatureLayer(loaded.model, layer)(**inputs)
    centre, size = output.pred_boxes[0].split(2, -1)
    height, width = inputs["pixel_values"].shape[-2:]
    boxes = torch.cat([centre - size / 2, centre + size / 2], 1) * torch.tensor([width, height, width, height])
    assert len(found) == 6
    torch.testing.assert_close(found[layer], by_hand(feature, boxes, 16).flatten(1), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found.boxes, boxes * torch.tensor([200 / width, 120 / height] * 2), rtol=1e-4, atol=1e-2)
    assert set(found.labels) <= {"cat", "dog", "car"}
    assert repr(found).startswith("Objects(")


@pytest.mark.parametrize("kind", ["torchvision", "transformers"])
def test_a_store_has_a_row_for_each_object(kind: str, tmp_path: Path) -> None:
    model: Any = faster_rcnn() if kind == "torchvision" else detr(tmp_path / "model")
    layer = LAYER if kind == "torchvision" else STAGE
    random = np.random.default_rng(1)
    shapes = [(120, 200, 3), (90, 160, 3), (120, 200, 3), (64, 64, 3)]
    images = [(f"{number}", random.integers(0, 255, shape, dtype=np.uint8)) for number, shape in enumerate(shapes)]
    threshold = 0.1 if kind == "torchvision" else 0.0
    options: dict[str, Any] = {"objects": {"threshold": threshold}, "dtype": torch.float32, "shard_size": 2}
    store = tl.extract(model, layer, images, tmp_path / "out", **options)
    assert not store.errors
    for name, image in images:
        found = tl.objects(model, layer, image, threshold=threshold)
        if not len(found):
            continue
        boxes, scores, classes = store.objects(name)
        torch.testing.assert_close(boxes, found.boxes, rtol=1e-4, atol=1e-2)
        torch.testing.assert_close(scores, found.scores, rtol=1e-4, atol=1e-4)
        assert classes.tolist() == found.classes.tolist()
        torch.testing.assert_close(store[layer].item(name), found[layer], rtol=1e-3, atol=1e-3)
    again = tl.extract(model, layer, images, tmp_path / "out", **options)
    assert again.ids == store.ids
    with pytest.raises(tl.StoreMismatchError, match="objects"):
        tl.extract(model, layer, images, tmp_path / "out", **{**options, "objects": {"threshold": 0.9}})


def test_images_without_objects(tmp_path: Path) -> None:
    """They have no row, and the store says why."""
    random = np.random.default_rng(1)
    images = [(f"{number}", random.integers(0, 255, (64, 64, 3), dtype=np.uint8)) for number in range(3)]
    model = faster_rcnn()
    # The activations of random weights are tiny: without bias, and magnified, the scores differ between images.
    with torch.no_grad():
        model.roi_heads.box_head.fc6.weight *= 1e7
        model.roi_heads.box_head.fc6.bias.zero_()
        model.roi_heads.box_head.fc7.bias.zero_()
    scores = [tl.objects(model, LAYER, image, threshold=0.0).scores.max().item() for _, image in images]
    best = int(np.argmax(scores))
    second, first = sorted(scores)[-2:]
    assert first - second > 1e-3
    threshold = (first + second) / 2
    store = tl.extract(model, LAYER, images, tmp_path / "one", objects={"threshold": threshold}, shard_size=2)
    assert store.ids == (f"{best}",)
    assert {error.id for error in store.errors} == {"0", "1", "2"} - {f"{best}"}
    assert "no object was found" in store.errors[0].reason
    with pytest.raises(tl.ItemError, match="None of the 3 items has features"):
        tl.extract(model, LAYER, images, tmp_path / "none", objects={"threshold": 1.1})


class TestErrors:
    def test_no_detector(self, resnet18: nn.Module, picture: Any) -> None:
        with pytest.raises(tl.DetectorError, match="ResNet is not a detector"):
            tl.objects(resnet18, "layer1", picture)

    def test_no_map(self, picture: Any) -> None:
        with pytest.raises(tl.LayoutError, match=r"one map \[1, C, H, W\]"):
            tl.objects(faster_rcnn(), "backbone", picture)

    def test_no_objects_in_the_store(self, resnet18: nn.Module, tmp_path: Path) -> None:
        store = tl.extract(resnet18, "avgpool", torch.randn(2, 3, 64, 64), tmp_path)
        with pytest.raises(tl.FeatureNotFoundError):
            store.objects(0)
