"""`featurelayer duplicates`: images of a store that are nearly the same."""

from __future__ import annotations

from typing import Annotated

import typer

from .console import print_json, say, working
from .options import Json, Layer
from .search import Stored


def duplicates(
    store: Stored,
    layer: Layer = None,
    threshold: Annotated[
        float, typer.Option("--threshold", "-t", min=-1, max=1, help="The least cosine similarity.")
    ] = 0.95,
    json: Json = False,
) -> None:
    """Lists [bold]pairs of images that are nearly the same[/], most alike first.

    Example: featurelayer duplicates features --threshold 0.98
    """
    from ..similarity import near_duplicates
    from ..store import open_store

    with working("Comparing"):
        there = open_store(store)
        pairs = near_duplicates(there, layer or there.layers[-1], threshold=threshold)
    if json:
        print_json([{"first": pair.first, "second": pair.second, "score": pair.score} for pair in pairs])
        return
    say(*(f"{pair.score:.4f}  {pair.first}  {pair.second}" for pair in pairs))
