"""`featurelayer demo`: a first look."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from .options import output_option


def demo(out: Annotated[Path, output_option()] = Path("demo.png")) -> None:
    """Shows [bold]the features of a pretrained network[/] for a photo of a cat; needs no network and no files."""
    from ..demo import run

    run(out)
