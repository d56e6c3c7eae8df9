"""What several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

MODEL_HELP = (
    "[bold]torchvision:NAME[/], [bold]timm:NAME[/], [bold]hf:FOLDER-OR-ID[/], "
    "[bold]package.module:callable[/] (imported and called) or [bold]efficientnet-lite0[/]."
)
WEIGHTS_HELP = "[bold]default[/] (the library's own), [bold]random[/], or the file of a state dict."

Model = Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)]
Image = Annotated[Path, typer.Argument(metavar="IMAGE", help="A photo: whatever Pillow opens.")]
Layers = Annotated[
    list[str] | None,
    typer.Option("--layer", "-l", metavar="ADDRESS", help="A layer to show; repeat it for more. Default: the stages."),
]
Layer = Annotated[str | None, typer.Option("--layer", "-l", metavar="ADDRESS", help="Default: the last stage.")]
Weights = Annotated[str, typer.Option("--weights", "-w", metavar="default|random|FILE", help=WEIGHTS_HELP)]
Device = Annotated[str | None, typer.Option("--device", help="Such as cpu, cuda or mps.")]
Seed = Annotated[int, typer.Option("--seed", help="Of random weights.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def output(name: str) -> object:
    """Returns the option for the file that a command writes."""
    return typer.Option("--out", "-o", metavar="FILE", help=f"The picture: .png, .svg or .pdf. Default: {name}.")
