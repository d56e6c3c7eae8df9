"""`statistics`: one pass over a dataset, in constant memory, that can be interrupted."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from .._checks import check_counts
from .._exceptions import FeatureLayerError, ItemError, StoreCorruptError, StoreMismatchError
from .._layout import Layout
from .._layouts import find_layouts
from .._optional import need
from ..address import Selector, parse
from ..engine import TokenMasks, Tokens
from ..extraction.batches import Group, as_arguments, map_inputs, take_rows
from ..extraction.collating import Collate, Prepare
from ..extraction.identity import digest
from ..extraction.job import ExtractionJob, eval_mode, use_threads
from ..extraction.memory import keep_memory
from ..extraction.metadata import describe_extraction
from ..extraction.modes import default_mode
from ..extraction.preparing import prepare
from ..extraction.reading import ShardBatches, ShardTask, read_items, read_iterable
from ..extraction.row_buffer import Rows
from ..extraction.runner import FeatureRunner, RejectedError
from ..extraction.sources import IterableSource, MapSource
from ..extraction.sources.reading import describe
from ..extraction.spec import FeatureSpec
from ..models import LoadedModel
from ..store import differences
from ..store.folder import replacing
from ._accumulate import ChannelAccumulator, channels_last
from ._layer_statistics import LayerStatistics, Statistics

_FORMAT: Final = "torch_featurelayer statistics 1"
_FEW: Final = 2  # items that tell the layouts
_PART: Final = 256  # items after which the state is written


def statistics(
    model: nn.Module | LoadedModel,
    layers: Selector | Iterable[Selector],
    data: Any,
    out: str | PathLike[str] | None = None,
    *,
    preprocess: Prepare | None = None,
    collate_fn: Collate | None = None,
    column: str | None = None,
    tokens: Tokens | None = None,
    max_length: int | None = None,
    layout: str | Mapping[str, str] | None = None,
    top: int = 9,
    covariance: bool = False,
    device: torch.device | str | None = None,
    autocast: torch.dtype | None = None,
    batch_size: int | None = None,
    num_workers: int | None = None,
    num_threads: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Statistics:
    """Computes statistics of the channels of layers over a dataset, in one pass and in constant memory.

    The model runs in eval mode and without gradients. Each position of a feature counts: pixels of feature maps, tokens
    of texts without padding. With `out`, the state is written every 256 items, and the same call continues after an
    interruption, to the same bytes.

    Args:
        model: The model, or a `LoadedModel` with its preprocessing.
        layers: Addresses, patterns, modules or types, as in `FeatureLayers`. Each layer must return one tensor.
        data: The dataset, as in `extract`.
        out: The file to write. Default: None, no file.
        preprocess: The preprocessing, as in `extract`. Default: None.
        collate_fn: The function that collates samples, as in `extract`. Default: None.
        column: The column of a Hugging Face dataset, or the key of samples that are dicts. Default: None.
        tokens: The tokens of texts that count, as in `FeatureLayers`. Default: None, all but padding.
        max_length: The number of tokens at which texts are truncated. Default: None, that of the tokenizer or model.
        layout: The layout of features, as in `FeatureLayers`. Default: None, found from the operations of the model.
        top: The number of items to keep for each channel: those with its largest values. Default: 9.
        covariance: Whether to compute the covariance of the channels of each layer, `[C, C]`. Default: False.
        device: The device that the model is moved to. Default: None, its present device.
        autocast: The dtype that layers compute in. Default: None, that of an enclosing `torch.autocast`, otherwise no
            autocast.
        batch_size: The number of items that the model processes at once. Default: None, that of a `DataLoader`,
            otherwise 16.
        num_workers: The number of worker processes that read items. Default: None, as in `extract`.
        num_threads: The number of threads of the model. Default: None, that of torch.
        progress: A function that is called with the number of items after each batch. Default: None.

    Returns:
        The statistics, a mapping from layer to `LayerStatistics`.

    Raises:
        ItemError: If no item has features.
        LayoutError: If the dimension of the channels of a feature cannot be determined.
        StoreMismatchError: If the file has statistics of other features or data. It names the differences.
        StoreCorruptError: If the file is something else.
        DatasetError: If `data` is not a dataset.
        LayerNotFoundError: If the model has no such layer.
        MissingExtraError: If safetensors is not installed.

    Examples:
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
        >>> found = statistics(model, "1", torch.eye(4))
        >>> found["1"].positions, found["1"].mean.shape
        (4, torch.Size([3]))
    """
    check_counts(num_threads=num_threads)
    check_counts(0, top=top)
    top = int(top or 0)
    ready = prepare(
        model,
        layers,
        data,
        preprocess=preprocess,
        collate_fn=collate_fn,
        column=column,
        columns=(),
        max_length=max_length,
        device=device,
        batch_size=batch_size,
        num_workers=num_workers,
        autocast=autocast,
    )
    network, source = ready.model, ready.source
    spec = FeatureSpec(network, ready.layers, None, tokens, layout, None, ready.autocast, mode=default_mode(network))
    threads = int(num_threads or torch.get_num_threads())
    job = ExtractionJob(spec, fspath(out or ""), ready.batch_size, _PART, ready.num_workers, False, "record", threads)
    config = describe_extraction(ready.title, job, source, data, preprocess=ready.preprocess, column=column, columns=())
    metadata = json.loads(json.dumps({**config.to_json(), "top": top, "covariance": covariance}))
    file = None if out is None else _File(Path(out))
    state = _State(metadata) if file is None else file.read(metadata)
    with eval_mode(network), use_threads(threads), keep_memory():
        _Pass(job, source, state, file, top, covariance, progress).run()
    if not state.layers:
        name, reason = state.errors[0] if state.errors else ("", "the dataset has no items")
        raise ItemError(name, f"{reason}. None of the {len(state.errors)} items has features")
    return state.statistics()


def open_statistics(path: str | PathLike[str]) -> Statistics:
    """Reads the statistics that `statistics` wrote.

    Args:
        path: The file.

    Returns:
        The statistics, of the items so far if the call was interrupted.

    Raises:
        FileNotFoundError: If there is no such file.
        StoreCorruptError: If it is something else.
    """
    return _File(Path(path)).load().statistics()


@dataclass
class _State:
    """What was accumulated so far.

    Attributes:
        metadata: What it depends on.
        items: The number of items.
        parts: The digest of the items of each finished part of the dataset.
        layers: The accumulators by layer.
        ids: The ids of the items that the accumulators refer to, by number.
        errors: Pairs of id and reason of items without features.
    """

    metadata: dict[str, Any]
    items: int = 0
    parts: list[str] = field(default_factory=list)
    layers: dict[str, ChannelAccumulator] = field(default_factory=dict)
    ids: dict[int, str] = field(default_factory=dict)
    errors: list[tuple[str, str]] = field(default_factory=list)

    def statistics(self) -> Statistics:
        """Returns the statistics of this state."""
        layers = {name: LayerStatistics(name, each.state, self.ids) for name, each in self.layers.items()}
        return Statistics(layers, self.metadata, self.items, tuple(self.errors))

    def forget_ids(self) -> None:
        """Removes the ids of items that are no longer among the top of any channel."""
        kept = {item for each in self.layers.values() for item in each.state["top_items"].flatten().tolist()}
        self.ids = {number: name for number, name in self.ids.items() if number in kept}


class _File:
    """The file of a state, which is replaced as a whole.

    Args:
        path: The path of the file.

    Attributes:
        path: The path of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, metadata: dict[str, Any]) -> _State:
        """Returns the state to continue, or a new one.

        Raises:
            StoreMismatchError: If the file has other statistics.
        """
        if not self.path.exists():
            return _State(metadata)
        state = self.load()
        if found := differences(state.metadata, metadata):
            raise StoreMismatchError(str(self.path), found)
        return state

    def load(self) -> _State:
        """Reads the state.

        Raises:
            FileNotFoundError: If there is no such file.
            StoreCorruptError: If it is something else.
        """
        safetensors = need("safetensors", "store")
        try:
            with safetensors.safe_open(str(self.path), "pt") as file:
                about = json.loads((file.metadata() or {}).get("state", "{}"))
                if about.get("format") != _FORMAT:
                    raise StoreCorruptError(str(self.path), "it has no statistics")
                content = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
            return _to_state(about, content)
        except (safetensors.SafetensorError, KeyError, ValueError, TypeError) as error:
            raise StoreCorruptError(str(self.path), f"it has no statistics ({error})") from error

    def write(self, state: _State) -> None:
        """Replaces the file."""
        about = {
            "format": _FORMAT, "metadata": state.metadata, "items": state.items, "parts": state.parts,
            "errors": state.errors, "layers": list(state.layers), "ids": sorted(state.ids.items()),
        }  # fmt: skip
        content = {
            f"{number}.{name}": value.contiguous()
            for number, each in enumerate(state.layers.values())
            for name, value in each.state.items()
        }
        save = need("safetensors.torch", "store").save_file
        with replacing(self.path) as temporary:
            # One entry: safetensors writes several in any order.
            save(content, str(temporary), {"state": json.dumps(about, sort_keys=True)})


def _to_state(about: Mapping[str, Any], content: Mapping[str, Tensor]) -> _State:
    layers = {
        name: ChannelAccumulator.restore(
            {key.partition(".")[2]: value for key, value in content.items() if key.partition(".")[0] == str(number)}
        )
        for number, name in enumerate(about["layers"])
    }
    errors = [(name, reason) for name, reason in about["errors"]]
    return _State(dict(about["metadata"]), about["items"], about["parts"], layers, dict(about["ids"]), errors)


class _Pass:
    """One pass over the dataset, from where a state ends.

    Args:
        job: The parameters.
        source: The items.
        state: The state, which is changed.
        file: The file of the state; None for none.
        top: The number of items to keep for each channel.
        covariance: Whether the covariance is accumulated.
        progress: A function that is called with the number of items.
    """

    def __init__(
        self,
        job: ExtractionJob,
        source: MapSource | IterableSource,
        state: _State,
        file: _File | None,
        top: int,
        covariance: bool,
        progress: Callable[[int], None] | None,
    ) -> None:
        self._job, self._source, self._state, self._file = job, source, state, file
        self._top, self._covariance, self._progress = top, covariance, progress
        self._runner = FeatureRunner(job.spec)
        self._layouts: Mapping[str, str | None] | None = None

    def run(self) -> None:
        """Adds the parts of the dataset that are left."""
        for number, batches in self._parts():
            digests: dict[str, str] = {}
            for batch in self._source.collator.arrange(batches, self._job.batch_size):
                if batch.failure is not None:
                    raise batch.failure
                digests.update({item.id: item.digest for item in batch.items})
                start = self._state.items
                self._state.items += len(batch)
                self._state.errors += [(item.id, item.error) for item in batch.items if item.error is not None]
                for group in batch.groups:
                    self._add(group, [batch.items[place].id for place in group.places], start)
                if self._progress is not None:
                    self._progress(self._state.items)
            self._state.parts[number:] = [self._digest(digests)]
            self._state.forget_ids()
            if self._file is not None:
                self._file.write(self._state)

    def _parts(self) -> ShardBatches:
        job, source, done = self._job, self._source, len(self._state.parts)
        if isinstance(source, IterableSource):
            return read_iterable(source, job.batch_size, job.shard_size, set(range(done)), self._check_part)
        for number in range(done):
            span = range(number * job.shard_size, min((number + 1) * job.shard_size, len(source)))
            self._check_part(number, {source.ids[index]: source.digest(index) for index in span})
        tasks = [ShardTask(number) for number in range(done, math.ceil(len(source) / job.shard_size))]
        return read_items(source, tasks, job.batch_size, job.shard_size, job.num_workers)

    def _digest(self, digests: Mapping[str, str]) -> str:
        """Returns the digest of the items of a part; items without features have none."""
        failed = {name for name, _ in self._state.errors}
        return digest(sorted((name, value) for name, value in digests.items() if name not in failed))

    def _check_part(self, number: int, digests: Mapping[str, str]) -> None:
        """Checks that the items of a finished part are those that were read.

        Raises:
            StoreMismatchError: If they have changed.
        """
        if self._digest(digests) != self._state.parts[number]:
            path = "the statistics" if self._file is None else str(self._file.path)
            raise StoreMismatchError(path, {"items": ("as they were read", "changed since")}, list(digests))

    def _add(self, group: Group, ids: list[str], start: int) -> None:
        """Adds the items of one batch; those that the model rejects, each alone, become errors."""
        try:
            rows = self._runner(group.inputs)
        except RejectedError as error:
            if len(ids) == 1:
                self._state.errors.append((ids[0], describe(error.cause)))
                if not self._state.layers and len(self._state.errors) >= self._job.batch_size:
                    raise error.cause from error
                return
            for number, (place, name) in enumerate(zip(group.places, ids, strict=True)):
                self._add(Group([place], take_rows(group.inputs, slice(number, number + 1))), [name], start)
            return
        items = [start + place for place in group.places]
        self._state.ids.update(zip(items, ids, strict=True))
        self._add_rows(rows, items, group.inputs)

    def _add_rows(self, rows: Rows, items: list[int], inputs: Any) -> None:
        args, kwargs = as_arguments(inputs)
        masks = TokenMasks(self._job.spec.model, None, args, kwargs)
        for name, feat in rows.features.items():
            if name.startswith("@"):  # ids and spans of tokens
                continue
            layout = self._find_layout(name, feat, inputs)
            values, positions = channels_last(name, feat, layout)
            counts = [count * positions for count in rows.counts]
            if layout is not None and (mask := _content(name, feat, layout, masks)) is not None:
                values, counts = values[mask.flatten()], mask.sum(1).tolist()
            if name not in self._state.layers:
                self._state.layers[name] = ChannelAccumulator(values.shape[1], self._top, covariance=self._covariance)
            self._state.layers[name].add(values, counts, items)

    def _find_layout(self, name: str, feat: Tensor, inputs: Any) -> str | None:
        """Returns the layout of the model's feature; None for vectors, which need none, and if it is unknown."""
        if feat.ndim <= 2:
            return None
        if self._layouts is None:
            self._layouts = self._find_layouts(inputs)
        return self._job.spec.find_layout(name) or self._layouts.get(name)

    def _find_layouts(self, inputs: Any) -> Mapping[str, str | None]:
        few = take_rows(inputs, slice(_FEW))
        args, kwargs = as_arguments(map_inputs(few, lambda value: value.to(self._job.spec.device)))
        with torch.no_grad():
            return find_layouts(self._job.spec.model, list(self._job.spec.layers), *args, **kwargs)


def _content(name: str, feat: Tensor, layout: str, masks: TokenMasks) -> Tensor | None:
    """Returns the positions of a feature `[N, ...]` that are no padding, a bool tensor `[N, T]`; None without padding.

    Raises:
        LayoutError: If the arguments of the model have padding, and the positions of the feature are others.
    """
    mask = masks.of(parse(name).path)
    if mask is None:
        return None
    if isinstance(mask, FeatureLayerError):
        raise mask
    found = mask.of(feat, Layout.parse("N" + layout.replace("N", "")))
    return None if found is None or bool(found.all()) else found.to(feat.device)
