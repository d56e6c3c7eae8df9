"""The states of the tokens of generated sequences, gathered from the forward passes that computed them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .._exceptions import GenerationError
from ..engine import is_in_encoder
from ._passes import Alignment, align
from ._run import GenerationRun


@dataclass(frozen=True)
class States:
    """The states of one layer.

    Attributes:
        values: The states `[sequences, T, ...]`.
        present: Which of them were computed: bool `[sequences, T]`.
        encoder_mask: The tokens of the encoder, for a layer of it: bool `[sequences, T]`; None for other layers.
    """

    values: Tensor
    present: Tensor
    encoder_mask: Tensor | None = None

    def missing(self, kept: Tensor) -> int:
        """Returns the number of kept tokens without a state."""
        return 0 if self.encoder_mask is not None else int((kept & ~self.present).sum())

    def filled(self, other: States) -> States:
        """Returns these states, and those of a later run where there are none."""
        if self.encoder_mask is not None:
            return self
        mask = self.present.reshape(*self.present.shape, *[1] * (self.values.ndim - 2))
        return States(torch.where(mask, self.values, other.values), self.present | other.present)

    def select(self, name: str, kept: Tensor) -> list[Tensor]:
        """Returns the states of the kept tokens of each sequence; of a layer of the encoder, those of its tokens.

        Raises:
            GenerationError: If a kept token has no state.
        """
        if self.encoder_mask is not None:
            kept = self.encoder_mask
        elif missing := self.missing(kept):
            raise GenerationError(
                f"generation did not compute all states of {name!r}: {missing} are missing",
                "Use complete=True, the default.",
            )
        return [row[mask] for row, mask in zip(self.values, kept, strict=True)]


def collect(run: GenerationRun) -> dict[str, States]:
    """Gathers the states of the tokens, by layer.

    Raises:
        GenerationError: If a layer has no state for each token.
    """
    _check_prompt(run)
    alignment = align(run.passes, run.sequences, run.prompt, run.beams)
    return {name: _gather(run, name, alignment) for name in run.record.names}


def _gather(run: GenerationRun, name: str, alignment: Alignment) -> States:
    values, shape = run.record[name], run.sequences.shape
    if run.has_encoder and is_in_encoder(run.model, name.partition("@")[0].partition(":")[0]):
        return _of_encoder(run, name, values[0])
    found: Tensor | None = None
    present = torch.zeros_like(alignment.present)
    for number, value in zip(_pass_numbers(run, name), values, strict=True):
        each, rows = run.passes[number], alignment.rows[number].clamp(min=0)
        states = _by_token(name, value, each.ids.shape)
        if found is None:
            found = states.new_zeros(*shape, *states.shape[2:])
        # Such as logits, which generation computes for the last tokens alone.
        start = each.stop - states.shape[1]
        chosen = alignment.columns[number][:, start - each.start :]
        stop = start + chosen.shape[1]
        chosen, rows = chosen.to(states.device), rows.to(states.device)
        found[:, start:stop][chosen] = states[rows, : chosen.shape[1]][chosen]
        present[:, start:stop] |= chosen.to(present.device)
    assert found is not None  # noqa: S101 (a layer that did not run is not in the record)
    return States(found, present.to(found.device))


def _of_encoder(run: GenerationRun, name: str, value: Any) -> States:
    count = len(run.sequences)
    if not isinstance(value, Tensor) or value.ndim < 2 or not len(value) or count % len(value):
        raise GenerationError(_no_states(name, value), f"Name a tensor inside it, such as '{name}[0]'.")
    states = value.repeat_interleave(count // len(value), 0)
    mask, everything = run.encoder_mask, states.new_ones(states.shape[:2], dtype=torch.bool)
    fits = mask is not None and mask.shape == everything.shape
    return States(states, everything, mask.to(states.device) if mask is not None and fits else everything)


def _pass_numbers(run: GenerationRun, name: str) -> Sequence[int]:
    """Returns the number of the forward pass of each feature of a layer.

    Raises:
        GenerationError: If they are not known.
    """
    numbers = [number for number in run.record.forwards(name) if number is not None]
    count = len(run.record.forwards(name))
    if len(numbers) == count:
        return numbers
    # A wrapper such as PEFT's generates with the model inside, so the forward passes are not its own.
    if count == len(run.passes):
        return range(count)
    raise GenerationError(
        f"{name!r} was called {count} times in {len(run.passes)} forward passes",
        "Pass the model whose generate() runs the layer, such as model.get_base_model().",
    )


def _by_token(name: str, value: Any, shape: Sequence[int]) -> Tensor:
    """Returns the states of a forward pass `[rows, T, ...]`.

    Raises:
        GenerationError: If there is not one for each token.
    """
    rows, length = shape
    if isinstance(value, Tensor) and value.ndim > 1:
        if value.shape[0] == rows and 0 < value.shape[1] <= length:
            return value
        if value.shape[0] == rows * length:
            return value.reshape(rows, length, *value.shape[1:])
    raise GenerationError(
        f"{_no_states(name, value)} for {rows} sequences of {length} tokens",
        f"Name a tensor inside it, such as '{name}[0]', or another layer.",
    )


def _no_states(name: str, value: Any) -> str:
    found = f"a tensor {list(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
    return f"{name!r} has no state for each token: it returned {found}"


def _check_prompt(run: GenerationRun) -> None:
    """Checks that the sequences begin with the tokens that the model processed first.

    Raises:
        GenerationError: If they do not, as with models that generate in parts and join them.
    """
    first, sequences = run.passes[0].ids.to(run.sequences.device), run.sequences
    length = min(first.shape[1], run.prompt)
    rows = torch.arange(len(sequences), device=sequences.device) * len(first) // len(sequences)
    if sequences.shape[1] < length or not torch.equal(first[rows, :length], sequences[:, :length]):
        raise GenerationError(
            f"generate() of {type(run.model).__name__} returned sequences that do not begin with their prompt",
            "Generate with tl.capture around it, whose features are not aligned.",
        )
