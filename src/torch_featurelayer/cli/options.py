"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

MODEL_HELP = (
    "[bold]torchvision:NAME[/], [bold]timm:NAME[/], [bold]hf:FOLDER-OR-ID[/], "
    "[bold]package.module:callable[/] (imported and called) or [bold]efficientnet-lite0[/]."
)

Model = Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)]
Image = Annotated[Path, typer.Argument(metavar="IMAGE", help="An image file, in any format that Pillow reads.")]
Layers = Annotated[
    list[str] | None,
    typer.Option("--layer", "-l", metavar="ADDRESS", help="A layer; may be repeated. [dim]\\[default: the stages][/]"),
]
Layer = Annotated[
    str | None,
    typer.Option("--layer", "-l", metavar="ADDRESS", help="A layer. [dim]\\[default: the last stage][/]"),
]
StoredLayer = Annotated[
    str | None,
    typer.Option("--layer", "-l", metavar="ADDRESS", help="A layer of the store. [dim]\\[default: the last one][/]"),
]
Store = Annotated[str, typer.Argument(metavar="STORE", help="A folder that [bold]featurelayer extract[/] wrote.")]
Weights = Annotated[
    str,
    typer.Option(
        "--weights",
        "-w",
        metavar="default|random|FILE",
        help="[bold]default[/] (from the library of the model), [bold]random[/], or the file of a state dict.",
    ),
]
Device = Annotated[
    str | None,
    typer.Option("--device", metavar="DEVICE", help="cpu, cuda, cuda:1 or mps. [dim]\\[default: cpu][/]"),
]
Seed = Annotated[int, typer.Option("--seed", help="The seed of random weights.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def output_option(help: str = "The figure to write: .png, .svg or .pdf.") -> object:  # noqa: A002 (typer's word)
    """Returns the option of the file that a command writes."""
    return typer.Option("--out", "-o", metavar="FILE", help=help)


def parse_channel(text: str | int) -> Any:
    """Returns the value of `--channel`: mean, max, norm, or the number of a channel.

    Raises:
        typer.BadParameter: If it is none of these.
    """
    if text in ("mean", "max", "norm"):
        return text
    if str(text).isdigit():
        return int(text)
    raise typer.BadParameter(f"{text!r} is not mean, max, norm or the number of a channel")


Channel = Annotated[
    Any,
    typer.Option(
        "--channel",
        "-c",
        parser=parse_channel,
        metavar="mean|max|norm|NUMBER",
        help="How channels are reduced to one map, or the number of one channel.",
    ),
]
