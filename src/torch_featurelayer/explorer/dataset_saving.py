"""The top items of a channel as a figure, and as the Python code that draws it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import figures
from ..models import LoadedModel
from .dataset import TOP, Dataset
from .saving import load_lines

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COUNT = 12


def figure(dataset: Dataset, layer: str, channel: int) -> Figure:
    """Draws the images with the largest values of a channel."""
    numbers = {name: number for number, name in enumerate(dataset.ids)}
    found = dataset.statistics(layer)
    return figures.plot_top_items(found, [channel], lambda name: dataset.sample(numbers[name]), count=_COUNT)


def code(dataset: Dataset, loaded: LoadedModel, layer: str, channel: int) -> str:
    """Returns the Python code that lists the top items of a channel, and draws them if they are images."""
    name = dataset.name
    if not loaded.takes_images:
        return "\n".join([*_statistics_lines(dataset, loaded, layer), f"print(found.top({channel}))"]) + "\n"
    load = "lambda id: Image.open(f'{folder}/{id}')"
    lines = [
        "from PIL import Image",
        *_statistics_lines(dataset, loaded, layer),
        f"folder = {name!r}  # of the images",
        f"figure = tl.figures.plot_top_items(found, [{channel}], {load}, count={_COUNT})",
        "figure.savefig('top.png', dpi=150, bbox_inches='tight')",
    ]
    return "\n".join(lines) + "\n"


def _statistics_lines(dataset: Dataset, loaded: LoadedModel, layer: str) -> list[str]:
    """Returns the Python code that sets `found` to the statistics of a layer."""
    start, name = ["import torch_featurelayer as tl", ""], repr(dataset.name)
    if dataset.kind == "store":
        rows = f"tl.open_store({name})[{layer!r}]"
        return [*start, f"found = tl.diagnosis.row_statistics({rows}, top={TOP})"]
    if dataset.kind == "statistics":
        return [*start, f"found = tl.open_statistics({name})[{layer!r}]"]
    return [*load_lines(loaded), f"found = tl.statistics(loaded, {layer!r}, {name}, top={TOP})[{layer!r}]"]
