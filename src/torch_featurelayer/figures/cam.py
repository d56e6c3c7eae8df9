"""Grad-CAM over the photo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.nn import functional

from ..analysis import grad_cam
from ..analysis._maps import pick
from ._draw import Scale, add_colorbar, describe_positions, describe_values, draw, pixels_of, size_of
from ._figure import axes_of, figure_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ALL_ZERO = "zero everywhere: no position of this layer is evidence for the class"


def cam(
    feat: Tensor,
    grad: Tensor,
    photo: Any,
    *,
    layout: str | None = None,
    sample: int = 0,
    opacity: float = 0.7,
    colorbar: bool = True,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draws Grad-CAM over the photo, which stays as it is where there is no evidence.

    Args:
        feat: As in `grad_cam`.
        grad: As in `grad_cam`.
        photo: As in `overlay`.
        layout: As in `grad_cam`.
        sample: The index of the sample. Default: 0.
        opacity: The opacity of the map where it is greatest; elsewhere it follows the map. Default: 0.7.
        colorbar: Draw the scale beside the map. Default: True.
        title: A title. Default: None.
        ax: The axes to draw into. Default: None, those of a new figure.

    Returns:
        The figure; a map that is zero everywhere says so.

    Raises:
        ValueError: If the two have different shapes.
        LayoutError: If the order of their dimensions is not known, or they are no maps of the photo.
        IndexError: If there is no such sample.
    """
    height, width = size_of(photo)
    heat = pick(grad_cam(feat, grad, layout=layout, image_size=(height, width)), sample, "sample")
    ax = axes_of(ax, width=4.6)
    ax.imshow(pixels_of(photo), extent=(0, width, height, 0))
    smooth = functional.interpolate(heat[None, None], (height, width), mode="bilinear", align_corners=False)[0, 0]
    shown = draw(
        ax,
        smooth,
        Scale(vmin=0, vmax=1, cmap="inferno"),
        extent=(0, width, height, 0),
        alpha=(opacity * smooth.clamp(0, 1)).nan_to_num(0).numpy(),
    )
    ax.set(xlim=(0, width), ylim=(height, 0))
    is_zero = not bool(heat.nan_to_num(0).any())
    said = ALL_ZERO if is_zero else f"{describe_positions(heat)}; {describe_values(heat, shown)}"
    ax.set_label(f"Grad-CAM{f' {title}' if title else ''} over the photo: {said}.")
    if is_zero:
        ax.text(0.5, -0.02, ALL_ZERO, transform=ax.transAxes, ha="center", va="top", fontsize="x-small")
    if title is not None:
        ax.set_title(title, fontsize="small")
    if colorbar:
        add_colorbar(ax, shown, "Grad-CAM, from none to most")
    return figure_of(ax)
