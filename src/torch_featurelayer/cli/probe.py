"""`featurelayer probe`: which layer tells the classes of a folder apart."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import typer

from .console import load_model, print_json, print_lines, print_table, save_figure, status
from .options import Device, Json, Layers, Model, Seed, Weights, output_option


def probe(
    model: Model,
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="A folder with a folder of images for each class.", exists=True)
    ],
    layer: Layers = None,
    out: Annotated[Path | None, output_option("A figure to write: accuracy by depth.")] = None,
    store: Annotated[
        Path | None,
        typer.Option("--store", metavar="FOLDER", help="Keep the features in a store. [dim]\\[default: discard][/]"),
    ] = None,
    baseline: Annotated[
        bool, typer.Option("--baseline", help="Compare with the same network with random weights.")
    ] = False,
    folds: Annotated[int, typer.Option("--folds", min=2, help="The number of folds of the cross-validation.")] = 5,
    weights: Weights = "default",
    device: Device = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Measures [bold]which layer tells classes apart[/]: linear and kNN probes of each layer.

    Example: featurelayer probe efficientnet-lite0 flowers -o probe.png
    """
    loaded = load_model(model, weights, device, seed)
    with ExitStack() as stack, status("Running the model"):
        from ..extraction import extract
        from ..probing import probe as probe_store

        target = store or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        names = layer or loaded.stages
        kept = extract(loaded, names, folder, target / "model" if baseline else target, reduce="mean")
        other = None
        if baseline:
            untrained = load_model(model, "random", device, seed)
            # In the model's own dtype: the activations of untrained networks often vanish.
            other = extract(untrained, names, folder, target / "random", reduce="mean", dtype=None)
        labels = [str(PurePosixPath(name).parent) for name in kept.ids]
        table = probe_store(kept, labels, folds=folds, baseline=other)
    written: dict[str, Any] = {}
    if out is not None:
        from .. import figures

        written["out"] = str(save_figure(figures.plot_probe(table), out))
    if json:
        print_json({"layers": table.to_dicts(), "summary": table.summary, **written})
    else:
        print_table(table)
        print_lines(*(f"figure: {file}" for file in written.values()))
