"""The forward passes of `generate`: which tokens each of them processed, and at which positions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .._exceptions import GenerationError
from ..engine import ForwardTracker, Scope, find_cache, name_inputs


class TokenPass(NamedTuple):
    """The tokens of one forward pass.

    Attributes:
        start: The position of its first token in the running sequences.
        ids: The ids of its tokens `[rows, T]`; a row is a running sequence, such as a beam.
    """

    start: int
    ids: Tensor

    @property
    def stop(self) -> int:
        """The position after its last token."""
        return self.start + self.ids.shape[1]


class PassTracker:
    """Notes the tokens of each forward pass of a generating model.

    Args:
        model: The model, or a wrapper around it, such as one of PEFT.

    Attributes:
        passes: The forward passes so far.
    """

    def __init__(self, model: nn.Module) -> None:
        self.passes: list[TokenPass] = []
        # A wrapper passes generation to the model inside, so its own forward does not run.
        self._modules = [module for module in model.modules() if hasattr(module, "prepare_inputs_for_generation")]
        self._scope = Scope()

    @contextmanager
    def activate(self) -> Iterator[None]:
        """Notes forward passes while the context is open."""
        tracker = ForwardTracker(self._scope, self._note, lambda: None)
        with ExitStack() as stack:
            stack.enter_context(self._scope.enter())
            tracker.install_begin(self._modules, stack)
            tracker.install_end(self._modules, stack)
            yield

    def _note(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Notes the tokens of a forward pass that begins.

        Raises:
            GenerationError: If it gets no token ids.
        """
        named = name_inputs(module, args, kwargs)
        ids = named.get("decoder_input_ids", named.get("input_ids"))
        if not isinstance(ids, Tensor):
            raise GenerationError(
                f"the forward pass of {type(module).__name__} gets no token ids but {', '.join(named)}",
                "Pass input_ids, not inputs_embeds.",
            )
        # Of earlier releases, whose static cache tells its length from its keys and does not count padding.
        positions = named.get("cache_position")
        start = int(positions[0]) if positions is not None else self._find_start(find_cache(named), ids.shape[1])
        self.passes.append(TokenPass(start, ids.clone()))

    def _find_start(self, cache: Any, length: int) -> int:
        """Returns the position of the first token of a forward pass, from the number of tokens in its cache."""
        if isinstance(cache, (tuple, list)) and cache:  # of models of earlier releases
            return int(cache[0][0].shape[-2])
        try:
            found = int(cache.get_seq_length())
        except (AttributeError, ValueError, IndexError, NotImplementedError):  # none, or one of states, as in Mamba
            found = 0
        # A part of the text is the next one, whatever the cache tells; the whole text runs again without a cache.
        is_next = self.passes and (cache is not None or length < self.passes[0].stop)
        return found or (self.passes[-1].stop if is_next else 0)


class Alignment(NamedTuple):
    """The state of each token of the final sequences.

    Attributes:
        rows: For each forward pass, the row of each sequence.
        columns: For each forward pass, which of its states belong to the sequences: bool `[sequences, T]`.
        present: The tokens that have a state: bool `[sequences, T]`.
    """

    rows: list[Tensor]
    columns: list[Tensor]
    present: Tensor


def align(passes: list[TokenPass], sequences: Tensor, prompt: int, beams: Tensor | None) -> Alignment:
    """Determines which state of which forward pass belongs to each token.

    The state of a token is that of the last forward pass that processed it after the same tokens. Candidates of
    assisted decoding that were rejected, and beams that were left, belong to no sequence.

    Args:
        passes: The forward passes.
        sequences: The final sequences `[sequences, T]`.
        prompt: The number of tokens before the first generated one.
        beams: The row of each sequence in the forward pass that produced each generated token, -1 after its end
            `[sequences, generated]`. None for sequences that keep their rows.
    """
    rows = [_rows(each, sequences, prompt, beams) for each in passes]
    columns, present = [], torch.zeros_like(sequences, dtype=torch.bool)
    for number, (each, own) in enumerate(zip(passes, rows, strict=True)):
        wanted = sequences[:, each.start : each.stop]
        ids = each.ids.to(sequences.device)[own.clamp(min=0), : wanted.shape[1]]
        # After a token that was not kept, none of the same forward pass is.
        found = ((ids == wanted) & (own >= 0)[:, None]).long().cumprod(1).bool()
        # A later forward pass from an earlier position replaces states: the cache was cut.
        replaced = min((later.start for later in passes[number + 1 :]), default=each.stop)
        found[:, max(replaced - each.start, 0) :] = False
        present[:, each.start : each.stop] |= found
        columns.append(found)
    return Alignment(rows, columns, present)


def _rows(each: TokenPass, sequences: Tensor, prompt: int, beams: Tensor | None) -> Tensor:
    """Returns the row of each sequence in a forward pass; -1 if it has ended."""
    number = torch.arange(len(sequences), device=sequences.device)
    step = each.stop - prompt
    if beams is not None and step > 0:
        return beams[:, step] if step < beams.shape[1] else torch.full_like(number, -1)
    # In the prompt, all rows of one text are equal.
    return number * len(each.ids) // len(sequences)
