"""`featurelayer search`: the images of a store most like one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .console import loaded, print_json, save, say, working
from .options import Device, Image, Json, Layer, Seed, Weights, output

if TYPE_CHECKING:
    from ..similarity import Match
    from ..store import Store

Stored = Annotated[str, typer.Argument(metavar="STORE", help="What [bold]featurelayer extract[/] wrote.")]


def search(
    store: Stored,
    image: Image,
    layer: Layer = None,
    count: Annotated[int, typer.Option("--count", "-k", min=1, help="How many to find.")] = 9,
    images: Annotated[
        str | None, typer.Option("--images", help="Where the images lie now, if they were moved.")
    ] = None,
    out: Annotated[Path | None, output("none is drawn")] = None,
    weights: Weights = "default",
    device: Device = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Finds [bold]the images most like one[/] in a store, and draws them side by side.

    Example: featurelayer search features cat.jpg -o results.png
    """
    from ..store import open_store

    there = open_store(store)
    found = loaded(there.meta["model"], weights, device, seed)
    with working("Searching"):
        from ..extraction import features_like
        from ..similarity import search as nearest

        name = layer or there.layers[-1]
        matches = nearest(there, features_like(there, found, image)[name], name, count)
    if out is not None:
        save(_sheet(there, image, matches, images), out)
    if json:
        print_json({"layer": name, "matches": [{"id": m.id, "score": m.score, "row": m.row} for m in matches]})
        return
    say(*(f"{match.score:.4f}  {match.id}" for match in matches))
    if out is not None:
        say(f"picture: {out}")


def _sheet(store: Store, image: Path, matches: list[Match], folder: str | None) -> Any:
    from .. import figures
    from ..extraction.sources import Items, source_of
    from ..images import opened

    items = source_of(folder or store.meta["data"], opened)
    if not isinstance(items, Items):
        raise TypeError(f"the images of {store.path!r} are not in a folder or tar")
    shown = [opened(image), *(opened(items.sample(match.id)) for match in matches)]
    titles = [f"{image.name}\n(asked for)", *(f"{Path(match.id).name}\n{match.score:.3f}" for match in matches)]
    return figures.contact_sheet(shown, titles)
