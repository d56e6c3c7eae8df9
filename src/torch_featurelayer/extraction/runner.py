"""`FeatureRunner`: from a batch of inputs to the rows that are stored."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor

from .._exceptions import FeatureLayerError, FeatureOverflowError, FeatureUnderflowError, LayoutError
from .._layout import Layout
from .._layouts import item_dimensions
from .._pytree import substitute
from .._sharded import whole_tensor
from ..engine import SPECIAL_MASK, TokenMask, TokenMasks, name_inputs
from ..models._hf_inputs import without_segments
from ..store import BOXES, SPANS, TOKEN_IDS
from . import texts
from .batches import as_arguments, count_rows, map_inputs, signature
from .compiling import make_capture, relative_error
from .detecting import Detecting
from .generating import Continuation
from .modes import IMAGES, channels_last, split
from .row_buffer import Rows
from .spec import Capture, FeatureSpec, as_function

_LOSS: Final = 0.01  # the relative error of a feature that is too small for its dtype

# Of exceptions that say nothing about the items.
_FATAL: Final = ("out of memory", "can't allocate memory", "CUDA error")


class RejectedError(Exception):
    """The model raised an exception for an input.

    Attributes:
        cause: The exception.
    """

    def __init__(self, cause: Exception) -> None:
        super().__init__(cause)
        self.cause = cause


class FeatureRunner:
    """Computes the rows of inputs.

    Args:
        spec: The specification of the features.
    """

    def __init__(self, spec: FeatureSpec) -> None:
        # A copy, because the user's model keeps its precision.
        if spec.precision is not None:
            spec = replace(spec, model=copy.deepcopy(spec.model).to(spec.precision))
        self._spec = spec
        self._device = spec.device
        self._takes_channels_last = spec.mode == IMAGES
        self._eager = as_function(spec.capture(spec.model))
        self._faster: Capture | None = None
        self._is_checked = False
        # Per layer, whether a value did not fit its dtype: read once a shard, because reading waits for the device.
        self._overflow: dict[str, Tensor] = {}
        self._sized: set[str] = set()  # layers with values of which the dtype keeps the digits
        if spec.mode.is_copy:
            self._size = spec.mode.part or count_rows(spec.example)
            self._faster = self._make_faster()

    def __call__(self, inputs: Any) -> Rows:
        """Returns the rows of an input `[N, ...]`, on the device of the model.

        Raises:
            RejectedError: If the model raises an exception.
            FeatureOverflowError: If a feature on the CPU does not fit the dtype of the store.
            FeatureUnderflowError: If a feature is too small for the dtype of the store.
            LayoutError: If the items of a whole feature are not in its first dimension.
            ValueError: If a layer does not return one tensor with a row for each item.
        """
        # Before conversion: the example has the dtype of what is read.
        is_full = self._faster is not None and signature(inputs) == signature(self._spec.example)
        inputs = map_inputs(inputs, self._to_device)
        if not isinstance(inputs, Tensor):
            inputs = without_segments(self._spec.model, inputs)
        if self._spec.detecting is not None:
            return self._object_rows(inputs, self._spec.detecting)
        if self._spec.tokens is not None and isinstance(inputs, Tensor):  # token ids
            inputs = name_inputs(self._spec.model, (inputs,), {}) or inputs
        if not isinstance(inputs, Tensor) and (SPECIAL_MASK in inputs or self._spec.tokens is not None):
            return self._text_rows(inputs)
        if not self._is_checked:
            self._check_items(inputs)
        if not is_full:
            return self._eager_rows(inputs)
        faster = self._faster or self._eager
        parts = [
            self._rows(faster, part, count) for part, count in split(map_inputs(inputs, channels_last), self._size)
        ]
        if len(parts) == 1:
            return parts[0]
        features = {name: torch.cat([part.features[name] for part in parts]) for name in parts[0].features}
        counts = [count for part in parts for count in part.counts]
        return Rows(features, counts, torch.cat([part.nonfinite for part in parts]))

    def check_overflow(self) -> None:
        """Checks the features since the last check; waits for the device.

        Raises:
            FeatureOverflowError: If a feature does not fit the dtype of the store.
        """
        found, self._overflow = self._overflow, {}
        for name, overflow in found.items():
            if overflow.item():
                raise FeatureOverflowError(name, str(self._spec.dtype).removeprefix("torch."))

    def _make_faster(self) -> Capture:
        part, count = next(split(map_inputs(self._spec.example, channels_last), self._size))
        part = map_inputs(part, self._to_device)
        faster = make_capture(self._spec, part)
        self._rows(faster, part, count)  # later runs neither count calls nor allocate memory for the first time
        return faster

    def _to_device(self, value: Tensor) -> Tensor:
        dtype = self._spec.precision if value.is_floating_point() else None
        return value.to(self._device, dtype, non_blocking=True)

    def _eager_rows(self, inputs: Any) -> Rows:
        """Returns the rows of the model itself; of images with channels last if it takes them."""
        count = count_rows(inputs)
        if not self._takes_channels_last:
            return self._rows(self._eager, inputs, count)
        try:
            return self._rows(self._eager, map_inputs(inputs, channels_last), count)
        except RejectedError:
            # Models that `view` an image need its channels first; the cause is another if they raise here too.
            rows = self._rows(self._eager, inputs, count)
            self._takes_channels_last = False
            return rows

    def _text_rows(self, inputs: Mapping[str, Tensor]) -> Rows:
        """Returns the rows of a batch of texts: one for each text, or one for each chosen token."""
        if self._spec.continuation is not None:
            return self._generated_rows(inputs, self._spec.continuation)
        arguments, own = texts.split_own(inputs)
        if not self._is_checked:
            self._is_checked = True
            self._spec = self._rejecting(lambda: self._spec.for_texts(arguments))
            self._eager = as_function(self._spec.capture(self._spec.model))
        tokens, count = self._spec.tokens, count_rows(arguments)
        call = {**arguments, **{name: own[name] for name in own if name == SPECIAL_MASK and tokens is not None}}
        if tokens is None or self._spec.reduces(self._spec.layers[0]):
            return self._rows(self._eager, call, count)
        masks = TokenMasks(self._spec.model, tokens, (), call)
        mask = masks.of(self._spec.layers[0])
        if isinstance(mask, FeatureLayerError):
            raise mask
        if not isinstance(mask, TokenMask):
            raise ValueError("the arguments of the model have no input_ids")  # noqa: TRY004 (a fault of the batch)
        found = self._forward(self._eager, call)
        features = {name: _join_tokens(name, feat, count) for name, feat in found.items()}
        if "input_ids" in arguments:
            features[TOKEN_IDS] = arguments["input_ids"][mask.chosen].to(torch.int32)
        if texts.SPANS in own:
            features[SPANS] = own[texts.SPANS][mask.chosen]
        return self._rows_by_item(features, mask.chosen.sum(1))

    def _generated_rows(self, inputs: Mapping[str, Tensor], continuation: Continuation) -> Rows:
        """Returns the rows of texts that the model continues."""
        with self._spec.computing():
            run = self._rejecting(lambda: continuation.run(self._spec.model, self._spec.layers, inputs))
        found, numbers = continuation.rows(run, inputs, self._spec.reduce)
        return self._rows_by_item(found, torch.tensor(numbers, device=self._device))

    def _object_rows(self, images: Tensor, detecting: Detecting) -> Rows:
        """Returns the rows of the objects of images `[N, 3, H, W]`."""
        with self._spec.computing():
            parts = [self._rejecting(partial(detecting.rows, self._spec.layers, image)) for image in images]
        numbers = [len(part[BOXES]) for part in parts]
        features = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return self._rows_by_item(features, torch.tensor(numbers, device=self._device))

    def _rows_by_item(self, found: Mapping[str, Tensor], counts: Tensor) -> Rows:
        """Converts the rows of layers, of which an item has any number; what is kept beside them is not converted."""
        features, bad = dict(found), []
        for name in self._spec.layers:
            features[name], nonfinite = self._convert(name, found[name])
            bad += [] if nonfinite is None else [nonfinite]
        return Rows(features, counts.tolist(), _sum_by_item(bad, counts))

    def _rows(self, capture: Capture, inputs: Any, count: int) -> Rows:
        """Returns the rows of the first items of an input."""
        features, nonfinite = {}, []
        for name, feat in self._forward(capture, inputs).items():
            rows = self._with_items_first(name, feat, count_rows(inputs))[:count]
            features[name], bad = self._convert(name, rows)
            nonfinite += [] if bad is None else [bad]
        total = torch.stack(nonfinite).sum(0) if nonfinite else torch.zeros(count, dtype=torch.int64)
        return Rows(features, [1] * count, total)

    def _forward(self, capture: Capture, inputs: Any) -> Mapping[str, Any]:
        args, kwargs = as_arguments(inputs)
        with self._spec.computing():
            found = self._rejecting(lambda: capture(*args, **kwargs))
        return {name: substitute(feat, whole_tensor) for name, feat in found.items()}

    def _rejecting(self, call: Callable[[], Any]) -> Any:
        """Calls the model; an exception of the model, rather than of this package, becomes a `RejectedError`."""
        try:
            return call()
        except FeatureLayerError:
            raise
        except Exception as error:
            if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(part in str(error) for part in _FATAL):
                raise
            raise RejectedError(error) from error

    def _with_items_first(self, name: str, feat: Any, count: int) -> Tensor:
        """Moves the dimension of the items to the front if the user named it; reductions have moved it already.

        Raises:
            ValueError: If there is not a row for each item.
        """
        if not isinstance(feat, Tensor) or feat.ndim == 0:
            raise ValueError(_not_rows(name, feat, count))
        layout = Layout.parse(text) if (text := self._spec.find_layout(name)) else None
        rows = feat
        if layout is not None and layout.batch is not None and not self._spec.reduces(name):
            rows = feat.movedim(layout.batch, 0)
        if len(rows) != count:
            raise ValueError(_not_rows(name, feat, count))
        if rows.is_meta:
            raise ValueError(f"{name!r} has no values: the model is on the device 'meta', so load its weights first")
        return rows.dequantize() if rows.is_quantized else rows

    def _convert(self, name: str, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """Converts rows to the dtype of the store.

        Returns:
            The rows, and the number of NaN and infinite values of each (None if there are none for sure).
        """
        dtype = self._spec.dtype
        if not rows.is_floating_point():
            return rows, None
        if dtype is not None and name not in self._sized:
            self._check_size(name, rows, dtype)
        wide = rows
        if dtype is not None and dtype.itemsize == 1:  # 8-bit floats make too large values the largest one
            wide = rows.masked_fill(rows.abs() > torch.finfo(dtype).max, torch.nan)
        kept = rows if dtype is None else wide.to(dtype)
        if not rows.is_cuda and _is_finite(kept):
            return kept, None
        bad = _count_nonfinite(kept)
        overflow = (bad != _count_nonfinite(rows)).any()
        if not rows.is_cuda:
            if overflow:
                raise FeatureOverflowError(name, str(dtype).removeprefix("torch."))
            return kept, bad
        self._overflow[name] = overflow | self._overflow[name] if name in self._overflow else overflow
        return kept, bad

    def _check_size(self, name: str, rows: Tensor, dtype: torch.dtype) -> None:
        """Checks the first batch with values other than zero; waits for the device.

        Raises:
            FeatureUnderflowError: If the dtype of the store would lose the digits of all values.
        """
        largest = float(_wide(rows).abs().max()) if rows.numel() else 0.0
        if largest == 0:
            return
        if largest < _smallest(dtype) and rows.dtype is not dtype:
            raise FeatureUnderflowError(name, str(dtype).removeprefix("torch."), largest)
        self._sized.add(name)

    def _check_items(self, inputs: Any) -> None:
        """Checks that the items of whole features are in the first dimension.

        Raises:
            LayoutError: If they are in another dimension.
        """
        spec = self._spec
        # Once for each runner: the layout does not depend on the values of a batch.
        self._is_checked = True
        if not any(getattr(module, "batch_first", None) is False for module in spec.model.modules()):
            return
        unknown = [name for name in spec.layers if not spec.find_layout(name) and not spec.reduces(name)]
        args, kwargs = as_arguments(inputs)
        with torch.no_grad():
            found = item_dimensions(spec.model, unknown, *args, **kwargs) if unknown else {}
        for name, dim in found.items():
            if dim:
                raise LayoutError(f"the items of this feature are in dimension {dim}", name, readings=("TNC",))


def _join_tokens(name: str, feat: Any, count: int) -> Tensor:
    """Returns the chosen tokens of all texts as rows.

    Raises:
        ValueError: If the layer does not return one tensor.
    """
    if not isinstance(feat, list) or not all(isinstance(part, Tensor) for part in feat):
        raise ValueError(_not_rows(name, feat, count))
    return torch.cat(feat)


def _sum_by_item(bad: list[Tensor], counts: Tensor) -> Tensor:
    """Returns numbers of values by row as numbers by item."""
    total = torch.zeros(len(counts), dtype=torch.int64, device=counts.device)
    owners = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
    for each in bad:
        total.index_add_(0, owners, each)
    return total


def _is_finite(rows: Tensor) -> bool:
    """Whether no value is NaN or infinite, in one pass over the values."""
    if not rows.numel():
        return True
    lowest, highest = _wide(rows).aminmax()  # both are NaN if a value is
    return math.isfinite(lowest) and math.isfinite(highest)


def _count_nonfinite(rows: Tensor) -> Tensor:
    """Returns the number of NaN and infinite values of each row `[N]`."""
    wide = _wide(rows)
    return wide.isfinite().logical_not_().flatten(1).sum(1) if rows.ndim > 1 else wide.isfinite().logical_not_().long()


def _smallest(dtype: torch.dtype) -> float:
    """Returns the value from which rounding changes values by at most a hundredth, or as much as larger ones."""
    info = torch.finfo(dtype)
    return info.smallest_normal * min(1.0, info.eps / 2 / _LOSS)


def _wide(rows: Tensor) -> Tensor:
    """Returns 8-bit floats, which support few operations, as float32."""
    return rows.float() if rows.itemsize == 1 else rows


def _not_rows(name: str, feat: Any, count: int) -> str:
    if isinstance(feat, Tensor):
        return f"{name!r} is {list(feat.shape)} for {count} items: its first dimension must be that of the items"
    return f"{name!r} returns a {type(feat).__name__}, not a tensor: name a part of it, such as '{name}[0]'"


def precision_error(spec: FeatureSpec, example: Any) -> dict[str, float | None] | None:
    """Returns the relative error of each feature of a batch, in the precision of a specification and in the model's.

    Args:
        spec: The specification.
        example: The batch; None if there is none.

    Returns:
        The norm of the difference by the norm of the feature, by layer, None where one of the two overflows; None
        without a batch or a precision.
    """
    if example is None or spec.precision is None:
        return None
    wide = replace(spec, dtype=torch.float32)
    ours, right = (FeatureRunner(each)(example) for each in (wide, replace(wide, precision=None)))
    errors = {
        name: relative_error(ours.features[name], feat) for name, feat in right.features.items() if name[:1] != "@"
    }
    # JSON has no number for infinity.
    return {name: float(f"{error:.2e}") if math.isfinite(error) else None for name, error in errors.items()}
