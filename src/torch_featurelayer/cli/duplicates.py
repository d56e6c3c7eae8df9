"""`featurelayer duplicates`: images of a store that are nearly identical."""

from __future__ import annotations

from typing import Annotated

import typer

from .console import print_json, print_lines, status
from .options import Json, Store, StoredLayer


def duplicates(
    store: Store,
    layer: StoredLayer = None,
    threshold: Annotated[
        float, typer.Option("--threshold", "-t", min=-1, max=1, help="The smallest cosine similarity of a pair.")
    ] = 0.95,
    json: Json = False,
) -> None:
    """Lists [bold]pairs of nearly identical images[/], the most similar first.

    Example: featurelayer duplicates features --threshold 0.98
    """
    from ..similarity import near_duplicates
    from ..store import open_store

    with status("Comparing"):
        opened = open_store(store)
        pairs = near_duplicates(opened, layer or opened.layers[-1], threshold=threshold)
    if json:
        print_json([{"first": pair.first, "second": pair.second, "score": pair.score} for pair in pairs])
        return
    print_lines(*(f"{pair.score:.4f}  {pair.first}  {pair.second}" for pair in pairs))
    if not pairs:
        print_lines(f"no pair with a cosine similarity of at least {threshold} among {len(opened)} images")
