"""Operations between modules: right values, the right owner, and nothing left behind."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torchvision import models

import torch_featurelayer as tl
from tests.reference import holds_hooks
from tests.versions import TORCH
from torch_featurelayer.engine.operation_names import operation_name


class Adds(nn.Module):
    """Two additions, one of them in place, around a layer that adds too, and a relu that overwrites both."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Inner()
        self.after = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = x + 1
        y = self.inner(y)
        y += 10
        return self.after(functional.relu(y, inplace=True))


class Inner(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.add(x, 100)


@pytest.mark.parametrize("grad", [False, True], ids=["no grad", "grad"])
def test_the_owner_is_the_innermost_module(grad: bool) -> None:
    """An operation of a layer inside is not the outer one's; in-place ones keep the value before the next."""
    model, x = Adds(), torch.randn(3, 4) - 115
    with torch.set_grad_enabled(grad):
        bare = model(x)
        feats, output = tl.FeatureLayers(
            model, [":add.0", ":add.1", "inner:add", ":add.1:input[0]", ":relu", "after:linear", "inner:add:input"]
        )(x)
    assert torch.equal(output, bare)
    right = [x + 1, x + 111, x + 101, x + 101, (x + 111).relu(), bare]
    for name, feat, value in zip(feats.names, feats, right, strict=False):
        assert torch.allclose(feat, value), name
    assert torch.allclose(feats["inner:add:input"][0], x + 1)
    assert holds_hooks(model) == 0
    assert torch._C._len_torch_function_stack() == 0


def test_names() -> None:
    """One name for what one thing is written as."""
    seen = [torch.add, Tensor.add_, Tensor.__iadd__, Tensor.__radd__, Tensor.__truediv__, functional.relu, torch.relu_]
    assert [operation_name(function) for function in seen] == ["add"] * 4 + ["div", "relu", "relu"]


# What the reference counts as an operation: by the functions themselves, not by our names for them.
KINDS = {
    "add": {torch.add, Tensor.add, Tensor.add_, Tensor.__add__, Tensor.__iadd__},
    "cat": {torch.cat},
    "flatten": {torch.flatten, Tensor.flatten},
}


class Reference(TorchFunctionMode):
    """Clones every operation of a kind, by the path of the module whose hooks say that it is the innermost one."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.kept: dict[str, list[Tensor]] = {}
        self.running: list[str] = []
        self.handles = []
        for path, module in model.named_modules():
            begin, end = partial(self._begin, path), partial(self._end, path)
            self.handles += [module.register_forward_pre_hook(begin), module.register_forward_hook(end)]

    def _begin(self, path: str, *_: Any) -> None:
        self.running.append(path)

    def _end(self, path: str, *_: Any) -> None:
        assert self.running.pop() == path

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for handle in self.handles:
            handle.remove()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        for kind, functions in KINDS.items():
            if func in functions:
                self.kept.setdefault(f"{self.running[-1]}:{kind}", []).append(output.clone())
        return output


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "densenet121", "googlenet"])
def test_equals_a_reference_mode(name: str) -> None:
    """Every addition, concatenation and flattening is that of its own module, and no other module has one."""
    options: dict[str, Any] = {"init_weights": False} if name == "googlenet" else {}
    model, image = models.get_model(name, weights=None, **options).eval(), torch.randn(1, 3, 64, 64)
    with torch.no_grad(), Reference(model) as reference:
        bare = model(image)
    once = {address: kept for address, (kept, *more) in reference.kept.items() if not more}
    with torch.no_grad():
        feats, output = tl.FeatureLayers(model, list(once))(image)
    assert torch.equal(output, bare)
    assert len(once) >= 1
    for address, right in once.items():
        assert torch.equal(feats[address], right), address
    others = [f"{path}:{kind}" for path, _ in model.named_modules() for kind in KINDS]
    wrong = [address for address in others if address not in reference.kept and runs(model, address, image)]
    assert wrong == []
    if name == "resnet18":
        assert len(once) == 9


def runs(model: nn.Module, address: str, image: Tensor) -> bool:
    """Whether an operation runs in a module, for the library; a module that does not run has none."""
    if address.startswith("features.denseblock") and ".denselayer" in address and not address.endswith("cat"):
        return False  # hundreds of layers without any operation: two kinds are enough
    try:
        with torch.no_grad():
            tl.FeatureLayer(model, address).features(image)
    except (tl.OperationNotFoundError, tl.LayerNotRunError):
        return False
    return True


def test_gradients_of_an_in_place_addition(resnet18: nn.Module, image: Tensor) -> None:
    """`out += identity` of a residual block: its gradient is that of the relu after it, by hand."""
    feats, output = tl.FeatureLayers(
        resnet18, ["layer4.1:add", "layer4.1:add:grad_output", "layer4.1:grad_output", "layer4.1:add:grad_input"]
    )(image)
    (right,) = torch.autograd.grad(output[0, 3], feats["layer4.1:add"], retain_graph=True)
    output[0, 3].backward()
    assert torch.equal(feats["layer4.1:add:grad_output"], right)
    assert torch.allclose(right, feats["layer4.1:grad_output"] * (feats["layer4.1:add"] > 0))
    first, second = feats["layer4.1:add:grad_input"]
    assert torch.equal(first, right)
    assert torch.equal(second, right)


def test_a_module_that_calls_itself() -> None:
    """Operations are numbered in each call alone, also where one call runs inside another."""

    class Nests(nn.Module):
        def forward(self, x: Tensor, depth: int = 1) -> Tensor:
            x = x + 1
            if depth:
                x = self(x, depth - 1)
            return x + 10

    feats, output = tl.FeatureLayers(nn.Sequential(Nests()), ["0@*:add.0", "0@*:add.1"])(torch.zeros(()))
    assert [list(map(float, values)) for values in feats] == [[1, 2], [12, 22]]
    assert output == 22


def test_early_stop_and_calls(resnet18: nn.Module, image: Tensor) -> None:
    """The model stops at the operation, and no mode is left active."""
    reached = []
    resnet18.layer2.register_forward_hook(lambda *_: reached.append(1))
    layer = tl.FeatureLayer(resnet18, "layer1.1:add")
    right, _ = layer(image)
    layer.features(image)
    reached.clear()
    assert torch.equal(layer.features(image), right)
    assert not reached
    assert torch._C._len_torch_function_stack() == 0
    assert holds_hooks(resnet18) == 1


def test_what_did_not_run_is_an_error_with_what_did(resnet18: nn.Module, image: Tensor) -> None:
    with pytest.raises(tl.OperationNotFoundError, match=r"'layer1.0:ad'.*Did you mean 'add'") as caught:
        tl.FeatureLayer(resnet18, "layer1.0:ad")(image)
    assert caught.value.operations == {"add": 1}
    with pytest.raises(tl.OperationNotFoundError, match="It runs no operation itself"):
        tl.FeatureLayer(resnet18, "layer1:add")(image)
    with pytest.raises(tl.OperationNotFoundError, match="Directly inside it ran 'add'"):
        tl.FeatureLayer(resnet18, "layer1.0:add.1")(image)
    with pytest.raises(tl.AmbiguousOperationError, match=r"runs 2 times .*':add.0'.*':add.1'"):
        tl.FeatureLayer(Adds(), ":add")(torch.randn(1, 4))
    with pytest.raises(tl.CompileError, match="operations are captured in eager forward passes"):
        tl.FeatureLayer(resnet18, "layer1.0:add").compile()


def test_a_forward_that_raises_leaves_nothing(resnet18: nn.Module, image: Tensor) -> None:
    for error in (RuntimeError("broken"), KeyboardInterrupt()):

        def broken(*_: Any, error: BaseException = error) -> None:
            raise error

        handle = resnet18.layer3[0].conv2.register_forward_pre_hook(broken)
        with pytest.raises(type(error)):
            tl.FeatureLayers(resnet18, ["layer3.0:add", "layer1.0:add"])(image)
        handle.remove()
        assert torch._C._len_torch_function_stack() == 0
        assert holds_hooks(resnet18) == 0


def test_hooks_of_others_are_not_the_modules_operations(resnet18: nn.Module, image: Tensor) -> None:
    """What a user's hook computes is not counted, and a user's own function mode works on."""
    resnet18.layer1[0].register_forward_hook(lambda _, __, output: output + 0)
    resnet18.layer1[0].register_forward_pre_hook(lambda _, args: (args[0] + 0,))
    with torch.device("meta"):
        feat, _ = tl.FeatureLayer(resnet18, "layer1.0:add")(image)
        assert torch.empty(1).device.type == "meta"
    assert feat.device.type == "cpu"


@pytest.mark.parametrize(
    "masked", ["none", "scale", "bool", "float", "causal", "nothing allowed", "nothing allowed once", "gqa"]
)
def test_weights_times_values_are_the_fused_attention(masked: str) -> None:
    """The weights of `scaled_dot_product_attention`, whatever its mask, give back its output."""
    query, key, value = (torch.randn(2, 6, 5, 8) for _ in range(3))
    options: dict[str, Any] = {}
    if masked == "scale":
        options["scale"] = 0.3
    elif masked == "bool":
        options["attn_mask"] = torch.rand(5, 5) > 0.3
        options["attn_mask"][:, 0] = True
    elif masked == "float":
        options["attn_mask"] = torch.randn(2, 1, 5, 5)
    elif masked == "causal":
        options["is_causal"] = True
    elif masked == "nothing allowed":
        options["attn_mask"] = torch.zeros(5, 5, dtype=torch.bool)
    elif masked == "nothing allowed once":
        options["attn_mask"] = torch.ones(2, 1, 5, 5, dtype=torch.bool)
        options["attn_mask"][0, :, 3] = False
    elif masked == "gqa":
        if TORCH < (2, 5):
            pytest.skip("enable_gqa came with PyTorch 2.5")
        key, value, options["enable_gqa"] = key[:, :2], value[:, :2], True

    class Attends(nn.Module):
        def forward(self, query: Tensor) -> Tensor:
            return functional.scaled_dot_product_attention(query, key, value, **options)

    weights, output = tl.FeatureLayer(Attends(), ":attention_weights")(query)
    values = value.repeat_interleave(3, 1) if masked == "gqa" else value
    torch.testing.assert_close(weights @ values, output, equal_nan=True)


@pytest.mark.parametrize("grad", [False, True], ids=["no grad (the fast path)", "grad"])
def test_weights_of_multi_head_attention(grad: bool) -> None:
    """Equal to what the module itself returns on request, in a ViT that does not ask for them."""
    model = vit()
    image = torch.randn(2, 3, 32, 32)
    path = "encoder.layers.encoder_layer_1.self_attention"
    with torch.set_grad_enabled(grad):
        bare = model(image)
        feats, output = tl.FeatureLayers(model, [f"{path}:attention_weights", f"{path}:input"])(image)
        given = {name: value for name, value in feats[1].items() if name in ("query", "key", "value")}
        right = model.get_submodule(path)(**given, need_weights=True, average_attn_weights=False)[1]
    torch.testing.assert_close(feats[0], right)
    torch.testing.assert_close(output, bare)


def vit() -> nn.Module:
    return models.VisionTransformer(32, 8, 2, 4, 16, 32).eval()


def test_weights_equal_eager_attention_of_transformers() -> None:
    """BERT and a grouped-query Llama with fused attention: the weights that their eager twins return."""
    from transformers import BertConfig, BertModel, LlamaConfig, LlamaModel

    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "vocab_size": 50,
    }
    tokens = torch.randint(1, 50, (2, 7))
    mask = torch.ones(2, 7, dtype=torch.long)
    mask[1, 5:] = 0
    cases = [
        (BertModel, BertConfig(**sizes, attn_implementation="sdpa"), "encoder.layer.1.attention.self"),
        (LlamaModel, LlamaConfig(**sizes, num_key_value_heads=2, attn_implementation="sdpa"), "layers.1.self_attn"),
    ]
    for kind, config, path in cases:
        model = kind(config).eval()
        with torch.no_grad():
            weights, _ = tl.FeatureLayer(model, f"{path}:attention_weights")(tokens, attention_mask=mask)
            model.set_attn_implementation("eager")
            right = model(tokens, attention_mask=mask, output_attentions=True).attentions[1]
        rows = mask.bool()[:, None, :, None].expand_as(right)  # what a padded query attends to means nothing
        torch.testing.assert_close(weights[rows], right[rows], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("capture_first", [True, False])
def test_what_an_edit_computes_is_not_the_modules(capture_first: bool) -> None:
    """An edit's function runs additions of its own: none is counted as one of the module's."""
    model, x = Adds(), torch.randn(3, 4)

    def plus_nothing(value: Tensor) -> Tensor:
        return torch.add(torch.add(value, 1), -1)

    with contextlib.ExitStack() as stack:
        if capture_first:
            record = stack.enter_context(tl.capture(model, [":add.1", ":add.0"]))
        stack.enter_context(tl.edit(model, {":add.0": plus_nothing}))
        if not capture_first:
            record = stack.enter_context(tl.capture(model, [":add.1", ":add.0"]))
        model(x)
    assert torch.allclose(record[":add.0"], x + 1)
    assert torch.allclose(record[":add.1"], x + 111)


@pytest.mark.parametrize("names", [(":add.0", ":add.1"), (":add.1", ":add.0")])
def test_edits_inside_each_other(names: tuple[str, str]) -> None:
    """Each sees the module's operations, not those that the other's function runs."""
    model, x = Adds(), torch.randn(3, 4)
    seen: dict[str, Tensor] = {}

    def look(name: str, value: Tensor) -> Tensor:
        seen[name] = value
        return torch.add(torch.add(value, 1), -1)

    outer, inner = ({name: partial(look, name)} for name in names)
    with tl.edit(model, outer), tl.edit(model, inner):
        model(x)
    assert torch.allclose(seen[":add.0"], x + 1)
    assert torch.allclose(seen[":add.1"], x + 111, atol=1e-4)


def test_an_error_says_what_ran_and_how_often() -> None:
    """Whoever wrote the module: functions that dispatch, helpers, and attributes that are tensors do not confuse it."""

    class Busy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool, self.act = nn.MaxPool2d(2), nn.GELU()

        def forward(self, x: Tensor) -> Tensor:
            x = functional.max_pool2d(self.act(self.pool(x)), 2)
            first, second = self._halves(x.mT)
            return functional.relu(first) + functional.relu(second) + x.size(0)

        def _halves(self, x: Tensor) -> tuple[Tensor, ...]:
            return x.chunk(2, dim=1)

    layer = nn.TransformerEncoderLayer(8, 2, batch_first=True, dropout=0.0)
    for model, x, right in (
        (Busy(), torch.randn(1, 4, 8, 8), {"max_pool2d": 1, "chunk": 1, "relu": 2, "add": 2}),
        (layer, torch.randn(1, 3, 8, requires_grad=True), {"add": 2, "relu": 1}),
    ):
        with pytest.raises(tl.OperationNotFoundError) as caught:
            tl.FeatureLayer(model, ":nothing")(x)
        assert caught.value.operations == right


def test_nothing_listens_when_no_operation_is_asked_for() -> None:
    """No function mode is entered for modules' outputs, inputs and gradients."""
    depths: list[int] = []

    class Depth(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            depths.append(torch._C._len_torch_function_stack())
            return x * 2

    model = nn.Sequential(nn.Linear(4, 4), Depth())
    tl.FeatureLayers(model, ["0", "1:input", "1:grad_output"])(torch.randn(2, 4))
    tl.FeatureLayers(model, ["1:mul"])(torch.randn(2, 4))
    assert depths == [0, 1]
