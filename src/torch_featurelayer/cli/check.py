"""`featurelayer check`: NaN and infinite values of a model on a dataset."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .console import load_model, print_json, print_lines, status
from .options import Device, Json, Model, Seed, Weights

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from ..models import LoadedModel


def check(
    model: Model,
    data: Annotated[Path, typer.Argument(metavar="DATA", help="An image, or a folder of images.")],
    weights: Weights = "default",
    bfloat16: Annotated[bool, typer.Option("--bfloat16", help="Run the model in bfloat16.")] = False,
    float16: Annotated[bool, typer.Option("--float16", help="Run the model in float16.")] = False,
    device: Device = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Finds [bold]the first layer that makes NaN or infinite values[/] for each image; exits with 1 if there is one.

    Example: featurelayer check efficientnet-lite0 photos --bfloat16
    """
    loaded = load_model(model, weights, device, seed)
    with status("Running the model"):
        found = list(_check_images(loaded, data, "bfloat16" if bfloat16 else "float16" if float16 else None))
    errors = [each for each in found if each["message"] is not None]
    if json:
        print_json({"images": len(found), "errors": errors})
    else:
        print_lines(*(f"{each['image']}: {each['message']}" for each in errors))
        print_lines(
            f"{len(found)} images, {sum(each['layer'] is not None for each in found)} with NaN or infinite values"
        )
    if errors:
        raise typer.Exit(1)


def _check_images(loaded: LoadedModel, data: Path, dtype: str | None) -> Iterator[dict[str, Any]]:
    """Yields for each image the first layer that makes bad values, or why the image cannot be read."""
    import torch

    from .._device import input_device
    from ..extraction.batches import map_inputs
    from ..extraction.collating import make_collator
    from ..extraction.sources import MapSource, make_source

    wanted = None if dtype is None else getattr(torch, dtype)
    model = loaded.model.eval() if wanted is None else loaded.model.eval().to(wanted)
    device = input_device(model)
    collator = make_collator(model, loaded.preprocess, None, is_default=True, max_length=None)
    source = make_source(str(data) if data.is_dir() else [str(data)], collator, None, ())
    assert isinstance(source, MapSource)  # noqa: S101 (of files)
    for place in range(len(source)):
        (batch,) = collator.arrange([source[range(place, place + 1)]], 1)
        item = batch.items[0]
        if item.error is not None:
            yield {"image": item.id, "layer": None, "message": item.error}
            continue
        inputs = map_inputs(batch.groups[0].inputs, lambda each: _convert(each, wanted, device))
        yield {"image": item.id, **_first_error(model, inputs)}


def _convert(value: Tensor, dtype: torch.dtype | None, device: torch.device) -> Tensor:
    return value.to(device, dtype if value.is_floating_point() else None)


def _first_error(model: nn.Module, inputs: Any) -> dict[str, Any]:
    import torch

    from ..diagnosis import guard
    from ..extraction.batches import as_arguments

    args, kwargs = as_arguments(inputs)
    with guard(model, gradients=False, on_error="record") as errors, torch.no_grad():
        model(*args, **kwargs)
    return {"layer": errors[0].name, "message": str(errors[0])} if errors else {"layer": None, "message": None}
