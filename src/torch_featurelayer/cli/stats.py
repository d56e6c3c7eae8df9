"""`featurelayer stats`: statistics of the channels of a model over a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .console import load_model, print_json, print_lines, save_figure, status
from .options import Device, Json, Layers, Model, Seed, Weights, output_option


def stats(
    model: Model,
    data: Annotated[str, typer.Argument(metavar="DATA", help="A folder of images, or the .tar of a webdataset.")],
    layer: Layers = None,
    state: Annotated[
        Path | None,
        typer.Option("--state", metavar="FILE", help="The file of the statistics, from which the command continues."),
    ] = None,
    parquet: Annotated[
        Path | None, typer.Option("--parquet", metavar="FILE", help="A table to write, with a row for each channel.")
    ] = None,
    out: Annotated[Path | None, output_option("A figure to write: all layers by depth.")] = None,
    most_dead: Annotated[
        float | None,
        typer.Option(
            "--most-dead", min=0, max=1, help="Exit with 1 if a larger share of the channels of a layer is dead."
        ),
    ] = None,
    weights: Weights = "default",
    device: Device = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Computes [bold]statistics of each channel over a dataset[/]: dead and outlier channels, zeros, quantiles.

    Example: featurelayer stats efficientnet-lite0 photos -o health.png
    """
    loaded = load_model(model, weights, device, seed)
    with status("Running the model"):
        from ..diagnosis import statistics

        found = statistics(loaded, layer or loaded.stages, data, state)
    written: dict[str, Any] = {}
    if parquet is not None:
        found.to_parquet(parquet)
        written["parquet"] = str(parquet)
    if out is not None:
        from .. import figures

        written["out"] = str(save_figure(figures.plot_health(found), out))
    layers = [
        {
            "layer": name, "channels": len(each.count), "positions": each.positions, "dead": each.dead.tolist(),
            "outliers": each.outliers.tolist(), "nonfinite": int(each.nonfinite.sum()),
        }
        for name, each in found.items()
    ]  # fmt: skip
    if json:
        print_json({"items": found.num_items, "errors": dict(found.errors), "layers": layers, **written})
    else:
        print_lines(repr(found), *(f"{name}: {reason}" for name, reason in found.errors))
        print_lines(*(f"{'figure' if kind == 'out' else kind}: {file}" for kind, file in written.items()))
    if most_dead is not None and any(len(each.dead) > most_dead * len(each.count) for each in found.values()):
        raise typer.Exit(1)
