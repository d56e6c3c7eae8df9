"""Images and texts as inputs of a model, and as they are shown."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from torch import Tensor

from .._device import input_device
from ..extraction.texts import longest_text
from ..images import open_image
from ..models import LoadedModel, Preprocess
from ..models._hf_inputs import without_segments

Kind: TypeAlias = Literal["image", "text"]
Inputs: TypeAlias = tuple[tuple[Tensor, ...], dict[str, Tensor]]


def kind_of(model: LoadedModel) -> Kind:
    """Returns what a model takes.

    Raises:
        ValueError: If it takes neither images nor texts.
    """
    if model.takes_images:
        return "image"
    if model.tokenizer is not None:
        return "text"
    raise ValueError(f"the explorer shows models of images and of texts, and {model.name} takes neither")


def inputs_of(model: LoadedModel, source: Any) -> Inputs:
    """Returns the arguments of the model for an image or a text, which is truncated as `extract` does."""
    if model.takes_images:
        return model.inputs(source)
    device = input_device(model.model)
    inputs = without_segments(model.model, _encode(model, source))
    return (), {name: values.to(device) for name, values in inputs.items()}


def token_texts(model: LoadedModel, text: str) -> list[str]:
    """Returns the tokens of a text, as they are written in it; special tokens by their names."""
    tokenizer: Any = model.tokenizer
    numbers = _encode(model, text)["input_ids"][0].tolist()
    special = set(tokenizer.all_special_ids)
    if not tokenizer.is_fast:
        return [
            tokenizer.convert_ids_to_tokens(number) if number in special else tokenizer.decode([number])
            for number in numbers
        ]
    spans = _encode(model, text, return_offsets_mapping=True)["offset_mapping"][0].tolist()
    names = tokenizer.convert_ids_to_tokens(numbers)
    return [text[start:end] if end > start else name for name, (start, end) in zip(names, spans, strict=True)]


def image_size(model: LoadedModel, source: Any) -> tuple[int, int] | None:
    """Returns the height and width of the model's input in pixels; None for a text."""
    if not model.takes_images:
        return None
    height, width = model.image(source).shape[-2:]
    return height, width


def _encode(model: LoadedModel, text: str, **options: Any) -> Any:
    tokenizer: Any = model.tokenizer
    limit = longest_text(tokenizer, model.model)
    cut = {} if limit is None else {"truncation": True, "max_length": limit}
    return tokenizer(text, return_tensors="pt", **cut, **options)


def transfer(
    position: tuple[float, float], source: Any, one: LoadedModel, other: LoadedModel
) -> tuple[float, float] | None:
    """Returns the position in another model's input that shows the same point of an image.

    Args:
        position: The position in the input of `one`, each from 0 to 1.
        source: The image.
        one: The first model.
        other: The other model.

    Returns:
        The position in the input of `other`; None if it is cut off there. The same position if it is not known which
        part of an image a model receives.
    """
    first, second = one.preprocess, other.preprocess
    if not isinstance(first, Preprocess) or not isinstance(second, Preprocess):
        return position
    size = open_image(source).size
    here, there = first.region(size), second.region(size)
    moved = tuple(
        (here[axis] + share * (here[axis + 2] - here[axis]) - there[axis]) / (there[axis + 2] - there[axis])
        for axis, share in enumerate(position)
    )
    return (moved[0], moved[1]) if all(0 <= share < 1 for share in moved) else None
