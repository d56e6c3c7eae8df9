"""`featurelayer extract`: the features of a dataset, on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from .console import load_model, print_json, print_lines
from .options import Device, Json, Model, Seed, Weights

if TYPE_CHECKING:
    from ..extraction import Progress
    from ..store import Store


class Reduce(StrEnum):
    """The reduction of each feature."""

    NONE = "none"
    MEAN = "mean"
    MAX = "max"
    CLS = "cls"
    LAST = "last"
    FLATTEN = "flatten"


class Dtype(StrEnum):
    """The dtype of stored features."""

    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    FLOAT32 = "float32"


class Backend(StrEnum):
    """The execution backend."""

    LOCAL = "local"
    RAY = "ray"
    TORCHRUN = "torchrun"


class Verify(StrEnum):
    """How items are identified."""

    AUTO = "auto"
    CONTENTS = "contents"
    IDS = "ids"


def extract(
    model: Model,
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="A folder of images or its URL, or the .tar of a webdataset.")
    ],
    out: Annotated[str, typer.Option("--out", "-o", metavar="STORE", help="The folder of the store, or its URL.")],
    layer: Annotated[
        list[str] | None,
        typer.Option(
            "--layer", "-l", metavar="ADDRESS", help="A layer; may be repeated. [dim]\\[default: the last stage][/]"
        ),
    ] = None,
    reduce: Annotated[Reduce, typer.Option("--reduce", "-r", help="The reduction of each feature.")] = Reduce.MEAN,
    dtype: Annotated[Dtype, typer.Option("--dtype", help="The dtype of stored features.")] = Dtype.FLOAT16,
    batch_size: Annotated[int, typer.Option("--batch-size", "-b", min=1, help="Images in a batch.")] = 16,
    num_workers: Annotated[
        int | None,
        typer.Option(
            "--num-workers",
            "-j",
            min=0,
            help="Processes that read images. [dim]\\[default: 1 on a CPU, more on a GPU][/]",
        ),
    ] = None,
    shard_size: Annotated[
        int,
        typer.Option("--shard-size", min=1, help="Images in a file; an interruption loses the unfinished file."),
    ] = 1024,
    autotune: Annotated[
        bool, typer.Option("--autotune", help="Measure how the model runs fastest, then run it that way.")
    ] = False,
    bfloat16: Annotated[bool, typer.Option("--bfloat16", help="Compute with weights in bfloat16.")] = False,
    backend: Annotated[Backend, typer.Option("--backend", help="The execution backend.")] = Backend.LOCAL,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first image that cannot be read.")] = False,
    retry_errors: Annotated[
        bool, typer.Option("--retry-errors", help="Read images again that could not be read before.")
    ] = False,
    redo: Annotated[
        bool, typer.Option("--redo", help="Extract images again that have changed since they were read.")
    ] = False,
    verify: Annotated[
        Verify,
        typer.Option("--verify", help="Identify images by size and time (auto), by contents, or by ids alone."),
    ] = Verify.AUTO,
    weights: Weights = "default",
    device: Device = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Writes [bold]the features of a dataset[/] to a store. After an interruption, the same command continues.

    Example: featurelayer extract efficientnet-lite0 photos --out features
    """
    loaded = load_model(model, weights, device, seed)
    reduction: Any = None if reduce is Reduce.NONE else reduce.value
    import torch

    from ..extraction import extract as run

    done_before = _count_items(out)
    try:
        with report_progress() as report:
            store = run(
                loaded, layer or loaded.stages[-1], data, out, reduce=reduction, dtype=getattr(torch, dtype.value),
                precision=torch.bfloat16 if bfloat16 else None, autotune=autotune, batch_size=batch_size,
                num_workers=num_workers, shard_size=shard_size,
                backend=cast("Any", None if backend is Backend.LOCAL else backend.value), strict=strict,
                retry_errors=retry_errors, changed="redo" if redo else "error", verify=cast("Any", verify.value),
                progress=report,
            )  # fmt: skip
    except KeyboardInterrupt:
        typer.echo("interrupted: finished shards are kept, and the same command continues from there", err=True)
        raise typer.Exit(130) from None
    was_complete = done_before == len(store) + len(store.errors) and not retry_errors
    _print_summary(store, json, was_complete)


@contextmanager
def report_progress() -> Iterator[Callable[[Progress], None] | None]:
    """Yields a function that shows progress on the terminal; None if output is piped."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = TextColumn("{task.fields[rate]:.0f}/s, {task.fields[errors]} errors,"), TimeRemainingColumn()
    with Bar(BarColumn(), MofNCompleteColumn(), *columns, console=console) as bar:
        task, shown = bar.add_task("", total=None, rate=0.0, errors=0), [""]

        def report(at: Progress) -> None:
            if at.setup != shown[0]:
                shown[0] = at.setup
                console.print(f"[dim]{at.setup}[/]")
            bar.update(task, completed=at.done, total=at.items, rate=at.rate, errors=at.errors)

        yield report


def _count_items(out: str) -> int | None:
    """Returns the number of items in a store that exists already; None without one."""
    from .._exceptions import StoreCorruptError, StoreNotFoundError
    from ..store import open_store

    try:
        store = open_store(out)
    except (StoreNotFoundError, StoreCorruptError):
        return None
    return len(store) + len(store.errors)


def _print_summary(store: Store, json: bool, was_complete: bool) -> None:
    shapes = {layer: list(store[layer].shape) for layer in store.layers}
    if json:
        errors = [{"id": error.id, "reason": error.reason} for error in store.errors]
        about = {"store": store.path, "rows": len(store), "layers": shapes, "errors": errors}
        print_json({**about, "was_complete": was_complete, "metadata": store.metadata})
        return
    for error in store.errors:
        typer.echo(f"{error.id}: {error.reason}", err=True)
    print_lines(*(f"{layer}  {'×'.join(map(str, shape))}" for layer, shape in shapes.items()))
    print_lines(f"{len(store)} rows, {len(store.errors)} errors, mode {store.metadata['mode']}", f"store: {store.path}")
    if was_complete:
        print_lines("The store was already complete: nothing was extracted.")
