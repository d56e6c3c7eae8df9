"""Features of generated text, aligned with its tokens."""

from __future__ import annotations

from ._generate import generate
from ._generation import Generation

__all__ = ["Generation", "generate"]
