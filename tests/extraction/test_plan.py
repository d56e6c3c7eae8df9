"""A plan from one batch tells what the extraction then takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torch_featurelayer as tl
from tests.extraction.test_texts import make_model
from tests.generation.test_generate import build
from tests.texts import WORDS, make_tokenizer
from tests.versions import STATES


@pytest.mark.parametrize("reduce", [None, "mean", {"layer4": "max"}], ids=str)
def test_bytes_are_those_of_the_store(reduce: Any, resnet18: nn.Module, tmp_path: Path) -> None:
    images, layers = torch.randn(20, 3, 64, 64), ["layer1", "layer4"]
    found = tl.plan(resnet18, layers, images, reduce=reduce, batch_size=8)
    store = tl.extract(resnet18, layers, images, tmp_path, reduce=reduce, batch_size=8)
    for layer in layers:
        assert found[layer].total_bytes == store[layer][:].numel() * 2
        assert found[layer].shape == tuple(store[layer].shape[1:])
        assert found[layer].dtype == "float16"
    assert found.items == 20
    assert found.total_bytes == sum(row.total_bytes for row in found)
    assert not any(module._forward_hooks for module in resnet18.modules())


def test_tokens_and_generated_tokens() -> None:
    tokenizer = make_tokenizer("bert")
    texts = [" ".join(WORDS[: 2 + number % 3]) for number in range(16)]
    whole = tl.plan(make_model("bert"), f"encoder.layer.0{STATES}", texts, preprocess=tokenizer, batch_size=16)
    rows = sum(len(tokenizer(text)["input_ids"]) for text in texts)
    (row,) = whole
    assert row.rows == rows / 16
    assert row.total_bytes == rows * row.row_bytes
    options: dict[str, Any] = {"tokens": "answer", "generate": {"max_new_tokens": 3, "eos_token_id": None}}
    run = tl.plan(build("llama"), "model.layers.1", texts, preprocess=make_tokenizer("gpt2"), **options)
    assert run["model.layers.1"].rows == 3


class _Waits(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        import time

        time.sleep(0.02)
        return x + 1


def test_the_duration_is_that_of_all_batches() -> None:
    found = tl.plan(nn.Sequential(_Waits()), "0", torch.zeros(100, 3), batch_size=10)
    assert 0.2 <= found.model_seconds <= found.seconds < 2
    assert found.peak_memory is None or found.peak_memory > 1e7


def test_it_prints() -> None:
    found = tl.plan(nn.Sequential(nn.Linear(4, 3)), "0", torch.zeros(1000, 4), dtype=None, batch_size=10)
    text = str(found)
    assert "layer  row  dtype    rows/item  bytes/row  total" in text
    assert "1,000 items in batches of 10: 12 kB of features" in text
    assert "<p>1,000 items" in found._repr_html_()
    assert found.to_dicts()[0]["row_bytes"] == 12
    assert str(found[:1]) == text


def test_an_iterator_has_no_plan() -> None:
    with pytest.raises(tl.DatasetError, match="needs the number of items"):
        tl.plan(nn.Sequential(nn.Linear(4, 3)), "0", iter([torch.zeros(4)]))


def test_a_misspelled_layer() -> None:
    with pytest.raises(tl.LayerNotFoundError):
        tl.plan(nn.Sequential(nn.Linear(4, 3)), "1", torch.zeros(2, 4))
