"""Figures of features: tensors to matplotlib figures.

Every function returns a figure, draws into an `ax` where one is given, and
never shows anything. Magnitudes are in viridis; what is clipped is said, what
is not a number is grey and counted.
"""

from __future__ import annotations

from ._figure import FeatureFigure, alt_text
from .attention import attention, attention_map
from .cam import cam, grad_cam
from .channels import channels, top_channels
from .contact_sheet import contact_sheet
from .cosine import cosine, cosine_map
from .depths import depths
from .histogram import dead_channels, histogram
from .maps import feature_map
from .overlay import overlay
from .pca import pca, pca_rgb
from .tokens import fold

__all__ = [
    "FeatureFigure",
    "alt_text",
    "attention",
    "attention_map",
    "cam",
    "channels",
    "contact_sheet",
    "cosine",
    "cosine_map",
    "dead_channels",
    "depths",
    "feature_map",
    "fold",
    "grad_cam",
    "histogram",
    "overlay",
    "pca",
    "pca_rgb",
    "top_channels",
]
