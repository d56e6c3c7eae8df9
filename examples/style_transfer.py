"""Style transfer: one picture painted in the manner of another.

The pixels are moved until the features of a deep layer are those of the content and the correlations of channels in
shallow layers are those of the style: features as losses, with the gradient back to the image. Source: Gatys, Ecker
and Bethge, "Image Style Transfer Using Convolutional Neural Networks", 2016; here with EfficientNet-Lite0.

    python -m examples.style_transfer [--steps 300] [--out style.jpg]
"""

from __future__ import annotations

from pathlib import Path

import torch
import typer
from torch import Tensor
from torchvision.transforms import functional as transforms

import torch_featurelayer as tl
from examples._photos import square

CONTENT = ["_blocks.4"]
STYLE = ["_conv_stem", "_blocks.0", "_blocks.1._swish@0", "_blocks.2", "_blocks.3._swish@0", "_blocks.4"]
STYLE_WEIGHT, SMOOTHNESS = 3.0, 3.0


def gram(feat: Tensor) -> Tensor:
    """Returns the correlations of channels `[N, C, C]` of maps `[N, C, H, W]`: what is there, wherever it is."""
    flat = feat.flatten(2)
    return flat @ flat.transpose(1, 2) / flat.shape[2]


def roughness(image: Tensor) -> Tensor:
    """Returns how much neighbouring pixels differ (total variation)."""
    return image.diff(dim=2).abs().mean() + image.diff(dim=3).abs().mean()


def transfer(content: Tensor, style: Tensor, steps: int) -> tuple[Tensor, list[float]]:
    """Paints a picture.

    Args:
        content: What is shown: `[1, 3, H, W]`, from 0 to 1.
        style: Whose manner, the same.
        steps: How many.

    Returns:
        The picture `[1, 3, H, W]`, from 0 to 1, and the loss of each step.
    """
    loaded = tl.models.load("efficientnet-lite0")
    normalize = loaded.preprocess.mean, loaded.preprocess.std
    layers = tl.FeatureLayers(loaded.model.requires_grad_(False), [*dict.fromkeys(CONTENT + STYLE)])
    with torch.no_grad():
        wanted = layers.features(transforms.normalize(content, *normalize))
        manner = layers.features(transforms.normalize(style, *normalize))
    image, losses = content.clone().requires_grad_(), []
    optimizer = torch.optim.Adam([image], lr=0.02)
    for _ in range(steps):
        feats = layers.features(transforms.normalize(image, *normalize))
        shown = sum((feats[name] - wanted[name]).square().mean() / wanted[name].square().mean() for name in CONTENT)
        painted = sum(
            (gram(feats[name]) - gram(manner[name])).square().sum() / gram(manner[name]).square().sum()
            for name in STYLE
        )
        loss = shown + STYLE_WEIGHT * painted + SMOOTHNESS * roughness(image)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        image.data.clamp_(0, 1)
        losses.append(loss.item())
    return image.detach(), losses


def main(out: Path = Path("style.jpg"), steps: int = 300, side: int = 256) -> None:
    """Draws two contents in two manners."""
    pictures = {name: transforms.to_tensor(square(name, side))[None] for name in ("chelsea", "china", "rocket")}
    images, titles = [], []
    for content, style in (("chelsea", "china"), ("china", "rocket")):
        painted, losses = transfer(pictures[content], pictures[style], steps)
        images += [pictures[content][0], pictures[style][0], painted[0]]
        titles += [content, f"in the manner of {style}", f"loss {losses[0]:.2f} to {losses[-1]:.2f}"]
    tl.figures.plot_image_grid(images, titles, columns=6).savefig(out, dpi=80)


if __name__ == "__main__":
    typer.run(main)
