"""From samples to model inputs: one by one and stacked, or by a function of the user."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from inspect import Parameter
from typing import Any, Final, Protocol, TypeAlias

import torch
from torch import Tensor

from ..models import Preprocess
from ..models._hf_inputs import HfAudio, HfImage
from .batches import Batch, Group, count_rows, map_inputs, stack_neighbours
from .texts import TextCollator, find_tokenizer, longest_text

Prepare: TypeAlias = Callable[[Any], Any]
Collate: TypeAlias = Callable[[list[Any]], Any]
Failures: TypeAlias = dict[int, Exception]

_LOWEST_RATE: Final = 1000  # of a sound, in samples per second; smaller numbers beside it are labels


class Collator(Protocol):
    """Makes model inputs from samples, in the process that reads them.

    Attributes:
        takes_texts: Whether samples are texts.
        takes_tuples: Whether samples are all that a dataset returns, rather than the first part of a tuple.
        keywords: The names of the arguments of the model, if samples may be dicts of them.
        max_length: The number of tokens at which texts are truncated; None for no limit, and for other samples.
    """

    takes_texts: bool
    takes_tuples: bool
    keywords: Collection[str]
    max_length: int | None

    def prepare(self, sample: Any) -> Any:
        """Returns what is kept of a sample; any exception is an error of its item."""

    def collate(self, places: Sequence[int], prepared: Sequence[Any]) -> tuple[list[Group], Failures]:
        """Returns the inputs of samples, and the exceptions of those that have none, by place."""

    def arrange(self, batches: Iterable[Batch], batch_size: int) -> Iterator[Batch]:
        """Yields the batches of a shard as the model processes them, in the process of the model."""


class _AsRead:
    """Leaves batches as they were read, of samples that are not texts."""

    takes_texts = False
    takes_tuples = False
    keywords: Collection[str] = ()
    max_length: int | None = None

    def arrange(self, batches: Iterable[Batch], batch_size: int) -> Iterator[Batch]:  # noqa: ARG002
        """Yields the batches."""
        yield from batches


class StackingCollator(_AsRead):
    """Preprocesses samples one by one, and stacks neighbours of the same shape.

    Args:
        prepare: Returns the model input `[1, ...]` of a sample.
        keywords: The names of the arguments of the model. Default: none, samples are no dicts of them.
        takes_tuples: Whether `prepare` gets whole tuples. Default: False, their first part.
        leaves_tensors: Whether `prepare` only gives tensors a first dimension. Default: False.
    """

    def __init__(
        self,
        prepare: Prepare,
        keywords: Collection[str] = (),
        *,
        takes_tuples: bool = False,
        leaves_tensors: bool = False,
    ) -> None:
        self._prepare, self.keywords = prepare, keywords
        self.takes_tuples, self.leaves_tensors = takes_tuples, leaves_tensors

    def prepare(self, sample: Any) -> Any:
        """Returns the model input of a sample.

        Raises:
            TypeError: If it is not a tensor or a dict of tensors.
            ValueError: If it does not hold one item.
        """
        return _check_input(self._prepare(sample))

    def collate(self, places: Sequence[int], prepared: Sequence[Any]) -> tuple[list[Group], Failures]:
        """Returns stacked inputs."""
        return list(stack_neighbours(places, prepared)), {}


class FunctionCollator(_AsRead):
    """Collates samples with a function, as `DataLoader` does.

    Args:
        function: Returns a batch of a list of samples: a tensor, keyword arguments, or a tuple that begins with one.
        prepare: A function that is applied to each sample before. Default: None.

    Attributes:
        functions: Both, which the features depend on.
    """

    takes_tuples = True

    def __init__(self, function: Collate, prepare: Prepare | None = None) -> None:
        self._function, self._prepare = function, prepare
        self.functions = function if prepare is None else (function, prepare)

    def prepare(self, sample: Any) -> Any:
        """Returns a sample for the function."""
        return sample if self._prepare is None else self._prepare(sample)

    def collate(self, places: Sequence[int], prepared: Sequence[Any]) -> tuple[list[Group], Failures]:
        """Returns the collated samples: one by one if they cannot be collated together."""
        if not prepared:
            return [], {}
        try:
            return [Group(places, self._inputs(list(prepared)))], {}
        except Exception as error:  # noqa: BLE001 (a function of the user may raise anything)
            if len(prepared) == 1:
                return [], {places[0]: error}
        parts = [self.collate([place], [sample]) for place, sample in zip(places, prepared, strict=True)]
        return [group for groups, _ in parts for group in groups], {
            place: error for _, failures in parts for place, error in failures.items()
        }

    def _inputs(self, samples: list[Any]) -> Any:
        inputs = self._function(samples)
        if isinstance(inputs, (tuple, list)) and inputs:  # inputs and labels
            inputs = inputs[0]
        inputs = _as_inputs(inputs, "collate_fn")
        if (count := count_rows(inputs)) != len(samples):
            raise ValueError(f"collate_fn returned {count} rows for {len(samples)} samples")
        return inputs


def make_collator(
    model: Any, prepare: Any, collate_fn: Collate | None, *, is_default: bool, max_length: int | None
) -> Collator:
    """Returns the collator of a dataset.

    Args:
        model: The model, which limits the length of texts.
        prepare: The preprocessing.
        collate_fn: The function of the user; None if there is none.
        is_default: Whether the user gave no preprocessing.
        max_length: The largest number of tokens of a text; None for that of the tokenizer or the model.

    Raises:
        ValueError: If `max_length` is given for a model that does not take texts.
    """
    if collate_fn is not None:
        return FunctionCollator(collate_fn, None if is_default else prepare)
    if (tokenizer := find_tokenizer(prepare)) is not None:
        return TextCollator(tokenizer, longest_text(tokenizer, model) if max_length is None else max_length)
    if max_length is not None:
        raise ValueError(
            "max_length is for texts: pass a tokenizer as preprocess=, or load the model with tl.models.load"
        )
    if isinstance(prepare, HfAudio):
        return StackingCollator(partial(_sound_input, prepare=prepare), _keywords(model), takes_tuples=True)
    # Datasets of tensors are often transformed already, and preprocessing of images has nothing to do.
    leaves_tensors = is_default or isinstance(prepare, (Preprocess, HfImage))
    function = partial(as_model_input, prepare=prepare, leaves_tensors=leaves_tensors)
    return StackingCollator(function, _keywords(model), leaves_tensors=leaves_tensors)


def _keywords(model: Any) -> Collection[str]:
    """Returns the names of the arguments of a model; none if they are not known, as of TorchScript."""
    with suppress(TypeError, ValueError):
        kinds = {name: part.kind for name, part in inspect.signature(model.forward).parameters.items()}
        return [name for name, kind in kinds.items() if kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)]
    return []


def as_model_input(sample: Any, prepare: Prepare, *, leaves_tensors: bool) -> Any:
    """Returns the model input `[1, ...]` of a sample of any dataset.

    Args:
        sample: The sample.
        prepare: The preprocessing.
        leaves_tensors: Whether a tensor, an array that is not an image, a list of numbers, and a dict of them are model
            inputs, which only get a first dimension; otherwise all samples are preprocessed.
    """
    if isinstance(sample, Mapping):
        sample = {name: _to_tensor(value) if _is_numbers(value) else value for name, value in sample.items()}
    elif _is_numbers(sample):
        sample = _to_tensor(sample)
    elif isinstance(sample, (tuple, list)) and sample:
        sample = sample[0]
    if not leaves_tensors:
        return _with_first_dimension(prepare(sample), sample, prepare)
    if isinstance(sample, Mapping) and sample and all(map(is_array, sample.values())):
        return {name: _to_tensor(value).unsqueeze(0) for name, value in sample.items()}
    if isinstance(sample, Tensor):
        return sample.unsqueeze(0)
    return _to_tensor(sample).unsqueeze(0) if is_array(sample) and not is_image(sample) else prepare(sample)


def _with_first_dimension(inputs: Any, sample: Any, prepare: Prepare) -> Any:
    """Returns one image `[C, H, W]`, as transforms of torchvision return it, as `[1, C, H, W]`."""
    if not isinstance(inputs, Tensor) or inputs.ndim != 3:
        return inputs
    is_transform = type(prepare).__module__.startswith("torchvision.transforms")
    # A function that returns [1, H, W] may mean one row.
    return inputs.unsqueeze(0) if is_transform or (_shows_image(sample) and len(inputs) in (3, 4)) else inputs


def _sound_input(sample: Any, prepare: HfAudio) -> Any:
    """Returns the model input of a sound: an array, also with its rate in a dict or tuple; or of a dict of inputs."""
    if isinstance(sample, Mapping) and "array" not in sample:
        return as_model_input(sample, prepare, leaves_tensors=True)
    if isinstance(sample, (tuple, list)) and not _is_numbers(sample):
        has_rate = len(sample) > 1 and isinstance(sample[1], int) and sample[1] >= _LOWEST_RATE
        sample = tuple(sample[:2]) if has_rate else sample[0]
    return prepare(sample)


def is_array(value: Any) -> bool:
    """Whether a value is a tensor or an array of numbers."""
    return isinstance(value, (Tensor, int, float)) or (
        hasattr(value, "__array_interface__") and hasattr(value, "dtype")
    )


def _is_numbers(value: Any) -> bool:
    """Whether a value is a list of numbers, or of such lists, as Hugging Face datasets return arrays."""
    parts = value if isinstance(value, list) else []
    return bool(parts) and all(isinstance(part, (int, float)) or _is_numbers(part) for part in parts)


def is_image(value: Any) -> bool:
    """Whether an array is an image: `[H, W, 3 or 4]`, or `[H, W]` of 8 or 16 bits."""
    if isinstance(value, (Tensor, int, float)):
        return False
    is_grey = value.ndim == 2 and str(value.dtype) in ("uint8", "uint16")
    return is_grey or (value.ndim == 3 and value.shape[2] in (3, 4))


def _shows_image(value: Any) -> bool:
    """Whether a sample is an image of Pillow, or an array that is one."""
    return is_image(value) if is_array(value) else any(kind.__module__ == "PIL.Image" for kind in type(value).__mro__)


def _to_tensor(value: Any) -> Tensor:
    found = torch.as_tensor(value)
    # NumPy's default is float64, in which few models compute.
    is_double = found.dtype == torch.float64 and not isinstance(value, Tensor)
    return found.to(torch.get_default_dtype()) if is_double else found


def _check_input(inputs: Any) -> Any:
    inputs = _as_inputs(inputs, "preprocess")
    if (count := count_rows(inputs)) != 1:
        is_image = isinstance(inputs, Tensor) and inputs.ndim == 3 and len(inputs) in (3, 4)
        hint = " (if it is one image, add `.unsqueeze(0)`)"
        raise ValueError(
            f"preprocess returned {count} rows for this item: it must return one, [1, ...]{hint if is_image else ''}"
        )
    return inputs


def _as_inputs(inputs: Any, source: str) -> Any:
    """Returns inputs as a tensor or a dict of tensors, detached: worker processes cannot send a graph.

    Raises:
        TypeError: If they are not.
    """
    if isinstance(inputs, Mapping) and inputs and all(isinstance(value, Tensor) for value in inputs.values()):
        return map_inputs(inputs, Tensor.detach)
    if not isinstance(inputs, Tensor):
        raise TypeError(f"{source} must return a tensor or a dict of tensors, not a {type(inputs).__name__}")
    return inputs.detach()
