"""Parts of mixtures of experts equal a computation by hand, whatever implementation runs the experts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

import torch_featurelayer as tl
from tests.versions import TRANSFORMERS

# Earlier models have no implementations to choose from, or routers that return probabilities as logits.
pytestmark = pytest.mark.skipif(TRANSFORMERS < (5, 1), reason="needs transformers 5.1")

SMALL = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "initializer_range": 0.3,
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "Mixtral": ("model.layers.1.mlp", {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "Qwen3Moe": (
        "model.layers.1.mlp",
        {
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 24,
            "head_dim": 8,
            "norm_topk_prob": True,
        },
    ),
    "DeepseekV3": (
        "model.layers.1.mlp",
        {
            "n_routed_experts": 8,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 24,
            "n_shared_experts": 1,
            "first_k_dense_replace": 1,
            "n_group": 2,
            "topk_group": 1,
            "kv_lora_rank": 8,
            "q_lora_rank": 8,
            "qk_rope_head_dim": 8,
            "qk_nope_head_dim": 8,
            "v_head_dim": 8,
        },
    ),
    "GptOss": ("model.layers.1.mlp", {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 8}),
    "Olmoe": ("model.layers.1.mlp", {"num_experts": 4, "num_experts_per_tok": 2}),
    "GraniteMoe": ("model.layers.1.block_sparse_moe", {"num_local_experts": 4, "num_experts_per_tok": 2}),
}
IDS = torch.arange(3, 31).reshape(2, 14)


def build(kind: str, implementation: str = "eager") -> tuple[Any, str]:
    torch.manual_seed(0)
    path, more = MODELS[kind]
    config = getattr(transformers, f"{kind}Config")(**{**SMALL, **more})
    config._experts_implementation = implementation
    model = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    for _, parameter in model.named_parameters():
        if parameter.ndim == 1 and not parameter.any():  # biases that are initialised with zeros
            nn.init.normal_(parameter, std=0.3)
    return model, path


def expert_by_hand(experts: Any, number: int, states: Tensor) -> Tensor:
    """The output of one expert, from its weights."""
    up, down = experts.gate_up_proj[number], experts.down_proj[number]
    if hasattr(experts, "gate_up_proj_bias"):  # GPT-OSS, whose weights are transposed
        gate, linear = (states @ up + experts.gate_up_proj_bias[number])[:, ::2], None
        linear = (states @ up + experts.gate_up_proj_bias[number])[:, 1::2]
        gate, linear = gate.clamp(max=experts.limit), linear.clamp(-experts.limit, experts.limit)
        return (linear + 1) * gate * torch.sigmoid(gate * experts.alpha) @ down + experts.down_proj_bias[number]
    gate, linear = (states @ up.T).chunk(2, -1)
    return (experts.act_fn(gate) * linear) @ down.T


@pytest.mark.parametrize("implementation", ["eager", "batched_mm", "grouped_mm"])
@pytest.mark.parametrize("kind", MODELS)
def test_parts_equal_a_computation_by_hand(kind: str, implementation: str) -> None:
    model, path = build(kind, implementation)
    block = model.get_submodule(path)
    parts = [f"{path}:router_logits", f"{path}:router_indices", f"{path}:router_scores"]
    count = block.experts.num_experts
    inputs = [f"{path}:expert[{number}]:input" for number in range(count)]
    outputs = [f"{path}:expert[{number}]" for number in range(count)]
    seen: dict[str, Any] = {}
    handles = [block.experts.register_forward_pre_hook(lambda _, args: seen.update(args=args))]
    handles += [block.experts.register_forward_hook(lambda _, __, output: seen.update(output=output))]
    with torch.no_grad():
        feats, _ = tl.FeatureLayers(model, [*parts, *inputs, *outputs])(input_ids=IDS)
    for handle in handles:
        handle.remove()
    states, indices, scores = seen["args"]
    assert torch.equal(feats[parts[1]], indices)
    assert torch.equal(feats[parts[2]], scores)
    router = block.gate if hasattr(block, "gate") else block.router
    weight = router.weight if hasattr(router, "weight") else router.layer.weight
    bias = getattr(router, "bias", None)
    expected = states.float() @ weight.T.float() + (0 if bias is None else bias)
    torch.testing.assert_close(feats[parts[0]].float(), expected, rtol=1e-4, atol=1e-4)
    total = torch.zeros_like(states)
    for number in range(count):
        chosen = (indices == number).any(-1)
        assert torch.equal(feats[inputs[number]], states[chosen])
        by_hand = expert_by_hand(block.experts, number, states[chosen])
        torch.testing.assert_close(feats[outputs[number]], by_hand, rtol=1e-4, atol=1e-4)
        total[chosen] += by_hand * (scores * (indices == number)).sum(-1)[chosen, None]
    torch.testing.assert_close(seen["output"], total, rtol=1e-4, atol=1e-4)
    assert sum(len(feats[name]) for name in inputs) == indices.numel()


def test_implementations_agree() -> None:
    found = []
    for implementation in ("eager", "batched_mm", "grouped_mm"):
        model, path = build("Mixtral", implementation)
        names = [f"{path}:expert[2]:input", f"{path}:expert[2]"]
        with torch.no_grad():
            feats, _ = tl.FeatureLayers(model, names)(input_ids=IDS)
        found.append(feats)
    for feats in found[1:]:
        for name in feats.names:
            torch.testing.assert_close(feats[name], found[0][name], rtol=1e-4, atol=1e-4)


def test_modules_inside_do_not_count_what_is_computed_beside() -> None:
    model, path = build("Mixtral")
    with torch.no_grad():
        feats, _ = tl.FeatureLayers(model, [f"{path}.experts.act_fn@*"])(input_ids=IDS)
        with_expert, _ = tl.FeatureLayers(model, [f"{path}.experts.act_fn@*", f"{path}:expert[1]"])(input_ids=IDS)
    assert len(feats[0]) == len(with_expert[0])


def test_beside_operations_of_the_same_block() -> None:
    model, path = build("Mixtral")
    with torch.no_grad():
        feats, _ = tl.FeatureLayers(model, [f"{path}:expert[1]:input", f"{path}:view", f"{path}:reshape"])(
            input_ids=IDS
        )
    assert feats[0].shape[1] == 32
    assert feats[1].shape == (28, 32)


def test_globs_early_stop_and_capture() -> None:
    model, path = build("Mixtral")
    with torch.no_grad():
        feats, _ = tl.FeatureLayers(model, "model.layers.*.mlp:expert[0]:input")(input_ids=IDS)
        early = tl.FeatureLayer(model, f"{path}:expert[0]:input").features(input_ids=IDS)
        with tl.capture(model, f"{path}:router_indices", keep="all") as record:
            model(input_ids=IDS)
            model(input_ids=IDS[:1])
    assert feats.names == ("model.layers.0.mlp:expert[0]:input", "model.layers.1.mlp:expert[0]:input")
    assert torch.equal(early, feats[1])
    assert [len(indices) for indices in record[0]] == [28, 14]


def test_gradients_reach_the_tokens_of_an_expert() -> None:
    model, path = build("Mixtral")
    feat, _ = tl.FeatureLayer(model, f"{path}:expert[1]")(input_ids=IDS)
    feat.sum().backward()
    gradient = model.get_submodule(path).experts.down_proj.grad
    assert gradient[1].any()
    assert not gradient[[0, 2, 3]].any()


class _Block(nn.Module):
    """Experts that are modules of their own, as in remote code."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(8, 3, bias=False)
        self.experts = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))

    def forward(self, states: Tensor) -> Tensor:
        scores, choice = self.gate(states).softmax(-1).max(-1)
        output = torch.zeros_like(states)
        for number, expert in enumerate(self.experts):
            output[choice == number] = expert(states[choice == number])
        return output * scores[:, None]


def test_experts_that_are_modules() -> None:
    model, states = nn.Sequential(_Block()), torch.randn(20, 8)
    feats, _ = tl.FeatureLayers(model, ["0:expert[1]:input", "0:expert[1]", "0:router_logits"])(states)
    choice = model[0].gate(states).argmax(-1)
    assert torch.equal(feats[0], states[choice == 1])
    torch.testing.assert_close(feats[1], model[0].experts[1](states[choice == 1]))
    torch.testing.assert_close(feats[2], model[0].gate(states))


class TestErrors:
    def test_no_experts(self) -> None:
        with pytest.raises(tl.LayerNotFoundError, match="Linear has neither a module of experts nor is one"):
            tl.FeatureLayer(nn.Sequential(nn.Linear(2, 2)), "0:expert[0]")(torch.ones(1, 2))

    def test_too_large_a_number(self) -> None:
        model, path = build("Mixtral")
        with pytest.raises(tl.LayerNotFoundError, match="It has 4 experts, from 0"):
            tl.FeatureLayer(model, f"{path}:expert[4]")(input_ids=IDS)

    @pytest.mark.parametrize("text", ["mlp:expert", "mlp:expert.1", "mlp:expert[x]", "mlp:expert[1"])
    def test_grammar(self, text: str) -> None:
        with pytest.raises(tl.AddressError, match=r"expert\[5\]|missing"):
            tl.FeatureLayer(nn.Sequential(nn.Linear(2, 2)), text)

    def test_ports(self) -> None:
        with pytest.raises(tl.AddressError, match="has no grad_output"):
            tl.FeatureLayer(nn.Sequential(nn.Linear(2, 2)), "0:expert[1]:grad_output")
        with pytest.raises(tl.AddressError, match="has no input"):
            tl.FeatureLayer(nn.Sequential(nn.Linear(2, 2)), "0:router_logits:input")

    def test_edits(self) -> None:
        model, path = build("Mixtral")
        with pytest.raises(tl.EditError, match="computed beside the model"), tl.edit(model, {f"{path}:expert[1]": 0.0}):
            pass

    def test_one_function_that_swallows_a_layer(self) -> None:
        """The error names the switch."""
        model, path = build("Mixtral", "grouped_mm")
        block = model.get_submodule(path)
        swallowed = nn.Identity()
        block.experts.register_module("swallowed", swallowed)
        with pytest.raises(tl.LayerNotRunError, match=r"set_experts_implementation\(\"eager\"\)"):
            tl.FeatureLayer(model, f"{path}.experts.swallowed")(input_ids=IDS)
        model.set_experts_implementation("eager")
        with pytest.raises(tl.LayerNotRunError, match="Perhaps it runs only in train mode"):
            tl.FeatureLayer(model, f"{path}.experts.swallowed")(input_ids=IDS)

    def test_a_kernel_that_swallows_a_layer(self) -> None:
        model, path = build("GptOss")
        block = model.get_submodule(path)
        block.kernel_layer_name = "MegaBlocksMoeMLP"
        # As `kernelize` of the package kernels replaces the forward of a module.
        block.forward = lambda states: (torch.zeros_like(states), None)
        with pytest.raises(tl.LayerNotRunError, match="MegaBlocksMoeMLP.*use_kernels=False"):
            tl.FeatureLayer(model, f"{path}.router[0]")(input_ids=IDS)


def test_probabilities_are_not_handed_out_as_logits() -> None:
    """A router that returns a softmax as its logits, as in transformers 5.0."""
    model, path = build("Mixtral")
    router: Any = model.get_submodule(path).gate
    forward = router.forward

    def softmax(x: Tensor) -> tuple[Tensor, ...]:
        logits, *others = forward(x)
        return logits.softmax(-1), *others

    router.forward = softmax
    with pytest.raises(LookupError, match="returns probabilities, not logits: capture 'router_scores'"):
        tl.FeatureLayer(model, f"{path}:router_logits")(input_ids=IDS)
