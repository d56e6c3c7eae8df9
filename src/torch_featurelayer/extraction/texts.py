"""Batches of texts: tokenized together, sorted by length within a shard, and padded by their tokenizer."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from ..engine import SPECIAL_MASK
from .batches import Batch, Group

TRUNCATED: Final = "truncated"  # the column of the number of tokens that were cut off
SPANS: Final = "offset_mapping"
_OWN: Final = (SPECIAL_MASK, SPANS)  # what a tokenizer returns besides the arguments of a model
_UNLIMITED: Final = 10**9  # tokenizers without a maximum have a larger one


class TextCollator:
    """Makes padded batches of texts.

    Args:
        tokenizer: The tokenizer of transformers.
        max_length: The number of tokens at which texts are truncated; None for no limit.

    Attributes:
        takes_texts: Whether samples are texts.
        max_length: The number of tokens at which texts are truncated.
    """

    takes_texts = True
    takes_tuples = False
    keywords: Collection[str] = ()

    def __init__(self, tokenizer: Any, max_length: int | None) -> None:
        self._tokenizer, self.max_length = tokenizer, max_length

    def prepare(self, sample: Any) -> Any:
        """Returns a text.

        Raises:
            TypeError: If the sample is not a text.
        """
        if not isinstance(sample, str):
            way = ": name the key of the text with column=" if isinstance(sample, Mapping) else ""
            raise TypeError(f"this model takes texts, not a {type(sample).__name__}{way}")
        return sample

    def collate(self, places: Sequence[int], prepared: Sequence[str]) -> tuple[list[Group], dict[int, Exception]]:
        """Returns the tokens of each text, without padding."""
        if not prepared:
            return [], {}
        encoded = self._encode(list(prepared))
        return [
            Group([place], {name: values[number] for name, values in encoded.items()})
            for number, place in enumerate(places)
        ], {}

    def arrange(self, batches: Iterable[Batch], batch_size: int) -> Iterator[Batch]:
        """Yields one batch for the texts of a shard, whose groups have texts of similar length."""
        whole = Batch()
        for batch in batches:
            if batch.failure is not None:
                yield batch
                return
            start = len(whole.items)
            whole.items += batch.items
            whole.groups += [Group([start + place for place in group.places], group.inputs) for group in batch.groups]
        for group in whole.groups:
            item, cut = whole.items[group.places[0]], group.inputs.pop(TRUNCATED)
            whole.items[group.places[0]] = item._replace(columns={**item.columns, TRUNCATED: cut})
        # The longest first: if memory is too small, that is known at once. Texts of one length keep their order.
        whole.groups.sort(key=lambda group: -len(group.inputs["input_ids"]))
        parts = [whole.groups[start : start + batch_size] for start in range(0, len(whole.groups), batch_size)]
        yield Batch(whole.items, [self._pad(part) for part in parts])

    def _encode(self, texts: list[str]) -> dict[str, list[Any]]:
        """Tokenizes texts, and truncates those that are too long."""
        encoded = self._tokenize(texts)
        encoded[TRUNCATED] = [0] * len(texts)
        limit = self.max_length
        if limit is None:
            return encoded
        long = [number for number, ids in enumerate(encoded["input_ids"]) if len(ids) > limit]
        if long:
            short = self._tokenize([texts[number] for number in long], truncation=True, max_length=limit)
            for place, number in enumerate(long):
                encoded[TRUNCATED][number] = len(encoded["input_ids"][number]) - len(short["input_ids"][place])
                for name, values in short.items():
                    encoded[name][number] = values[place]
        return encoded

    def _tokenize(self, texts: list[str], **options: Any) -> dict[str, list[Any]]:
        is_fast = bool(getattr(self._tokenizer, "is_fast", False))
        found = self._tokenizer(
            texts,
            return_special_tokens_mask=True,
            return_offsets_mapping=is_fast,
            return_attention_mask=True,
            verbose=False,  # too long texts are truncated afterwards
            **options,
        )
        return dict(found)

    def _pad(self, groups: Sequence[Group]) -> Group:
        """Returns texts as one padded group."""
        places = [place for group in groups for place in group.places]
        names = [name for name in groups[0].inputs if name not in _OWN]
        parts = {name: [group.inputs[name] for group in groups] for name in names}
        if getattr(self._tokenizer, "pad_token", None) is None:
            inputs = _pad_right(parts)  # a tokenizer that cannot pad: the mask says what is padding
        else:
            inputs = dict(self._tokenizer.pad(parts, return_tensors="pt"))
        mask = inputs["attention_mask"].bool()
        inputs[SPECIAL_MASK] = torch.ones_like(inputs["attention_mask"])
        inputs[SPECIAL_MASK][mask] = torch.tensor([value for group in groups for value in group.inputs[SPECIAL_MASK]])
        if SPANS in groups[0].inputs:
            inputs[SPANS] = torch.zeros(*mask.shape, 2, dtype=torch.int32)
            spans = [span for group in groups for span in group.inputs[SPANS]]
            inputs[SPANS][mask] = torch.tensor(spans, dtype=torch.int32).reshape(-1, 2)
        return Group(places, inputs)


def find_tokenizer(prepare: Any) -> Any:
    """Returns the tokenizer of a preprocessing; None if it does not take texts."""
    tokenizer = getattr(prepare, "tokenizer", prepare)
    return (
        tokenizer
        if callable(tokenizer) and hasattr(tokenizer, "pad") and hasattr(tokenizer, "model_max_length")
        else None
    )


def longest_text(tokenizer: Any, model: Any) -> int | None:
    """Returns the largest number of tokens of a text; None if there is no limit."""
    if tokenizer.model_max_length < _UNLIMITED:
        return int(tokenizer.model_max_length)
    config = getattr(model, "config", None)
    limit = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    return int(limit) if isinstance(limit, int) and limit > 0 else None


def split_own(inputs: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Returns the arguments of the model, and what the tokenizer returned besides."""
    own = {name: inputs[name] for name in _OWN if name in inputs}
    return {name: value for name, value in inputs.items() if name not in own}, own


def _pad_right(parts: Mapping[str, list[list[int]]]) -> dict[str, Tensor]:
    return {
        name: torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
        for name, rows in parts.items()
    }
