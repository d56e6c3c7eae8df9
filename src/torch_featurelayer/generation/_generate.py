"""`tl.generate`."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from .._device import input_device
from .._exceptions import GenerationError
from ..address import Selector
from ..models import LoadedModel
from ._generation import Generation
from ._run import IDS, MASK, GenerationRun, end_ids, final_inputs, run_generation
from ._states import States, collect

# A forward pass over the whole text, which `generate` prepares.
_ONE_PASS = {"max_new_tokens": 1, "num_beams": 1, "do_sample": False}


def generate(
    model: nn.Module | LoadedModel,
    layers: Selector | Iterable[Selector],
    inputs: str | Sequence[str] | Tensor | Mapping[str, Any],
    *,
    tokenizer: Any = None,
    complete: bool = True,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    **generate_kwargs: Any,
) -> Generation:
    """Generates text and returns the features of each token of prompt and answer.

    The model's own `generate` runs, so greedy search, sampling, beams and assisted decoding work as without this
    function, also inside `tl.edit`. The feature of a token is its state in the forward pass that processed it. Padding
    on either side is removed, and the states of a beam are followed.

    Note:
        `generate` never processes the last token that it generates. Its state, and others that generation does not
        compute (such as the logits of the prompt), come from one more forward pass over the final text.

    Args:
        model: A model of transformers with `generate`, or a `LoadedModel`.
        layers: The layers, as in `FeatureLayers`. Each must return one tensor with a state for each token:
            `[N, T, ...]` or `[N * T, ...]`.
        inputs: A text or a list of texts; or token ids `[N, T]`; or the keyword arguments of the model, as a tokenizer
            or processor returns them.
        tokenizer: The tokenizer of transformers for texts. Default: None, that of the `LoadedModel`.
        complete: Whether to run the model once more for the states that generation does not compute. If False, the
            last generated token of each sequence is left out of the result where it has no state. Default: True.
        dtype: The dtype that floating-point features are converted to. Default: None, that of the model.
        device: The device that features are moved to. Default: None, that of the model.
        **generate_kwargs: The arguments of the model's `generate`, such as `max_new_tokens=20`, `num_beams=4`,
            `do_sample=True` or `generation_config`.

    Returns:
        A `Generation`: `run["layer"][i]` has the features `[tokens, ...]` of sequence `i`, detached copies, in the
        order of `run.tokens[i]`; `run.prompt[i]`, `run.answer[i]` and `run.step[i]` tell the tokens apart.

    Raises:
        GenerationError: If the model cannot generate, texts are given without a tokenizer, or a layer has no state for
            each token.
        LayerNotFoundError: If the model has no such layer.
        LayerNotRunError: If a layer was not called.

    Examples:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> config = GPT2Config(n_layer=2, n_head=2, n_embd=8, vocab_size=50, n_positions=32)
        >>> model = GPT2LMHeadModel(config).eval()
        >>> run = generate(model, "transformer.h.1", torch.tensor([[3, 4, 5]]), max_new_tokens=4, pad_token_id=0)
        >>> run["transformer.h.1"][0].shape[0] == len(run.tokens[0]), int(run.prompt[0].sum())
        (True, 3)
    """
    network: Any = model.model if isinstance(model, LoadedModel) else model
    if not callable(getattr(network, "generate", None)):
        raise GenerationError(f"{type(network).__name__} has no generate()", "Pass a model with a language head.")
    if tokenizer is None and isinstance(model, LoadedModel):
        # A processor of texts and images has a tokenizer too.
        tokenizer = getattr(getattr(model.preprocess, "processor", model.preprocess), "tokenizer", None)
    options: dict[str, Any] = {"dtype": dtype, "device": device}
    if tokenizer is not None and generate_kwargs.get("stop_strings"):
        generate_kwargs["tokenizer"] = tokenizer
    arguments = _to_arguments(network, inputs, tokenizer, generate_kwargs)
    run = run_generation(network, layers, arguments, generate_kwargs, options)
    features, absent = collect(run), torch.zeros_like(run.is_token)
    if any(states.missing(run.is_token) for states in features.values()):
        if complete:
            with _without_warnings():
                again = run_generation(network, layers, final_inputs(run), _ONE_PASS, options)
            others = collect(replace(again, output=run.output))
            features = {name: states.filled(others[name]) for name, states in features.items()}
        else:
            absent = _last_tokens(run)
    return _result(run, features, run.is_token & ~absent, tokenizer)


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Keeps transformers from warning of sequences that are padded on the right, from which nothing is generated."""
    logger = logging.getLogger("transformers.generation.utils")
    logger.addFilter(_is_error)
    try:
        yield
    finally:
        logger.removeFilter(_is_error)


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR


def _to_arguments(model: Any, inputs: Any, tokenizer: Any, generate_kwargs: dict[str, Any]) -> dict[str, Any]:
    """Returns the arguments of the model by name, on its device; tensors among the options of `generate` are moved."""
    if isinstance(inputs, str) or (isinstance(inputs, Sequence) and all(isinstance(text, str) for text in inputs)):
        inputs = _tokenize(model, tokenizer, [inputs] if isinstance(inputs, str) else list(inputs))
    if isinstance(inputs, Tensor):
        inputs = {IDS: inputs}
    if not isinstance(inputs, Mapping):
        raise GenerationError(
            f"inputs must be texts, token ids or keyword arguments, not a {type(inputs).__name__}",
            "Pass what the tokenizer or processor of the model returns.",
        )
    given = {name: generate_kwargs.pop(name) for name, value in [*generate_kwargs.items()] if isinstance(value, Tensor)}
    device = input_device(model)
    found = {
        name: value.to(device) if isinstance(value, Tensor) else value for name, value in {**inputs, **given}.items()
    }
    if IDS in found and MASK not in found:
        found[MASK] = _infer_mask(model, found[IDS])
    return found


def _tokenize(model: Any, tokenizer: Any, texts: list[str]) -> dict[str, Tensor]:
    """Returns the tokens of texts: padded on the left of what is continued, on the right of the input of an encoder."""
    if tokenizer is None:
        raise GenerationError("texts need a tokenizer", "Pass tokenizer=, or load the model with tl.models.load.")
    rows = [torch.tensor(tokenizer(text)[IDS], dtype=torch.int64) for text in texts]
    length, padding = max(map(len, rows)), getattr(tokenizer, "pad_token_id", None) or 0
    ids, mask = torch.full((len(rows), length), padding), torch.zeros(len(rows), length, dtype=torch.int64)
    is_encoder = bool(getattr(model.config, "is_encoder_decoder", False))
    for number, row in enumerate(rows):
        place = slice(0, len(row)) if is_encoder else slice(length - len(row), length)
        ids[number, place], mask[number, place] = row, 1
    return {IDS: ids, MASK: mask}


def _infer_mask(model: Any, ids: Tensor) -> Tensor:
    """Returns the attention mask that `generate` infers from token ids: padding is masked if it is not the end."""
    config = model.generation_config
    if config.pad_token_id is None or config.pad_token_id in end_ids(config.eos_token_id):
        return torch.ones_like(ids)
    return torch.ne(ids, config.pad_token_id).long()


def _last_tokens(run: GenerationRun) -> Tensor:
    """Returns which tokens are the last generated one of their sequence `[sequences, T]`."""
    ends = run.is_token.long().cumsum(1)
    return run.is_token & (ends == ends[:, -1:]) & run.is_answer


def _result(run: GenerationRun, features: dict[str, States], kept: Tensor, tokenizer: Any) -> Generation:
    """Returns the features of the kept tokens, without padding.

    Raises:
        GenerationError: If a kept token has no state.
    """
    steps = (torch.arange(kept.shape[1], device=kept.device) - run.prompt + 1).clamp(min=0).expand_as(kept)
    rows = {name: states.select(name, kept) for name, states in features.items()}
    return Generation(
        rows,
        _select(run.sequences, kept),
        _select(~run.is_answer, kept),
        _select(run.is_answer, kept),
        _select(steps, kept),
        run.special,
        run.encoder_tokens,
        _decode(run, tokenizer),
        run.output,
    )


def _select(values: Tensor, kept: Tensor) -> list[Tensor]:
    return [row[mask] for row, mask in zip(values, kept, strict=True)]


def _decode(run: GenerationRun, tokenizer: Any) -> tuple[str, ...] | None:
    if tokenizer is None:
        return None
    answers = _select(run.sequences, run.is_token & run.is_answer)
    return tuple(tokenizer.decode(answer, skip_special_tokens=True) for answer in answers)
