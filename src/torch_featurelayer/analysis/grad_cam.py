"""Grad-CAM: the evidence for a class, by place.

Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks via
Gradient-based Localization", arXiv:1610.02391.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ._maps import maps_of


def grad_cam(
    feat: Tensor,
    grad: Tensor,
    *,
    layout: str | None = None,
    image_size: tuple[int, int] | None = None,
    size: tuple[int, int] | None = None,
) -> Tensor:
    """Computes Grad-CAM: channels weighed by their mean gradient, summed, and the positive part of the sum.

    Args:
        feat: The feature, `[N, C, H, W]`. For tokens: `tokens_to_map`.
        grad: The gradient of a class's logit with respect to it: the port `grad_output`; the same shape.
        layout: The order of the dimensions, such as `"NHWC"`. Default: None, the one that the shape allows.
        image_size: Height and width of the image in pixels, which help to find the layout. Default: None.
        size: Height and width to stretch the map to, bilinearly. Default: None, as it is.

    Returns:
        `[N, H, W]`, float32 on the host, from 0 to 1 for each sample; all 0 where there is no evidence for the class.

    Raises:
        ValueError: If the two have different shapes.
        LayoutError: If the order of their dimensions is not known.
    """
    if not isinstance(feat, Tensor) or not isinstance(grad, Tensor) or feat.shape != grad.shape:
        shapes = [list(part.shape) if isinstance(part, Tensor) else type(part).__name__ for part in (feat, grad)]
        raise ValueError(f"Grad-CAM takes a map and its gradient, of one shape: {shapes[0]}, {shapes[1]}")
    feat, grad = (maps_of(part.detach().to("cpu", torch.float32), layout, image_size) for part in (feat, grad))
    summed = (grad.mean((2, 3), keepdim=True) * feat).sum(1).relu()
    if size is not None:
        summed = functional.interpolate(summed[:, None], size, mode="bilinear", align_corners=False)[:, 0]
    summed = summed - summed.amin((1, 2), keepdim=True)
    return summed / (summed.amax((1, 2), keepdim=True) + 1e-7)
