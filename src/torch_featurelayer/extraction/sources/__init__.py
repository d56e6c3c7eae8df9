"""What a dataset is made of: items with an id, in an order that does not change."""

from __future__ import annotations

from .items import Items, Prepare, Stream
from .kinds import source_of

__all__ = ["Items", "Prepare", "Stream", "source_of"]
