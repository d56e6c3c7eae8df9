"""`tl.diff` names the first layer at which two runs part, with the numbers of a computation by hand."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import transformers
from peft import LoraConfig, get_peft_model
from rich.console import Console
from torch import Tensor, nn
from torchvision import models

import torch_featurelayer as tl
from benchmarks._memory import peak_bytes
from tests.versions import adapts

X = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def vit() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("vit_tiny_patch16_224", img_size=64).eval()


def exchanged(model: nn.Module) -> nn.Module:
    other, state = copy.deepcopy(model), model.state_dict()
    first, second = "layer1.0.conv1.weight", "layer1.0.conv2.weight"
    state[first], state[second] = state[second], state[first]
    other.load_state_dict(state)
    return other


def changed_weight(model: nn.Module) -> nn.Module:
    other = copy.deepcopy(model)
    other.get_parameter("layer2.1.conv1.weight").data[0, 0, 0, 0] += 0.05
    return other


def other_epsilon(model: nn.Module) -> nn.Module:
    other = copy.deepcopy(model)
    other.get_submodule("layer3.0.bn1").eps = 1e-3  # type: ignore[assignment]
    return other


@pytest.mark.parametrize(
    ("change", "layer"),
    [
        (exchanged, "layer1.0.conv1"),
        (changed_weight, "layer2.1.conv1"),
        (other_epsilon, "layer3.0.bn1"),
        (lambda model: copy.deepcopy(model).bfloat16(), "conv1"),
        (copy.deepcopy, None),
    ],
)
def test_the_first_layer_that_differs(
    change: Callable[[nn.Module], nn.Module], layer: str | None, resnet18: nn.Module
) -> None:
    table = tl.diff(resnet18, change(resnet18), X)
    found = table.first()
    assert (found.name if found is not None else None) == layer
    names = [row.name for row in table]
    assert names[-1] == ""
    assert names.index("layer1.0.conv1") < names.index("layer1.0") < names.index("layer1")
    assert (
        len(table) == len(tl.get_layer_candidates(resnet18, max_depth=None)) + 1 + 8
    )  # each ReLU of a block runs twice
    assert (table.only_a, table.only_b) == ((), ())


def test_numbers_are_those_by_hand(resnet18: nn.Module) -> None:
    other = changed_weight(resnet18)
    table = tl.diff(resnet18, other, X)
    for name in ("layer2.1.conv1", "layer4.0", "fc"):
        with torch.no_grad():
            one, two = (tl.FeatureLayer(model, name)(X)[0].double() for model in (resnet18, other))
        row, gap = table[name], two - one
        assert row.error == pytest.approx(float(gap.norm() / one.norm()), rel=1e-5)
        assert row.cosine == pytest.approx(
            float(nn.functional.cosine_similarity(one.view(1, -1), two.view(1, -1))), abs=1e-9
        )
        assert row.largest == pytest.approx(float(gap.abs().max()), rel=1e-5)
        assert abs(float(gap[row.where])) == pytest.approx(row.largest, rel=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_compiled_and_quantized(resnet18: nn.Module) -> None:
    """Compiled code differs by rounding alone; quantized code from its first layer on."""
    table = tl.diff(resnet18, torch.compile(resnet18), X)
    assert table.first() is None
    assert 0 < max(row.error for row in table) < 1e-5
    assert "compiled again" in table.notes[0]
    broken = exchanged(resnet18)
    assert tl.diff(resnet18, torch.compile(broken), X).first().name == "layer1.0.conv1"  # type: ignore[union-attr]
    model = vit()
    quantized = torch.ao.quantization.quantize_dynamic(copy.deepcopy(model), {nn.Linear})
    table = tl.diff(model, quantized, X)
    assert table.first().name == "blocks.0.attn.qkv"  # type: ignore[union-attr]
    assert table[""].cosine > 0.9


def test_two_contexts(resnet18: nn.Module) -> None:
    table = tl.diff(resnet18, X, under=(nullcontext(), torch.autocast("cpu", torch.bfloat16)))
    first = table.first()
    assert first is not None
    assert (first.name, first.dtypes) == ("conv1", ("float32", "bfloat16"))
    assert tl.diff(resnet18, X, under=(nullcontext(), tl.edit(resnet18, {"layer3": 0.0}))).first().name == "layer3"  # type: ignore[union-attr]


@adapts
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")  # of peft with transformers 5
def test_lora_on_and_off() -> None:
    base = transformers.GPT2Model(transformers.GPT2Config(n_embd=32, n_layer=3, n_head=4, vocab_size=99)).eval()
    model = get_peft_model(base, LoraConfig(target_modules=r"h\.1\.attn\.c_attn", fan_in_fan_out=True)).eval()
    for name, value in model.named_parameters():
        if "lora_B" in name:
            value.data.fill_(0.3)
    ids = torch.randint(0, 99, (1, 7))
    table = tl.diff(model, ids, under=(nullcontext(), model.disable_adapter()))
    first = table.first()
    assert first is not None
    assert first.name == "h.1.attn.c_attn"
    assert any("lora" in name for name in table.only_a)


def test_a_run_of_another_machine(resnet18: nn.Module, tmp_path: Path) -> None:
    """Files hold the inputs too; a file is compared with a file, or with a model."""
    tl.record_run(tmp_path / "a.safetensors", resnet18, X)
    tl.record_run(tmp_path / "b.safetensors", exchanged(resnet18), X)
    for b in (tmp_path / "b.safetensors", str(tmp_path / "b.safetensors"), exchanged(resnet18)):
        assert tl.diff(tmp_path / "a.safetensors", b).first().name == "layer1.0.conv1"  # type: ignore[union-attr]
    assert tl.diff(tmp_path / "a.safetensors", resnet18).first() is None
    assert tl.diff(resnet18, tmp_path / "a.safetensors").first() is None
    with pytest.raises(FileNotFoundError):
        tl.diff(tmp_path / "none.safetensors", resnet18)
    (tmp_path / "other").write_bytes(b"no run")
    with pytest.raises(tl.StoreCorruptError, match="not a run that tl.record_run wrote"):
        tl.diff(tmp_path / "other", resnet18)
    with pytest.raises(tl.NotAModuleError):
        tl.diff(resnet18, 3, X)  # type: ignore[arg-type]


def test_keyword_arguments_are_recorded(tmp_path: Path) -> None:
    model = transformers.BertModel(
        transformers.BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4)
    ).eval()
    inputs = {"input_ids": torch.randint(0, 99, (2, 7)), "attention_mask": torch.ones(2, 7, dtype=torch.long)}
    tl.record_run(tmp_path / "bert", model, **inputs)
    other = copy.deepcopy(model)
    other.get_submodule("encoder.layer.1.output.LayerNorm").eps = 1e-3  # type: ignore[assignment]
    table = tl.diff(tmp_path / "bert", other)
    assert table.first().name == "encoder.layer.1.output.LayerNorm"  # type: ignore[union-attr]


class Ported(nn.Module):
    """ResNet-18 under other names."""

    def __init__(self, source: nn.Module) -> None:
        super().__init__()
        self.body = copy.deepcopy(source)
        self.body.stem = nn.Sequential(self.body.conv1, self.body.bn1, self.body.relu, self.body.maxpool)  # type: ignore[call-overload]
        del self.body.conv1, self.body.bn1, self.body.relu, self.body.maxpool

    def forward(self, x: Tensor) -> Tensor:
        body: Any = self.body
        x = body.layer4(body.layer3(body.layer2(body.layer1(body.stem(x)))))
        return body.fc(body.avgpool(x).flatten(1))  # type: ignore[no-any-return]


def test_other_names_are_paired(resnet18: nn.Module) -> None:
    """By a dict of prefixes, by a function, or by the order and the shapes."""
    port = Ported(exchanged(resnet18)).eval()
    with pytest.raises(ValueError, match=r"no layer of a \(conv1, .* is a layer of b \(body.stem.0, .*match="):
        tl.diff(resnet18, port, X, layers=["conv1", "bn1"], match=lambda _: None)
    stem = {"conv1": "body.stem.0", "bn1": "body.stem.1", "relu": "body.stem.2", "maxpool": "body.stem.3"}
    prefixes = {
        **stem,
        **{f"layer{n}": f"body.layer{n}" for n in (1, 2, 3, 4)},
        "fc": "body.fc",
        "avgpool": "body.avgpool",
    }
    for match in (prefixes, lambda name: stem.get(name, f"body.{name}" if name else ""), "order"):
        table = tl.diff(resnet18, port, X, match=match)
        first = table.first()
        assert first is not None
        assert (first.name, first.other) == ("layer1.0.conv1", "body.layer1.0.conv1")
        assert table["conv1"].other == "body.stem.0"
        assert table["conv1"].error == 0
    assert tl.diff(resnet18, port, X, match=prefixes).only_b == ("body.stem",)


def test_order_leaves_out_what_one_run_lacks() -> None:
    a = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
    b = nn.Sequential(nn.Linear(4, 5), nn.Identity(), nn.ReLU(), nn.Linear(5, 3))
    b[0], b[3] = a[0], a[2]
    table = tl.diff(a, b, torch.randn(2, 4), match="order")
    assert [(row.name, row.other) for row in table] == [("0", "0"), ("1", "2"), ("2", "3")]
    assert (table.only_a, table.only_b) == ((), ("1",))


def test_modes_seeds_and_state() -> None:
    """Dropout draws the same numbers in both; a difference of modes is said; nothing is left changed."""
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    before, drawn = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    x = torch.randn(8, 4)
    drawn = torch.get_rng_state()
    table = tl.diff(model, copy.deepcopy(model), x)
    assert table.first() is None
    assert table.notes == ("both ran in training mode, with the same seeds",)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), drawn)
    table = tl.diff(model, copy.deepcopy(model).eval(), x)
    assert table.first().name == "1"  # type: ignore[union-attr]
    assert table.notes == ("a ran in training mode and b in eval mode",)
    assert not any(module._forward_hooks for module in model.modules())


def test_inputs_are_those_of_each_run() -> None:
    """A model that writes to its input does not change that of the other."""
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 4)).eval()
    x = torch.randn(2, 4)
    kept = x.clone()
    assert tl.diff(model, copy.deepcopy(model), x).first() is None
    assert torch.equal(x, kept)
    table = tl.diff(model, copy.deepcopy(model).double(), x)
    assert table.notes == ("an argument of float32 was converted to float64",)
    assert table["1"].dtypes == ("float32", "float64")


class Odd(nn.Module):
    def __init__(self, shift: float, size: int = 3) -> None:
        super().__init__()
        self.inner, self.shift, self.size = nn.Identity(), shift, size

    def forward(self, x: Tensor) -> Any:
        y = self.inner(x)
        values = torch.tensor([1.0, math.inf, math.nan])
        return {"a": y, "b": (values * (1 + self.shift), torch.zeros(self.size)), "n": 3}


def test_structures_shapes_and_bad_values() -> None:
    x = torch.ones(2)
    same = tl.diff(Odd(0), Odd(0), x)
    assert [(row.name, row.error) for row in same] == [("inner", 0), ("", 0)]
    table = tl.diff(Odd(0), Odd(1), x)
    assert table[""].where == (1, 0)
    assert table[""].error == pytest.approx(1 / math.sqrt(3))
    other_shape = tl.diff(Odd(0), Odd(0, 4), x)[""]
    assert math.isnan(other_shape.error)
    assert other_shape.exceeds(1e9)
    assert len(other_shape.shapes) == 2
    bad = tl.diff(Odd(0), Odd(math.nan), x)[""]
    assert bad.error == math.inf


def test_the_table_prints(resnet18: nn.Module) -> None:
    table = tl.diff(resnet18, exchanged(resnet18), X, layers=["conv1", "layer1"])
    assert [row.name for row in table] == ["conv1", "layer1"]
    lines = str(table).splitlines()
    assert lines[0].split() == ["layer", "type", "error", "cosine", "largest", "at", "shape", "dtype"]
    assert lines[-1] == "first above 1e-05: layer1"
    assert "<td>layer1</td>" in table._repr_html_()
    assert table.to_dicts()[1]["name"] == "layer1"
    assert table[1:].first() == table["layer1"]
    assert table.first(rtol=10) is None
    console = Console(width=70, record=True)
    console.print(table)
    assert "first above 1e-05: layer1" in console.export_text()
    with pytest.raises(ValueError, match="outputs of modules are compared; name a module, such as 'layer1.0'"):
        tl.diff(resnet18, resnet18, X, layers="layer1.0:add")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_layers_of_a_model_compiled_in_place(resnet18: nn.Module) -> None:
    compiled = copy.deepcopy(resnet18)
    compiled.compile()
    compiled(X)
    assert tl.diff(resnet18, compiled, X).first() is None


def test_every_dtype_is_compared() -> None:
    class Kinds(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return x.to(torch.complex64) * 1j, x > 0, x.long(), x.to(torch.float8_e5m2), models.vgg11.__name__

    table = tl.diff(Kinds(), Kinds(), torch.randn(5))
    assert table[0].error == 0


@pytest.mark.parametrize("build", [lambda: models.resnet18().eval(), vit], ids=["resnet18", "vit"])
def test_outputs_compared_when_calls_end_are_those_compared_afterwards(
    build: Callable[[], nn.Module], tmp_path: Path
) -> None:
    one, other = build(), build()
    other.load_state_dict({name: 1.001 * value for name, value in one.state_dict().items()})
    for name, model in (("one", one), ("other", other)):
        tl.record_run(tmp_path / name, model, X)  # a file is compared as a whole
    assert list(tl.diff(one, other, X)) == list(tl.diff(tmp_path / "one", tmp_path / "other"))


def test_memory_is_that_of_the_outputs_of_one_model(resnet18: nn.Module) -> None:
    other, image = changed_weight(resnet18), torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        held = peak_bytes(lambda: tl.FeatureLayers(resnet18, "**")(image))
    assert peak_bytes(lambda: tl.diff(resnet18, other, image)) < 1.3 * held  # 2.2 with the outputs of both


def test_a_model_with_another_default_device() -> None:
    class OnMeta(nn.Module):
        def __init__(self, bias: float) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4, device="cpu")
            nn.init.constant_(self.layer.weight, 1.0)
            nn.init.constant_(self.layer.bias, bias)

        def forward(self, x: Tensor) -> Tensor:
            with torch.device("meta"):
                return self.layer(x)  # type: ignore[no-any-return]

    row = tl.diff(OnMeta(0.0), OnMeta(0.5), torch.ones(1, 4)).first()
    assert row is not None
    assert (row.name, row.largest, row.error) == ("layer", 0.5, pytest.approx(0.125))


@pytest.mark.parametrize("match", [{"0": "1"}, lambda name: "1" if name == "0" else None], ids=["dict", "function"])
def test_layers_with_one_partner(match: Any) -> None:
    first = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    second = nn.Sequential(nn.Identity(), copy.deepcopy(first[0]), nn.ReLU())
    table = tl.diff(first, second, torch.ones(1, 4), layers="0", match=match)
    assert [(row.name, row.other, row.error) for row in table] == [("0", "1", 0.0)]


def test_layers_in_vmap_are_left_out_or_refused(tmp_path: Path) -> None:
    class Mapped(nn.Module):
        def __init__(self, bias: float) -> None:
            super().__init__()
            self.layer, self.head = nn.Linear(4, 4), nn.Linear(4, 4)
            self.load_state_dict({name: torch.full_like(each, bias) for name, each in self.state_dict().items()})

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.func.vmap(self.layer)(x))  # type: ignore[no-any-return]

    one, other, x = Mapped(0.5), Mapped(1.0), torch.ones(2, 4)
    table = tl.diff(one, other, x)
    assert [row.name for row in table] == ["head", ""]
    assert table.notes[:1] == ("'layer' was left out: it runs in torch.func.vmap, grad or another transform",)
    with pytest.raises(tl.TransformError, match="'layer'"):
        tl.diff(one, other, x, layers="layer")
    tl.record_run(tmp_path / "one", one, x)
    assert [row.error for row in tl.diff(tmp_path / "one", one)] == [0.0, 0.0]
