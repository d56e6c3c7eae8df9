"""Capture: hooks that keep features right, for the length of one run."""

from .copying import HAS_COPY_ON_WRITE, ClonePolicy
from .edits import Edits
from .edits import Value as EditValue
from .options import Options
from .places import Places
from .recording import Recording
from .run import Run, Stop
from .session import run_once
from .slots import Gradient, Slot
from .survey import survey

__all__ = [
    "HAS_COPY_ON_WRITE",
    "ClonePolicy",
    "EditValue",
    "Edits",
    "Gradient",
    "Options",
    "Places",
    "Recording",
    "Run",
    "Slot",
    "Stop",
    "run_once",
    "survey",
]
