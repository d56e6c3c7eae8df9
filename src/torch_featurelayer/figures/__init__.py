"""Figures of features: tensors to matplotlib figures.

Every function returns a figure, draws into an `ax` where one is given, and
never shows anything. Magnitudes are in viridis, signed values in blue and red about zero; what is clipped is
printed, what is not a number is grey and counted.
"""

from __future__ import annotations

from ._figure import FeatureFigure, alt_text
from .attention import attention
from .cam import cam
from .channels import channels
from .contact_sheet import contact_sheet
from .cosine import cosine
from .depths import depths
from .feature_map import feature_map
from .histogram import histogram
from .overlay import overlay
from .pca import pca

__all__ = [
    "FeatureFigure",
    "alt_text",
    "attention",
    "cam",
    "channels",
    "contact_sheet",
    "cosine",
    "depths",
    "feature_map",
    "histogram",
    "overlay",
    "pca",
]
