"""A spread of `benchmarks/coverage.py`: every module's output and input, in train and eval mode."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

import torch_featurelayer as tl
from benchmarks import _architectures
from benchmarks.coverage import measure
from tests import toys

SPREAD = {
    "torchvision": [
        "fcn_resnet50",
        "ssdlite320_mobilenet_v3_large",
        "r3d_18",
        "raft_small",
    ],
    "timm": ["test_vit", "test_efficientnet", "test_convnext", "test_byobnet", "test_mambaout"],
    "transformers": [
        "bert (text)",
        "gpt2 (text)",
        "mixtral (text)",
        "mamba (text)",
        "t5 (pair)",
        "vit (image)",
        "wav2vec2 (sound)",
        "clip (both)",
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize(("library", "name"), [(library, name) for library in SPREAD for name in SPREAD[library]])
def test_nothing_wrong_nothing_missing(library: str, name: str) -> None:
    build = {
        "torchvision": _architectures._torchvision,
        "timm": _architectures._timm,
        "transformers": lambda name: _architectures._transformers(name.split()[0], name.split()[1].strip("()")),
    }[library]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outcome = measure(name, lambda: build(name))
    assert (outcome.unable, outcome.crash) == ("", "")
    assert (outcome.wrong, outcome.missing, outcome.equal) == (0, 0, True)
    assert outcome.compared > 20


def test_the_measurement_can_fail() -> None:
    """A layer that is captured by reference is found to be wrong: the comparison is no formality."""
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(inplace=True))
    x = torch.randn(2, 4)
    from benchmarks.coverage import recorded
    from tests.reference import agree, frozen

    with torch.no_grad():
        outputs, _ = recorded(model, lambda: model(x))
        feat, _ = tl.FeatureLayer(model, "0", clone=False)(x)
    assert not agree(frozen(feat), outputs["0"])
    assert not agree(frozen(toys.Cache(x)), frozen(toys.Cache(x + 1)))
    assert agree(frozen(toys.Cache(x)), frozen(toys.Cache(x.clone())))


def test_hidden_states_and_attentions_of_transformers_from_addresses_alone() -> None:
    """What `output_hidden_states` and eager `output_attentions` return: embeddings, each layer, the last norm."""
    from transformers import BertConfig, BertModel, LlamaConfig, LlamaModel

    sizes = {
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "vocab_size": 50,
    }
    tokens = torch.randint(1, 50, (2, 7))
    bert = BertModel(BertConfig(**sizes, attn_implementation="eager")).eval()
    llama = LlamaModel(LlamaConfig(**sizes, num_key_value_heads=2, attn_implementation="eager")).eval()
    cases = [
        (bert, ["embeddings", *(f"encoder.layer.{i}" for i in range(3))], "encoder.layer.{}.attention.self:softmax"),
        (llama, ["layers.0:input[hidden_states]", "layers.0", "layers.1", "norm"], "layers.{}.self_attn:softmax"),
    ]
    for model, states, attention in cases:
        with torch.no_grad():
            right = model(tokens, output_hidden_states=True, output_attentions=True)
            names = [*states, *(attention.format(i) for i in range(3))]
            feats, _ = tl.FeatureLayers(model, names)(tokens)
        for name, value in zip(names, [*right.hidden_states, *right.attentions], strict=True):
            feat = feats[name][0] if isinstance(feats[name], tuple) else feats[name]
            assert torch.equal(feat, value), name
