"""Finds the layer where something goes wrong."""

from ._guard import guard

__all__ = ["guard"]
