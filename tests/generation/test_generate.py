"""Features of generated tokens equal those of one forward pass over the whole text."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    CLIPVisionConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    MambaConfig,
    MambaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    StoppingCriteria,
    StoppingCriteriaList,
    T5Config,
    T5ForConditionalGeneration,
)

import torch_featurelayer as tl
from tests.texts import make_tokenizer
from tests.versions import STATES, TRANSFORMERS, adapts
from torch_featurelayer.generation._passes import PassTracker
from torch_featurelayer.models._hf_inputs import HfText

VOCABULARY, END, PAD, IMAGE = 60, 5, 0, 59
MASK = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1], [0, 1, 1, 1, 1]])
WAYS: list[dict[str, Any]] = [
    {},
    {"do_sample": True},
    {"do_sample": True, "num_return_sequences": 3},
    {"num_beams": 4},
    {"num_beams": 4, "num_return_sequences": 2},
    {"num_beams": 3, "do_sample": True, "num_return_sequences": 3},
    {"use_cache": False},
    {"num_beams": 4, "use_cache": False},
    {"cache_implementation": "static"},
]


def build(kind: str) -> Any:
    torch.manual_seed(0)
    text = {"vocab_size": VOCABULARY, "eos_token_id": END, "pad_token_id": PAD, "bos_token_id": 1}
    small = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 32, "intermediate_size": 48}
    llama = {**text, **small, "num_key_value_heads": 2, "initializer_range": 0.3}
    if kind == "gpt2":
        config = GPT2Config(n_layer=2, n_head=2, n_embd=16, n_positions=64, initializer_range=0.5, **text)
        return GPT2LMHeadModel(config).eval()
    if kind == "mixtral":
        return MixtralForCausalLM(MixtralConfig(num_local_experts=4, **llama)).eval()
    if kind == "mamba":
        config = MambaConfig(num_hidden_layers=2, hidden_size=32, state_size=4, initializer_range=0.3, **text)
        return MambaForCausalLM(config).eval()
    if kind == "llava":
        vision = CLIPVisionConfig(patch_size=8, image_size=16, **small)
        config = LlavaConfig(
            vision_config=vision, text_config=LlamaConfig(**llama), image_token_id=IMAGE, image_seq_length=4
        )
        return LlavaForConditionalGeneration(config).eval()
    return LlamaForCausalLM(LlamaConfig(**llama)).eval()


GATE = "mlp.gate[0]" if TRANSFORMERS >= (5,) else "block_sparse_moe.gate"
LAYERS = {
    "gpt2": [f"transformer.h.*{STATES}", "lm_head", "transformer.h.0.mlp:input"],
    "llama": ["model.layers.*", "model.layers.1.self_attn[0]", "lm_head"],
    "mixtral": ["model.layers.*", f"model.layers.0.{GATE}"],
    "mamba": ["backbone.layers.*"],
    "llava": ["model.language_model.layers.*", "lm_head"],
}


def prompts(rows: int = 3) -> dict[str, Tensor]:
    torch.manual_seed(1)
    ids = torch.randint(6, IMAGE, MASK.shape) * MASK
    return {"input_ids": ids[:rows], "attention_mask": MASK[:rows]}


def one_forward(model: nn.Module, layer: str, **inputs: Any) -> Tensor:
    with torch.no_grad():
        feat, _ = tl.FeatureLayer(model, layer)(**inputs)
    return feat.reshape(-1, feat.shape[-1])


def check(model: nn.Module, run: tl.Generation, **inputs: Tensor) -> None:
    """Compares each sequence with a forward pass over it alone, without padding."""
    for number, tokens in enumerate(run.tokens):
        row = number * len(next(iter(inputs.values()))) // len(run.tokens) if inputs else 0
        others = {name: value[row : row + 1] for name, value in inputs.items()}
        for layer in run:
            expected = one_forward(model, layer, input_ids=tokens[None], **others)
            torch.testing.assert_close(run[layer][number], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("kind", ["gpt2", "llama", "mixtral"])
def test_equals_one_forward_pass(kind: str, way: dict[str, Any]) -> None:
    model, inputs = build(kind), prompts()
    run = tl.generate(model, LAYERS[kind], inputs, max_new_tokens=8, **way)
    check(model, run)
    copies = way.get("num_return_sequences", 1)
    assert len(run.tokens) == 3 * copies
    for number, tokens in enumerate(run.tokens):
        row = number // copies
        prompt = inputs["input_ids"][row][inputs["attention_mask"][row].bool()]
        assert torch.equal(tokens[run.prompt[number]], prompt)
        assert torch.equal(run.prompt[number], ~run.answer[number])
        answer = tokens[run.answer[number]].tolist()
        assert answer == run.output.sequences[number, 5 : 5 + len(answer)].tolist()
        assert END not in answer[:-1]
        assert len(answer) == 8 or answer[-1] == END
        assert run.step[number].tolist() == [0] * len(prompt) + [*range(1, len(answer) + 1)]


@pytest.mark.parametrize("way", [{}, {"num_beams": 4}, {"do_sample": True, "num_return_sequences": 2}], ids=str)
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_states_are_those_of_generation(kind: str, way: dict[str, Any]) -> None:
    """Without the last forward pass, only the last token has no state: no other comes from it."""
    model, layer = build(kind), LAYERS[kind][0]
    torch.manual_seed(2)
    whole = tl.generate(model, layer, prompts(), max_new_tokens=8, **way)
    torch.manual_seed(2)
    run = tl.generate(model, layer, prompts(), max_new_tokens=8, complete=False, **way)
    assert [len(tokens) for tokens in run.tokens] == [len(tokens) - 1 for tokens in whole.tokens]
    check(model, run)


def test_assisted_decoding() -> None:
    """Candidates that were rejected belong to no sequence."""
    model = build("llama")
    inputs = {name: value[1:2] for name, value in prompts().items()}
    for tokens in (2, 3, 5):
        run = tl.generate(model, LAYERS["llama"], inputs, max_new_tokens=14, prompt_lookup_num_tokens=tokens)
        check(model, run)


@pytest.mark.skipif(TRANSFORMERS < (5,), reason="returns sequences without the beginning of the prompt")
def test_a_prompt_in_parts() -> None:
    model = build("llama")
    run = tl.generate(model, LAYERS["llama"], prompts(), max_new_tokens=6, prefill_chunk_size=2)
    check(model, run)


def test_states_in_place_of_keys_and_values() -> None:
    model = build("mamba")
    inputs = {name: value[1:2] for name, value in prompts().items()}
    run = tl.generate(model, LAYERS["mamba"], inputs, max_new_tokens=6)
    check(model, run)
    part = tl.generate(model, LAYERS["mamba"], inputs, max_new_tokens=6, complete=False)
    assert len(part.tokens[0]) == len(run.tokens[0]) - 1
    check(model, part)


@pytest.mark.parametrize("way", [{}, {"num_beams": 3}, {"num_beams": 3, "num_return_sequences": 2}], ids=str)
def test_text_and_image(way: dict[str, Any]) -> None:
    model = build("llava")
    ids = torch.tensor([[PAD, IMAGE, IMAGE, IMAGE, IMAGE, 8, 9], [7, IMAGE, IMAGE, IMAGE, IMAGE, 9, 11]])
    images = torch.randn(2, 3, 16, 16)
    inputs = {"input_ids": ids, "attention_mask": (ids != PAD).long(), "pixel_values": images}
    # Some releases count images by their tokens, so the model must not generate one.
    run = tl.generate(model, LAYERS["llava"], inputs, max_new_tokens=6, suppress_tokens=[IMAGE], **way)
    check(model, run, pixel_values=images)


@pytest.mark.parametrize("way", [{}, {"do_sample": True}, {"num_beams": 3, "num_return_sequences": 2}], ids=str)
def test_encoder_and_decoder(way: dict[str, Any]) -> None:
    torch.manual_seed(0)
    config = T5Config(
        num_layers=2, d_model=32, d_kv=8, d_ff=48, num_heads=4, vocab_size=VOCABULARY, decoder_start_token_id=PAD
    )
    model, inputs = T5ForConditionalGeneration(config).eval(), prompts()
    layers = ["encoder.block.1[0]", "decoder.block.*[0]", "lm_head"]
    run = tl.generate(model, layers, inputs, max_new_tokens=6, eos_token_id=END, **way)
    copies = len(run.tokens) // 3
    assert run.encoder_tokens is not None
    for number, tokens in enumerate(run.tokens):
        row = number // copies
        source = inputs["input_ids"][row][inputs["attention_mask"][row].bool()]
        assert torch.equal(run.encoder_tokens[number], source)
        assert run.prompt[number].tolist() == [True] + [False] * (len(tokens) - 1)
        for layer in run:
            expected = one_forward(model, layer, input_ids=source[None], decoder_input_ids=tokens[None])
            torch.testing.assert_close(run[layer][number], expected, rtol=1e-4, atol=1e-4)


def test_an_encoder_with_absolute_positions() -> None:
    """Texts are padded on the right, so that they have the positions that they have alone."""
    torch.manual_seed(0)
    config = BartConfig(
        d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4,
        encoder_ffn_dim=48, decoder_ffn_dim=48, vocab_size=VOCABULARY, init_std=0.3, pad_token_id=0, eos_token_id=END,
        forced_eos_token_id=None, decoder_start_token_id=2, bos_token_id=1,
    )  # fmt: skip
    model, tokenizer = BartForConditionalGeneration(config).eval(), make_tokenizer("gpt2")
    texts = ["the cat sat on a mat", "a dog"]
    layers = [f"model.{part}.layers.1{STATES}" for part in ("encoder", "decoder")]
    run = tl.generate(model, layers, texts, tokenizer=tokenizer, max_new_tokens=5, num_beams=1)
    for number, text in enumerate(texts):
        alone = tl.generate(model, layers, text, tokenizer=tokenizer, max_new_tokens=5, num_beams=1)
        for layer in layers:
            torch.testing.assert_close(run[layer][number], alone[layer][0], rtol=1e-4, atol=1e-4)


@adapts
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_a_wrapper_generates_with_the_model_inside() -> None:
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(target_modules=["c_attn"], init_lora_weights=False, fan_in_fan_out=True)
    model = peft.get_peft_model(build("gpt2"), config).eval()
    run = tl.generate(model, f"base_model.model.transformer.h.*{STATES}", prompts(), max_new_tokens=6)
    check(model, run)


def test_edits_steer_the_answer_and_its_features() -> None:
    model, steer = build("llama"), torch.randn(32) * 4
    plain = tl.generate(model, "model.layers.1", prompts(), max_new_tokens=8)
    with tl.edit(model, {"model.layers.0": lambda feat: feat + steer}):
        run = tl.generate(model, "model.layers.1", prompts(), max_new_tokens=8)
        check(model, run)
    assert [row.tolist() for row in run.tokens] != [row.tolist() for row in plain.tokens]


def test_conversions_and_several_ends() -> None:
    model = build("llama")
    run = tl.generate(
        model,
        "model.layers.1",
        prompts()["input_ids"],
        dtype=torch.float16,
        max_new_tokens=20,
        eos_token_id=[END, 7, 9],
    )
    assert run["model.layers.1"][0].dtype == torch.float16
    # Padding was inferred from the ids, as `generate` does.
    assert [int(mask.sum()) for mask in run.prompt] == MASK.sum(1).tolist()
    for tokens, answer in zip(run.tokens, run.answer, strict=True):
        assert not set(tokens[answer].tolist()[:-1]) & {END, 7, 9}


def test_no_mask_is_inferred_where_padding_is_the_end() -> None:
    """A token that ends a text may be part of a prompt, as `generate` takes it."""
    model = build("llama")
    model.generation_config.pad_token_id = END
    ids = torch.tensor([[END, 8, 9]])
    run = tl.generate(model, "model.layers.1", ids, max_new_tokens=2)
    assert run.tokens[0][:3].tolist() == ids[0].tolist()


def test_texts_are_tokenized_and_decoded() -> None:
    tokenizer, texts = make_tokenizer("gpt2"), ["the cat sat on a mat", "a dog"]
    loaded = tl.models.LoadedModel("gpt2", build("gpt2"), HfText(tokenizer), "random")
    run = tl.generate(loaded, f"transformer.h.1{STATES}", texts, max_new_tokens=5, do_sample=False)
    for text, tokens, prompt in zip(texts, run.tokens, run.prompt, strict=True):
        assert tokens[prompt].tolist() == tokenizer(text)["input_ids"]
    assert run.texts == tuple(
        tokenizer.decode(tokens[answer], skip_special_tokens=True)
        for tokens, answer in zip(run.tokens, run.answer, strict=True)
    )
    check(loaded.model, run)


class TestErrors:
    def test_no_generate(self) -> None:
        with pytest.raises(tl.GenerationError, match="Linear has no generate"):
            tl.generate(nn.Linear(2, 2), "", torch.ones(1, 2))

    def test_no_tokenizer(self) -> None:
        with pytest.raises(tl.GenerationError, match="texts need a tokenizer"):
            tl.generate(build("llama"), "model.layers.0", "a text")

    def test_no_state_for_each_token(self) -> None:
        with pytest.raises(
            tl.GenerationError, match=r"'model.layers.0.self_attn' has no state for each token.*a tuple"
        ):
            tl.generate(build("llama"), "model.layers.0.self_attn", prompts(), max_new_tokens=2)

    def test_embeddings(self) -> None:
        model = build("llama")
        with pytest.raises(tl.GenerationError, match="input_ids, not inputs_embeds"):
            tl.generate(model, "model.layers.0", {"inputs_embeds": torch.randn(1, 4, 32)}, max_new_tokens=2)

    def test_unknown_layer(self) -> None:
        run = tl.generate(build("llama"), "model.layers.0", prompts(), max_new_tokens=2)
        with pytest.raises(tl.FeatureNotFoundError, match=r"model\.layers\.0"):
            run["model.layers.1"]
        assert "prompt and" in repr(run)

    def test_the_logits_of_a_prompt_need_the_last_forward_pass(self) -> None:
        with pytest.raises(tl.GenerationError, match="complete=True"):
            tl.generate(build("llama"), "lm_head", prompts(), max_new_tokens=2, complete=False)

    def test_no_hooks_are_left(self) -> None:
        model = build("llama")
        with pytest.raises(tl.GenerationError):
            tl.generate(model, "model.layers.0.self_attn", prompts(), max_new_tokens=2)
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


class _StopAt(StoppingCriteria):
    def __init__(self, token: int) -> None:
        self.token = token

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:  # noqa: ARG002
        return input_ids[:, -1] == self.token


def test_a_criterion_ends_a_sequence() -> None:
    """The padding after it belongs to no sequence, though the model did not generate an end."""
    model = build("gpt2")
    ids = torch.tensor([[6, 7, 8], [9, 10, 11]])
    options: dict[str, Any] = {"max_new_tokens": 8, "eos_token_id": 58, "pad_token_id": PAD}
    plain = tl.generate(model, f"transformer.h.1{STATES}", ids, **options)
    token = int(plain.tokens[0][5])
    run = tl.generate(
        model, f"transformer.h.1{STATES}", ids, **options, stopping_criteria=StoppingCriteriaList([_StopAt(token)])
    )
    stop = plain.tokens[0][3:].tolist().index(token) + 4
    assert run.tokens[0].tolist() == plain.tokens[0][:stop].tolist()
    check(model, run)


class _Undercounting:
    """A cache of fixed length of transformers 4: its length is its number of keys that are not 0."""

    def get_seq_length(self) -> int:
        return 1


class _Counted(nn.Module):
    def prepare_inputs_for_generation(self) -> None:
        """Generates."""

    def forward(self, input_ids: Tensor, past_key_values: Any, cache_position: Tensor) -> Tensor:  # noqa: ARG002
        return input_ids


def test_positions_of_the_model_count_rather_than_the_length_of_its_cache() -> None:
    model = _Counted()
    tracker = PassTracker(model)
    with tracker.activate():
        model(torch.ones(1, 3), past_key_values=_Undercounting(), cache_position=torch.arange(3))
        model(torch.ones(1, 1), past_key_values=_Undercounting(), cache_position=torch.tensor([3]))
    assert [(each.start, each.stop) for each in tracker.passes] == [(0, 3), (3, 4)]
