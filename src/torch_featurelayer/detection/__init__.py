"""Features of detected objects."""

from __future__ import annotations

from ._detectors import detect
from ._objects import Objects, objects, pool_boxes

__all__ = ["Objects", "detect", "objects", "pool_boxes"]
