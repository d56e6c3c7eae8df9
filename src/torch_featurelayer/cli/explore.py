"""`featurelayer explore`: the explorer in the browser."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from .._optional import need
from .console import load_model, print_lines, status
from .options import MODEL_HELP, Device, Layers, Seed, Weights

if TYPE_CHECKING:
    from ..explorer import Picture

_NAME: Final = re.compile(r"(timm|torchvision|hf|[\w.]+):\S+$")
_BUNDLED: Final = "efficientnet-lite0"  # the only name of a model without a colon


def explore(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL [MODEL2] [INPUT...]",
            help=f"One or two models, then images, folders of images, or texts. {MODEL_HELP}",
        ),
    ],
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data",
            metavar="STORE|STATISTICS|FOLDER",
            help="A store of features, a file of statistics, a folder of images, or a text file with a text in each "
            "line. Repeat it to give the second model its own.",
        ),
    ] = None,
    layer: Layers = None,
    samples: Annotated[
        Path | None,
        typer.Option("--samples", metavar="PATH", help="The images or texts of a store, if they were moved."),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            "--cache",
            metavar="FOLDER",
            help="Where statistics and features of a folder are kept. [dim]\\[default: the caches of the user][/]",
        ),
    ] = None,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="The port; 0 for any free port.")] = 0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Whether to open the page.")] = True,
    weights: Weights = "default",
    second_weights: Annotated[
        str | None,
        typer.Option(
            "--second-weights",
            metavar="default|random|FILE",
            help="Those of the second model, to compare two checkpoints. [dim]\\[default: --weights][/]",
        ),
    ] = None,
    device: Device = None,
    seed: Seed = 0,
) -> None:
    """Opens [bold]a model in the browser[/]: layers, channels, one position through all layers, and a dataset.

    Example: featurelayer explore efficientnet-lite0 cat.jpg --data photos
    """
    need("starlette", "explore")
    need("uvicorn", "explore")
    specs, inputs = split(sources)
    places = data or []
    if len(places) > len(specs):
        raise typer.BadParameter(f"it is given {len(places)} times for {len(specs)} models", param_hint="--data")
    if not inputs and not places:
        raise typer.BadParameter("give an image or a text, or --data: featurelayer explore MODEL IMAGE")
    chosen = (weights, second_weights or weights)
    models = [load_model(spec, each, device, seed) for spec, each in zip(specs, chosen, strict=False)]
    from ..explorer import Explorer, Picture, open_dataset, serve

    datasets = []
    with status("Reading the dataset") as say:
        for number, model in enumerate(models if places else []):
            source = places[min(number, len(places) - 1)]  # one dataset is that of both models
            datasets.append(open_dataset(model, source, layers=layer, samples=samples, cache=cache, progress=say))
    pictures = [picture for name in inputs for picture in _read(models[0].takes_images, name)]
    pictures = pictures or [Picture.of_item(datasets[0], 0)]
    serve(Explorer(models, pictures, datasets), port=port, browser=browser, say=print_lines)


def split(sources: list[str]) -> tuple[list[str], list[str]]:
    """Returns models and inputs: the first source is a model, and the second too if it has the name of one."""
    second = len(sources) > 1 and not Path(sources[1]).exists() and (_NAME.match(sources[1]) or sources[1] == _BUNDLED)
    models = sources[: 1 + bool(second)]
    return models, sources[len(models) :]


def _read(takes_images: bool, name: str) -> list[Picture]:
    """Returns the image at a path, those of a folder, or a text."""
    from ..explorer import Picture
    from ..images import open_image

    if not takes_images:
        return [Picture(name[:80], name)]
    path = Path(name)
    if not path.is_dir():
        return [Picture(path.name, open_image(path))]
    endings = need("PIL.Image", "images").registered_extensions()
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in endings)
    return [Picture(file.name, file) for file in files]
