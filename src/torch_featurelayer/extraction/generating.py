"""The rows of texts that the model continues: features of prompts and generated tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import torch
from torch import Tensor, nn

from .._checks import check_arguments
from .._layout import Layout
from .._reduce import Reducer, Reductions, make_reducers
from ..engine import SPECIAL_MASK, Tokens, choose_tokens
from ..generation import Generation, generate
from ..store import SPANS, TOKEN_IDS
from . import texts

GenerationTokens: TypeAlias = Tokens | Literal["prompt", "answer"]

_ROW: Final = Layout.parse("NTC")


@dataclass(frozen=True)
class Continuation:
    """How a model continues texts, and which tokens are kept.

    Attributes:
        options: The arguments of the model's `generate`.
        tokens: The tokens to keep; None for all.

    Raises:
        TypeError: If the arguments are no dict.
        ValueError: If several sequences are generated for each text.
    """

    options: Mapping[str, Any]
    tokens: GenerationTokens | None = None

    def __post_init__(self) -> None:
        check_arguments("generate", self.options)
        if self.options.get("num_return_sequences", 1) != 1:
            raise ValueError("generate= must return one sequence for each text: num_return_sequences must be 1")

    def run(self, model: nn.Module, layers: tuple[str, ...], inputs: Mapping[str, Tensor]) -> Generation:
        """Continues a batch of texts, and returns the features of all tokens."""
        arguments, _ = texts.split_own(inputs)
        with _seeded(arguments["input_ids"]):
            return generate(model, list(layers), _pad_left(model, arguments), **self.options)

    def rows(
        self, run: Generation, inputs: Mapping[str, Tensor], reduce: Reductions
    ) -> tuple[dict[str, Tensor], list[int]]:
        """Returns the rows of the chosen tokens.

        Args:
            run: The features of all tokens.
            inputs: The arguments of the model, with what the tokenizer returned besides.
            reduce: The reduction, or that of each layer.

        Returns:
            The rows of each layer, with the ids and spans of tokens if there is a row for each token; and the number of
            rows of each text.

        Raises:
            ValueError: If a layer is one of an encoder, or some layers are reduced and others are not.
        """
        _check_aligned(run)
        chosen = [self._choose(run, number, inputs) for number in range(len(run.tokens))]
        reducers = make_reducers(reduce)
        by_layer = {name: reducers.get(name) if isinstance(reducers, dict) else reducers for name in run}
        pooled = {name: _reduce(reducer, run[name], chosen) for name, reducer in by_layer.items() if reducer}
        if len(pooled) == len(by_layer):
            return pooled, [1] * len(chosen)
        if pooled:
            raise ValueError("some layers are reduced and others have a row for each token: extract them to two stores")
        features = {name: _join(run[name], chosen) for name in run}
        features[TOKEN_IDS] = _join(run.tokens, chosen).to(torch.int32)
        features[SPANS] = _join(_spans(run, inputs), chosen)
        return features, [int(mask.sum()) for mask in chosen]

    def _choose(self, run: Generation, number: int, inputs: Mapping[str, Tensor]) -> Tensor:
        """Returns the chosen tokens of a sequence: bool `[tokens]`."""
        tokens, ids = self.tokens, run.tokens[number]
        if tokens == "prompt":
            return run.prompt[number]
        if tokens == "answer":
            return run.answer[number]

        def find_special() -> Tensor:
            special = torch.isin(ids, ids.new_tensor(run.special))
            if run.encoder_tokens is None:
                prompt = _of_prompt(inputs, SPECIAL_MASK, number)
                special[run.prompt[number]] |= prompt.to(special.device).bool()
            return special[None]

        real = torch.ones_like(ids, dtype=torch.bool)[None]
        return choose_tokens(tokens, real, ids[None], find_special)[0]


def _pad_left(model: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns inputs with their padding on the left, where a decoder needs it: it continues on the right."""
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        return dict(inputs)
    # Stable, so that tokens keep their order after the padding.
    order = torch.argsort(inputs["attention_mask"], dim=1, stable=True)
    return {name: value.gather(1, order) if value.shape == order.shape else value for name, value in inputs.items()}


@contextmanager
def _seeded(ids: Tensor) -> Iterator[None]:
    """Seeds sampling by the texts of a batch, so that an interrupted extraction continues to the same bytes."""
    digest = hashlib.blake2b(ids.cpu().numpy().tobytes(), digest_size=7).digest()
    with torch.random.fork_rng(devices=[ids.device] if ids.is_cuda else []):
        torch.manual_seed(int.from_bytes(digest, "little"))
        yield


def _of_prompt(inputs: Mapping[str, Tensor], name: str, number: int) -> Tensor:
    """Returns what the tokenizer returned for the tokens of one text, without padding."""
    return inputs[name][number][inputs["attention_mask"][number].bool()]


def _check_aligned(run: Generation) -> None:
    """Checks that each feature has a row for each token of the sequences.

    Raises:
        ValueError: If one has the rows of other tokens, as in an encoder.
    """
    for name, rows in run.items():
        if [len(row) for row in rows] != [len(ids) for ids in run.tokens]:
            raise ValueError(f"{name!r} is a layer of the encoder: extract it without generate=")


def _reduce(reducer: Reducer, rows: list[Tensor], chosen: list[Tensor]) -> Tensor:
    return torch.cat([reducer(row[None], _ROW, mask[None]) for row, mask in zip(rows, chosen, strict=True)])


def _join(rows: list[Tensor], chosen: list[Tensor]) -> Tensor:
    return torch.cat([row[mask] for row, mask in zip(rows, chosen, strict=True)])


def _spans(run: Generation, inputs: Mapping[str, Tensor]) -> list[Tensor]:
    """Returns the spans of characters of each token in its text; -1 for those that are not in it."""
    found = []
    for number, ids in enumerate(run.tokens):
        spans = torch.full((len(ids), 2), -1, dtype=torch.int32, device=ids.device)
        if texts.SPANS in inputs and run.encoder_tokens is None:
            spans[run.prompt[number]] = _of_prompt(inputs, texts.SPANS, number).to(spans)
        found.append(spans)
    return found
