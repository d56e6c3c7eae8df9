"""A call of the `generate` of a model, with the features and the tokens of all its forward passes."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import torch
from torch import Tensor

from .._capture import Record, capture
from .._exceptions import GenerationError
from ..address import Selector
from ._passes import PassTracker, TokenPass

IDS: Final = "input_ids"
MASK: Final = "attention_mask"


@dataclass(frozen=True)
class GenerationRun:
    """A finished call of the model's `generate`.

    Attributes:
        model: The model.
        inputs: The inputs of the model, by name.
        output: The output of `generate`.
        record: The captured features.
        passes: The forward passes.
        end: The ids of the tokens that end a sequence.
        padding: The id that pads sequences that a stop string or a criterion of the user ended; None without those.
    """

    model: Any
    inputs: Mapping[str, Any]
    output: Any
    record: Record
    passes: list[TokenPass]
    end: tuple[int, ...]
    padding: int | None

    @property
    def sequences(self) -> Tensor:
        """The sequences `[sequences, T]`; those of the decoder if there is an encoder."""
        found: Tensor = self.output.sequences
        return found

    @property
    def has_encoder(self) -> bool:
        """Whether the model has an encoder beside the decoder that generates."""
        return bool(getattr(self.model.config, "is_encoder_decoder", False))

    @cached_property
    def prompt(self) -> int:
        """The number of positions before the first generated token."""
        given = self.inputs.get("decoder_input_ids" if self.has_encoder else IDS)
        return self.passes[0].ids.shape[1] if given is None else given.shape[1]

    @property
    def beams(self) -> Tensor | None:
        """The row of each sequence in each step `[sequences, generated]`; None without beams, and over a final text."""
        found: Tensor | None = getattr(self.output, "beam_indices", None)
        return found if self.prompt < self.sequences.shape[1] else None

    @property
    def copies(self) -> int:
        """The number of sequences that were generated for each prompt."""
        first = next(value for value in self.inputs.values() if isinstance(value, Tensor))
        return len(self.sequences) // len(first)

    @cached_property
    def is_answer(self) -> Tensor:
        """Whether each position was generated, or is padding after it: bool `[sequences, T]`."""
        places = torch.arange(self.sequences.shape[1], device=self.sequences.device)
        return (places >= self.prompt).expand_as(self.sequences)

    @cached_property
    def is_token(self) -> Tensor:
        """Whether each position is a token rather than padding: bool `[sequences, T]`."""
        ids = self.sequences
        mask = self.inputs.get("decoder_attention_mask" if self.has_encoder else MASK)
        found = torch.ones_like(ids, dtype=torch.bool)
        if isinstance(mask, Tensor):
            found[:, : self.prompt] = mask.to(ids.device).bool().repeat_interleave(self.copies, 0)[:, : self.prompt]
        answer = ids[:, self.prompt :]
        ends = torch.isin(answer, ids.new_tensor(self.end))
        # The first end belongs to the answer; what follows is padding.
        found[:, self.prompt :] = ends.long().cumsum(1) - ends.long() == 0
        if self.padding is not None and self.padding not in self.end:
            found[:, self.prompt :] &= (answer != self.padding).long().flip(1).cumsum(1).flip(1) > 0
        return found

    @property
    def special(self) -> tuple[int, ...]:
        """The ids of special tokens that the configuration names."""
        config = self.model.generation_config
        names = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
        return tuple({*self.end, *(each for name in names for each in end_ids(getattr(config, name, None)))})

    @property
    def encoder_tokens(self) -> list[Tensor] | None:
        """The ids of the tokens of the encoder for each sequence, without padding; None without an encoder of texts."""
        if not self.has_encoder or IDS not in self.inputs:
            return None
        ids, mask = self.inputs[IDS].repeat_interleave(self.copies, 0), self.encoder_mask
        return list(ids) if mask is None else [row[real] for row, real in zip(ids, mask, strict=True)]

    @property
    def encoder_mask(self) -> Tensor | None:
        """Whether each position of the encoder is a token: bool `[sequences, T]`; None if all are."""
        mask = self.inputs.get(MASK)
        return mask.bool().repeat_interleave(self.copies, 0) if isinstance(mask, Tensor) else None


def run_generation(
    model: Any,
    layers: Selector | Iterable[Selector],
    inputs: Mapping[str, Any],
    generate_kwargs: Mapping[str, Any],
    options: Mapping[str, Any],
) -> GenerationRun:
    """Generates, and captures the features of all forward passes.

    Args:
        model: The model.
        layers: The layers.
        inputs: The inputs of the model, by name.
        generate_kwargs: The other arguments of the model's `generate`.
        options: The dtype and the device of features.

    Raises:
        GenerationError: If `generate` runs no forward pass of the model.
    """
    tracker = PassTracker(model)
    config = generate_kwargs.get("generation_config") or model.generation_config
    end, padding, stop = (
        generate_kwargs.get(name, getattr(config, name, None))
        for name in ("eos_token_id", "pad_token_id", "stop_strings")
    )
    if stop is None and not generate_kwargs.get("stopping_criteria"):
        padding = None  # a token that was generated may have the same id
    arguments = {**inputs, **generate_kwargs, "return_dict_in_generate": True}
    if (generate_kwargs.get("num_beams") or config.num_beams or 1) > 1:
        arguments["output_scores"] = True  # with which the rows of beams are returned
    with torch.no_grad(), capture(model, layers, keep="all", detach=True, **options) as record, tracker.activate():
        output = model.generate(**arguments)
    if not tracker.passes:
        raise GenerationError(
            f"generate() of {type(model).__name__} ran no forward pass of a model that generates",
            "Pass the model inside it whose generate() runs.",
        )
    return GenerationRun(model, inputs, output, record, tracker.passes, end_ids(end), padding)


def end_ids(end: Any) -> tuple[int, ...]:
    """Returns the ids of the tokens that end a sequence, as a tuple."""
    if end is None:
        return ()
    return tuple(torch.as_tensor(end).flatten().tolist())


def final_inputs(run: GenerationRun) -> dict[str, Any]:
    """Returns the inputs of a forward pass over the final sequences."""
    inputs = _repeat(run)
    ids, mask = ("decoder_input_ids", "decoder_attention_mask") if run.has_encoder else (IDS, MASK)
    inputs |= {ids: run.sequences, mask: run.is_token.long()}
    for name in inputs:
        if name.endswith("token_type_ids"):  # the types of generated tokens are those of the last token
            last = inputs[name][:, -1:].expand(-1, run.sequences.shape[1] - inputs[name].shape[1])
            inputs[name] = torch.cat([inputs[name], last], 1)
    if "logits_to_keep" in inspect.signature(run.model.forward).parameters:
        inputs["logits_to_keep"] = 0  # all
    return inputs


def _repeat(run: GenerationRun) -> dict[str, Any]:
    """Returns the inputs once for each sequence; the model knows which of them have no row for each text."""
    inputs, expand = dict(run.inputs), getattr(run.model, "_expand_inputs_for_generation", None)
    if run.copies == 1:
        return inputs
    if expand is not None:
        ids, others = expand(expand_size=run.copies, input_ids=inputs.pop(IDS, None), **inputs)
        return {**others, **({} if ids is None else {IDS: ids})}
    return {
        name: value.repeat_interleave(run.copies, 0) if isinstance(value, Tensor) else value
        for name, value in inputs.items()
    }
