"""Offloaded, quantized and adapted models, processors: capture, edit, layers, guard, diff, generate and extract."""

from __future__ import annotations

import subprocess
import sys
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchao
import transformers
from torch import nn

import torch_featurelayer as tl
from tests.texts import WORDS, make_tokenizer
from tests.versions import STATES, adapts
from torch_featurelayer._device import input_device

LAYER = "model.layers.1"
TEXTS = [(f"text {number}", " ".join(WORDS[number : number + 2 + number % 4])) for number in range(12)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, hidden_size=64, intermediate_size=96,
        vocab_size=len(WORDS) + 4, pad_token_id=0, initializer_range=0.2,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path / "model")
    make_tokenizer("gpt2").save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def offloaded(folder: Path) -> tl.models.LoadedModel:
    """The first part on the CPU, a layer on the disk, and one that accelerate keeps on the CPU."""
    places: dict[str, Any] = {"model.embed_tokens": "cpu", "model.layers.0": "cpu", "model.layers.1": "disk"}
    places |= {"model.layers.2": "disk", "model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "disk"}
    return tl.models.load(f"hf:{folder}", device_map=places)


def int8(folder: Path) -> tl.models.LoadedModel:
    return tl.models.load(f"hf:{folder}", quantization="int8")


@pytest.mark.parametrize(("load", "tolerance"), [(offloaded, 1e-6), (int8, 0.05)], ids=["offloaded", "int8"])
def test_everything_works(folder: Path, load: Any, tolerance: float) -> None:
    plain, loaded = tl.models.load(f"hf:{folder}"), load(folder)
    if load is offloaded:
        assert loaded.model.model.layers[1].mlp.up_proj.weight.is_meta
    _, inputs = loaded.inputs("the cat sat on a mat")
    assert inputs["input_ids"].device.type == "cpu"
    names = [
        LAYER,
        "model.layers.2.mlp.up_proj",
        "model.layers.1.mlp:mul",
        "model.layers.1.self_attn:attention_weights",
    ]
    with torch.no_grad():
        feats, _ = tl.FeatureLayers(loaded.model, names)(**inputs)
        expected, _ = tl.FeatureLayers(plain.model, names)(**inputs)
        for name in names:
            error = (feats[name] - expected[name]).norm() / expected[name].norm()
            assert error < tolerance, name
        with (
            tl.edit(loaded.model, {"model.layers.0": 0.0}),
            tl.capture(loaded.model, "model.layers.1:input[0]") as record,
        ):
            loaded.model(**inputs)
        assert not record[0].any()
        table = tl.layers(loaded.model, **inputs)
        assert [row.path for row in table] == [row.path for row in tl.layers(plain.model, **inputs)]
        with tl.guard(loaded.model):
            loaded.model(**inputs)
    first = tl.diff(plain.model, loaded.model, **inputs).first(rtol=1e-4)
    assert (first is None) if load is offloaded else (first is not None and "q_proj" in first.name)
    run = tl.generate(loaded, LAYER, ["the cat", "a dog sat"], max_new_tokens=4)
    for number, tokens in enumerate(run.tokens):
        with torch.no_grad():
            one, _ = tl.FeatureLayer(loaded.model, LAYER)(input_ids=tokens[None])
        torch.testing.assert_close(run[LAYER][number], one[0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("load", [offloaded, int8])
def test_extraction_resumes_to_the_same_bytes(folder: Path, tmp_path: Path, load: Any) -> None:
    options: dict[str, Any] = {"shard_size": 4, "batch_size": 4, "reduce": "mean"}

    def interrupt(progress: Any) -> None:
        if progress.done >= 4:
            raise KeyboardInterrupt

    tl.extract(load(folder), LAYER, TEXTS, tmp_path / "whole", **options)
    with pytest.raises(KeyboardInterrupt):
        tl.extract(load(folder), LAYER, TEXTS, tmp_path / "part", progress=interrupt, **options)
    tl.extract(load(folder), LAYER, TEXTS, tmp_path / "part", **options)
    shards = sorted((tmp_path / "whole").glob("**/*.safetensors"))
    assert shards
    for file in shards:
        assert file.read_bytes() == (tmp_path / "part" / file.relative_to(tmp_path / "whole")).read_bytes()


@pytest.mark.parametrize("load", [offloaded, int8])
def test_other_weights_are_another_store(folder: Path, tmp_path: Path, load: Any) -> None:
    """The weights are hashed where they are: on the disk, or as integers."""
    tl.extract(load(folder), LAYER, TEXTS, tmp_path / "out", reduce="mean")
    model = transformers.LlamaForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 4] += 1
    model.save_pretrained(folder)
    with pytest.raises(tl.StoreMismatchError, match="weights"):
        tl.extract(load(folder), LAYER, TEXTS, tmp_path / "out", reduce="mean")


def test_where_weights_lie_is_no_part_of_the_identity(folder: Path, tmp_path: Path) -> None:
    """A store of a model in memory is continued by the same model with offloaded weights, and the other way round."""
    for number, loads in enumerate(permutations([lambda: tl.models.load(f"hf:{folder}"), lambda: offloaded(folder)])):
        stores = [tl.extract(load(), LAYER, TEXTS, tmp_path / f"{number}", reduce="mean") for load in loads]
        assert [len(store) for store in stores] == [len(TEXTS)] * 2


@pytest.mark.slow
def test_another_process_has_the_same_identity(folder: Path, tmp_path: Path) -> None:
    code = f"""
import torch_featurelayer as tl
from tests.models.test_large import TEXTS, LAYER, int8
tl.extract(int8({str(folder)!r}), LAYER, TEXTS, {str(tmp_path / "out")!r}, reduce="mean", num_threads=1)
"""
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, cwd=root)
    store = tl.extract(int8(folder), LAYER, TEXTS, tmp_path / "out", reduce="mean", num_threads=1)
    assert len(store) == len(TEXTS)


def test_dtype_of_any_library() -> None:
    resnet = tl.models.load("torchvision:resnet18", weights="random", dtype=torch.bfloat16)
    assert next(resnet.model.parameters()).dtype == torch.bfloat16
    assert resnet.arguments == {"weights": "random", "dtype": torch.bfloat16}


@pytest.mark.skipif(not hasattr(torchao.quantization, "IntxWeightOnlyConfig"), reason="torchao is too old")
def test_int4() -> None:
    vit = tl.models.load("timm:vit_tiny_patch16_224", weights="random", quantization="int4")
    feat, _ = tl.FeatureLayer(vit.model, "blocks.3")(torch.randn(1, 3, 224, 224))
    assert feat.isfinite().all()


def test_dtype_of_transformers(folder: Path) -> None:
    loaded = tl.models.load(f"hf:{folder}", dtype=torch.bfloat16)
    assert loaded.model.dtype == torch.bfloat16


@adapts
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")
def test_an_adapter_is_loaded_on_its_base(folder: Path, tmp_path: Path) -> None:
    import peft

    base = transformers.LlamaForCausalLM.from_pretrained(folder)
    adapted = peft.get_peft_model(base, peft.LoraConfig(target_modules=["q_proj"], init_lora_weights=False)).eval()
    adapted.save_pretrained(tmp_path / "adapter")
    loaded = tl.models.load(f"hf:{tmp_path / 'adapter'}")
    _, inputs = loaded.inputs("the cat sat")
    feat, output = tl.FeatureLayer(loaded.model, LAYER)(**inputs)
    expected, right = tl.FeatureLayer(adapted, LAYER)(**inputs)
    torch.testing.assert_close(output.logits, right.logits)
    torch.testing.assert_close(feat, expected)
    plain, _ = tl.FeatureLayer(tl.models.load(f"hf:{folder}").model, LAYER)(**inputs)
    assert not torch.allclose(plain, feat)


def test_texts_with_images(tmp_path: Path) -> None:
    """A CLIP: its text and its image towers, alone and through a store."""
    text = {"vocab_size": len(WORDS) + 4, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    vision = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 32, "patch_size": 8}
    config = transformers.CLIPConfig(text_config={**text, "eos_token_id": 2, "pad_token_id": 0}, vision_config=vision)
    transformers.CLIPModel(config).save_pretrained(tmp_path / "clip")
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    images = transformers.CLIPImageProcessor(**size)
    transformers.CLIPProcessor(images, make_tokenizer("bert")).save_pretrained(tmp_path / "clip")
    loaded = tl.models.load(f"hf:{tmp_path / 'clip'}")
    image = np.random.default_rng(0).integers(0, 255, (40, 48, 3), dtype=np.uint8)
    _, inputs = loaded.inputs(("the cat", image))
    assert {"input_ids", "attention_mask", "pixel_values"} <= set(inputs)
    layers = [f"{tower}_model.encoder.layers.1{STATES}" for tower in ("text", "vision")]
    feats, _ = tl.FeatureLayers(loaded.model, layers)(**inputs)
    assert feats[0].shape == (1, 4, 32)
    assert feats[1].shape == (1, 17, 32)
    samples = [(f"{number}", {"text": "the cat", "images": np.roll(image, number, 0)}) for number in range(3)]
    store = tl.extract(loaded, layers[1], samples, tmp_path / "out", reduce="cls", dtype=torch.float32)
    torch.testing.assert_close(store[layers[1]][0], feats[1][0, 0], rtol=1e-4, atol=1e-4)
    assert loaded.image(image).shape == (1, 3, 32, 32)


def test_a_chat_model_with_images(tmp_path: Path) -> None:
    """A LLaVA: the token of the image is put before the text; it generates, and extracts samples of text and image."""
    tokenizer = make_tokenizer("gpt2", "left")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    tokenizer.image_token = "<image>"  # noqa: S105 (no password)
    tokenizer.image_token_id = tokenizer.convert_tokens_to_ids("<image>")
    small = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 32, "intermediate_size": 48}
    text = {"vocab_size": len(tokenizer), "num_key_value_heads": 2, "eos_token_id": 3, "pad_token_id": 0}
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(patch_size=8, image_size=32, **small),
        text_config=transformers.LlamaConfig(**text, **small), image_token_id=tokenizer.image_token_id,
        image_seq_length=16,
    )  # fmt: skip
    transformers.LlavaForConditionalGeneration(config).save_pretrained(tmp_path / "llava")
    images = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    transformers.LlavaProcessor(
        images, tokenizer, patch_size=8, vision_feature_select_strategy="default", num_additional_image_tokens=1
    ).save_pretrained(tmp_path / "llava")
    loaded = tl.models.load(f"hf:{tmp_path / 'llava'}")
    image, layer = np.zeros((40, 48, 3), dtype=np.uint8), "model.language_model.layers.1"
    _, inputs = loaded.inputs(("the cat sat", image))
    assert inputs["input_ids"].shape == (1, 16 + 3)
    run = tl.generate(loaded, layer, inputs, max_new_tokens=4)
    assert int(run.prompt[0].sum()) == 19
    assert run.texts is not None
    with torch.no_grad():
        whole, _ = tl.FeatureLayer(loaded.model, layer)(
            input_ids=run.tokens[0][None], pixel_values=inputs["pixel_values"]
        )
    torch.testing.assert_close(run[layer][0], whole[0], rtol=1e-4, atol=1e-4)
    samples = [(name, {"text": text, "images": image}) for name, text in (("a", "the cat"), ("b", "a dog sat on"))]
    store = tl.extract(loaded, layer, samples, tmp_path / "out", reduce="last", dtype=torch.float32)
    feat, _ = tl.FeatureLayer(loaded.model, layer)(**loaded.inputs(("a dog sat on", image))[1])
    torch.testing.assert_close(store[layer][1], feat[0, -1].detach(), rtol=1e-4, atol=1e-4)


def test_sounds(tmp_path: Path) -> None:
    """A model of sounds alone, and one with a decoder."""
    wave = transformers.Wav2Vec2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, conv_dim=(16, 16),
        conv_stride=(5, 4), conv_kernel=(10, 8), num_feat_extract_layers=2, num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4, feat_extract_norm="layer",
    )  # fmt: skip
    transformers.Wav2Vec2Model(wave).save_pretrained(tmp_path / "wave")
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(tmp_path / "wave")
    loaded = tl.models.load(f"hf:{tmp_path / 'wave'}")
    sound = np.sin(np.arange(4000) / 9).astype("float32")
    _, inputs = loaded.inputs(sound)
    feat, _ = tl.FeatureLayer(loaded.model, f"encoder.layers.1{STATES}")(**inputs)
    assert feat.shape[::2] == (1, 32)
    assert torch.equal(
        loaded.inputs({"array": sound, "sampling_rate": 16000})[1]["input_values"], inputs["input_values"]
    )
    with pytest.raises(ValueError, match="16000 samples per second, not 8000"):
        loaded.inputs((sound, 8000))

    # Extraction hears the same: the extractor scales every sound.
    sounds, layer = [5 + 3 * np.roll(sound, place)[place:] for place in (0, 40, 80)], f"encoder.layers.1{STATES}"
    reduced = tl.FeatureLayer(loaded.model, layer, reduce="mean")
    right = torch.cat([reduced(**loaded.inputs(each)[1])[0].detach() for each in sounds])
    kinds: dict[str, list[Any]] = {
        "arrays": sounds,
        "tensors": [torch.tensor(each) for each in sounds],
        "with rates": [(each, 16000) for each in sounds],
        "with labels": [(each, place) for place, each in enumerate(sounds)],
        "dicts": [{"array": each, "sampling_rate": 16000} for each in sounds],
        "inputs": [{"input_values": loaded.inputs(each)[1]["input_values"][0]} for each in sounds],
    }
    for name, data in kinds.items():
        store = tl.extract(loaded, layer, data, tmp_path / name, reduce="mean", dtype=None)
        torch.testing.assert_close(store[layer][:], right, rtol=1e-4, atol=1e-5)
    with pytest.raises(tl.ItemError, match="16000 samples per second, not 8000"):
        tl.extract(loaded, layer, [(sound, 8000, "text")], tmp_path / "rate", reduce="mean")

    speech = transformers.WhisperConfig(
        d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4,
        encoder_ffn_dim=48, decoder_ffn_dim=48, vocab_size=60, max_source_positions=50, decoder_start_token_id=3,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, begin_suppress_tokens=None, suppress_tokens=None,
    )  # fmt: skip
    transformers.WhisperModel(speech).save_pretrained(tmp_path / "speech")
    transformers.WhisperFeatureExtractor(chunk_length=1).save_pretrained(tmp_path / "speech")
    loaded = tl.models.load(f"hf:{tmp_path / 'speech'}")
    _, inputs = loaded.inputs(sound)
    feats, _ = tl.FeatureLayers(loaded.model, [f"{part}.layers.1{STATES}" for part in ("encoder", "decoder")])(**inputs)
    assert feats[0].shape == (1, 50, 32)
    assert feats[1].shape == (1, 1, 32)


class TestErrors:
    def test_a_device_map_of_another_library(self) -> None:
        with pytest.raises(ValueError, match="models of transformers"):
            tl.models.load("torchvision:resnet18", weights="random", device_map="auto")

    def test_no_such_quantization(self) -> None:
        with pytest.raises(ValueError, match="'int8', 'int4' or a configuration, not 'int3'"):
            tl.models.load("torchvision:resnet18", weights="random", quantization="int3")

    def test_a_torchao_without_int4(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delattr(torchao.quantization, "IntxWeightOnlyConfig", raising=False)
        with pytest.raises(ImportError, match="pip install --upgrade torchao"):
            tl.models.load("torchvision:resnet18", weights="random", quantization="int4")

    def test_a_configuration_of_transformers(self) -> None:
        class Config:
            quant_method = "gptq"

        with pytest.raises(ValueError, match="models of transformers"):
            tl.models.load("torchvision:resnet18", weights="random", quantization=Config())


def test_the_device_of_inputs() -> None:
    assert input_device(nn.Identity()) == torch.device("cpu")
    assert input_device(nn.Linear(2, 2, device="meta")) == torch.device("meta")
