"""Models by name: the library's own preprocessing, exact weights, and no random ones in silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import torch_featurelayer as tl
from tests.versions import STATES


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from skimage.data import chelsea

    path = tmp_path_factory.mktemp("photos") / "chelsea.png"
    Image.fromarray(chelsea()).save(path)
    return path


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits for a network."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no network")

    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.mark.parametrize("name", ["resnet18", "vgg11", "vit_b_16", "efficientnet_b3", "swin_t"])
def test_torchvision_preprocessing_is_its_own(name: str, photo: Path) -> None:
    from torchvision import models

    loaded = tl.models.load(f"torchvision:{name}", weights="random")
    right = models.get_model_weights(name).DEFAULT.transforms()(Image.open(photo))[None]
    assert torch.equal(loaded.preprocess(photo), right)
    assert len(loaded.labels) == 1000
    assert not loaded.model.training


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "resnet18", "convnext_atto", "mobilenetv3_small_050"])
def test_timm_preprocessing_is_its_own(name: str, photo: Path) -> None:
    import timm

    loaded = tl.models.load(f"timm:{name}", weights="random")
    config = timm.data.resolve_model_data_config(loaded.model)
    right = timm.data.create_transform(**config, is_training=False)(Image.open(photo).convert("RGB"))[None]
    torch.testing.assert_close(loaded.preprocess(photo), right, rtol=0, atol=1e-6)
    assert loaded.labels[:2] == ("tench", "goldfish")
    names = [info["module"] for info in loaded.model.feature_info]
    assert len(names) > 6 or list(loaded.stages) == names


def test_the_bundled_network_knows_the_cat(photo: Path) -> None:
    loaded = tl.models.load("efficientnet-lite0")
    args, kwargs = loaded.inputs(photo)
    with torch.no_grad():
        feats, output = tl.FeatureLayers(loaded.model, loaded.stages)(*args, **kwargs)
    assert "cat" in loaded.top_classes(output)[0][0]
    assert [feat.shape[-1] for feat in feats] == [112, 56, 28, 14, 7]
    assert loaded.class_index("egyptian CAT") == loaded.class_index(285) == loaded.class_index("285") == 285
    assert loaded.label(285) == "Egyptian cat"
    with pytest.raises(tl.LabelNotFoundError, match="Did you mean 'Egyptian cat'"):
        loaded.class_index("egyptian ct")


def test_the_photo_is_what_the_model_sees(photo: Path) -> None:
    """The input is the photo, normalised."""
    loaded = tl.models.load("efficientnet-lite0", weights="random")
    mean, std = (torch.tensor(value).reshape(-1, 1, 1) for value in (loaded.preprocess.mean, loaded.preprocess.std))
    torch.testing.assert_close((loaded.image(photo) - mean) / std, loaded.preprocess(photo))
    assert 0 <= loaded.image(photo).min() < loaded.image(photo).max() <= 1


def test_random_weights_are_those_of_the_seed_and_leave_the_generator_alone() -> None:
    state = torch.random.get_rng_state()
    first, again, other = (
        tl.models.load("torchvision:squeezenet1_1", weights="random", seed=seed).model.state_dict()
        for seed in (1, 1, 2)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("how", ["safetensors", "pt", "checkpoint", "parallel"])
def test_weights_from_a_file(how: str, tmp_path: Path) -> None:
    right = tl.models.load("torchvision:squeezenet1_1", weights="random", seed=3).model.state_dict()
    file = tmp_path / ("weights.safetensors" if how == "safetensors" else "weights.pt")
    if how == "safetensors":
        save_file(right, file)
    elif how == "parallel":
        torch.save({f"module.{name}": value for name, value in right.items()}, file)
    else:
        torch.save(right if how == "pt" else {"state_dict": right, "epoch": 3}, file)
    loaded = tl.models.load("torchvision:squeezenet1_1", weights=file)
    assert all(torch.equal(value, right[name]) for name, value in loaded.model.state_dict().items())
    assert str(file) in loaded.weights


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    """Nothing is loaded half: what is missing, what is too much and what does not fit is said."""
    state = tl.models.load("torchvision:squeezenet1_1", weights="random").model.state_dict()
    name, *_ = state
    wrong = {**state, "extra": torch.ones(1), name: torch.ones(3)}
    del wrong[[*state][1]]
    save_file(wrong, tmp_path / "wrong.safetensors")
    with pytest.raises(tl.WeightsMismatchError) as caught:
        tl.models.load("torchvision:squeezenet1_1", weights=tmp_path / "wrong.safetensors")
    assert (caught.value.unexpected, caught.value.missing, caught.value.shapes) == (["extra"], [[*state][1]], [name])


class Evil:
    def __reduce__(self) -> Any:
        return print, ("run",)


@pytest.mark.parametrize("content", ["missing", "evil", "text", "list", "broken.safetensors"])
def test_files_that_hold_no_weights(content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A pickle that would run code is not run."""
    file = tmp_path / (content if "." in content else "weights.pt")
    if content == "evil":
        torch.save(Evil(), file)
    elif content == "list":
        torch.save([1, 2], file)
    elif content != "missing":
        file.write_text("not weights")
    with pytest.raises(tl.WeightsNotFoundError, match=file.name):
        tl.models.load("torchvision:squeezenet1_1", weights=file)
    assert "run" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("spec", "hint"),
    [("torchvision:vgg11", r"checkpoints.vgg11-\w+\.pth"), ("timm:resnet18", "timm/resnet18")],
)
def test_no_network_says_which_file_is_missing(spec: str, hint: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(tl.WeightsNotFoundError, match=hint) as caught:
        tl.models.load(spec)
    assert isinstance(caught.value, FileNotFoundError)
    assert "used only if you ask" in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "hint"),
    [
        ("torchvision:resnt18", "'torchvision:resnet18'"),
        ("timm:vit_tny_patch16_224", "'timm:vit_tiny_patch16_224'"),
        ("resnet18", "the name has no library. Did you mean 'torchvision:resnet18'"),
        ("torchvision:", "the name has no library"),
        ("no.such.module:make", "no module 'no'"),
        ("torch.nn:Identty", "'torch.nn:Identity'"),
        ("torch.nn:Linear", "without arguments"),
        ("builtins:dict", "returned a dict"),
        ("hf:/no/such/folder", "no such folder"),
    ],
)
def test_no_such_model(spec: str, hint: str) -> None:
    with pytest.raises(tl.ModelNotFoundError, match=hint):
        tl.models.load(spec)


def test_a_callable_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Imported from the working directory, called without arguments; the path is left as it was."""
    import sys

    (tmp_path / "my_networks.py").write_text(
        "from torch import nn\ndef tiny():\n    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())\n"
    )
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    loaded = tl.models.load("my_networks:tiny")
    assert isinstance(loaded.model, nn.Sequential)
    assert "my_networks:tiny" in loaded.weights
    assert sys.path == before


def test_a_folder_of_transformers(tmp_path: Path, photo: Path) -> None:
    """The architecture the checkpoint was saved from, its weights, its image processor and its labels."""
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    config = ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, image_size=32, patch_size=8,
        id2label={0: "cat", 1: "dog"}, label2id={"cat": 0, "dog": 1},
    )  # fmt: skip
    right = ViTForImageClassification(config).eval()
    right.save_pretrained(tmp_path)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    loaded = tl.models.load(f"hf:{tmp_path}")
    args, kwargs = loaded.inputs(photo)
    with torch.no_grad():
        assert torch.equal(loaded.model(*args, **kwargs).logits, right(**kwargs).logits)
    assert loaded.labels == ("cat", "dog")
    assert kwargs["pixel_values"].shape == (1, 3, 32, 32)
    assert loaded.stages == ("vit.layers.0", "vit.layers.1") or len(loaded.stages) >= 2
    shown = loaded.image(photo)
    assert np.isfinite(shown.numpy()).all()
    assert 0 <= shown.min() < shown.max() <= 1
    random = tl.models.load(f"hf:{tmp_path}", weights="random", seed=1)
    assert not torch.equal(random.model(**kwargs).logits, right(**kwargs).logits)
    state = right.state_dict()
    del state["classifier.weight"]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(tl.WeightsMismatchError, match=r"1 missing: 'classifier.weight'"):
        tl.models.load(f"hf:{tmp_path}")


def test_a_text_model(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel, BertTokenizer

    (tmp_path / "vocab.txt").write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "example"])
    )
    BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    config = BertConfig(vocab_size=8, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=48)
    BertModel(config).save_pretrained(tmp_path)
    loaded = tl.models.load(f"hf:{tmp_path}")
    args, kwargs = loaded.inputs("a cat")
    assert args == ()
    assert "input_ids" in kwargs
    assert loaded.stages == tuple(f"encoder.layer.{number}{STATES}" for number in range(3))
    with pytest.raises(tl.ImageError, match="takes text"):
        loaded.image("cat.png")


def test_code_of_a_checkpoint_is_never_run(tmp_path: Path) -> None:
    """A repository may bring Python files: they are not imported, and nobody is asked to allow it."""
    (tmp_path / "config.json").write_text(
        '{"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}}'
    )
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    with pytest.raises(tl.ModelNotFoundError, match="holds no model"):
        tl.models.load(f"hf:{tmp_path}")
    assert not (tmp_path / "ran").exists()
