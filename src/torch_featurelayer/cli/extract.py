"""`featurelayer extract`: the features of a dataset, on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from .console import loaded, print_json, say
from .options import Device, Json, Model, Seed, Weights

if TYPE_CHECKING:
    from ..extraction import Progress
    from ..store import Store


class Reduce(StrEnum):
    """What is kept of a feature."""

    NONE = "none"
    MEAN = "mean"
    MAX = "max"
    CLS = "cls"
    FLATTEN = "flatten"


class Dtype(StrEnum):
    """What features are stored in."""

    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    FLOAT32 = "float32"


class EngineName(StrEnum):
    """Who makes the shards."""

    LOCAL = "local"
    RAY = "ray"
    TORCHRUN = "torchrun"


def extract(
    model: Model,
    data: Annotated[str, typer.Argument(metavar="DATA", help="A folder of images (or its URL), or a webdataset .tar.")],
    out: Annotated[str, typer.Option("--out", "-o", metavar="STORE", help="The folder of the store, or its URL.")],
    layer: Annotated[
        list[str] | None,
        typer.Option("--layer", "-l", metavar="ADDRESS", help="Repeat it for more. Default: the last stage."),
    ] = None,
    reduce: Annotated[Reduce, typer.Option("--reduce", "-r", help="What is kept of each feature.")] = Reduce.MEAN,
    dtype: Annotated[Dtype, typer.Option("--dtype", help="Of what is stored.")] = Dtype.FLOAT16,
    batch_size: Annotated[int, typer.Option("--batch-size", "-b", min=1, help="Images at once.")] = 16,
    workers: Annotated[
        int | None, typer.Option("--workers", "-j", min=0, help="Processes that read. Default: all CPUs but one.")
    ] = None,
    shard_rows: Annotated[
        int, typer.Option("--shard-rows", min=1, help="Images in a file: what an interruption may cost.")
    ] = 1024,
    fast: Annotated[bool, typer.Option("--fast", help="Measure first, then run the model the fastest way.")] = False,
    bfloat16: Annotated[bool, typer.Option("--bfloat16", help="Let the model compute in bfloat16 (autocast).")] = False,
    engine: Annotated[EngineName, typer.Option("--engine", help="Who runs the model.")] = EngineName.LOCAL,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first image that cannot be read.")] = False,
    retry_errors: Annotated[bool, typer.Option("--retry-errors", help="Read again what could not be read.")] = False,
    weights: Weights = "default",
    device: Device = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Writes [bold]the features of a whole dataset[/]; the same command goes on after an interruption.

    Example: featurelayer extract efficientnet-lite0 photos --out features
    """
    found = loaded(model, weights, device, seed)
    kept: Any = None if reduce is Reduce.NONE else reduce.value
    import torch

    from ..extraction import extract as run

    try:
        with reporting() as report:
            store = run(
                found, layer or found.stages[-1], data, out, reduce=kept,
                dtype=getattr(torch, dtype.value), autocast=torch.bfloat16 if bfloat16 else None, fast=fast,
                batch_size=batch_size, workers=cpus() - 1 if workers is None else workers, shard_rows=shard_rows,
                engine=cast("Any", None if engine is EngineName.LOCAL else engine.value), strict=strict,
                retry_errors=retry_errors, progress=report,
            )  # fmt: skip
    except KeyboardInterrupt:
        typer.echo("stopped: what was finished is kept, and the same command goes on from there", err=True)
        raise typer.Exit(130) from None
    _say(store, json)


def cpus() -> int:
    """Returns how many CPUs this process may use."""
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def reporting() -> Iterator[Callable[[Progress], None] | None]:
    """Yields what shows progress on a terminal: rate, remaining time, errors; None where it is piped."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    told = TextColumn("{task.fields[rate]:.0f}/s, {task.fields[errors]} errors,"), TimeRemainingColumn()
    with Bar(BarColumn(), MofNCompleteColumn(), *told, console=console) as bar:
        task = bar.add_task("", total=None, rate=0.0, errors=0)
        yield lambda at: bar.update(task, completed=at.done, total=at.items, rate=at.rate, errors=at.errors)


def _say(store: Store, json: bool) -> None:
    shapes = {layer: list(store[layer].shape) for layer in store.layers}
    if json:
        failed = [{"id": error.id, "reason": error.reason} for error in store.errors]
        print_json({"store": store.path, "rows": len(store), "layers": shapes, "errors": failed, "meta": store.meta})
        return
    for error in store.errors:
        typer.echo(f"{error.id}: {error.reason}", err=True)
    say(*(f"{layer}  {'×'.join(map(str, shape))}" for layer, shape in shapes.items()))
    say(f"{len(store)} rows, {len(store.errors)} errors, run {store.meta['mode']}", f"store: {store.path}")
