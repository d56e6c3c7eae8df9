"""`tl.plan`: the size, the memory and the time of an extraction, from one batch."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import nn

from .._checks import check_dtype
from .._exceptions import DatasetError
from .._reduce import Reductions
from .._table import Table
from ..address import Selector
from ..models import LoadedModel
from .autotune import first_batch
from .batches import count_rows
from .collating import Collate, Prepare
from .generating import GenerationTokens
from .job import eval_mode
from .preparing import prepare
from .row_buffer import Rows
from .runner import FeatureRunner
from .sources import MapSource
from .spec import FeatureSpec

_RUNS: Final = 3
_UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB")


@dataclass(frozen=True, slots=True)
class PlanRow:
    """The rows of one layer.

    Attributes:
        layer: The address of the layer.
        shape: The shape of a row.
        dtype: The dtype of stored values.
        rows: The mean number of rows of an item: 1, or the number of its tokens.
        row_bytes: The size of a row in bytes.
        total_bytes: The size of the rows of all items in bytes.
    """

    layer: str
    shape: tuple[int, ...]
    dtype: str
    rows: float
    row_bytes: int
    total_bytes: int


class Plan(Table[PlanRow]):
    """The rows of each layer, and the totals of the extraction. It prints as a table.

    Args:
        rows: The rows of the table.
        items: The number of items.
        batch_size: The number of items in a batch.
        peak_memory: The largest memory of the batch in bytes, weights included: of the device on CUDA, otherwise of the
            process since its start. None where the system does not tell.
        seconds: The estimated duration in seconds: reading one batch, and the model on it, for all batches.
        model_seconds: The part of it in the model.

    Attributes:
        total_bytes: The size of the features of all items in bytes, without ids and columns. The arguments are
            attributes too.
    """

    _columns = ("layer", "row", "dtype", "rows/item", "bytes/row", "total")
    _importance = ("layer", "total", "row", "rows/item", "bytes/row", "dtype")
    _numbers = ("rows/item", "bytes/row", "total")
    _folded = ("layer",)

    def __init__(
        self,
        rows: Iterable[PlanRow],
        items: int,
        batch_size: int,
        peak_memory: int | None,
        seconds: float,
        model_seconds: float,
    ) -> None:
        super().__init__(rows)
        self.items, self.batch_size, self.peak_memory = items, batch_size, peak_memory
        self.seconds, self.model_seconds = seconds, model_seconds
        self.total_bytes = sum(row.total_bytes for row in self._rows)

    def _name(self, row: PlanRow) -> str:
        return row.layer

    def _cells(self, row: PlanRow) -> tuple[str, ...]:
        shape, rows = str(list(row.shape)), f"{row.rows:.3g}"
        return row.layer, shape, row.dtype, rows, f"{row.row_bytes:,}", _size(row.total_bytes)

    def _with(self, rows: Iterable[PlanRow]) -> Plan:
        return Plan(rows, self.items, self.batch_size, self.peak_memory, self.seconds, self.model_seconds)

    @property
    def summary(self) -> str:
        """The totals in one line."""
        memory = "" if self.peak_memory is None else f", {_size(self.peak_memory)} of memory"
        return (
            f"{self.items:,} items in batches of {self.batch_size}: {_size(self.total_bytes)} of features, about "
            f"{_duration(self.seconds)} ({_duration(self.model_seconds)} in the model){memory}"
        )

    def _remarks(self) -> list[str]:
        return [self.summary]


def plan(
    model: nn.Module | LoadedModel,
    layers: Selector | Iterable[Selector],
    data: Any,
    *,
    preprocess: Prepare | None = None,
    collate_fn: Collate | None = None,
    column: str | None = None,
    reduce: Reductions = None,
    tokens: GenerationTokens | None = None,
    generate: Mapping[str, Any] | None = None,
    max_length: int | None = None,
    layout: str | Mapping[str, str] | None = None,
    dtype: torch.dtype | None = torch.float16,
    device: torch.device | str | None = None,
    autocast: torch.dtype | None = None,
    batch_size: int | None = None,
) -> Plan:
    """Estimates from one batch what an extraction takes: call it with the arguments of `extract` before a long run.

    Args:
        model: The model, or a `LoadedModel` with its preprocessing.
        layers: Addresses, patterns, modules or types, as in `FeatureLayers`.
        data: The dataset, as in `extract`; it must have a length.
        preprocess: The preprocessing, as in `extract`. Default: None, that of the `LoadedModel` or of ImageNet.
        collate_fn: The function that collates samples, as in `extract`. Default: None.
        column: The column or key of samples, as in `extract`. Default: None.
        reduce: The reduction of each feature, or a dict from layer to reduction. Default: None, whole features.
        tokens: The tokens of texts to keep, as in `extract`. Default: None, all tokens.
        generate: The arguments of the model's `generate`, as in `extract`. Default: None, no generation.
        max_length: The number of tokens at which texts are truncated. Default: None, the maximum of the tokenizer.
        layout: The layout of features, as in `FeatureLayers`. Default: None, found from the operations of the model.
        dtype: The dtype of stored features. Default: `torch.float16`.
        device: The device that the model is moved to. Default: None, its present device.
        autocast: The dtype that layers compute in. Default: None, that of an enclosing `torch.autocast`, otherwise no
            autocast.
        batch_size: The number of items that the model processes at once. Default: None, that of a `DataLoader`,
            otherwise 16.

    Returns:
        A `Plan`: a table of the layers with bytes per row, and the totals. Its `seconds` assume that reading and the
        model do not overlap, so workers make a run shorter; items of texts longer than those of the first batch make it
        longer.

    Raises:
        DatasetError: If `data` is not a dataset with a length, or none of its first items can be read.
        EmptyDatasetError: If the dataset has no items.
        LayerNotFoundError: If the model has no such layer.
        LayoutError: If a reduction needs the layout of a feature and it cannot be determined.

    Examples:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU())
        >>> found = plan(model, "1", torch.ones(100, 2, 2))
        >>> found["1"].shape, found["1"].row_bytes, found.total_bytes
        ((3,), 6, 600)
    """
    check_dtype(dtype)
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
        num_workers=0,
        autocast=autocast,
    )
    source = ready.source
    if not isinstance(source, MapSource):
        kind = f"a {type(data).__name__}"
        raise DatasetError(kind, "a plan needs the number of items: pass a list or a Dataset, not an iterator")
    spec = FeatureSpec(ready.model, ready.layers, reduce, None, layout, dtype, ready.autocast)
    runner = FeatureRunner(spec.with_tokens(tokens, generate))
    start = time.perf_counter()
    example = first_batch(source, ready.batch_size)
    reading = time.perf_counter() - start
    if example is None:
        raise DatasetError(f"a {type(data).__name__}", "none of its first items can be read")
    with eval_mode(ready.model):
        rows, computing, memory = _measure(runner, example, spec.device)
    share = len(source) / count_rows(example)
    found = [_row(name, rows, len(source)) for name in rows.features if not name.startswith("@")]
    return Plan(found, len(source), ready.batch_size, memory, (reading + computing) * share, computing * share)


def _measure(runner: FeatureRunner, example: Any, device: torch.device) -> tuple[Rows, float, int | None]:
    """Returns the rows of a batch, the median of the durations, and the largest memory."""
    is_cuda = device.type == "cuda"
    if is_cuda:
        torch.cuda.reset_peak_memory_stats(device)
    taken = []
    rows = runner(example)  # the first one also finds layouts
    for _ in range(_RUNS):
        start = time.perf_counter()
        rows = runner(example)
        if is_cuda:
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - start)
    return rows, statistics.median(taken), torch.cuda.max_memory_allocated(device) if is_cuda else _process_peak()


def _process_peak() -> int | None:
    """Returns the largest memory of this process in bytes; None on Windows."""
    with suppress(ImportError):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return None


def _row(name: str, rows: Rows, items: int) -> PlanRow:
    feature, mean = rows.features[name], sum(rows.counts) / len(rows.counts)
    size = feature[0].numel() * feature.element_size() if len(feature) else 0
    dtype = str(feature.dtype).removeprefix("torch.")
    return PlanRow(name, tuple(feature.shape[1:]), dtype, mean, size, round(size * mean * items))


def _size(count: float) -> str:
    """Returns a number of bytes with a unit."""
    power = 0
    while count >= 1000 and power < len(_UNITS) - 1:
        count, power = count / 1000, power + 1
    return f"{count:.3g} {_UNITS[power]}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
