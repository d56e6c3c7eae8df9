"""Stores of generated tokens: the rows are those of `tl.generate`, and an interrupted store has the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import torch_featurelayer as tl
from tests.generation.test_generate import build, one_forward
from tests.texts import WORDS, make_tokenizer

TEXTS = [(f"text {number}", " ".join(WORDS[number : number + 2 + number % 4])) for number in range(10)]
LAYER = "model.layers.1"


def extracted(out: Path, data: Any = TEXTS, side: str = "right", **options: Any) -> Any:
    chosen = {"generate": {"max_new_tokens": 5}, "dtype": torch.float32, "batch_size": 4, **options}
    return tl.extract(build("llama"), LAYER, data, out, preprocess=make_tokenizer("gpt2", side), **chosen)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("tokens", [None, "prompt", "answer", "last", "content", slice(1, 3)], ids=str)
def test_rows_are_those_of_one_forward_pass(tmp_path: Path, tokens: Any, side: str) -> None:
    store, tokenizer = extracted(tmp_path / "out", tokens=tokens, side=side), make_tokenizer("gpt2")
    whole = extracted(tmp_path / "all", side=side)
    for name, text in TEXTS:
        ids, spans = whole.tokens(name)
        prompt = tokenizer(text)["input_ids"]
        assert ids[: len(prompt)].tolist() == prompt
        is_answer = torch.arange(len(ids)) >= len(prompt)
        assert (spans[is_answer] == -1).all()
        assert [text[start:stop] for start, stop in spans[~is_answer].tolist()] == text.split()
        keep = {
            None: torch.ones_like(is_answer),
            "prompt": ~is_answer,
            "answer": is_answer,
            "last": torch.arange(len(ids)) == len(ids) - 1,
            "content": ~torch.isin(ids, torch.tensor([0, 1, 2, 3, 5])),  # special tokens; 5 is the end of the model
        }.get(
            tokens if isinstance(tokens, str | None) else "",
            (torch.arange(len(ids)) // 1 >= 1) & (torch.arange(len(ids)) < 3),
        )
        expected = one_forward(build("llama"), LAYER, input_ids=ids[None].long())[keep]
        torch.testing.assert_close(store[LAYER].item(name), expected, rtol=1e-4, atol=1e-4)
        assert store.tokens(name)[0].tolist() == ids[keep].tolist()


@pytest.mark.parametrize("reduce", ["mean", "max", "last"])
def test_reductions_of_the_answer(tmp_path: Path, reduce: Any) -> None:
    whole = extracted(tmp_path / "all", tokens="answer")
    store = extracted(tmp_path / "out", tokens="answer", reduce=reduce)
    pooled = {"mean": lambda rows: rows.mean(0), "max": lambda rows: rows.amax(0), "last": lambda rows: rows[-1]}
    for number, (name, _) in enumerate(TEXTS):
        torch.testing.assert_close(store[LAYER][number], pooled[reduce](whole[LAYER].item(name)))


def test_continued_sampling_has_the_same_bytes(tmp_path: Path) -> None:
    options: dict[str, Any] = {"generate": {"max_new_tokens": 5, "do_sample": True}, "shard_size": 4}

    def interrupt(progress: Any) -> None:
        if progress.done >= 4:
            raise KeyboardInterrupt

    whole = extracted(tmp_path / "whole", **options)
    with pytest.raises(KeyboardInterrupt):
        extracted(tmp_path / "part", progress=interrupt, **options)
    torch.manual_seed(7)
    extracted(tmp_path / "part", **options)
    for file in sorted((tmp_path / "whole").glob("**/*.safetensors")):
        assert file.read_bytes() == (tmp_path / "part" / file.relative_to(tmp_path / "whole")).read_bytes()
    assert len(whole) == 10


def test_other_options_are_another_store(tmp_path: Path) -> None:
    extracted(tmp_path / "out")
    with pytest.raises(tl.StoreMismatchError, match="generate"):
        extracted(tmp_path / "out", generate={"max_new_tokens": 6})


def test_several_sequences_for_a_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises((ValueError, tl.ItemError), match="num_return_sequences must be 1"):
        extracted(tmp_path / "out", generate={"max_new_tokens": 3, "num_return_sequences": 2, "do_sample": True})


def test_the_tokens_of_a_prompt_need_generation(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="tokens"):
        extracted(tmp_path / "out", tokens="answer", generate=None)


def test_segments_that_the_model_does_not_take(tmp_path: Path) -> None:
    """Tokenizers of transformers 4 return them for any model, and `generate` refuses them."""
    tokenizer = make_tokenizer("gpt2")
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    assert "token_type_ids" in tokenizer("the cat")
    options: dict[str, Any] = {"generate": {"max_new_tokens": 3}, "dtype": torch.float32}
    store = tl.extract(build("llama"), LAYER, TEXTS, tmp_path / "out", preprocess=tokenizer, **options)
    right = extracted(tmp_path / "right", **options)
    torch.testing.assert_close(store[LAYER][:], right[LAYER][:], rtol=1e-4, atol=1e-4)
