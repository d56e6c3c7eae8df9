"""What the page shows, computed: no browser, no server here."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor

from .. import analysis
from .._edit import edit
from .._exceptions import FeatureNotFoundError, LayoutError
from .._feature_layer import FeatureLayers
from .._layers import LayerTable, layers
from ..models import LoadedModel
from ..similarity import cka

Options: TypeAlias = Mapping[str, str]

PAGE: Final = 64  # channels on a page
_HELD: Final = 8  # runs whose features are kept


@dataclass(frozen=True)
class Picture:
    """An image that is looked at.

    Attributes:
        name: What the page calls it: never a path of this machine.
        source: What `images.load` takes.
    """

    name: str
    source: Any


@dataclass(frozen=True)
class Run:
    """What one model made of one picture.

    Attributes:
        maps: Its layers' features `[C, H, W]`, float32.
        output: Of the model.
    """

    maps: Mapping[str, Tensor]
    output: Any


class Explorer:
    """One or two models, and pictures to look at with them.

    Args:
        models: In eval mode, with their preprocessing.
        pictures: At least one.
    """

    def __init__(self, models: Sequence[LoadedModel], pictures: Sequence[Picture]) -> None:
        self.models, self.pictures = list(models), list(pictures)
        self._tables: dict[int, LayerTable] = {}
        self._runs: OrderedDict[tuple[int, int], Run] = OrderedDict()

    def overview(self) -> dict[str, Any]:
        """Returns what there is: models with their layers, pictures."""
        return {
            "models": [self._told(number) for number in range(len(self.models))],
            "pictures": [picture.name for picture in self.pictures],
        }

    def _told(self, number: int) -> dict[str, Any]:
        model, maps = self.models[number], self.run(number, 0).maps
        rows = [
            {"path": row.path, "type": row.type, "output": row.output, "drawn": row.path in maps,
             "shape": list(maps[row.path].shape) if row.path in maps else None}
            for row in self._table(number)
        ]  # fmt: skip
        return {"name": model.title, "weights": model.weights, "stages": list(model.stages), "layers": rows}

    def _table(self, number: int) -> LayerTable:
        if number not in self._tables:
            model = self.models[number]
            args, kwargs = model.inputs(self.pictures[0].source)
            with torch.no_grad():
                self._tables[number] = layers(model.model, *args, **kwargs)
        return self._tables[number]

    def run(self, model: int, picture: int) -> Run:
        """Returns what a model made of a picture; the last few runs are kept."""
        key = (model, picture)
        if key not in self._runs:
            self._runs[key] = self._made(self.models[model], self._table(model), self.pictures[picture])
            if len(self._runs) > _HELD:
                self._runs.popitem(last=False)
        self._runs.move_to_end(key)
        return self._runs[key]

    @staticmethod
    def _made(model: LoadedModel, table: LayerTable, picture: Picture) -> Run:
        args, kwargs = model.inputs(picture.source)
        names = [f"{row.path}@-1" if row.calls > 1 else row.path for row in table if row.calls]
        with torch.no_grad():
            feats, output = FeatureLayers(model.model, names, detach=True)(*args, **kwargs)
        height, width = model.photo(picture.source).shape[-2:]
        paths = {name: name.removesuffix("@-1") for name in names}
        found = {paths[name]: _map(model, paths[name], feat, (height, width)) for name, feat in feats.items()}
        return Run({path: one for path, one in found.items() if one is not None}, output)

    def maps(self, model: int, picture: int, layer: str) -> Tensor:
        """Returns a layer's feature `[C, H, W]`.

        Raises:
            FeatureNotFoundError: The layer gives no map.
        """
        found = self.run(model, picture).maps
        if layer not in found:
            raise FeatureNotFoundError(layer, list(found))
        return found[layer]

    def photo(self, model: int, picture: int) -> Tensor:
        """Returns a picture as a model sees it: `[3, H, W]` from 0 to 1."""
        return self.models[model].photo(self.pictures[picture].source)[0]

    def classes(self, model: int, output: Any) -> list[tuple[str, float]]:
        """Returns the most probable classes, none for a model that gives no logits."""
        try:
            return self.models[model].top_classes(output)
        except ValueError:
            return []

    def probe(self, model: int, picture: int, layer: str, x: float, y: float) -> tuple[Tensor, tuple[int, int], Tensor]:
        """Looks at one position.

        Args:
            model: Which.
            picture: Which.
            layer: Which.
            x: Across the picture, from 0 to 1.
            y: Down the picture, from 0 to 1.

        Returns:
            The cosine of every position with it `[H, W]`, its row and column, and its vector `[C]`.
        """
        maps = self.maps(model, picture, layer)
        position = _position(maps, x, y)
        return analysis.cosine_map(maps[None], position, layout="NCHW"), position, maps[:, *position]

    def cam(self, model: int, picture: int, layer: str, target: int) -> Tensor:
        """Returns Grad-CAM of a layer for a class: `[H, W]` from 0 to 1.

        Raises:
            ValueError: If the model gives no logits, or the layer no map.
        """
        return analysis.grad_cam(*self.with_gradient(model, picture, layer, target), layout="NCHW")[0]

    def with_gradient(self, model: int, picture: int, layer: str, target: int) -> tuple[Tensor, Tensor]:
        """Returns the maps of a layer `[1, C, H, W]`, and the gradient of a class's logit with respect to them.

        Raises:
            ValueError: If the model gives no logits, or the layer no map.
        """
        loaded = self.models[model]
        args, kwargs = loaded.inputs(self.pictures[picture].source)
        with torch.enable_grad():
            feats, output = FeatureLayers(loaded.model, [layer, f"{layer}:grad_output"])(*args, **kwargs)
            scores = loaded.logits(output)[0]
            if not 0 <= target < len(scores):
                raise ValueError(f"the model has classes 0 to {len(scores) - 1}, not {target}")
            scores[target].backward()  # type: ignore[no-untyped-call]
        loaded.model.zero_grad(set_to_none=True)
        height, width = self.photo(model, picture).shape[-2:]
        feat, grad = (loaded.to_map(layer, feats[number], (height, width)) for number in range(2))
        return feat.detach(), grad

    def ablated(self, model: int, picture: int, layer: str, channels: Sequence[int]) -> Any:
        """Returns the model's output with some channels of a layer set to zero."""
        loaded = self.models[model]
        args, kwargs = loaded.inputs(self.pictures[picture].source)

        layout = loaded.layouts.get(layer)
        if layout is None:
            raise LayoutError("which dimension holds the channels is not known", layer, hint="Choose another layer.")

        def without(feat: Tensor) -> Tensor:
            numbers = torch.tensor(list(channels), dtype=torch.int64, device=feat.device)
            return feat.index_fill(layout.index("C"), numbers, 0)

        with torch.no_grad(), edit(loaded.model, {layer: without}):
            return loaded.model(*args, **kwargs)

    def statistics(self, model: int, layer: str) -> dict[str, Any]:
        """Returns what channels do over all pictures: which stay silent, which are never off, which choose.

        A channel is silent if it is never above zero, saturated if it is at the layer's greatest value, which several
        channels reach (as 6 for a ReLU6), at half of the positions or more, selective by how far its greatest value
        lies above its mean, in standard deviations. What this rests on is told: positions and pictures.
        """
        values = torch.cat([self.maps(model, number, layer).flatten(1) for number in range(len(self.pictures))], 1)
        deviation = values.std(1).clamp_min(1e-12)
        selective = (values.amax(1) - values.mean(1)) / deviation
        at_most = values == values.max()
        limited = int(at_most.any(1).sum()) > 1
        best = selective.topk(min(10, len(values))).indices.tolist()
        return {
            "pictures": len(self.pictures), "positions": values.shape[1], "channels": len(values),
            "silent": (values <= 0).all(1).nonzero().flatten().tolist(),
            "saturated": (at_most.float().mean(1) >= 0.5).nonzero().flatten().tolist() if limited else [],
            "constant": (values.std(1) == 0).nonzero().flatten().tolist(),
            "selective": [[channel, selective[channel].item()] for channel in best],
        }  # fmt: skip

    def alignment(self, picture: int) -> Tensor:
        """Returns the CKA of the stages of the first model with those of the last `[A, B]`, over positions."""
        first, last = (
            [self._grid(number, picture, stage) for stage in self.models[number].stages]
            for number in (0, len(self.models) - 1)
        )
        return torch.tensor([[cka(one, other) for other in last] for one in first])

    def _grid(self, model: int, picture: int, layer: str) -> Tensor:
        """Returns a layer's vectors at the same 14 × 14 places of the picture, whatever its size."""
        maps = self.maps(model, picture, layer)[None]
        resized: Tensor = torch.nn.functional.interpolate(maps, size=(14, 14), mode="bilinear", antialias=True)
        return resized[0].flatten(1).T


def order(maps: Tensor, by: str) -> list[int]:
    """Returns the channels of `[C, H, W]` by `"index"`, or the greatest first by `"mean"`, `"max"` or `"sparsity"`.

    Raises:
        ValueError: There is no such order.
    """
    flat = maps.flatten(1)
    scores = {
        "index": lambda: -torch.arange(len(flat), dtype=torch.float32),
        "mean": lambda: flat.mean(1),
        "max": lambda: flat.amax(1),
        "sparsity": lambda: (flat <= 0).float().mean(1),
    }
    if by not in scores:
        raise ValueError(f"channels are ordered by {', '.join(scores)}, not by {by!r}")
    return torch.argsort(scores[by]().nan_to_num(-torch.inf), descending=True, stable=True).tolist()


def which(options: Options) -> tuple[int, int]:
    """Returns the numbers of the model and the picture that a request is about."""
    return int(options.get("model", 0)), int(options.get("picture", 0))


def _position(maps: Tensor, x: float, y: float) -> tuple[int, int]:
    height, width = maps.shape[1:]
    return min(max(int(y * height), 0), height - 1), min(max(int(x * width), 0), width - 1)


def _map(model: LoadedModel, layer: str, feat: Any, image_size: tuple[int, int]) -> Tensor | None:
    """Returns a feature as `[C, H, W]` on the host, None if it is no map of the image."""
    if not isinstance(feat, Tensor) or not feat.is_floating_point():
        return None
    try:
        return model.to_map(layer, feat, image_size)[0].to("cpu", torch.float32)
    except LayoutError:
        return None
