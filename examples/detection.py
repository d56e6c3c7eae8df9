"""Object detection: a detector on top of a network that stays as it is.

Three stages of a frozen EfficientNet-Lite0 go through a feature pyramid to the head of FCOS, and only these learn, on
photos into which discs, squares and triangles were painted, until they find the boxes. Sources: Lin et al., "Feature
Pyramid Networks for Object Detection", 2017; Tian et al., "FCOS", 2019; both are torchvision's.

    python -m examples.detection [--steps 300] [--out boxes.jpg]
"""

from __future__ import annotations

import random
from pathlib import Path

import torch
import typer
from PIL import ImageDraw
from torch import Tensor, nn
from torchvision.models.detection import FCOS
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork, box_iou
from torchvision.transforms import functional as transforms
from torchvision.utils import draw_bounding_boxes

import torch_featurelayer as tl
from examples._photos import crops

SIDE, CLASSES = 160, ("", "disc", "square", "triangle")
STAGES, CHANNELS = ("_blocks.4", "_blocks.10", "_blocks.15"), (40, 112, 320)
Target = dict[str, Tensor]


class FrozenPyramid(nn.Module):
    """The backbone of a detector: stages of a network that does not learn, and a pyramid that does."""

    out_channels = 64

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.layers = tl.FeatureLayers(model.requires_grad_(False), STAGES, detach=True)
        self.pyramid = FeaturePyramidNetwork(list(CHANNELS), self.out_channels)

    def train(self, mode: bool = True) -> FrozenPyramid:
        super().train(mode)
        self.layers.eval()  # its statistics stay those of the photos it was trained on
        return self

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps: dict[str, Tensor] = self.pyramid(self.layers.features(images).to_dict())
        return maps


def detector() -> FCOS:
    loaded = tl.models.load("efficientnet-lite0")
    anchors = AnchorGenerator(((16,), (32,), (64,)), ((1.0,),) * 3)
    mean, std = loaded.preprocess.mean, loaded.preprocess.std
    sizes = {"min_size": SIDE, "max_size": SIDE, "image_mean": mean, "image_std": std}
    return FCOS(FrozenPyramid(loaded.model), len(CLASSES), anchor_generator=anchors, **sizes)


def scene(background: Tensor, draw: random.Random) -> tuple[Tensor, Target]:
    """Paints one to three things into a photo `[3, H, W]`; returns it with their boxes and classes."""
    image = transforms.to_pil_image(background)
    pen, boxes, labels = ImageDraw.Draw(image), [], []
    for _ in range(draw.randint(1, 3)):
        size = draw.randint(22, 56)
        left, top = draw.randint(0, SIDE - size - 1), draw.randint(0, SIDE - size - 1)
        box = (left, top, left + size, top + size)
        if boxes and box_iou(torch.tensor([box]).float(), torch.tensor(boxes).float()).max() > 0:
            continue
        kind, colour = draw.randint(1, 3), tuple(draw.randint(0, 255) for _ in range(3))
        paint(pen, CLASSES[kind], box, colour)
        boxes.append(box)
        labels.append(kind)
    return transforms.to_tensor(image), {"boxes": torch.tensor(boxes).float(), "labels": torch.tensor(labels)}


def paint(pen: ImageDraw.ImageDraw, kind: str, box: tuple[int, ...], colour: tuple[int, ...]) -> None:
    left, top, right, bottom = box
    if kind == "triangle":
        pen.polygon([(left, bottom), ((left + right) // 2, top), (right, bottom)], fill=colour)
    else:
        {"disc": pen.ellipse, "square": pen.rectangle}[kind](box, fill=colour)


def scenes(photos: tuple[str, ...], count: int, seed: int) -> list[tuple[Tensor, Target]]:
    draw = random.Random(seed)
    grounds = [transforms.to_tensor(crop) for name in photos for crop in crops(name, 30, SIDE, seed, smallest=160)]
    return [scene(draw.choice(grounds), draw) for _ in range(count)]


def train(model: FCOS, steps: int, batch: int = 8) -> list[float]:
    """Trains the pyramid and the head; returns the losses."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    seen, draw, losses = scenes(("coffee", "astronaut", "china", "flower"), 400, 0), random.Random(1), []
    model.train()
    for _ in range(steps):
        images, targets = zip(*draw.sample(seen, batch), strict=True)
        loss = sum(model(list(images), list(targets)).values())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(learning, 5)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses


def found(model: FCOS, images: list[Tensor], least: float = 0.4) -> list[Target]:
    """Returns the boxes, classes and scores of what is found in each image."""
    with torch.no_grad():
        answers = model.eval()(images)
    return [{key: value[one["scores"] > least] for key, value in one.items()} for one in answers]


def score(answers: list[Target], right: list[Target], overlap: float = 0.5) -> tuple[float, float]:
    """Returns which share of the things was found, by its box and class, and which share of the boxes is right."""
    hits = things = boxes = 0
    for answer, target in zip(answers, right, strict=True):
        fits = box_iou(target["boxes"], answer["boxes"]) >= overlap
        fits &= target["labels"][:, None] == answer["labels"][None]
        hits += int(fits.any(1).sum())
        things, boxes = things + len(target["labels"]), boxes + len(answer["labels"])
    return hits / things, hits / max(boxes, 1)


def main(out: Path = Path("boxes.jpg"), steps: int = 300) -> None:
    """Trains, and draws what is found in photos that were not trained on."""
    torch.manual_seed(0)
    model, (images, right) = detector(), zip(*scenes(("chelsea", "rocket"), 40, 7), strict=True)
    losses = train(model, steps)
    answers = found(model, list(images))
    recall, precision = score(answers, list(right))
    print(f"loss {losses[0]:.2f} to {losses[-1]:.2f}")
    print(f"{recall:.0%} of the things were found, {precision:.0%} of the boxes are right")
    drawn = [
        draw_bounding_boxes(image, one["boxes"], [CLASSES[kind] for kind in one["labels"]], "lime", width=2)
        for image, one in zip(images[:8], answers, strict=False)
    ]
    tl.figures.plot_image_grid(drawn, [""] * 8, columns=8).savefig(out, dpi=80)


if __name__ == "__main__":
    typer.run(main)
