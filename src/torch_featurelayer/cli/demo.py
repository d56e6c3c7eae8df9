"""`featurelayer demo`: a first look."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from .options import output


def demo(out: Annotated[Path, output("demo.png")] = Path("demo.png")) -> None:
    """Shows [bold]what a pretrained network sees in a photo of a cat[/], without a network or a file of your own."""
    from ..demo import run

    run(out)
