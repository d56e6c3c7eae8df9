"""Who makes the shards: this process, those that torchrun started, or Ray's actors."""

from __future__ import annotations

from .engine import Engine, EngineName, Local, engine_of

__all__ = ["Engine", "EngineName", "Local", "engine_of"]
