"""`featurelayer layers`: what there is to name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import loaded, print_json, say_table, working
from .options import Device, Json, Model, Seed


def layers(
    model: Model,
    depth: Annotated[int, typer.Option("--depth", "-d", min=0, help="How many names deep; 0: all.")] = 2,
    image: Annotated[Path | None, typer.Option("--image", "-i", help="Run on this, not on a black image.")] = None,
    weights: Annotated[
        str, typer.Option("--weights", "-w", help="As in the other commands; the table is the same for all.")
    ] = "random",
    device: Device = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Lists the layers of a model: [bold]what there is to name[/], with types, shapes and operations, from one run.

    Example: featurelayer layers torchvision:resnet18 --depth 1
    """
    found = loaded(model, weights, device, seed)
    with working("Running it"):
        import torch

        from .._layers import LayerTable
        from .._layers import layers as table_of

        args, kwargs = found.example() if image is None else found.inputs(image)
        with torch.no_grad():
            rows = table_of(found.model, *args, **kwargs)
    table = LayerTable(row for row in rows if not depth or (row.path.count(".") + bool(row.path)) <= depth)
    if json:
        print_json(table.to_dicts())
    else:
        say_table(table)
