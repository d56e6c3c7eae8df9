"""Preprocessing of transformers: images, texts, sounds, and several of them at once."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn

from ..images import open_image
from .preprocess import Preprocess

if TYPE_CHECKING:
    from ..images import Source

_SEGMENTS: Final = "token_type_ids"
_ABSENT = (OSError, ValueError, ImportError, KeyError, TypeError, AttributeError)


def find_preprocess(library: Any, name: str, config: Any) -> Any:
    """Returns the preprocessing of a checkpoint, from its processor, image processor, feature extractor or tokenizer.

    Args:
        library: The package transformers.
        name: The folder or id of the checkpoint.
        config: The configuration of the model.
    """
    processor = _load(library.AutoProcessor, name)
    if hasattr(processor, "tokenizer") and hasattr(processor, "image_processor"):
        return HfMultimodal(processor)
    extractor = getattr(processor, "feature_extractor", None)
    if extractor is None and (images := _load(library.AutoImageProcessor, name)) is not None:
        return HfImage(images)
    extractor = extractor or _load(library.AutoFeatureExtractor, name)
    if hasattr(extractor, "sampling_rate"):
        is_pair = getattr(config, "is_encoder_decoder", False)
        return HfAudio(extractor, config.decoder_start_token_id if is_pair else None)
    tokenizer = _load(library.AutoTokenizer, name)
    return Preprocess() if tokenizer is None else HfText(tokenizer)


def _load(kind: Any, name: str) -> Any:
    try:
        return kind.from_pretrained(name, trust_remote_code=False)
    except _ABSENT:  # the checkpoint has none of this kind
        return None


class _Wrapper:
    """Shows the type of the object that it wraps, its first field."""

    __slots__ = ()

    def __repr__(self) -> str:
        wrapped = getattr(self, fields(self)[0].name)  # type: ignore[arg-type]  # of a dataclass
        return f"{type(self).__name__}({type(wrapped).__name__})"


@dataclass(frozen=True, slots=True, repr=False)
class HfImage(_Wrapper):
    """Preprocesses images with an image processor of transformers."""

    processor: Any

    def __call__(self, source: Source) -> dict[str, Tensor]:
        """Returns the keyword arguments of the model for an image."""
        return dict(self.processor(images=open_image(source), return_tensors="pt"))

    def image(self, source: Source) -> Tensor:
        """Returns the image as the model receives it, before normalisation: `[1, 3, H, W]` from 0 to 1."""
        pixels = self(source)["pixel_values"]
        mean, std = (pixels.new_tensor(value).reshape(-1, 1, 1) for value in self._scale())
        return (pixels * std + mean).clamp(0, 1)

    def _scale(self) -> tuple[Any, Any]:
        normal = getattr(self.processor, "do_normalize", True)
        return (self.processor.image_mean, self.processor.image_std) if normal else ([0.0] * 3, [1.0] * 3)


@dataclass(frozen=True, slots=True, repr=False)
class HfText(_Wrapper):
    """Preprocesses texts with a tokenizer of transformers."""

    tokenizer: Any

    def __call__(self, text: str) -> dict[str, Tensor]:
        """Returns the keyword arguments of the model for a text."""
        return dict(self.tokenizer(text, return_tensors="pt"))


@dataclass(frozen=True, slots=True, repr=False)
class HfAudio(_Wrapper):
    """Preprocesses sounds with a feature extractor of transformers.

    Attributes:
        extractor: The feature extractor.
        start: The id of the token that a decoder begins with; None for a model without decoder.
    """

    extractor: Any
    start: int | None = None

    def __call__(self, sound: Any) -> dict[str, Tensor]:
        """Returns the keyword arguments of the model for a sound.

        Args:
            sound: The samples `[T]` at the rate of the feature extractor, as an array or tensor; or a pair of samples
                and their rate; or a dict of Hugging Face datasets with `"array"` and `"sampling_rate"`.

        Raises:
            ValueError: If the rate is another than that of the feature extractor.
        """
        rate = self.extractor.sampling_rate
        samples, given = sound, rate
        if isinstance(sound, Mapping):
            samples, given = sound["array"], sound["sampling_rate"]
        elif isinstance(sound, tuple):
            samples, given = sound
        if given != rate:
            raise ValueError(f"the model takes sounds of {rate} samples per second, not {given}: resample them")
        samples = samples.numpy() if isinstance(samples, Tensor) else samples
        inputs = dict(self.extractor(samples, sampling_rate=rate, return_tensors="pt"))
        return inputs if self.start is None else {**inputs, "decoder_input_ids": torch.tensor([[self.start]])}


@dataclass(frozen=True, slots=True, repr=False)
class HfMultimodal(_Wrapper):
    """Preprocesses texts with images, with a processor of transformers."""

    processor: Any

    def __call__(self, sample: Any) -> dict[str, Tensor]:
        """Returns the keyword arguments of the model for a sample.

        Args:
            sample: A pair of text and image, a dict with `"text"` and `"images"`, a text, or an image, for which the
                text is empty. The token of an image is put before a text that does not have it.
        """
        text, image = _split(sample)
        token = getattr(self.processor, "image_token", None)
        if image is not None and token is not None and token not in text:
            text = f"{token}{text}"
        images = {} if image is None else {"images": open_image(image)}
        return dict(self.processor(text=text, **images, return_tensors="pt"))

    def image(self, source: Source) -> Tensor:
        """Returns the image as the model receives it, before normalisation: `[1, 3, H, W]` from 0 to 1."""
        return HfImage(self.processor.image_processor).image(source)


def without_segments(model: nn.Module, inputs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Returns inputs without `token_type_ids` that are all 0 and that the model has no parameter for.

    Some tokenizers of transformers return them for any model, and `generate` refuses them.
    """
    if _SEGMENTS not in inputs or inputs[_SEGMENTS].any():
        return inputs
    names = inspect.signature(model.forward).parameters
    if "input_ids" not in names or _SEGMENTS in names:
        return inputs
    return {name: value for name, value in inputs.items() if name != _SEGMENTS}


def _split(sample: Any) -> tuple[str, Any]:
    """Returns the text and the image of a sample; None for no image."""
    if isinstance(sample, Mapping):
        return sample.get("text", ""), sample.get("images", sample.get("image"))
    if isinstance(sample, tuple):
        text, image = sample
        return text, image
    return (sample, None) if isinstance(sample, str) else ("", sample)
