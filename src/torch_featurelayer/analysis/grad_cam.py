"""Grad-CAM: the evidence for a class at each position.

Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization",
arXiv:1610.02391.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ._maps import to_maps
from ._scaling import scale_down


def grad_cam(
    feat: Tensor,
    grad: Tensor,
    *,
    layout: str | None = None,
    image_size: tuple[int, int] | None = None,
    size: tuple[int, int] | None = None,
) -> Tensor:
    """Computes Grad-CAM: the positive part of the sum of channels, each weighted by its mean gradient.

    Args:
        feat: The feature, `[N, C, H, W]`. For tokens, apply `tokens_to_map` first.
        grad: The gradient of a class's logit with respect to the feature (the port `grad_output`), of the same shape.
        layout: The order of the dimensions, such as `"NHWC"`. Default: None, the only order that the shape allows.
        image_size: The height and width of the image in pixels, which help to determine the layout. Default: None.
        size: The height and width of the result, interpolated bilinearly. Default: None, those of the feature.

    Returns:
        A new float32 tensor `[N, H, W]` on the CPU, without gradient, scaled to 0 to 1 for each sample. It is zero
        everywhere if no position is evidence for the class.

    Raises:
        ValueError: If `feat` and `grad` have different shapes.
        LayoutError: If the order of the dimensions is unknown.
    """
    if not isinstance(feat, Tensor) or not isinstance(grad, Tensor) or feat.shape != grad.shape:
        shapes = [list(part.shape) if isinstance(part, Tensor) else type(part).__name__ for part in (feat, grad)]
        raise ValueError(f"feat and grad must be tensors of the same shape, not {shapes[0]} and {shapes[1]}")
    feat, grad = (to_maps(part.detach().to("cpu", torch.float32), layout, image_size) for part in (feat, grad))
    weights = scale_down(grad, (1, 2, 3)).mean((2, 3), keepdim=True)
    summed = (weights * scale_down(feat, (1, 2, 3))).sum(1).relu()
    if size is not None:
        summed = functional.interpolate(summed[:, None], size, mode="bilinear", align_corners=False)[:, 0]
    summed = summed - summed.amin((1, 2), keepdim=True)
    return scale_down(summed, (1, 2))
