"""`Generation`: generated sequences and the features of their tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from .._exceptions import FeatureNotFoundError


@dataclass(frozen=True, eq=False, repr=False)
class Generation(Mapping[str, list[Tensor]]):
    """Generated sequences, and for each layer the features of their tokens.

    `run["layer"][i]` is a tensor `[tokens, ...]` in the order of `run.tokens[i]`, without padding. It is detached, and
    a copy. There is an entry `i` for each returned sequence: `num_return_sequences` for each prompt.

    Attributes:
        features: The features of each sequence, by layer.
        tokens: The ids of the tokens of each sequence, prompt and answer: int64 `[tokens]`. For a model with encoder
            and decoder, those of the decoder.
        prompt: Whether each token belongs to the prompt: bool `[tokens]`.
        answer: Whether each token was generated: bool `[tokens]`.
        step: The number of the step that generated each token, from 1; 0 for the prompt: int64 `[tokens]`.
        special: The ids of special tokens that the configuration of the model names, such as the end of a text.
        encoder_tokens: The ids of the tokens of each sequence's encoder input; None without an encoder of texts.
        texts: The generated text of each sequence, without special tokens; None if no tokenizer is known.
        output: The output of the model's `generate`, with `output.sequences` as it returned them.
    """

    features: Mapping[str, list[Tensor]]
    tokens: list[Tensor]
    prompt: list[Tensor]
    answer: list[Tensor]
    step: list[Tensor]
    special: tuple[int, ...] = ()
    encoder_tokens: list[Tensor] | None = None
    texts: tuple[str, ...] | None = None
    output: Any = field(default=None)

    def __getitem__(self, layer: str) -> list[Tensor]:
        """Returns the features of a layer, one tensor for each sequence.

        Raises:
            FeatureNotFoundError: If no layer has this name.
        """
        if layer not in self.features:
            raise FeatureNotFoundError(layer, list(self.features))
        return self.features[layer]

    def __iter__(self) -> Iterator[str]:
        return iter(self.features)

    def __len__(self) -> int:
        return len(self.features)

    def __repr__(self) -> str:
        prompt, answer = (sum(int(mask.sum()) for mask in masks) for masks in (self.prompt, self.answer))
        layers = ", ".join(f"{name!r}: {_shape(rows)}" for name, rows in self.features.items())
        return f"Generation({len(self.tokens)} sequences, {prompt} prompt and {answer} answer tokens, {layers})"


def _shape(rows: list[Tensor]) -> str:
    return f"[tokens, {', '.join(map(str, rows[0].shape[1:]))}]" if rows and rows[0].ndim > 1 else "[tokens]"
