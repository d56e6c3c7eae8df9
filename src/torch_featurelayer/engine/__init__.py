"""Capture: hooks that keep features right, for the length of one run."""

from .copying import HAS_COPY_ON_WRITE, ClonePolicy
from .options import Options
from .run import Run, Stop
from .session import installed, run_once, sites
from .sites import Site
from .slots import Gradient, Slot

__all__ = [
    "HAS_COPY_ON_WRITE",
    "ClonePolicy",
    "Gradient",
    "Options",
    "Run",
    "Site",
    "Slot",
    "Stop",
    "installed",
    "run_once",
    "sites",
]
