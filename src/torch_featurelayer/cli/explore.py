"""`featurelayer explore`: look inside in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import loaded, say
from .options import MODEL_HELP, Device, Seed, Weights


def explore(
    what: Annotated[
        list[str],
        typer.Argument(metavar="MODEL [MODEL2] IMAGE...", help=f"One or two models, then images. {MODEL_HELP}"),
    ],
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Default: one that is free.")] = 0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page.")] = True,
    weights: Weights = "default",
    device: Device = None,
    seed: Seed = 0,
) -> None:
    """Opens [bold]a model in the browser[/]: layers, channels, and one place through all of them.

    Example: featurelayer explore efficientnet-lite0 cat.jpg
    """
    specs, files = split(what)
    models = [loaded(spec, weights, device, seed) for spec in specs]
    from ..explorer import Explorer, serve
    from ..explorer.views import Picture
    from ..images import opened

    pictures = [Picture(file.name, opened(file)) for file in files]
    serve(Explorer(models, pictures), port=port, browser=browser, say=say)


def split(what: list[str]) -> tuple[list[str], list[Path]]:
    """Returns models and images: the first is a model, and so is the second unless it is a file.

    Raises:
        typer.BadParameter: There is no image.
    """
    second = len(what) > 1 and not Path(what[1]).is_file() and ":" in what[1]
    models = what[: 1 + second]
    images = [Path(name) for name in what[len(models) :]]
    if not images:
        raise typer.BadParameter("give an image: featurelayer explore MODEL IMAGE")
    return models, images
