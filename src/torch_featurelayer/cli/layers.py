"""`featurelayer layers`: the layers of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import load_model, print_json, print_table, status
from .options import Device, Json, Model, Seed


def layers(
    model: Model,
    depth: Annotated[
        int, typer.Option("--depth", "-d", min=0, help="The largest number of names in a path; 0 for all layers.")
    ] = 2,
    image: Annotated[
        Path | None,
        typer.Option("--image", "-i", metavar="IMAGE", help="The input. [dim]\\[default: a black image][/]"),
    ] = None,
    weights: Annotated[
        str,
        typer.Option(
            "--weights", "-w", metavar="default|random|FILE", help="The weights; shapes are the same for all."
        ),
    ] = "random",
    device: Device = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Lists [bold]the layers you can capture[/], with types, shapes and operations, from one forward pass.

    Example: featurelayer layers torchvision:resnet18 --depth 1
    """
    loaded = load_model(model, weights, device, seed)
    with status("Running the model"):
        import torch

        from .._layers import LayerTable
        from .._layers import layers as list_layers

        args, kwargs = loaded.example() if image is None else loaded.inputs(image)
        with torch.no_grad():
            loaded.model(*args, **kwargs)  # the times of the first forward pass are those of a start
            rows = list_layers(loaded.model, *args, **kwargs)
    table = LayerTable(row for row in rows if not depth or (row.path.count(".") + bool(row.path)) <= depth)
    if json:
        print_json(table.to_dicts())
    else:
        print_table(table)
