"""`featurelayer diff`: the layer at which two models part."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .console import load_model, print_json, print_lines, print_table, save_figure, status
from .options import MODEL_HELP, Device, Json, Seed, Weights, output_option


def diff(
    first: Annotated[str, typer.Argument(metavar="MODEL", help=f"The first model. {MODEL_HELP}")],
    second: Annotated[str, typer.Argument(metavar="MODEL", help="The second model; the same one for `--bfloat16`.")],
    image: Annotated[
        str | None, typer.Argument(metavar="INPUT", help="An image or a text. [dim]\\[default: a black image][/]")
    ] = None,
    rtol: Annotated[
        float, typer.Option("--rtol", min=0, help="The relative error above which a layer differs.")
    ] = 1e-5,
    by_order: Annotated[
        bool, typer.Option("--by-order", help="Pair layers by their order and shapes, not by their names.")
    ] = False,
    weights: Weights = "default",
    second_weights: Annotated[
        str | None,
        typer.Option(
            "--second-weights",
            metavar="default|random|FILE",
            help="Those of the second. [dim]\\[default: --weights][/]",
        ),
    ] = None,
    bfloat16: Annotated[bool, typer.Option("--bfloat16", help="Run the second model in bfloat16.")] = False,
    out: Annotated[Path | None, output_option("A figure to write: the error by depth.")] = None,
    device: Device = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Finds [bold]the first layer at which two models differ[/]; exits with 1 if there is one.

    Example: featurelayer diff efficientnet-lite0 efficientnet-lite0 cat.jpg --bfloat16
    """
    one = load_model(first, weights, device, seed)
    other = load_model(second, second_weights or weights, device, seed)
    with status("Running both models"):
        import torch

        from ..diagnosis import diff as find_differences

        args, kwargs = one.example() if image is None else one.inputs(image)
        model = other.model.to(torch.bfloat16) if bfloat16 else other.model
        keywords: dict[str, Any] = dict(kwargs)
        table = find_differences(
            one.model.eval(), model.eval(), *args, match="order" if by_order else None, rtol=rtol, **keywords
        )
    row = table.first()
    found: dict[str, Any] = {"first": None if row is None else row.name, "rtol": rtol}
    if out is not None:
        from .. import figures

        found["out"] = str(save_figure(figures.plot_diff(table), out))
    if json:
        print_json({**found, "only_a": table.only_a, "only_b": table.only_b, "rows": table.to_dicts()})
    else:
        print_table(table)
        print_lines(*([f"figure: {found['out']}"] if out is not None else []))
    if row is not None:
        raise typer.Exit(1)
