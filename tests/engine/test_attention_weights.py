"""`attention_weights` equals the weights that the eager implementation returns, whatever implementation runs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional

import torch_featurelayer as tl
from tests import toys
from tests.versions import TORCH
from torch_featurelayer.engine.attention import attention_weights

pytestmark = pytest.mark.skipif(TORCH < (2, 6), reason="flex attention was a prototype")

SMALL: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 64,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "pad_token_id": 0,
    "initializer_range": 0.3,
}
KINDS: dict[str, dict[str, Any]] = {
    "Llama": {},
    "Mistral": {"sliding_window": 4},
    "Gemma2": {"attn_logit_softcapping": 3.0, "sliding_window": 4},
    "GptOss": {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 4},
}
IDS = torch.arange(3, 21).reshape(2, 9)
MASK = torch.tensor([[0, 0, 1, 1, 1, 1, 1, 1, 1], [1] * 9])


def build(kind: str, implementation: str) -> Any:
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**SMALL, **KINDS[kind])
    config._attn_implementation = implementation
    model = getattr(transformers, f"{kind}Model")(config).eval()
    for name, parameter in model.named_parameters():
        if "sinks" in name:
            nn.init.normal_(parameter)
    return model


def right(kind: str) -> tuple[Tensor, ...]:
    with torch.no_grad():
        found = build(kind, "eager")(input_ids=IDS, attention_mask=MASK, output_attentions=True)
    return tuple(found.attentions)


CASES = [(kind, implementation) for kind in KINDS for implementation in ("eager", "sdpa", "flex_attention")]
CASES.remove(("Gemma2", "sdpa"))  # transformers leaves out the cap with SDPA
CASES.remove(("GptOss", "sdpa"))  # sinks: eager attention only, and flex attention on CUDA
CASES.remove(("GptOss", "flex_attention"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("kind", "implementation"), CASES)
def test_weights_are_those_of_eager_attention(kind: str, implementation: str) -> None:
    model, expected = build(kind, implementation), right(kind)
    names = [f"layers.{number}.self_attn:attention_weights" for number in range(2)]
    with torch.no_grad():
        bare = model(input_ids=IDS, attention_mask=MASK).last_hidden_state
        feats, output = tl.FeatureLayers(model, names)(input_ids=IDS, attention_mask=MASK)
    real = MASK.bool()
    torch.testing.assert_close(output.last_hidden_state[real], bare[real], rtol=1e-3, atol=1e-3)
    rows = real[:, None, :, None].expand_as(expected[0])  # what a padded query attends to means nothing
    for name, weights in zip(names, expected, strict=True):
        torch.testing.assert_close(feats[name][rows], weights[rows], rtol=1e-3, atol=1e-4)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning")
def test_flex_attention_called_by_a_module() -> None:
    """With a score function, a block mask and grouped queries."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    bias = torch.randn(4, 16, 16)

    def score(score: Tensor, item: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:  # noqa: ARG001
        return score + bias[head, query, key]

    mask = create_block_mask(lambda item, head, query, key: query - key >= 2, None, None, 16, 16, device="cpu")  # noqa: ARG005

    class Attends(nn.Module):
        def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            found: Tensor = flex_attention(query, key, value, score_mod=score, block_mask=mask, enable_gqa=True)  # type: ignore[assignment]
            return found

    query, key, value = torch.randn(2, 4, 16, 8), torch.randn(2, 2, 16, 8), torch.randn(2, 2, 16, 8)
    with torch.no_grad():
        weights, output = tl.FeatureLayer(Attends(), ":attention_weights")(query, key, value)
    torch.testing.assert_close(weights @ value.repeat_interleave(2, 1), output, rtol=1e-4, atol=1e-5)
    assert not weights[:, :, :2].any()  # queries without keys


def test_sinks_of_flex_attention_equal_eager_attention() -> None:
    """Transformers runs them on CUDA alone, so the computation is compared and not the model."""
    query, key, sinks = torch.randn(2, 4, 5, 8), torch.randn(2, 2, 5, 8), torch.randn(4)
    scores = query @ key.repeat_interleave(2, 1).mT * 0.5
    scores = scores.masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf)
    logits = torch.cat([scores, sinks.reshape(1, -1, 1, 1).expand(2, -1, 5, 1)], -1)
    mask = (*range(12), lambda item, head, query, key: query >= key)  # noqa: ARG005
    args = (query, key, key, lambda score, *_: score, mask, 0.5, {})
    weights = attention_weights("flex_attention", args, {}, sinks)
    torch.testing.assert_close(weights, logits.softmax(-1)[..., :-1])


class _Eager(nn.Module):
    """Attention by hand, twice, beside another softmax and other products."""

    def forward(self, query: Tensor, value: Tensor) -> Tensor:
        gate = (query @ query.mT).softmax(-1).sum()
        first = (query @ value.mT).softmax(-1) @ value
        second = torch.matmul(functional.dropout((first @ value.mT).softmax(-1), 0.5, self.training), value)
        return second * gate


def test_eager_attention_by_hand() -> None:
    model, query, value = _Eager(), torch.randn(2, 3, 7, 4), torch.randn(2, 3, 5, 4)
    names = [":attention_weights.0", ":attention_weights.1"]
    for mode in (True, False):
        feats, _ = tl.FeatureLayers(model.train(mode), names)(query, value)
        first = (query @ value.mT).softmax(-1)
        torch.testing.assert_close(feats[0], first)
        torch.testing.assert_close(feats[1], ((first @ value) @ value.mT).softmax(-1))  # before dropout


def test_two_attentions_in_one_layer() -> None:
    fused = functional.scaled_dot_product_attention
    model = toys.Returns(lambda x: fused(fused(x, x, x), x, 2 * x))
    x = torch.randn(1, 2, 5, 4)
    first, second = tl.FeatureLayers(model, [":attention_weights.0", ":attention_weights.1"])(x)[0]
    torch.testing.assert_close(first, (x @ x.mT / 2).softmax(-1))
    torch.testing.assert_close(second, (first @ x @ x.mT / 2).softmax(-1))
    with pytest.raises(tl.AmbiguousOperationError, match="2"):
        tl.FeatureLayer(model, ":attention_weights")(x)


def test_a_softmax_that_is_no_attention() -> None:
    class Classifier(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.softmax(-1) * (x @ x.mT)

    with pytest.raises(tl.OperationNotFoundError):
        tl.FeatureLayer(Classifier(), ":attention_weights")(torch.randn(2, 4, 4))
