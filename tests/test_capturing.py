"""Capture around code that calls the model itself."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor, nn

import torch_featurelayer as tl
from tests import toys
from tests.reference import cloned, holds_hooks


def test_every_forward(resnet18: nn.Module) -> None:
    """One feature a forward, each equal to one cloned at hook time, also where a layer is overwritten later."""
    images = torch.randn(4, 1, 3, 32, 32)
    right: list[Tensor] = []
    handle = resnet18.bn1.register_forward_hook(lambda _, __, output: right.append(cloned(output)))
    for grad in (False, True):
        right.clear()
        with torch.set_grad_enabled(grad), tl.capture(resnet18, ["bn1", "layer1.0:add"], keep="all") as feats:
            outputs = [resnet18(image) for image in images]
        assert all(map(torch.equal, feats["bn1"], right))
        assert len(feats["layer1.0:add"]) == 4
        assert feats.forwards("bn1") == [0, 1, 2, 3]
        assert all(map(torch.equal, outputs, map(resnet18, images)))
    handle.remove()
    assert holds_hooks(resnet18) == 0


@pytest.mark.parametrize(("keep", "kept"), [("last", [4]), ("all", [0, 1, 2, 3, 4]), (2, [3, 4]), (9, [0, 1, 2, 3, 4])])
def test_memory_is_bounded(keep: str | int, kept: list[int], small: nn.Module) -> None:
    with tl.capture(small, "0", keep=keep, detach=True) as feats:
        for number in range(5):
            small(torch.full((1, 4), float(number)))
    values = [feats["0"]] if keep == "last" else feats["0"]
    assert feats.forwards("0") == kept
    for value, number in zip(values, kept, strict=True):
        assert torch.equal(value, small[0](torch.full((1, 4), float(number))))


def test_live_and_like_features(small: nn.Module) -> None:
    """Readable while inside, by position and by name, and afterwards; before a layer ran, an error."""
    with tl.capture(small, ["0", "1"]) as feats:
        with pytest.raises(tl.LayerNotRunError, match="did not call '0'"):
            _ = feats["0"]
        small(torch.ones(1, 4))
        first, second = feats
        assert torch.equal(feats[0], first)
        assert torch.equal(feats[-1], second)
    assert torch.equal(second, small[0](torch.ones(1, 4)).relu())
    assert list(feats.to_dict()) == ["0", "1"] == list(feats.names)
    assert feats[:1].names == ("0",)
    assert repr(feats) == "Record('0': 1, '1': 1)"
    with pytest.raises(tl.FeatureNotFoundError):
        _ = feats["2x"]
    with pytest.raises(IndexError):
        _ = feats[7]


def test_a_training_step_with_gradients(resnet18: nn.Module) -> None:
    """Gradients arrive with backward inside the block, and the parameters' are those of a bare step."""
    image = torch.randn(2, 3, 32, 32)
    resnet18(image).square().sum().backward()
    right = [parameter.grad.clone() for parameter in resnet18.parameters()]
    resnet18.zero_grad()
    with tl.capture(resnet18, ["layer2", "layer2:grad_output", "fc:grad_input"]) as feats:
        output = resnet18(image)
        with pytest.raises(tl.GradientError, match="no gradient has arrived"):
            _ = feats["layer2:grad_output"]
        output.square().sum().backward()
    for parameter, grad in zip(resnet18.parameters(), right, strict=True):
        torch.testing.assert_close(parameter.grad, grad)
    assert feats["layer2:grad_output"].shape == feats["layer2"].shape
    torch.testing.assert_close(feats["fc:grad_input"], 2 * output @ resnet18.fc.weight)


def test_calls_outside_a_forward_are_entries_of_their_own() -> None:
    """As when `generate` calls an encoder itself: beside the forwards, in order."""
    model = toys.Repeats(2)
    x = torch.randn(1, 4)
    with tl.capture(model, ["layer", "layer@*"], keep="all") as feats:
        model.layer(x)
        model(x)
        model.layer(x + 1)
    assert feats.forwards("layer") == [None, 0, None]
    assert torch.equal(feats["layer"][2], model.layer(x + 1))
    assert [len(value) for value in feats["layer@*"]] == [1, 2, 1]


def test_a_forward_that_raises_keeps_what_it_reached(small: nn.Module) -> None:
    small.append(toys.Raises(RuntimeError("broken")))
    with tl.capture(small, "0", keep="all") as feats:
        for _ in range(2):
            with pytest.raises(RuntimeError, match="broken"):
                small(torch.ones(1, 4))
    assert feats.forwards("0") == [0, 1]
    with pytest.raises(KeyboardInterrupt), tl.capture(small, ["0", "0:linear"]):
        raise KeyboardInterrupt
    assert holds_hooks(small) == 0


def test_errors_of_one_request_are_its_own() -> None:
    """Reading it raises; the others are there."""
    model = toys.Repeats(2)
    with tl.capture(model, ["layer@5", "layer@1", "layer:nothing"]) as feats:
        model(torch.randn(1, 4))
    assert feats["layer@1"].shape == (1, 4)
    with pytest.raises(tl.CallNotMadeError, match="called 2 times"):
        _ = feats["layer@5"]
    with pytest.raises(tl.OperationNotFoundError, match="'linear'"):
        _ = feats["layer:nothing"]


def test_other_threads_are_not_captured(small: nn.Module) -> None:
    with tl.capture(small, "0", keep="all") as feats:
        thread = threading.Thread(target=small, args=(torch.zeros(1, 4),))
        thread.start()
        thread.join()
        small(torch.ones(1, 4))
    assert len(feats["0"]) == 1


def test_options_and_refusals(small: nn.Module) -> None:
    with tl.capture(small, "0", reduce="flatten", dtype=torch.float16, detach=True) as feats:
        small(torch.ones(1, 4))
    assert (feats["0"].dtype, feats["0"].requires_grad) == (torch.float16, False)
    for keep in (0, -1, "first", True, 1.5):
        with pytest.raises(ValueError, match="keep must be"), tl.capture(small, "0", keep=keep):
            pass
    with pytest.raises(tl.LayerNotFoundError), tl.capture(small, "9"):
        pass


def test_captures_nest_and_compose(small: nn.Module) -> None:
    x = torch.ones(1, 4)
    with tl.capture(small, "0") as outer, tl.capture(small, "1") as inner:
        feat, _ = tl.FeatureLayer(small, "0")(x)
    assert torch.equal(outer["0"], feat)
    assert torch.equal(inner["1"], feat.relu())


def test_a_recurrent_loop() -> None:
    """A cell that a module calls once a step: all its states, equal to those of the loop by hand."""

    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.GRUCell(3, 5)

        def forward(self, x: Tensor) -> Tensor:
            state = x.new_zeros(x.shape[1], 5)
            for step in x:
                state = self.cell(step, state)
            return state

    model, x = Loop(), torch.randn(6, 2, 3)
    with tl.capture(model, ["cell@*", "cell@2"]) as feats:
        output = model(x)
    state = torch.zeros(2, 5)
    for step, feat in zip(x, feats["cell@*"], strict=True):
        state = model.cell(step, state)
        assert torch.equal(feat, state)
    assert torch.equal(output, state)
    assert torch.equal(feats["cell@2"], feats["cell@*"][2])


def test_generate_of_transformers() -> None:
    """Hidden states of each step of `generate`, equal to those the library itself returns."""
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(n_layer=2, n_head=2, n_embd=16, vocab_size=40, n_positions=32)).eval()
    prompt = torch.randint(0, 40, (1, 4))
    with tl.capture(model, "transformer.h.0", keep="all") as feats:
        answer = model.generate(
            prompt, max_new_tokens=5, do_sample=False, output_hidden_states=True, return_dict_in_generate=True,
            pad_token_id=0, eos_token_id=None,
        )  # fmt: skip
    assert len(feats["transformer.h.0"]) == 5
    for step, feat in enumerate(feats["transformer.h.0"]):
        state = feat[0] if isinstance(feat, tuple) else feat  # a tuple before transformers 5
        assert torch.equal(state, answer.hidden_states[step][1])


def test_a_detector() -> None:
    """It calls its parts with lists of images and dicts of maps: the features are those at hook time."""
    from torchvision.models.detection import ssdlite320_mobilenet_v3_large

    model = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None).eval()
    right: list[Tensor] = []
    handle = model.head.register_forward_hook(lambda _, __, output: right.append(cloned(output["cls_logits"])))
    images = [torch.rand(3, 100, 80), torch.rand(3, 60, 90)]
    with torch.no_grad(), tl.capture(model, ["backbone", "head['cls_logits']", "transform[0][tensors]"]) as feats:
        found = model(images)
    handle.remove()
    assert len(found) == 2
    assert torch.equal(feats["head['cls_logits']"], right[0])
    assert list(feats["backbone"]) == ["0", "1", "2", "3", "4", "5"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_forwards_that_are_left_early_are_forwards(error: type[BaseException]) -> None:
    """An early stop or an interrupt runs no hooks of PyTorch; the forwards after it are counted all the same."""
    model, x = toys.Repeats(2), torch.randn(1, 4)
    stopping = tl.FeatureLayer(model, "layer@0")
    with tl.capture(model, "layer@*", keep="all") as feats, tl.edit(model, {"layer@1": 0}):
        stopping.features(x)
        model(x)
        handle = model.after.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(error()))
        with pytest.raises(error):
            model(x)
        handle.remove()
        model(x)
        stopping.features(x)
    assert feats.forwards("layer@*") == [0, 1, 2, 3, 4]
    assert [len(calls) for calls in feats["layer@*"]] == [1, 2, 2, 2, 1]
    assert all(not calls[1].any() for calls in feats["layer@*"][1:4])
    assert all(calls[0].any() for calls in feats["layer@*"])


def test_a_model_that_calls_itself_is_one_forward() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor, again: bool = True) -> Tensor:
            x = self.layer(x)
            return self(x, again=False) if again else x

    model, x = Twice(), torch.randn(1, 4)
    with tl.capture(model, ["layer@*", "@*"], keep="all") as feats:
        model(x)
        model(x)
    assert feats.forwards("layer@*") == [0, 1]
    assert [len(calls) for calls in feats["layer@*"]] == [2, 2]
