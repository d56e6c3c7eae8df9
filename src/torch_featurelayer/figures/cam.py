"""Grad-CAM: where a class was seen.

Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks via
Gradient-based Localization", arXiv:1610.02391.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from .overlay import overlay

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def grad_cam(feat: Tensor, grad: Tensor, *, size: tuple[int, int] | None = None) -> Tensor:
    """Computes Grad-CAM: channels weighed by their mean gradient, summed, and what is positive of it.

    Args:
        feat: The feature, `[N, C, H, W]`. (`fold` takes tokens.)
        grad: The gradient of a class's logit with respect to it: the port `grad_output`; the same shape.
        size: Height and width to stretch the map to, bilinearly; None leaves it.

    Returns:
        `[N, H, W]`, float32 on the host, from 0 to 1 for each sample; all 0 where nothing speaks for the class.

    Raises:
        ValueError: The two are not maps of one shape.
    """
    if feat.ndim != 4 or feat.shape != grad.shape:
        raise ValueError(f"Grad-CAM takes a map and its gradient, of one shape: {list(feat.shape)}, {list(grad.shape)}")
    feat, grad = (part.detach().to("cpu", torch.float32) for part in (feat, grad))
    summed = (grad.mean((2, 3), keepdim=True) * feat).sum(1).relu()
    if size is not None:
        summed = functional.interpolate(summed[:, None], size, mode="bilinear", align_corners=False)[:, 0]
    summed = summed - summed.amin((1, 2), keepdim=True)
    return summed / (summed.amax((1, 2), keepdim=True) + 1e-7)


def cam(
    feat: Tensor,
    grad: Tensor,
    photo: Any,
    *,
    sample: int = 0,
    opacity: float = 0.5,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draws Grad-CAM over the photo.

    Args:
        feat: As in `grad_cam`.
        grad: As in `grad_cam`.
        photo: As in `overlay`.
        sample: Which of the samples.
        opacity: Of the map.
        title: A title.
        ax: Where to draw; None makes a figure of its own.

    Returns:
        The figure.

    Raises:
        ValueError: As `grad_cam`.
    """
    heat = grad_cam(feat, grad)[sample]
    return overlay(heat, photo, opacity=opacity, cmap="inferno", title=title, ax=ax)
