"""The response to each kind of request about a dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

import torch
from torch import Tensor

from .._exceptions import LayoutError
from . import dataset_saving
from .dataset import Dataset, Projection
from .inputs import token_texts
from .options import Options, selection
from .serialization import frame, picture_frame
from .session import Explorer, Picture

_CATEGORIES: Final = 12  # values of a column with a colour of their own
_TOP: Final = 12
_NEIGHBOURS: Final = 12
_SIDE: Final = 160  # pixels of an image in a tile


def channels(explorer: Explorer, options: Options) -> bytes:
    """The statistics of all channels of a layer: values, marks, and histograms scaled to their largest bin."""
    dataset = _dataset(explorer, options)
    found, (counts, _) = dataset.statistics(options["layer"]), dataset.histogram(options["layer"])
    largest = counts.amax(1, keepdim=True).clamp_min(1)
    marks = torch.zeros(len(found.count), dtype=torch.uint8)
    for bit, numbers in enumerate((found.dead, found.outliers, found.nonfinite.nonzero().flatten())):
        marks[numbers] |= 1 << bit
    columns = {
        "mean": found.mean, "std": found.std, "min": found.min, "max": found.max, "zeros": found.zeros,
        "kurtosis": found.kurtosis,
    }  # fmt: skip
    header = {
        "layer": options["layer"], "channels": len(found.count), "positions": found.positions,
        "dead": len(found.dead), "outliers": len(found.outliers), "nonfinite": int(found.nonfinite.sum()),
    }  # fmt: skip
    arrays = {name: values.float() for name, values in columns.items()}
    return frame(header, {**arrays, "marks": marks, "histograms": (counts / largest * 255).ceil().to(torch.uint8)})


def top(explorer: Explorer, options: Options) -> bytes:
    """The items with the largest value of a channel, and the distribution of its values."""
    dataset, layer, channel = _dataset(explorer, options), options["layer"], int(options["channel"])
    items = _top_items(dataset, options)
    counts, edges = dataset.histogram(layer)
    header = {"channel": channel, "items": [[number, dataset.ids[number], value] for number, value in items]}
    shown, arrays = _show(explorer, options, [number for number, _ in items])
    return frame({**header, **shown}, {**arrays, "counts": counts[channel].float(), "edges": edges[channel].float()})


def top_maps(explorer: Explorer, options: Options) -> bytes:
    """The map of a channel over each of its top items, in one range; no maps if the layer returns none."""
    model, _ = selection(options)
    dataset, channel = _dataset(explorer, options), int(options["channel"])
    sources = [dataset.sample(number) for number, _ in _top_items(dataset, options)]
    maps: list[Tensor] = []
    with suppress(LayoutError):  # of a layer of vectors
        maps = [values[channel] for values in explorer.maps_of(model, options["layer"], sources)]
    finite = torch.cat([values.flatten() for values in maps]) if maps else torch.zeros(1)
    finite = finite[finite.isfinite()]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
    return frame({"low": low, "high": high}, {str(number): values for number, values in enumerate(maps)})


def neighbours(explorer: Explorer, options: Options) -> bytes:
    """The items whose features are most similar to those of the open image or text, or of an item."""
    dataset, layer = _dataset(explorer, options), options["layer"]
    query = int(options["item"]) if "item" in options else _query(explorer, options, dataset, layer)
    items = dataset.neighbours(layer, query, _NEIGHBOURS)
    header = {"items": [[number, dataset.ids[number], score] for number, score in items]}
    shown, arrays = _show(explorer, options, [number for number, _ in items])
    return frame({**header, **shown}, arrays)


def points(explorer: Explorer, options: Options) -> bytes:
    """The items in two dimensions, by the features of a layer."""
    projection: Projection = options.get("projection", "pca")  # type: ignore[assignment]  # checked there
    return frame({}, {"points": _dataset(explorer, options).points(options["layer"], projection)})


def column(explorer: Explorer, options: Options) -> bytes:
    """The values of a column: numbers, or the most frequent values by number, and -1 for others."""
    values = _dataset(explorer, options).column(options["column"])
    known = {value for value in values if value is not None}
    if len(known) > _CATEGORIES and all(isinstance(value, (int, float)) for value in known):
        numbers = torch.tensor([float("nan") if value is None else float(value) for value in values])
        return frame({"values": None}, {"numbers": numbers})
    counts = Counter(str(value) for value in values if value is not None)
    names = [name for name, _ in sorted(counts.most_common(_CATEGORIES))]
    places = {name: place for place, name in enumerate(names)}
    codes = torch.tensor([places.get(str(value), -1) for value in values], dtype=torch.int32)
    return frame(
        {"values": [[name, counts[name]] for name in names], "others": len(counts) - len(names)}, {"codes": codes}
    )


def items(explorer: Explorer, options: Options) -> bytes:
    """Some items by their numbers: their ids, and thumbnails or texts."""
    numbers, dataset = _items(options), _dataset(explorer, options)
    if explorer.kind == "text":
        return frame({"ids": [dataset.ids[number] for number in numbers], "texts": _texts(dataset, numbers)}, {})
    thumbnails = explorer.thumbnails(selection(options)[0])
    drawn = torch.stack([thumbnails[number] for number in numbers]) if numbers else torch.empty(0, 3, 1, 1)
    return frame({"ids": [dataset.ids[number] for number in numbers]}, {"thumbnails": drawn.to(torch.uint8)})


def open_item(explorer: Explorer, options: Options) -> bytes:
    """Opens an item as an image or text to look into; returns its number among them."""
    number, dataset = int(options["item"]), _dataset(explorer, options)
    origin = (selection(options)[0], number)
    opened = [place for place, picture in enumerate(explorer.pictures) if picture.origin == origin]
    if not opened:
        explorer.pictures.append(Picture.of_item(dataset, number, origin[0]))
    place = opened[0] if opened else len(explorer.pictures) - 1
    return frame({"picture": place, "pictures": [picture.name for picture in explorer.pictures]}, {})


def top_picture(explorer: Explorer, options: Options) -> bytes:
    """The top images of a channel as a PNG or SVG file with its caption, and the Python code that draws it."""
    dataset, layer, channel = _dataset(explorer, options), options["layer"], int(options["channel"])
    loaded = explorer.models[selection(options)[0]]
    code = dataset_saving.code(dataset, loaded, layer, channel)
    if explorer.kind == "text":
        return frame({"code": code}, {})
    return picture_frame(dataset_saving.figure(dataset, layer, channel), f"{layer}.{channel}", options, code)


def _dataset(explorer: Explorer, options: Options) -> Dataset:
    """Returns the dataset of the model of a request.

    Raises:
        ValueError: If it has none.
    """
    found = explorer.datasets[selection(options)[0]]
    if found is None:
        raise ValueError("this model has no dataset: start featurelayer explore with --data")
    return found


def _query(explorer: Explorer, options: Options, dataset: Dataset, layer: str) -> Tensor | int:
    """Returns the number of the open item in the dataset, or the feature of an image that is not from there.

    Raises:
        ValueError: If the dataset has no features.
    """
    model, place = selection(options)
    picture = explorer.pictures[place]
    if picture.origin is not None and picture.origin[0] == model:
        return picture.origin[1]
    if dataset.store is None:
        raise ValueError("statistics have no features to search: start featurelayer explore with a store or a folder")
    return explorer.query(model, place, dataset.store)[layer]


def _show(explorer: Explorer, options: Options, numbers: list[int]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Returns items as they are shown: images as the model receives them, or texts as tokens."""
    dataset, loaded = _dataset(explorer, options), explorer.models[selection(options)[0]]
    if explorer.kind == "text":
        return {"tokens": [token_texts(loaded, text) for text in _texts(dataset, numbers)]}, {}
    images = {}
    for place, number in enumerate(numbers):
        pixels = loaded.image(dataset.sample(number))
        if pixels.shape[-1] > _SIDE:  # more would be sent and drawn for nothing
            size = (round(pixels.shape[-2] * _SIDE / pixels.shape[-1]), _SIDE)
            pixels = torch.nn.functional.interpolate(pixels, size, mode="bilinear", antialias=True)
        images[f"image{place}"] = (pixels[0].clamp(0, 1) * 255).round().to(torch.uint8)
    return {}, images


def _top_items(dataset: Dataset, options: Options) -> list[tuple[int, float]]:
    return dataset.top(options["layer"], int(options["channel"]))[: int(options.get("count", _TOP))]


def _texts(dataset: Dataset, numbers: list[int]) -> list[str]:
    return [str(dataset.sample(number)) for number in numbers]


def _items(options: Options) -> list[int]:
    return [int(number) for number in options["items"].split(",") if number]


VIEWS: Final[Mapping[str, Callable[[Explorer, Options], bytes]]] = {
    view.__name__: view for view in (top_maps, neighbours, open_item)
}
WITHOUT_MODEL: Final[Mapping[str, Callable[[Explorer, Options], bytes]]] = {
    view.__name__: view for view in (channels, top, top_picture, points, column, items)
}
