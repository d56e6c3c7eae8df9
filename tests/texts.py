"""A tokenizer of words, for tests of models of texts."""

from __future__ import annotations

import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

WORDS = [
    *("a", "the", "cat", "dog", "sat", "on", "mat", "ran", "away", "from"),
    *("house", "very", "quickly", "and", "then", "came", "back", "home", "again", "today"),
]


def make_tokenizer(kind: str, side: str = "right") -> transformers.PreTrainedTokenizerFast:
    """A tokenizer of words; that of BERT adds special tokens at both ends."""
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    words = Tokenizer(models.WordLevel({word: place for place, word in enumerate([*special, *WORDS])}, "[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    if kind == "bert":
        words.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
        )
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "cls", "sep", "unk")}
    inputs = ["input_ids", "attention_mask", *(["token_type_ids"] if kind == "bert" else [])]
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, padding_side=side, model_max_length=32, model_input_names=inputs, **names
    )
