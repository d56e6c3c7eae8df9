"""`featurelayer explore`: the explorer in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import load_model, print_lines
from .options import MODEL_HELP, Device, Seed, Weights

_BUNDLED = "efficientnet-lite0"  # the only name of a model without a colon


def explore(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="MODEL [MODEL2] IMAGE...", help=f"One or two models, then images. {MODEL_HELP}"),
    ],
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="The port; 0 for any free port.")] = 0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Whether to open the page.")] = True,
    weights: Weights = "default",
    device: Device = None,
    seed: Seed = 0,
) -> None:
    """Opens [bold]a model in the browser[/]: layers, channels, and one position through all layers.

    Example: featurelayer explore efficientnet-lite0 cat.jpg
    """
    from .._optional import need

    need("starlette", "explore")
    need("uvicorn", "explore")
    specs, files = split(sources)
    models = [load_model(spec, weights, device, seed) for spec in specs]
    from ..explorer import Explorer, serve
    from ..explorer.session import Picture
    from ..images import open_image

    pictures = [Picture(file.name, open_image(file)) for file in files]
    serve(Explorer(models, pictures), port=port, browser=browser, say=print_lines)


def split(sources: list[str]) -> tuple[list[str], list[Path]]:
    """Returns models and images: the first source is a model, and the second too unless it is a file.

    Raises:
        typer.BadParameter: If there is no image.
    """
    second = len(sources) > 1 and not Path(sources[1]).is_file() and (":" in sources[1] or sources[1] == _BUNDLED)
    models = sources[: 1 + second]
    images = [Path(name) for name in sources[len(models) :]]
    if not images:
        raise typer.BadParameter("give an image: featurelayer explore MODEL IMAGE")
    return models, images
