"""Code that calls a model in its own way: Lightning modules, diffusion pipelines, detectors with lists of images."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DDPMPipeline, DiTTransformer2DModel, UNet2DModel
from torch import Tensor, nn
from torchvision.models import detection

import torch_featurelayer as tl


class Clones:
    """The outputs of a module, cloned when its hook runs: the reference."""

    def __init__(self, module: nn.Module) -> None:
        self.kept: list[Tensor] = []
        self.handle = module.register_forward_hook(lambda _, __, output: self.kept.append(output.detach().clone()))


@pytest.fixture
def unet() -> Any:
    torch.manual_seed(0)
    return UNet2DModel(
        sample_size=16, in_channels=3, out_channels=3, layers_per_block=1, block_out_channels=(8, 16),
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=4,
    ).eval()  # fmt: skip


def test_each_step_of_a_diffusion_pipeline(unet: Any) -> None:
    pipeline = DDPMPipeline(unet, DDIMScheduler(num_train_timesteps=20))
    pipeline.set_progress_bar_config(disable=True)
    reference = Clones(unet.mid_block)
    with tl.capture(unet, ["mid_block", "up_blocks.1:output"], keep="all") as feats:
        first = pipeline(num_inference_steps=4, generator=torch.manual_seed(1), output_type="np").images
    assert len(feats["mid_block"]) == 4
    for ours, right in zip(feats["mid_block"], reference.kept, strict=True):
        assert torch.equal(ours, right)
    with tl.edit(unet, {"mid_block": 0.0}):
        edited = pipeline(num_inference_steps=4, generator=torch.manual_seed(1), output_type="np").images
    assert abs(first - edited).max() > 1e-3
    with tl.guard(unet):
        pipeline(num_inference_steps=2, generator=torch.manual_seed(1), output_type="np")


def test_a_diffusion_transformer_called_step_by_step() -> None:
    torch.manual_seed(0)
    model: Any = DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=3, sample_size=8,
        num_embeds_ada_norm=8,
    ).eval()  # fmt: skip
    inputs = {"hidden_states": torch.randn(1, 4, 8, 8), "class_labels": torch.tensor([3])}
    reference = Clones(model.transformer_blocks[1])
    with torch.no_grad(), tl.capture(model, "transformer_blocks.*", keep="all") as feats:
        for step in (9, 5, 1):
            model(timestep=torch.tensor([step]), **inputs)
    assert feats.names == tuple(f"transformer_blocks.{number}" for number in range(3))
    assert all(map(torch.equal, feats["transformer_blocks.1"], reference.kept))
    assert tl.layers(model, timestep=torch.tensor([1]), **inputs)["transformer_blocks.1"].calls == 1
    mean, _ = tl.FeatureLayer(model, "transformer_blocks.1", reduce="mean")(timestep=torch.tensor([1]), **inputs)
    torch.testing.assert_close(mean, reference.kept[-1].mean(1))


def test_a_lightning_module() -> None:
    import lightning

    class Classifier(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.features, self.head = nn.Sequential(nn.Linear(4, 8), nn.ReLU()), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.features(x))

        def training_step(self, batch: Any, _: int) -> Tensor:
            # It calls layers itself, not the module.
            return nn.functional.cross_entropy(self.head(self.features(batch[0])), batch[1])

    model, x = Classifier(), torch.randn(6, 4)
    feat, _ = tl.FeatureLayer(model, "features")(x)
    assert torch.equal(feat, model.features(x))
    with tl.capture(model, ["features", "features.1:grad_output"], keep="all") as feats:
        for _ in range(2):
            model.training_step((x, torch.zeros(6, dtype=torch.long)), 0).backward()
    assert len(feats["features"]) == 2
    assert feats["features.1:grad_output"][0].shape == (6, 8)


@pytest.mark.parametrize("training", [False, True])
def test_a_detector_takes_lists_of_images(training: bool) -> None:
    model: Any = detection.fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None).train(training)
    images = [torch.rand(3, 100, 140), torch.rand(3, 90, 90)]
    boxes = [{"boxes": torch.tensor([[5.0, 5.0, 40.0, 50.0]]), "labels": torch.tensor([1])} for _ in images]
    reference = Clones(model.backbone.body["12"])
    feats, output = tl.FeatureLayers(model, ["backbone.body.12", "backbone['0']", "rpn.head[0]"])(images, boxes)
    assert torch.equal(feats[0], reference.kept[0])
    assert isinstance(output, dict if training else list)
