"""Grad-CAM over the image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.nn import functional

from ..analysis import grad_cam
from ..analysis._maps import pick
from ._draw import Scale, add_colorbar, describe_positions, describe_values, draw, image_size, to_pixels
from ._figure import get_axes, get_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ALL_ZERO = "zero everywhere: this layer has no evidence for the class"


def plot_cam(
    feat: Tensor,
    grad: Tensor,
    image: Any,
    *,
    layout: str | None = None,
    sample: int = 0,
    opacity: float = 0.7,
    colorbar: bool = True,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draws Grad-CAM over the image, which stays unchanged where there is no evidence for the class.

    Args:
        feat: The feature, `[N, C, H, W]`. For tokens, apply `analysis.tokens_to_map` first.
        grad: The gradient of a class's logit with respect to the feature (the port `grad_output`), of the same shape.
        image: The image as the model received it: `[1, 3, H, W]` or `[3, H, W]` from 0 to 1 (`LoadedModel.image`), or
            anything that matplotlib's `imshow` accepts.
        layout: The order of the dimensions, such as `"NHWC"`. Default: None, the only order that the shape allows.
        sample: The index of the sample. Default: 0.
        opacity: The opacity at the maximum of the map, from 0 to 1; elsewhere it is proportional to the map. Default:
            0.7.
        colorbar: Whether to draw a colour bar. Default: True.
        title: The title. Default: None, no title.
        ax: The axes to draw into. Default: None, those of a new figure.

    Returns:
        The figure. It says so if the map is zero everywhere.

    Raises:
        ValueError: If `feat` and `grad` have different shapes.
        LayoutError: If the order of the dimensions is unknown, or the proportions are not those of the image.
        IndexError: If there is no such sample.
    """
    height, width = image_size(image)
    heat = pick(grad_cam(feat, grad, layout=layout, image_size=(height, width)), sample, "sample")
    ax = get_axes(ax, width=4.6)
    ax.imshow(to_pixels(image), extent=(0, width, height, 0))
    smooth = functional.interpolate(heat[None, None], (height, width), mode="bilinear", align_corners=False)[0, 0]
    shown = draw(
        ax,
        smooth,
        Scale(vmin=0, vmax=1, cmap="inferno"),
        extent=(0, width, height, 0),
        # Opacity follows the map: a constant one would darken the image where there is no evidence.
        alpha=(opacity * smooth.clamp(0, 1)).nan_to_num(0).numpy(),
    )
    ax.set(xlim=(0, width), ylim=(height, 0))
    is_zero = not bool(heat.nan_to_num(0).any())
    values = ALL_ZERO if is_zero else f"{describe_positions(heat)}; {describe_values(heat, shown)}"
    ax.set_label(f"Grad-CAM{f' {title}' if title else ''} over the image: {values}.")
    if is_zero:
        ax.text(0.5, -0.02, ALL_ZERO, transform=ax.transAxes, ha="center", va="top", fontsize="x-small")
    if title is not None:
        ax.set_title(title, fontsize="small")
    if colorbar:
        add_colorbar(ax, shown, "Grad-CAM")
    return get_figure(ax)
