"""Interventions: what follows is computed from the new value, forward and backward."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torch_featurelayer as tl
from tests import toys
from tests.reference import holds_hooks

X = torch.randn(3, 4)


def by_hand(model: nn.Sequential, x: Tensor, edit: Any) -> Tensor:
    return model[1:](edit(model[0](x)))


@pytest.mark.parametrize(
    ("value", "right"),
    [
        (0, torch.zeros_like),
        (2.5, lambda old: torch.full_like(old, 2.5)),
        (torch.arange(3.0), lambda _: torch.arange(3.0).repeat(3, 1)),
        (torch.arange(3), lambda _: torch.arange(3.0).repeat(3, 1)),
        (lambda old: old * 2, lambda old: old * 2),
        (lambda old: old.detach().zero_(), torch.zeros_like),
        (torch.neg, torch.neg),
    ],
)
def test_replaces_an_output(value: Any, right: Any, small: nn.Sequential) -> None:
    expected, bare = by_hand(small, X, right), small(X)
    with tl.edit(small, {"0": value}):
        assert torch.equal(small(X), expected)
    assert torch.equal(small(X), bare)
    assert holds_hooks(small) == 0


def test_replaces_an_input_by_itself_position_and_name() -> None:
    model = nn.Sequential()
    model.add_module("scale", toys.Returns(lambda x, by=1.0: x * by))
    with tl.edit(model, {"scale:input": lambda x: x + 1}):
        assert torch.equal(model(X), X + 1)
    with tl.edit(model, {"scale:input[0]": 3}):
        assert torch.equal(model.scale(X, by=2.0), torch.full_like(X, 6))
    with tl.edit(model, {"scale:input[by]": lambda by: by * 10}):
        assert torch.equal(model.scale(X, by=2.0), X * 20)
    with tl.edit(model, {"scale:input": lambda both: {**both, "by": both["by"] * 10}}):
        assert torch.equal(model.scale(X, by=2.0), X * 20)
    bilinear = nn.Bilinear(4, 4, 2)
    with tl.edit(bilinear, {":input[input2]": 1}):
        assert torch.equal(bilinear(X, X), bilinear(X, torch.ones_like(X)))
    with tl.edit(bilinear, {":input": lambda pair: (pair[1], pair[0] * 2)}):
        edited = bilinear(X, X + 1)
    assert torch.equal(edited, bilinear(X + 1, X * 2))
    with pytest.raises(tl.StructureError, match="no argument 'third'"), tl.edit(bilinear, {":input[third]": 1}):
        bilinear(X, X)


def test_replaces_a_part_and_leaves_the_rest() -> None:
    pair = toys.Returns(lambda x: toys.Pair(x, None))
    answer = toys.Returns(lambda x: toys.Answer(x, (x + 1, x + 2)))
    table = toys.Returns(lambda x: {"a": [x, x + 1], "b": x})
    with tl.edit(pair, {"[first]": 0}):
        assert torch.equal(pair(X).first, torch.zeros_like(X))
    with tl.edit(answer, {"[hidden][1]": 0}):
        changed = answer(X)
    assert torch.equal(changed.hidden[1], torch.zeros_like(X))
    assert torch.equal(changed.hidden[0], X + 1)
    assert changed.note == "as it was"
    with tl.edit(table, {"['a'][-1]": 0}):
        changed = table(X)
    assert torch.equal(changed["a"][1], torch.zeros_like(X))
    assert torch.equal(changed["a"][0], changed["b"])
    with pytest.raises(tl.StructureError, match="has no part 'c'"), tl.edit(table, {"['c']": 0}):
        table(X)


def test_replaces_an_operation(resnet18: nn.Module, image: Tensor) -> None:
    """The sum of a residual block: with its branch taken out, the block is the relu of its input."""
    block = resnet18.layer1[1]
    with torch.no_grad(), tl.capture(block, [":input", "", ":add"]) as feats:
        with tl.edit(block, {":add:input[0]": 0}):
            resnet18(image)
        assert torch.equal(feats[""], feats[":input"].relu())
        with tl.edit(resnet18, {"layer1.1:add": torch.neg}):
            resnet18(image)
        edited = feats[":add"]
        resnet18(image)
        assert torch.equal(edited, -feats[":add"])
    assert torch._C._len_torch_function_stack() == 0
    assert holds_hooks(resnet18) == 0


def test_gradients_flow_through_an_edit(small: nn.Sequential) -> None:
    """Parameters below get the gradient of the function; a patched tensor gets its own."""
    with tl.edit(small, {"0": lambda old: old * 3}):
        small(X).sum().backward()
    got = small[0].weight.grad.clone()
    small.zero_grad()
    by_hand(small, X, lambda old: old * 3).sum().backward()
    assert torch.equal(got, small[0].weight.grad)
    patch = torch.randn(3, requires_grad=True)
    before = patch.detach().clone()
    with tl.edit(small, {"0": patch}):
        (grad,) = torch.autograd.grad(small(X).sum(), patch)
    assert grad.abs().sum() > 0
    assert torch.equal(patch, before)


def test_captures_see_the_edited_value(small: nn.Sequential) -> None:
    """Whether they are outside or inside, of a wrapper or a block, and of the input alike."""
    names = ["0", "1:input", "1"]
    with tl.capture(small, names) as outer, tl.edit(small, {"0": 5}), tl.capture(small, names) as inner:
        feats, _ = tl.FeatureLayers(small, names)(X)
        early = tl.FeatureLayer(small, "0").features(X)
    for feat in (*outer, *inner, *feats, early):
        assert torch.equal(feat, torch.full((3, 3), 5.0))


def test_edits_nest_innermost_first(small: nn.Sequential) -> None:
    with tl.edit(small, {"0": lambda old: old + 1}), tl.edit(small, {"0": lambda old: old * 0}):
        feat, _ = tl.FeatureLayer(small, "0")(X)
    assert torch.equal(feat, torch.ones(3, 3))


def test_one_call_of_several() -> None:
    """`@n` is that call of each forward; unmarked is every call."""
    model = toys.Repeats(3)
    with tl.capture(model, "layer@*", keep="all") as feats, tl.edit(model, {"layer@1": 7}):
        model(X)
        model(X)
    for first, second, third in feats["layer@*"]:
        assert torch.equal(second, torch.full_like(X, 7))
        assert not torch.equal(first, second)
        assert torch.equal(third, model.layer(second))
    with tl.edit(model, {"layer": 0}), tl.capture(model, "layer@*") as feats:
        model(X)
    assert all(not value.any() for value in feats["layer@*"])


def test_patterns_edit_all_they_match(resnet18: nn.Module, image: Tensor) -> None:
    with tl.capture(resnet18, nn.ReLU) as feats, tl.edit(resnet18, {nn.ReLU: 0}):
        resnet18(image)
    assert not any(value.any() for value in feats)


def test_early_stop_inside_an_edit_leaves_a_users_mode_alone(resnet18: nn.Module, image: Tensor) -> None:
    """The stop skips the hook that ends listening: it is ended all the same, before the user's own mode ends."""
    layer = tl.FeatureLayer(resnet18, "layer2.0.conv1@0")
    with tl.edit(resnet18, {"layer1.0:add": 0}):
        with torch.device("meta"):
            layer.features(image)
        assert torch.empty(1).device.type == "cpu"
    assert torch._C._len_torch_function_stack() == 0


def test_what_was_not_edited_is_said(small: nn.Sequential, resnet18: nn.Module, image: Tensor) -> None:
    with pytest.raises(tl.LayerNotRunError, match="did not call '1'"), tl.edit(small, {"1": 0}):
        small[0](X)
    missing = pytest.raises(tl.OperationNotFoundError, match="Directly inside it ran 'add'")
    with missing, tl.edit(resnet18, {"layer1.0:mul": 0}):
        resnet18(image)
    with pytest.raises(KeyError, match="mine"), tl.edit(small, {"1": 0}):
        raise KeyError("mine")


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"0": torch.zeros(5)}, tl.EditError, r"shape \[5\] cannot be broadcast to \[3, 3\]"),
        ({"0": lambda _: None}, tl.EditError, "must return the new value"),
        ({"0:grad_output": 0}, tl.EditError, "captured, but not edited"),
        ({"0@-1": 0}, tl.EditError, "Count from the first"),
        ({"0:attention_weights": 0}, tl.EditError, "does not compute these weights itself"),
        ({"9": 0}, tl.LayerNotFoundError, "no layer '9'"),
        ({}, tl.EmptyRequestError, "no layer was requested"),
    ],
)
def test_what_does_not_fit_is_refused(changes: Any, error: Any, says: str, small: nn.Sequential) -> None:
    with pytest.raises(error, match=says), tl.edit(small, changes):
        small(X)
    assert holds_hooks(small) == 0


def test_a_structure_needs_an_index() -> None:
    lstm = nn.LSTM(4, 3)
    with pytest.raises(tl.EditError, match="a tuple of 2. Name a part of it"), tl.edit(lstm, {"": 0}):
        lstm(X)
    with tl.edit(lstm, {"[1][0]": 0}):
        assert not lstm(X)[1][0].any()


def test_activation_patching(small: nn.Sequential) -> None:
    """The activation of one run put into another: with the whole layer patched, the first run's answer."""
    clean, other = torch.randn(1, 4), torch.randn(1, 4)
    feat, answer = tl.FeatureLayer(small, "1")(clean)
    with tl.edit(small, {"1": feat}):
        assert torch.equal(small(other), answer)
