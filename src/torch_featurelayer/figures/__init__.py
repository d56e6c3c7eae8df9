"""Figures of features, drawn with matplotlib.

Every function returns a figure, draws into `ax` if it is given, and never calls `show()`. Magnitudes are drawn in
viridis and signed values in a diverging colour map that is white at zero. The share of clipped values is printed;
values that are not finite are grey and counted.
"""

from __future__ import annotations

from ._figure import FeatureFigure, alt_text
from .attention import plot_attention
from .cam import plot_cam
from .channels import plot_channels
from .cosine import plot_cosine
from .diff import plot_diff
from .feature_map import plot_feature_map
from .health import plot_health
from .histogram import plot_histogram
from .image_grid import plot_image_grid
from .layer_grid import plot_layer_grid
from .overlay import plot_overlay
from .pca import plot_pca
from .probe import plot_probe
from .token_map import plot_token_map
from .top_items import plot_top_items

__all__ = [
    "FeatureFigure",
    "alt_text",
    "plot_attention",
    "plot_cam",
    "plot_channels",
    "plot_cosine",
    "plot_diff",
    "plot_feature_map",
    "plot_health",
    "plot_histogram",
    "plot_image_grid",
    "plot_layer_grid",
    "plot_overlay",
    "plot_pca",
    "plot_probe",
    "plot_token_map",
    "plot_top_items",
]
