"""`tl.guard` names the very place of a planted fault, and nothing else is an alarm."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from torchvision import models

import torch_featurelayer as tl
from torch_featurelayer.diagnosis import _guard


class Applied(nn.Module):
    """Runs a function in its forward, after a layer."""

    def __init__(self, function: Callable[[Tensor], Tensor], layer: nn.Module | None = None) -> None:
        super().__init__()
        self.layer, self.function = layer or nn.Identity(), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.layer(x))


def resnet() -> tuple[nn.Module, tuple[Any, ...], dict[str, Any]]:
    return models.resnet18(weights=None), (torch.randn(2, 3, 64, 64),), {}


def vit() -> tuple[nn.Module, tuple[Any, ...], dict[str, Any]]:
    return timm.create_model("vit_tiny_patch16_224", img_size=64), (torch.randn(2, 3, 64, 64),), {}


def gpt2() -> tuple[nn.Module, tuple[Any, ...], dict[str, Any]]:
    config = transformers.GPT2Config(n_embd=32, n_layer=3, n_head=4, vocab_size=99, n_positions=64)
    ids = torch.randint(3, 99, (2, 9))
    mask = torch.ones(2, 9, dtype=torch.long)
    mask[1, 5:] = 0
    return transformers.GPT2LMHeadModel(config), (), {"input_ids": ids, "attention_mask": mask, "labels": ids}


BUILD = {"resnet18": resnet, "vit": vit, "gpt2": gpt2}
# Of each network: a layer with a weight, and a block in whose place a fault is planted.
PLACES = {
    "resnet18": ("layer2.1.conv1", "layer3.0.bn1"),
    "vit": ("blocks.5.mlp.fc1", "blocks.3.mlp"),
    "gpt2": ("transformer.h.1.mlp.c_fc", "transformer.h.2.attn"),
}


def loss_of(output: Any) -> Tensor:
    if isinstance(output, Tensor):
        return output.square().mean()
    return output.loss  # type: ignore[no-any-return]


def first_error(model: nn.Module, *args: Any, **kwargs: Any) -> tl.NonFiniteError:
    options = {name: kwargs.pop(name) for name in ("operations", "gradients") if name in kwargs}
    with pytest.raises(tl.NonFiniteError) as caught, tl.guard(model, **options):
        loss_of(model(*args, **kwargs)).backward()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    return caught.value


def replace(model: nn.Module, path: str, function: Callable[[Any], Any]) -> None:
    """Replaces a module by one that applies a function to its output."""
    inner = model.get_submodule(path)
    forward = inner.forward

    def changed(*args: Any, **kwargs: Any) -> Any:
        output = forward(*args, **kwargs)
        if isinstance(output, tuple):
            return function(output[0]), *output[1:]
        return function(output)

    inner.forward = changed  # type: ignore[method-assign]


@pytest.mark.parametrize("operations", [True, False])
@pytest.mark.parametrize("name", BUILD)
def test_an_infinite_weight(name: str, operations: bool) -> None:
    model, args, kwargs = BUILD[name]()
    path, _ = PLACES[name]
    weight = model.get_submodule(path).weight
    assert isinstance(weight, Tensor)
    weight.data.view(-1)[3] = torch.inf
    error = first_error(model, *args, **kwargs, operations=operations)
    assert error.name == (path if name != "gpt2" or not operations else f"{path}:addmm")
    assert f"parameter '{path}.weight' has 1 inf already" in str(error)
    assert len(error.before) == 3
    assert not error.is_gradient


@pytest.mark.parametrize("name", BUILD)
def test_a_log_of_negative_numbers(name: str) -> None:
    model, args, kwargs = BUILD[name]()
    _, path = PLACES[name]
    replace(model, path, lambda x: torch.log(x) * 0 + x)
    error = first_error(model, *args, **kwargs)
    assert (error.operation, error.is_gradient, error.forward, error.call) == ("log", False, 0, 0)
    # A replaced forward of a layer of PyTorch is still that layer.
    assert error.name == (path if name == "resnet18" else f"{path}:log")
    assert error.input_range is not None
    assert error.input_range[0] < 0
    assert 0.2 < error.share < 0.8
    assert "test_guard.py" in error.location


@pytest.mark.parametrize("name", BUILD)
def test_a_gradient_of_sqrt_at_zero(name: str) -> None:
    """The forward pass is finite; the gradient of sqrt(0) is infinite, times 0 NaN."""
    model, args, kwargs = BUILD[name]()
    _, path = PLACES[name]
    replace(model, path, lambda x: x + torch.sqrt(x * 0))
    error = first_error(model, *args, **kwargs)
    assert (error.operation, error.is_gradient) == ("sqrt", True)
    assert error.name in (path, f"{path}:sqrt")
    with tl.guard(model, gradients=False):
        loss_of(model(*args, **kwargs)).backward()


@pytest.mark.parametrize("name", ["vit", "gpt2"])
def test_an_overflow_of_float16(name: str) -> None:
    model, args, kwargs = BUILD[name]()
    path, _ = PLACES[name]
    weight = model.get_submodule(path).weight
    assert isinstance(weight, Tensor)
    weight.data *= 4e5
    model = model.half()
    args = tuple(arg.half() if arg.is_floating_point() else arg for arg in args)
    error = first_error(model, *args, **kwargs)
    assert error.name.partition(":")[0] == path
    assert "overflow of float16, whose largest value is 65,504: in float32 the values reach" in str(error).lower()


@pytest.mark.parametrize("name", BUILD)
def test_reads_at_the_end_of_a_forward_pass(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, where each read waits: the same module is named."""
    monkeypatch.setattr(_guard, "is_on_device", lambda _: True)
    model, args, kwargs = BUILD[name]()
    path, block = PLACES[name]
    with tl.guard(model, operations=False):
        model(*args, **kwargs)
    weight = model.get_submodule(path).weight
    assert isinstance(weight, Tensor)
    before, weight.data.view(-1)[3] = weight.view(-1)[3].item(), torch.inf
    error = first_error(model, *args, **kwargs, operations=False)
    assert error.name == path
    assert f"parameter '{path}.weight' has 1 inf already" in str(error)
    weight.data.view(-1)[3] = before
    replace(model, block, lambda x: torch.log(x) * 0 + x)
    error = first_error(model, *args, **kwargs, operations=False)
    assert (error.name, error.operation) == (block, "")
    assert 0.2 < error.share < 0.8


def test_modules_alone() -> None:
    """Without operations, the innermost module whose inputs are finite is named."""
    model = nn.Sequential(nn.Linear(4, 4), Applied(torch.log, nn.Linear(4, 4)), nn.ReLU())
    error = first_error(model, torch.randn(8, 4), operations=False)
    assert (error.name, error.operation) == ("1", "")
    model = nn.Sequential(nn.Linear(4, 4), Applied(lambda x: x + torch.sqrt(x * 0)), nn.Linear(4, 4))
    error = first_error(model, torch.randn(8, 4), operations=False)
    assert (error.name, error.is_gradient) == ("1", True)


class Masked(nn.Module):
    """Computes infinite values and leaves them out, as relative positions of T5 do."""

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.full((4, 4), float("-inf")).triu(1)
        weights = (x @ x.mT + mask).softmax(-1)
        safe = torch.where(x > 0, x.log(), torch.zeros(()))
        hidden = torch.empty(4, 4).fill_(torch.nan)
        hidden[:] = weights @ safe
        unused = x.new_empty(4, 4).div_(0)
        return functional.scaled_dot_product_attention(hidden, hidden, hidden, attn_mask=mask) + 0 * len(unused)


def test_values_that_are_left_out_are_no_error() -> None:
    model = Masked()
    with tl.guard(model), torch.no_grad():
        model(torch.randn(4, 4))


def test_a_row_without_any_token() -> None:
    """The NaN of a softmax over -inf alone is made here, although its inputs are infinite on purpose."""
    model = Applied(lambda x: x.masked_fill(torch.ones(3, 3, dtype=torch.bool), float("-inf")).softmax(-1))
    error = first_error(model, torch.randn(3, 3, requires_grad=True))
    assert error.name == ":softmax"
    assert "Its inputs have 9 -inf, and no NaN" in str(error)


@pytest.mark.parametrize("operations", [True, False])
def test_bad_arguments_say_so(operations: bool) -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    x = torch.tensor([[1.0, torch.nan], [1.0, torch.inf]])
    error = first_error(model, x, operations=operations)
    assert (error.name, error.count, error.total) == (":input[0]", 2, 4)
    assert "an argument of the model, and has 1 NaN, 1 inf" in str(error)


def test_in_place_views_and_numbers() -> None:
    """The origin follows views and in-place writes; operations that repeat are numbered, modules that repeat too."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Applied(lambda x: x)

        def forward(self, x: Tensor) -> Tensor:
            self.inner.function = lambda y: y.sub(1).sub(1)
            first = self.inner(x)
            self.inner.function = lambda y: (y.exp() - y.exp().exp().exp()).clone()
            base = torch.zeros(2, 3, 3)
            base.view(18)[:9] = self.inner(first.abs() + 5).view(-1)
            return base.transpose(0, 1)

    error = first_error(Twice(), torch.ones(3, 3))
    assert (error.name, error.call) == ("inner@1:exp.2", 1)


def test_errors_are_recorded_once_for_each_origin() -> None:
    model = nn.Sequential(nn.Linear(4, 4), Applied(torch.log), nn.Linear(4, 4), Applied(lambda x: x.nan_to_num() / 0))
    with tl.guard(model, on_error="record") as errors:
        for _ in range(2):
            model(torch.randn(8, 4))
    assert [(error.name, error.forward) for error in errors] == [
        ("1:log", 0), ("3:div", 0), ("1:log", 1), ("3:div", 1),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="on_error must be 'raise' or 'record'"), tl.guard(model, on_error="ignore"):  # type: ignore[arg-type]
        pass


def test_a_loss_outside_the_model() -> None:
    """The operation that makes a loss bad is named, though it runs in no module."""
    model = nn.Linear(4, 3)

    def step() -> None:
        probabilities = model(torch.ones(2, 4)).softmax(-1) * torch.tensor([1.0, 0.0, 1.0])
        (-probabilities.log().mean()).backward()

    with pytest.raises(tl.NonFiniteError) as caught, tl.guard(model):
        step()
    error = caught.value
    assert (error.name, error.operation) == (":log", "log")
    assert "test_guard.py" in error.location


def test_a_training_step_and_its_forward_passes() -> None:
    """A fault that grows over steps is found in its forward pass; the optimizer runs inside."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e4)

    def train() -> None:
        for _ in range(50):
            optimizer.zero_grad()
            model(torch.ones(8, 4)).square().mean().backward()
            optimizer.step()

    with pytest.raises(tl.NonFiniteError) as caught, tl.guard(model):
        train()
    assert caught.value.forward > 0
    assert f"Forward pass {caught.value.forward}" in str(caught.value)


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_checkpointing(use_reentrant: bool) -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Applied(lambda x: x + torch.sqrt(x * 0), nn.Linear(4, 4))

        def forward(self, x: Tensor) -> Tensor:
            return checkpoint(self.inner, x, use_reentrant=use_reentrant)  # type: ignore[no-any-return]

    error = first_error(nn.Sequential(nn.Linear(4, 4), Outer()), torch.randn(3, 4))
    assert error.is_gradient
    assert error.name.startswith("1.inner")


def test_generate() -> None:
    model, _, inputs = gpt2()
    del inputs["labels"]
    with tl.guard(model):
        model.generate(**inputs, max_new_tokens=3, do_sample=True, top_k=5, pad_token_id=0)  # type: ignore[operator]
    weight = model.get_submodule("transformer.h.1.ln_1").weight
    assert isinstance(weight, Tensor)
    weight.data[2] = torch.nan
    with pytest.raises(tl.NonFiniteError) as caught, tl.guard(model):
        model.generate(**inputs, max_new_tokens=3, pad_token_id=0)  # type: ignore[operator]
    assert caught.value.name == "transformer.h.1.ln_1"


@pytest.mark.slow
def test_a_compiled_model() -> None:
    """It runs eagerly, which is said."""
    model = nn.Sequential(nn.Linear(4, 4), Applied(torch.log), nn.Linear(4, 4))
    compiled = torch.compile(model)
    compiled(torch.randn(8, 4))
    with pytest.warns(UserWarning, match="inside a compiled model is guarded, .* eagerly"):  # noqa: SIM117
        with pytest.raises(tl.NonFiniteError) as caught, tl.guard(compiled):
            compiled(torch.randn(8, 4))
    assert caught.value.name == "1:log"


def test_an_exception_of_the_model_leaves_nothing() -> None:
    class Catching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(4, 4), nn.Linear(3, 3))

        def forward(self, x: Tensor) -> Tensor:
            try:
                return self.inner(x)  # type: ignore[no-any-return]
            except RuntimeError:
                return x.log()

    error = first_error(Catching(), torch.full((2, 4), -1.0, requires_grad=True))
    assert error.name == ":log"
    model = nn.Linear(4, 4)
    with pytest.raises(RuntimeError, match="shapes"), tl.guard(model):
        model(torch.ones(2, 3))
    assert not model._forward_hooks


def test_early_stops_are_forward_passes() -> None:
    """They skip the hooks of the modules around the layer."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.ReLU(), Applied(torch.log)), nn.Linear(4, 4))
    layer = tl.FeatureLayer(model, "1.0")
    with tl.guard(model, on_error="record") as errors:
        for _ in range(3):
            layer.features(torch.randn(2, 4))
        model(torch.randn(8, 4))
    found = [(error.name, error.forward, error.call) for error in errors]
    assert found == [("1.1:log", 0, 0), ("1.1:log", 3, 0)]  # the first one runs to the end, to count calls


def test_another_thread_is_not_guarded() -> None:
    model = Applied(torch.log)
    outputs: list[Tensor] = []
    with tl.guard(model):
        thread = threading.Thread(target=lambda: outputs.append(model(-torch.ones(2))))
        thread.start()
        thread.join()
    assert outputs[0].isnan().all()


def test_values_are_not_changed() -> None:
    """Outputs and gradients are those without a guard, to the last bit; captures and edits see the same."""
    model, args, _ = resnet()
    model.eval()
    right = model(*args)
    right.sum().backward()
    gradient = model.get_parameter("conv1.weight").grad
    model.zero_grad()
    with tl.guard(model), tl.capture(model, "layer2") as record:
        output = model(*args)
        output.sum().backward()
    assert torch.equal(output, right)
    assert gradient is not None
    assert torch.equal(model.get_parameter("conv1.weight").grad, gradient)  # type: ignore[arg-type]
    assert record["layer2"].isfinite().all()


def test_an_edit_is_seen() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    with pytest.raises(tl.NonFiniteError) as caught, tl.edit(model, {"1": lambda value: value / 0}), tl.guard(model):
        model(torch.randn(3, 4))
    assert caught.value.name.startswith("1")


def test_transforms_complex_and_small_floats() -> None:
    """Inside `torch.func` values are not read; complex and 8-bit values are."""
    model = nn.Linear(4, 4)
    with tl.guard(model):
        torch.func.vmap(model)(torch.randn(3, 4))
    spectrum = Applied(lambda x: torch.fft.rfft(x) / 0)
    assert first_error(spectrum, torch.randn(2, 8, requires_grad=True), gradients=False).name == ":div"
    cast = Applied(lambda x: (x * 1e6).to(torch.float8_e5m2).float())
    assert first_error(cast, torch.ones(4, requires_grad=True)).name == ":to"
