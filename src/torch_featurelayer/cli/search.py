"""`featurelayer search`: the images of a store that are most similar to an image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .console import load_model, print_json, print_lines, save_figure, status
from .options import Device, Image, Json, Seed, Store, StoredLayer, Weights, output_option

if TYPE_CHECKING:
    from ..similarity import Match
    from ..store import Store as FeatureStore


def search(
    store: Store,
    image: Image,
    layer: StoredLayer = None,
    count: Annotated[int, typer.Option("--count", "-k", min=1, help="The number of images to find.")] = 9,
    images: Annotated[
        str | None,
        typer.Option("--images", metavar="FOLDER", help="The folder of the images, if they were moved."),
    ] = None,
    out: Annotated[
        Path | None,
        output_option("The figure to write: .png, .svg or .pdf. [dim]\\[default: no figure][/]"),
    ] = None,
    weights: Weights = "default",
    device: Device = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Finds [bold]the images of a store that are most similar to an image[/], and draws them side by side.

    Example: featurelayer search features cat.jpg -o results.png
    """
    from ..store import open_store

    opened = open_store(store)
    name = layer or opened.layers[-1]
    opened[name]  # a misspelled layer is an error before the model is loaded
    loaded = load_model(opened.metadata["model"], weights, device, seed)
    with status("Searching"):
        from ..extraction import extract_like
        from ..similarity import search as find_similar

        matches = find_similar(opened, extract_like(opened, loaded, image)[name], name, count)
    file = None if out is None else save_figure(_draw(opened, image, matches, images), out)
    if json:
        found = [{"id": match.id, "score": match.score, "row": match.row} for match in matches]
        print_json({"layer": name, "matches": found, **({} if file is None else {"out": str(file)})})
        return
    print_lines(*(f"{match.score:.4f}  {match.id}" for match in matches))
    if file is not None:
        print_lines(f"figure: {file}")


def _draw(store: FeatureStore, image: Path, matches: list[Match], folder: str | None) -> Any:
    from .. import figures
    from ..extraction.collating import StackingCollator
    from ..extraction.sources import MapSource, make_source
    from ..images import open_image

    source = make_source(folder or store.metadata["data"], StackingCollator(open_image))
    if not isinstance(source, MapSource):
        raise TypeError(f"the images of {store.path!r} are not in a folder or tar file: pass --images FOLDER")
    shown = [open_image(image), *(open_image(source.sample(match.id)) for match in matches)]
    titles = [f"{image.name}\n(query)", *(f"{Path(match.id).name}\n{match.score:.3f}" for match in matches)]
    return figures.plot_image_grid(shown, titles)
