"""Observing a forward pass does not change its results: attention keeps its fast path."""

from __future__ import annotations

import copy
import io
import pickle
from contextlib import ExitStack
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torchvision.models import VisionTransformer

import torch_featurelayer as tl
from torch_featurelayer.engine._torch_private import function_modes, without_function_modes
from torch_featurelayer.engine.observer import Observer


class Sentences(nn.Module):
    """Layers of attention alone and in an encoder, for a padded batch."""

    def __init__(self, *, batch_first: bool) -> None:
        super().__init__()
        torch.manual_seed(0)

        def make() -> nn.TransformerEncoderLayer:
            return nn.TransformerEncoderLayer(16, 2, 32, batch_first=batch_first)

        self.embed, self.attention = nn.Linear(16, 16), nn.MultiheadAttention(16, 2, batch_first=batch_first)
        self.alone = nn.ModuleList([make(), make()])
        self.encoder = nn.TransformerEncoder(make(), 2, enable_nested_tensor=batch_first)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor, src_key_padding_mask: Tensor | None = None) -> Tensor:
        x = self.embed(x)
        x = x + self.attention(x, x, x, key_padding_mask=src_key_padding_mask, need_weights=False)[0]
        for layer in self.alone:
            x = layer(x, src_key_padding_mask=src_key_padding_mask)
        return self.head(self.encoder(x, src_key_padding_mask=src_key_padding_mask))


@pytest.fixture(scope="module")
def vit() -> nn.Module:
    torch.manual_seed(0)
    return VisionTransformer(32, 8, num_layers=3, num_heads=4, hidden_dim=128, mlp_dim=64).eval()


LAYERS = ["embed", "attention[0]", "alone.0", "alone.1", "encoder", "encoder.layers.0.linear1", "head"]


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("masked", [False, True])
@torch.no_grad()
def test_the_first_forward_pass_is_as_the_others(layer: str, masked: bool) -> None:
    model, x = Sentences(batch_first=True).eval(), torch.randn(2, 5, 16)
    mask = torch.tensor([[False] * 5, [False] * 3 + [True] * 2]) if masked else None
    wrapper = tl.FeatureLayer(model, layer, reduce="mean")
    first, *others = [wrapper.features(x, mask) for _ in range(3)]
    assert all(torch.equal(first, other) for other in others)
    new = tl.FeatureLayer(model, layer, reduce="mean")
    (first, output), (other, _) = new(x, mask), new(x, mask)
    assert torch.equal(first, other)
    inside = layer.partition("[")[0] not in ("embed", "attention", "head")
    if not (masked and inside):  # a hook inside the encoder, as of any capture, switches its fast path off
        assert torch.equal(output, model(x, mask))
    assert not any("forward" in module.__dict__ for module in model.modules())


@pytest.mark.parametrize("batch_first", [True, False])
@torch.no_grad()
def test_layouts_behind_a_fast_path(batch_first: bool) -> None:
    model, x = Sentences(batch_first=batch_first).eval(), torch.randn(2, 5, 16)
    found = tl.find_layouts(model, ["attention[0]", "alone.1", "encoder", "head"], x)
    assert set(found.values()) == {"NTC" if batch_first else "TNC"}
    feat, _ = tl.FeatureLayer(model, "encoder", reduce="mean")(x)
    assert torch.equal(feat, tl.FeatureLayer(model, "encoder")(x)[0].mean(1 if batch_first else 0))


@torch.no_grad()
def test_layout_of_the_weights_of_attention_is_unknown() -> None:
    attention = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    model, x = nn.Sequential(nn.Linear(8, 8), attention), torch.randn(2, 5, 8)
    model.forward = lambda x: attention(*[model[0](x)] * 3, average_attn_weights=False)
    assert tl.find_layouts(model, ["1[0]", "1[1]"], x) == {"1[0]": "NTC", "1[1]": None}


@torch.no_grad()
def test_an_open_capture_changes_no_output(vit: nn.Module) -> None:
    image = torch.randn(2, 3, 32, 32)
    right = vit(image)
    with tl.capture(vit, ["encoder.layers.encoder_layer_1.self_attention[0]", "encoder.ln"], reduce="mean") as record:
        assert torch.equal(vit(image), right)
    assert torch.equal(record["encoder.ln"], tl.FeatureLayer(vit, "encoder.ln")(image)[0].mean(1))


@torch.no_grad()
def test_copies_and_pickles_made_meanwhile_are_plain(vit: nn.Module) -> None:
    image = torch.randn(1, 3, 32, 32)
    file = io.BytesIO()
    with tl.capture(vit, "encoder.ln", reduce="mean"):
        twin, pickled = copy.deepcopy(vit), pickle.dumps(vit)
        torch.save(vit, file)
    file.seek(0)
    vit.heads[0].weight.data.mul_(2)
    for other in (twin, pickle.loads(pickled), torch.load(file, weights_only=False)):  # noqa: S301 (our own)
        other.heads[0].weight.data.mul_(2)
        assert torch.equal(other(image), vit(image))
        block = other.encoder.layers[0].self_attention
        assert block.forward.__self__ is block
        assert torch.equal(tl.FeatureLayer(other, "encoder.ln", reduce="mean").features(image)[0],
                           tl.FeatureLayer(other, "encoder.ln")(image)[0].mean(1)[0])  # fmt: skip


@torch.no_grad()
def test_a_layer_of_attention_in_two_places() -> None:
    shared = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    model, x = (
        nn.Sequential(nn.Linear(8, 8), nn.Sequential(shared), nn.Sequential(shared), nn.Linear(8, 8)),
        torch.randn(2, 5, 8),
    )
    wrapper = tl.FeatureLayer(model, "3", reduce="mean")
    assert torch.equal(wrapper.features(x), wrapper.features(x))
    assert torch.equal(wrapper.features(x), model(x).mean(1))
    assert "forward" not in shared.__dict__


def test_copies_of_a_module_in_other_threads_are_left_alone() -> None:
    attention = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    model = nn.Sequential(nn.Linear(8, 8), nn.DataParallel(attention))
    with tl.capture(model, "0", reduce="mean"):
        assert "forward" not in attention.__dict__
        model(torch.randn(2, 5, 8))


def test_captures_may_end_in_any_order(vit: nn.Module) -> None:
    first, second = tl.capture(vit, "encoder.ln", reduce="mean"), tl.capture(vit, "encoder", reduce="mean")
    with ExitStack() as one, ExitStack() as other:
        one.enter_context(first)
        other.enter_context(second)
        vit(torch.randn(1, 3, 32, 32))
    one.close()
    assert not any("forward" in module.__dict__ for module in vit.modules())


@pytest.mark.parametrize("how", ["module", "in place", "forward"])
@torch.no_grad()
def test_compiled_modules_are_not_compiled_again(how: str) -> None:
    compiled, x = nn.Sequential(nn.Linear(4, 4), nn.MultiheadAttention(4, 2)), torch.randn(2, 4)
    compiled.forward = lambda x: torch.relu(compiled[0](x))
    graphs: list[Any] = []

    def backend(graph: torch.fx.GraphModule, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    if how == "module":
        child: Any = torch.compile(compiled, backend=backend, fullgraph=True)
    else:
        child = compiled
        if how == "in place":
            compiled.compile(backend=backend, fullgraph=True)
        else:
            compiled.forward = torch.compile(compiled.forward, backend=backend, fullgraph=True)
    model = nn.Sequential(nn.Linear(4, 4), child, nn.Linear(4, 2)).eval()
    right = model(x)
    assert len(graphs) == 1
    for layer in ("0", "2"):
        for reduce in (None, "mean"):
            wrapper = tl.FeatureLayer(model, layer, reduce=reduce)
            for _ in range(3):
                wrapper.features(x)
            assert torch.equal(wrapper(x)[1], right)
    assert len(graphs) == 1


def test_a_user_s_own_forward_is_left_alone() -> None:
    class Special(nn.MultiheadAttention):
        def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
            return super().forward(x, x, x)[0]

    patched = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    plain = patched.forward
    patched.forward = lambda x: plain(x, x, x)[0]
    for attention in (Special(8, 2, batch_first=True).eval(), patched):
        model, x = nn.Sequential(nn.Linear(8, 8), attention, nn.Linear(8, 8)), torch.randn(2, 5, 8)
        feat = tl.FeatureLayer(model, "2", reduce="mean").features(x)
        assert torch.equal(feat, model(x).mean(1))
    assert "forward" in patched.__dict__


class _Mode(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


def test_function_modes_come_back_in_their_places() -> None:
    below, observer, above = _Mode(), Observer(), _Mode()
    with below, above:  # so that the stack is as it was, whatever the test does
        with without_function_modes([]):
            assert function_modes()[-2:] == [below, above]
        with without_function_modes([below]):
            assert below not in function_modes()
            with observer:
                assert function_modes()[-2:] == [above, observer]
        assert function_modes()[-2:] == [below, above]
        with pytest.raises(ZeroDivisionError), without_function_modes([below, above]):
            raise ZeroDivisionError
        assert function_modes()[-2:] == [below, above]
