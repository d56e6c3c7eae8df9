"""`Explorer`: computes the contents of the page, without browser and server."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from torch import Tensor

from .. import analysis
from .._edit import edit
from .._exceptions import FeatureLayerError, FeatureNotFoundError, LayoutError
from .._feature_layer import FeatureLayer, FeatureLayers
from .._layers import LayerRow, LayerTable, layers
from ..address import parse
from ..extraction import extract_like
from ..models import LoadedModel
from ..store import Store
from .channels import channel_statistics, edit_of
from .dataset import Dataset
from .inputs import image_size, inputs_of, kind_of, token_texts
from .options import position_at, token_at
from .thumbnails import Thumbnails

PAGE: Final = 64  # channels on a page
_CACHED_BYTES: Final = 1 << 30  # of the maps of runs


@dataclass(frozen=True)
class Picture:
    """An image in the explorer, or a text.

    Attributes:
        name: Its name on the page, which is never a path of this machine.
        source: The image, as for `images.load`, or the text.
        origin: The number of the model in whose dataset it is, and its number there; None for others.
    """

    name: str
    source: Any
    origin: tuple[int, int] | None = None

    @classmethod
    def of_item(cls, dataset: Dataset, number: int, model: int = 0) -> Picture:
        """Returns an item of the dataset of a model."""
        sample = dataset.sample(number)
        name = sample[:80] if isinstance(sample, str) else dataset.ids[number]
        return cls(name, sample, (model, number))


@dataclass(frozen=True)
class Run:
    """The features of one model for one image or text.

    Attributes:
        maps: The features `[C, H, W]` of its layers, in float32; of a text, `[C, 1, T]`.
        output: The output of the model.
    """

    maps: Mapping[str, Tensor]
    output: Any

    @property
    def size(self) -> int:
        """The size of the maps in bytes."""
        return sum(values.nbytes for values in self.maps.values())


class Explorer:
    """One or two models, and the images or texts to run them on.

    Args:
        models: The models, in eval mode and with their preprocessing.
        pictures: The images or texts; at least one.
        datasets: The dataset of each model; None for a model without one. Default: none.

    Raises:
        ValueError: If the models do not all take images, or all texts.
    """

    def __init__(
        self,
        models: Sequence[LoadedModel],
        pictures: Sequence[Picture],
        datasets: Sequence[Dataset | None] = (),
    ) -> None:
        self.models, self.pictures = list(models), list(pictures)
        self.datasets = [*datasets, *[None] * (len(self.models) - len(datasets))]
        kinds = {kind_of(model) for model in self.models}
        if len(kinds) > 1:
            raise ValueError("one model takes images and the other texts: the explorer shows two of a kind")
        (self.kind,) = kinds
        titles = [model.title for model in self.models]
        same = len(set(titles)) < len(titles)
        self._names = [f"{title} ({number})" if same else title for number, title in enumerate(titles, 1)]
        self._tables: dict[int, LayerTable] = {}
        self._runs: OrderedDict[tuple[int, int], Run] = OrderedDict()
        self._attention: tuple[tuple[int, int] | None, Mapping[str, Tensor]] = (None, {})
        self._query: tuple[tuple[int, int] | None, Mapping[str, Tensor]] = (None, {})
        self._wrappers: dict[tuple[int, str], FeatureLayer] = {}
        self._thumbnails = {
            number: Thumbnails(dataset) for number, dataset in enumerate(self.datasets) if dataset is not None
        }

    def overview(self) -> dict[str, Any]:
        """Returns the models with their layers, and the images."""
        return {
            "models": [self._describe(number) for number in range(len(self.models))],
            "pictures": [picture.name for picture in self.pictures],
            "page": PAGE,
            "kind": self.kind,
            "datasets": [_describe_dataset(dataset) for dataset in self.datasets],
        }

    def _describe(self, number: int) -> dict[str, Any]:
        model, maps = self.models[number], self.run(number, 0).maps
        rows = [
            {"path": path, "type": row.type, "output": row.output, "calls": row.calls, "drawn": path in maps,
             "shape": list(maps[path].shape) if path in maps else None}
            for row in self._table(number)
            for path in [address_of(row)]
        ]  # fmt: skip
        folder = model.name.partition(":")[2]
        weights = model.weights.replace(folder, model.title) if folder else model.weights  # the page shows no paths
        return {"name": self._names[number], "weights": weights, "stages": list(model.stages), "layers": rows}

    def _table(self, number: int) -> LayerTable:
        if number not in self._tables:
            model = self.models[number]
            args, kwargs = inputs_of(model, self.pictures[0].source)
            with torch.no_grad():
                self._tables[number] = layers(model.model, *args, **kwargs)
        return self._tables[number]

    def run(self, model: int, picture: int) -> Run:
        """Returns the features of a model for an image; the latest runs are cached."""
        key = (model, picture)
        if key not in self._runs:
            self._runs[key] = self._compute(self.models[model], self._table(model), self.pictures[picture])
            # The latest run stays, however large it is.
            while len(self._runs) > 1 and sum(run.size for run in self._runs.values()) > _CACHED_BYTES:
                self._runs.popitem(last=False)
        self._runs.move_to_end(key)
        return self._runs[key]

    @staticmethod
    def _compute(model: LoadedModel, table: LayerTable, picture: Picture) -> Run:
        args, kwargs = inputs_of(model, picture.source)
        # All layers in one forward pass, so that changing the layer on the page runs nothing.
        names = {_last_call(address_of(row), row.calls): address_of(row) for row in table if row.calls}
        with torch.no_grad():
            feats, output = FeatureLayers(model.model, list(names), detach=True)(*args, **kwargs)
        size = image_size(model, picture.source)
        found = {names[name]: _maps(model, names[name], feat, size) for name, feat in feats.items()}
        return Run({layer: maps[0] for layer, maps in found.items() if maps is not None}, output)

    def maps_of(self, model: int, layer: str, sources: Sequence[Any]) -> list[Tensor]:
        """Returns the features of a layer for any images or texts, each `[C, H, W]`, without running later layers.

        Raises:
            LayoutError: If the layer does not return a map.
        """
        loaded, wrapper = self.models[model], self._wrapper(model, layer)
        found: list[Tensor] = []
        # One at a time: a batch has activations that leave the processor's caches (benchmarks/explorer.py).
        for source in sources:
            args, kwargs = inputs_of(loaded, source)
            with torch.no_grad():
                feat = wrapper.features(*args, **kwargs)
            maps = _maps(loaded, layer, feat, image_size(loaded, source))
            if maps is None:
                raise LayoutError("this feature is not a map", layer, hint="Choose another layer.")
            found += maps.unbind()
        return found

    def query(self, model: int, picture: int, store: Store) -> Mapping[str, Tensor]:
        """Returns the features of an image or text as a store has them; those of the latest input are cached."""
        key = (model, picture)
        if self._query[0] != key:
            self._query = (key, extract_like(store, self.models[model], self.pictures[picture].source))
        return self._query[1]

    def _wrapper(self, model: int, layer: str) -> FeatureLayer:
        """Returns the wrapper of a layer, which is kept: it learns where the forward pass can end."""
        key = (model, layer)
        if key not in self._wrappers:
            calls = next((row.calls for row in self._table(model) if address_of(row) == layer), 1)
            self._wrappers[key] = FeatureLayer(self.models[model].model, _last_call(layer, calls), detach=True)
        return self._wrappers[key]

    def thumbnails(self, model: int) -> Thumbnails:
        """Returns the thumbnails of the dataset of a model."""
        return self._thumbnails[model]

    def tokens(self, model: int, picture: int) -> list[str]:
        """Returns the tokens of a text, as they are written in it."""
        return token_texts(self.models[model], self.pictures[picture].source)

    def maps(self, model: int, picture: int, layer: str) -> Tensor:
        """Returns the feature of a layer, `[C, H, W]`.

        Raises:
            FeatureNotFoundError: If the layer does not return a map.
        """
        found = self.run(model, picture).maps
        if layer not in found:
            raise FeatureNotFoundError(layer, list(found))
        return found[layer]

    def photo(self, model: int, picture: int) -> Tensor:
        """Returns an image as a model receives it: `[3, H, W]` from 0 to 1."""
        return self.models[model].image(self.pictures[picture].source)[0]

    def classes(self, model: int, output: Any, x: float | None = None) -> list[tuple[str, float]]:
        """Returns the classes with the largest probabilities, or the next tokens; none if the model has neither.

        Args:
            model: The number of the model.
            output: The output of the model.
            x: The horizontal position of the token whose next ones are returned, from 0 to 1. Default: None, the last.
        """
        loaded = self.models[model]
        logits = getattr(output, "logits", None)
        if self.kind == "text" and isinstance(logits, Tensor) and logits.ndim == 3:
            best = logits[0, token_at(logits.shape[1], x)].detach().float().softmax(-1).topk(5)
            tokenizer: Any = loaded.tokenizer
            names = [tokenizer.decode([number]) for number in best.indices.tolist()]
            return list(zip(names, best.values.tolist(), strict=True))
        try:
            return loaded.top_classes(output)
        except ValueError:
            return []

    def attention(self, model: int, picture: int) -> Mapping[str, Tensor]:
        """Returns the attention weights of each layer with attention, `[1, heads, queries, keys]`."""
        if self._attention[0] != (model, picture):
            loaded = self.models[model]
            args, kwargs = inputs_of(loaded, self.pictures[picture].source)
            found: dict[str, Tensor] = {}
            with torch.no_grad(), suppress(FeatureLayerError):  # of a model without attention
                feats, _ = FeatureLayers(loaded.model, "**:attention_weights", detach=True)(*args, **kwargs)
                found = {name.rpartition(":")[0]: weights.float().cpu() for name, weights in feats.items()}
            self._attention = ((model, picture), found)
        return self._attention[1]

    def probe(self, model: int, picture: int, layer: str, x: float, y: float) -> tuple[Tensor, tuple[int, int], Tensor]:
        """Returns the feature at one position.

        Args:
            model: The number of the model.
            picture: The number of the image.
            layer: The address of the layer.
            x: The horizontal position in the image, from 0 to 1.
            y: The vertical position in the image, from 0 to 1.

        Returns:
            The cosine similarity of every position to it `[H, W]`, its row and column, and its vector `[C]`.
        """
        maps = self.maps(model, picture, layer)
        position = position_at(maps, x, y)
        return analysis.cosine_map(maps[None], position, layout="NCHW"), position, maps[:, *position]

    def cam(self, model: int, picture: int, layer: str, target: int) -> Tensor:
        """Returns the Grad-CAM of a layer for a class: `[H, W]` from 0 to 1.

        Raises:
            ValueError: If the model is not a classifier, or the layer does not return a map.
        """
        return analysis.grad_cam(*self.with_gradient(model, picture, layer, target), layout="NCHW")[0]

    def with_gradient(self, model: int, picture: int, layer: str, target: int) -> tuple[Tensor, Tensor]:
        """Returns the maps of a layer `[1, C, H, W]`, and the gradient of a class's logit with respect to them.

        Raises:
            ValueError: If the model is not a classifier, or the layer does not return a map.
        """
        loaded = self.models[model]
        args, kwargs = inputs_of(loaded, self.pictures[picture].source)
        with torch.enable_grad():
            feats, output = FeatureLayers(loaded.model, [layer, gradient_of(layer)])(*args, **kwargs)
            scores = loaded.logits(output)[0]
            if not 0 <= target < len(scores):
                raise ValueError(f"there is no class {target}: the classes are 0 to {len(scores) - 1}")
            scores[target].backward()  # type: ignore[no-untyped-call]
        # The gradients of parameters are not needed and would stay in memory.
        loaded.model.zero_grad(set_to_none=True)
        height, width = self.photo(model, picture).shape[-2:]
        feat, grad = (loaded.to_map(layer, feats[number], (height, width)) for number in range(2))
        return feat.detach(), grad

    def ablate(self, model: int, picture: int, layer: str, channels: Sequence[int], how: str = "zero") -> Any:
        """Returns the output of a model with some channels of a layer edited, in all calls of the layer.

        Args:
            model: The number of the model.
            picture: The number of the image or text.
            layer: The address of the layer.
            channels: The numbers of the channels.
            how: The edit: `"zero"` (default), `"mean"` over positions, `"double"` or `"negate"`.

        Raises:
            LayoutError: If the dimension of the channels is unknown.
            ValueError: If there is no such edit.
        """
        loaded = self.models[model]
        args, kwargs = inputs_of(loaded, self.pictures[picture].source)
        layout = loaded.find_layout(layer)
        if layout is None:
            raise LayoutError("the dimension of the channels is unknown", layer, hint="Choose another layer.")
        change = edit_of(how, channels, layout.index("C"))
        with torch.no_grad(), edit(loaded.model, {layer: change}):
            return loaded.model(*args, **kwargs)

    def statistics(self, model: int, layer: str) -> dict[str, Any]:
        """Returns the number of images, and statistics of the channels of a layer over all of them."""
        values = torch.cat([self._one(model, number, layer).flatten(1) for number in range(len(self.pictures))], 1)
        return {"pictures": len(self.pictures), **channel_statistics(values)}

    def _one(self, model: int, picture: int, layer: str) -> Tensor:
        """Returns the feature of a layer, `[C, H, W]`; for an image without a cached run, of that layer alone."""
        if (model, picture) in self._runs or layer not in self.run(model, 0).maps:
            return self.maps(model, picture, layer)
        return self.maps_of(model, layer, [self.pictures[picture].source])[0]


def _describe_dataset(dataset: Dataset | None) -> dict[str, Any] | None:
    if dataset is None:
        return None
    return {
        "name": dataset.name, "items": len(dataset), "layers": dataset.layers, "columns": dataset.columns,
        "comparable": dataset.comparable,
    }  # fmt: skip


def address_of(row: LayerRow) -> str:
    """Returns the address of what is shown of a layer: of a tuple that begins with a tensor, that tensor."""
    return f"{row.path}[0]" if row.path and row.output.startswith("([") else row.path


def gradient_of(layer: str) -> str:
    """Returns the address of the gradient of a layer."""
    return str(replace(parse(layer), port="grad_output"))


def _last_call(layer: str, calls: int) -> str:
    return str(replace(parse(layer), call=-1)) if calls > 1 else layer


def _maps(model: LoadedModel, layer: str, feat: Any, size: tuple[int, int] | None) -> Tensor | None:
    """Returns a feature as `[N, C, H, W]` on the CPU, or `[N, C, 1, T]` of texts; None if it is not a map."""
    if not isinstance(feat, Tensor) or not feat.is_floating_point():
        return None
    if size is None:
        layout = model.find_layout(layer)
        if layout is None or set(layout) != {"N", "T", "C"} or feat.ndim != 3:
            return None
        return feat.permute(*map(layout.index, "NCT")).unsqueeze(2).to("cpu", torch.float32)
    try:
        return model.to_map(layer, feat, size).to("cpu", torch.float32)
    except LayoutError:
        return None
