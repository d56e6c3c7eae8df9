"""Who makes the shards: this process, those that torchrun started, or Ray's actors."""

from __future__ import annotations

from .engine import Engine, Local, engine_of

__all__ = ["Engine", "Local", "engine_of"]
