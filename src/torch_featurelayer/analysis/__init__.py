"""Tensor functions on features, which need only torch.

Example:
    maps = tl.analysis.tokens_to_map(feat, image_size=(224, 224))
"""

from __future__ import annotations

from .attention_map import attention_map
from .channels import dead_channels, top_channels
from .cosine_map import cosine_map
from .grad_cam import grad_cam
from .pca import pca_rgb
from .tokens import token_grid, tokens_to_map

__all__ = [
    "attention_map",
    "cosine_map",
    "dead_channels",
    "grad_cam",
    "pca_rgb",
    "token_grid",
    "tokens_to_map",
    "top_channels",
]
